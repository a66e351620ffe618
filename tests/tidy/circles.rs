//! Circles of files: files of a crate that import each other, directly or over others.

use std::collections::{BTreeMap, BTreeSet};

use super::code::{imports, without_tests};
use super::tree::{Module, modules};

/// Files that import each other in a circle, and the imports that close it: `from imports to`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Circle {
    pub(crate) files: Vec<String>,
    pub(crate) imports: Vec<String>,
}

/// The circles of the crate whose root file this is: `use`, and any other path that begins with `crate`, `super`,
/// `self` or a child module. `mod child;` alone is no import. A name that a module re-exports is that module's.
pub(crate) fn circles(root_file: &str) -> Vec<Circle> {
    circles_of(&modules(root_file))
}

fn circles_of(modules: &[Module]) -> Vec<Circle> {
    let modules: Vec<&Module> = modules.iter().filter(|module| !module.is_test).collect();
    let graph: Graph =
        modules.iter().map(|module| (module.file.path.clone(), edges(&modules, module))).collect();
    components(&graph)
        .into_iter()
        .filter(|files| files.len() > 1)
        .map(|files| {
            let imports = files.iter().flat_map(|from| {
                let within = graph[from].iter().filter(|(to, _)| files.contains(*to));
                within.map(move |(to, line)| format!("{from}:{line} imports {to}"))
            });
            let imports = imports.collect();
            Circle { files: files.into_iter().collect(), imports }
        })
        .collect()
}

/// For each file, the files that it imports, and the line of the first import.
type Graph = BTreeMap<String, BTreeMap<String, usize>>;

fn edges(modules: &[&Module], module: &Module) -> BTreeMap<String, usize> {
    let children: Vec<String> = modules
        .iter()
        .filter(|other| other.path.split_last().is_some_and(|(_, above)| above == module.path))
        .filter_map(|other| other.path.last().cloned())
        .collect();
    let mut found: Vec<(Vec<String>, usize)> = imports(&module.file.text, &module.path, &children)
        .into_iter()
        .map(|import| (import.path, import.line))
        .collect();
    let code = without_tests(&module.file.text);
    for (number, line) in code.lines().enumerate() {
        for child in &children {
            if starts_path(line, child) {
                found.push(([&module.path[..], std::slice::from_ref(child)].concat(), number + 1));
            }
        }
    }
    let mut edges = BTreeMap::new();
    for (path, line) in found {
        let file = owner(modules, &path).map(|owner| owner.file.path.clone());
        if let Some(file) = file.filter(|file| *file != module.file.path) {
            let first = edges.entry(file).or_insert(line);
            *first = line.min(*first);
        }
    }
    edges
}

/// Whether a path in this line begins with the name: `name::`, which is not the middle of another path.
fn starts_path(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        line[at + name.len()..].starts_with("::")
            && !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$')
    })
}

/// The module that a path names, or that holds the item which it names.
fn owner<'a>(modules: &[&'a Module], path: &[String]) -> Option<&'a Module> {
    (0..=path.len()).rev().find_map(|len| modules.iter().find(|module| module.path == path[..len]).copied())
}

/// The strongly connected components: of each two files of one, each reaches the other.
fn components(graph: &Graph) -> Vec<BTreeSet<String>> {
    let reach: BTreeMap<&String, BTreeSet<&String>> =
        graph.keys().map(|file| (file, reachable(graph, file))).collect();
    let mut done = BTreeSet::new();
    let mut found = Vec::new();
    for file in graph.keys() {
        if done.contains(file) {
            continue;
        }
        let together = |other: &&String| {
            *other == file || (reach[file].contains(*other) && reach[*other].contains(file))
        };
        let component: BTreeSet<String> = graph.keys().filter(together).cloned().collect();
        done.extend(component.iter().cloned());
        found.push(component);
    }
    found
}

fn reachable<'a>(graph: &'a Graph, from: &String) -> BTreeSet<&'a String> {
    let mut seen = BTreeSet::new();
    let mut next: Vec<&String> = graph[from].keys().collect();
    while let Some(file) = next.pop() {
        if seen.insert(file) {
            next.extend(graph.get(file).into_iter().flat_map(BTreeMap::keys));
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tree::File;

    fn module(name: &str, text: &str) -> Module {
        let path: Vec<String> = name.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
        let file = File { path: format!("{}.rs", path.join("/")), text: text.to_owned() };
        Module { path, file, is_test: false }
    }

    fn found(modules: &[Module]) -> Vec<Vec<String>> {
        circles_of(modules).into_iter().map(|circle| circle.files).collect()
    }

    #[test]
    fn a_circle_over_three_files_is_found_with_its_imports() {
        let modules = [
            module("", "mod a;\nmod b;\nmod c;\nmod d;\npub use a::A;"),
            module("a", "use crate::b::B;"),
            module("b", "fn f() { super::c::g(); }"),
            module("c", "use std::fmt;\nuse crate::{a::A, d::D};"),
            module("d", "pub struct D;"),
        ];
        let circles = circles_of(&modules);
        assert_eq!(circles.len(), 1);
        assert_eq!(circles[0].files, ["a.rs", "b.rs", "c.rs"]);
        let imports = ["a.rs:1 imports b.rs", "b.rs:1 imports c.rs", "c.rs:2 imports a.rs"];
        assert_eq!(circles[0].imports, imports);
    }

    #[test]
    fn a_child_that_imports_its_parent_closes_a_circle_only_if_the_parent_uses_it() {
        let child = module("a::b", "use super::A;\nfn f() {}");
        let root = module("", "mod a;");
        let declares = module("a", "mod b;\nstruct A;");
        let calls = module("a", "mod b;\nstruct A;\nfn g() { b::f() }");
        assert_eq!(found(&[root.clone(), declares, child.clone()]), [[""; 0]; 0]);
        assert_eq!(found(&[root, calls, child]), [["a.rs", "a/b.rs"]]);
    }

    #[test]
    fn tests_import_what_they_like() {
        let modules =
            [module("a", "use crate::b::B;"), module("b", "#[cfg(test)]\nmod tests { use crate::a::A; }\n")];
        assert_eq!(found(&modules), [[""; 0]; 0]);
    }
}

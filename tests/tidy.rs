//! Keeps the map true: what may import what, where unsafe code may stand, which files belong to what, and what may
//! not be left behind. Each finding names its place and says what to do.
#![allow(clippy::unwrap_used, reason = "a test: what cannot be read fails it")]

mod tidy {
    pub(crate) mod circles;
    pub(crate) mod code;
    pub(crate) mod names;
    pub(crate) mod tree;
}

use std::collections::BTreeSet;
use std::path::Path;

use tidy::circles::circles;
use tidy::code::{Unsafe, imports, reexports, unsafe_uses, without_tests};
use tidy::tree::{File, Module, crate_roots, files, modules};

/// The engine's modules from top to bottom, and what each may import: only what stands below it, so there can be no
/// cycle. A module that is not listed belongs to the one that it is in. `ffi` has a rule of its own, and nothing
/// may import it; `lib.rs` is the map and names everything.
const LAYERS: &[(&str, &[&str])] = &[
    (
        "engine",
        &[
            "worker",
            "connection",
            "listener",
            "offload",
            "chain",
            "transform::registry",
            "transform::library",
            "transform",
            "driver::hybrid",
            "driver",
            "net::guard",
            "net::socket",
            "net::address",
            "frame",
            "options",
            "transform::spec",
            "values",
            "event",
            "tap",
            "sys",
            "peer",
            "buffer",
            "stats",
            "limits",
            "channel",
            "lock",
            "error",
            "later",
            "timer",
            "dry_run",
        ],
    ),
    (
        "worker",
        &[
            "listener",
            "datagram",
            "connection",
            "context",
            "offload",
            "chain",
            "transform::library",
            "driver",
            "net::guard",
            "event",
            "tap",
            "sys",
            "peer",
            "slab",
            "timer",
            "buffer",
            "stats",
            "bug",
            "limits",
            "channel",
            "lock",
            "error",
            "later",
            "proxy",
        ],
    ),
    ("offload", &["chain", "transform::library", "sys", "limits", "lock"]),
    (
        "listener",
        &[
            "connection",
            "context",
            "chain",
            "net::guard",
            "net::socket",
            "net::unix_file",
            "frame",
            "options",
            "event",
            "sys",
            "peer",
            "stats",
            "limits",
            "error",
            "transform::library",
            "proxy",
        ],
    ),
    (
        "datagram",
        &[
            "context",
            "chain",
            "transform::library",
            "driver",
            "tap",
            "sys",
            "peer",
            "timer",
            "buffer",
            "stats",
            "bug",
            "limits",
            "later",
        ],
    ),
    (
        "connection",
        &[
            "context",
            "chain",
            "transform::library",
            "driver",
            "net::guard",
            "frame",
            "tap",
            "peer",
            "timer",
            "buffer",
            "stats",
            "bug",
            "limits",
            "later",
            "proxy",
        ],
    ),
    (
        "context",
        &[
            "chain",
            "transform::library",
            "net::guard",
            "frame",
            "options",
            "tap",
            "peer",
            "timer",
            "buffer",
            "stats",
            "later",
            "proxy",
        ],
    ),
    (
        "dry_run",
        &[
            "chain",
            "transform::registry",
            "transform::library",
            "transform::spec",
            "event",
            "peer",
            "buffer",
            "bug",
            "limits",
            "error",
        ],
    ),
    (
        "chain",
        &[
            "transform::registry",
            "transform::library",
            "transform::spec",
            "timer",
            "buffer",
            "bug",
            "limits",
            "error",
            "later",
        ],
    ),
    ("client", &["net::socket", "net::address", "sys", "peer", "lock", "error"]),
    ("transform::registry", &["transform::library", "transform::spec", "transform", "values", "error"]),
    (
        "transform::library",
        &[
            "transform::spec",
            "event",
            "sys",
            "peer",
            "transform",
            "values",
            "limits",
            "lock",
            "error",
            "later",
            "proxy",
        ],
    ),
    ("driver::hybrid", &["driver::uring", "driver::epoll", "driver", "sys", "peer", "timer", "buffer"]),
    ("driver::uring", &["driver", "sys", "peer", "slab", "timer", "buffer", "limits"]),
    ("driver::epoll", &["driver", "sys", "peer", "slab", "timer", "buffer", "limits"]),
    ("driver", &["sys", "peer", "timer", "slab", "buffer", "limits"]),
    ("net::guard", &["options", "peer", "timer", "limits", "error", "stats"]),
    ("net::socket", &["net::unix_file", "net::address", "options", "sys", "peer", "limits", "error"]),
    ("net::unix_file", &["sys", "limits"]),
    ("net::address", &["options", "transform::spec", "peer", "values", "error"]),
    ("options", &["proxy", "transform::spec", "frame", "values", "peer", "limits", "error"]),
    ("frame", &["values", "buffer", "bug", "limits", "error"]),
    ("transform::spec", &["transform", "error"]),
    ("values", &["limits"]),
    ("tap", &["signal", "sys", "peer", "timer", "buffer", "stats", "bug", "limits", "lock", "error"]),
    ("event", &["signal", "sys", "peer", "stats", "limits", "error"]),
    ("signal", &["sys"]),
    ("sys", &["peer"]),
    ("proxy", &["peer"]),
    ("net", &[]),
    ("peer", &[]),
    ("transform", &["error"]),
    ("timer", &["slab"]),
    ("later", &["slab", "lock"]),
    ("slab", &[]),
    ("buffer", &["bug", "limits"]),
    ("stats", &[]),
    ("bug", &[]),
    ("limits", &[]),
    ("channel", &["lock"]),
    ("lock", &[]),
    ("error", &[]),
];

/// Imports against the direction that still stand, and what would turn each round. None may be added.
const AGAINST: &[(&str, &str)] = &[];

/// Where unsafe code may stand: the beginnings of paths.
const UNSAFE_BOUNDARIES: &[&str] = &[
    "src/sys/",
    "src/driver/uring",
    "src/transform/library",
    "src/ffi/",
    "plugins/abi/",
    // The validator calls the tables of plugins that may lie, in processes of their own.
    "cli/check/src/",
    // The command names a transform that crashed, from a signal handler.
    "cli/src/crash.rs",
    // The command looks at its standard output, and holds signals, before the standard library's own start.
    "cli/src/start.rs",
    // Outside of the engine: tests that ask the kernel, and measuring instruments.
    "tests/",
    "benches/call.rs",
    "benches/embed.rs",
    "benches/instructions/sys.rs",
    "benches/transforms.rs",
    "benches/support/",
    "benches/peers/src/sys/",
];

const LINES_MAX: usize = 900;

#[test]
fn imports_go_down() {
    let mut findings = Vec::new();
    let rank = |module: &str| LAYERS.iter().position(|(name, _)| *name == module);
    for (module, may) in LAYERS {
        for import in *may {
            match (rank(module), rank(import)) {
                (Some(above), Some(below)) if below > above => {}
                _ => findings.push(format!("tests/tidy.rs: LAYERS: {import} does not stand below {module}")),
            }
        }
    }
    let modules = modules("src/lib.rs");
    let mut against = BTreeSet::new();
    for module in modules.iter().filter(|module| !module.is_test && !module.path.is_empty()) {
        let owner = owner_of(&module.path);
        let is_ffi = module.path[0] == "ffi";
        if owner.is_none() && !is_ffi {
            findings.push(format!(
                "{}:1: module {} has no layer: put it into LAYERS in tests/tidy.rs",
                module.file.path,
                module.name()
            ));
        }
        for import in imports(&module.file.text, &module.path, &children_of(&modules, module)) {
            let place = format!("{}:{}", module.file.path, import.line);
            let path = import.path.join("::");
            let to = owner_of(&import.path);
            if is_ffi {
                if import.path.first().is_some_and(|first| first != "ffi")
                    && let Some(reason) = not_public(&modules, &import.path)
                {
                    findings.push(format!("{place}: ffi imports crate::{path}, but {reason}"));
                }
                continue;
            }
            if import.path.first().is_some_and(|first| first == "ffi") {
                findings.push(format!("{place}: nothing imports ffi: move what is needed below it"));
                continue;
            }
            let (Some(owner), Some(to)) = (owner, to) else {
                let is_module = modules.iter().any(|module| module.path.first() == import.path.first());
                if owner.is_some() && !is_module {
                    findings.push(format!("{place}: crate::{path}: import it from its own module"));
                }
                continue;
            };
            let may = LAYERS.iter().find(|(name, _)| *name == owner).map_or(&[][..], |(_, may)| may);
            if owner == to || may.contains(&to) {
                continue;
            }
            if AGAINST.contains(&(owner, to)) {
                against.insert((owner, to));
                continue;
            }
            findings.push(format!(
                "{place}: {owner} may not import {to} (crate::{path}): move what both need below, or change \
                 LAYERS in tests/tidy.rs and say why"
            ));
        }
    }
    for (from, to) in AGAINST.iter().filter(|pair| !against.contains(pair)) {
        findings.push(format!("tests/tidy.rs: AGAINST: {from} no longer imports {to}; take the line out"));
    }
    report(findings);
}

#[test]
fn files_import_each_other_in_no_circle() {
    let files = files();
    let mut findings = Vec::new();
    let crates = crate_roots(&files).into_iter().flat_map(|root| root.files);
    // A benchmark of several files has its root in a directory of its own.
    let is_benchmark = |path: &str| path.starts_with("benches/") && path.matches('/').count() == 2;
    let benchmarks = files.iter().map(|file| file.path.clone());
    let benchmarks = benchmarks.filter(|path| is_benchmark(path) && path.ends_with("/main.rs"));
    for root in crates.chain(benchmarks) {
        for circle in circles(&root) {
            let names = circle.files.join(", ");
            let imports = circle.imports.join("\n  ");
            findings.push(format!(
                "{root}: {names} import each other in a circle: move what both sides need below them\n  {imports}"
            ));
        }
    }
    report(findings);
}

#[test]
fn unsafe_code_stays_behind_its_boundaries() {
    let mut findings = Vec::new();
    for file in files().iter().filter(|file| file.path.ends_with(".rs")) {
        let uses = unsafe_uses(&file.text);
        if let Some(first) = uses.first()
            && !UNSAFE_BOUNDARIES.iter().any(|boundary| file.path.starts_with(boundary))
        {
            findings.push(format!(
                "{}:{}: unsafe code, {} times in this file: move it behind an unsafe boundary, or add one in tests/tidy.rs and \
                 say why",
                file.path,
                first.line,
                uses.len()
            ));
        }
        for found in uses.iter().filter(|found| !found.is_explained) {
            let wanted = match found.what {
                Unsafe::Function => "function: say under \"# Safety\" what its caller promises",
                Unsafe::Block => "block: say why it is sound, // SAFETY: …",
                Unsafe::Impl => "impl: say why it is sound, // SAFETY: …",
            };
            findings.push(format!("{}:{}: an unsafe {wanted}", file.path, found.line));
        }
    }
    report(findings);
}

/// A program with more rights than its caller sees no variable: `resay_plugin::environment` asks for that.
#[test]
fn the_environment_is_read_in_one_place() {
    // Of a process that the command has started itself.
    let exceptions = ["plugins/abi/src/environment.rs", "cli/check/src/"];
    let reads = ["env::var(", "env::var_os(", "env::vars(", "env::vars_os(", "env::temp_dir("];
    let mut findings = Vec::new();
    let places = ["src/", "plugins/", "cli/src/", "cli/check/src/", "cli/load/src/"];
    for file in files().iter().filter(|file| file.path.ends_with(".rs") && !file.path.contains("/tests")) {
        let is_in = |beginnings: &[&str]| beginnings.iter().any(|beginning| file.path.starts_with(beginning));
        if !is_in(&places) || is_in(&exceptions) || file.path.starts_with("src/worker/simulation/") {
            continue;
        }
        for (number, line) in without_tests(&file.text).lines().enumerate() {
            let is_code = !line.trim_start().starts_with("//");
            if is_code && reads.iter().any(|read| line.contains(read)) {
                let place = format!("{}:{}", file.path, number + 1);
                findings.push(format!("{place}: read variables with resay_plugin::environment"));
            }
        }
    }
    report(findings);
}

#[test]
fn no_file_is_an_orphan() {
    let mut findings = Vec::new();
    let files = files();
    for root in crate_roots(&files) {
        let known: BTreeSet<_> =
            root.files.iter().flat_map(|file| modules(file)).map(|module| module.file.path).collect();
        for file in &files {
            if root.has(&file.path) && file.path.ends_with(".rs") && !known.contains(&file.path) {
                findings.push(format!("{}:1: no `mod` leads here: declare it or remove it", file.path));
            }
        }
    }
    let manifest = text_of(&files, "Cargo.toml");
    for file in files.iter().filter(|file| file.path.starts_with("examples/")) {
        let (directory, name) = file.path.rsplit_once('/').unwrap_or_default();
        let is_made = match directory {
            // xtask compiles and runs all of these.
            "examples/c" => name.ends_with(".c") || is_included(&files, directory, name),
            "examples/python" => name.ends_with(".py"),
            // And these, with what is beside them.
            "examples/cpp" if name.ends_with(".cpp") => true,
            "examples/cpp" | "examples/go" | "examples/lua" | "examples/node" | "examples/zig" => {
                text_of(&files, "xtask/src/languages.rs").contains(&format!("\"{directory}/tour."))
            }
            // Cargo finds these, and what it is told of.
            "examples" => name.ends_with(".rs"),
            _ => manifest.contains(&format!("path = \"{}\"", file.path)) || is_in_member(manifest, directory),
        };
        if !is_made && name != "README.md" {
            findings.push(format!(
                "{}:1: nothing compiles this: examples/c/*.c, examples/cpp/*.cpp and examples/python/*.py are run by \
                 xtask, others are named in Cargo.toml",
                file.path
            ));
        }
    }
    let linked = linked_from(&files, &["README.md", "ARCHITECTURE.md"]);
    for file in files.iter().filter(|file| file.path.starts_with("docs/") && file.path.ends_with(".md")) {
        if !linked.contains(&file.path) {
            findings.push(format!(
                "{}:1: no link leads here from README.md or ARCHITECTURE.md: add one",
                file.path
            ));
        }
    }
    report(findings);
}

#[test]
fn the_map_names_everything() {
    let files = files();
    let map = text_of(&files, "ARCHITECTURE.md");
    let mut findings = Vec::new();
    if map.is_empty() {
        findings.push("ARCHITECTURE.md:1: there is no map: write it".to_owned());
    }
    let directories: BTreeSet<_> =
        files.iter().filter_map(|file| Some(file.path.split_once('/')?.0)).collect();
    for directory in directories.into_iter().filter(|directory| *directory != ".cargo") {
        if !map.is_empty() && !map.contains(&format!("{directory}/")) {
            findings
                .push(format!("ARCHITECTURE.md:1: says nothing of {directory}/: say what is there and why"));
        }
    }
    let modules: BTreeSet<_> = files
        .iter()
        .filter_map(|file| file.path.strip_prefix("src/"))
        .map(|path| path.split_once('/').map_or(path.trim_end_matches(".rs"), |(directory, _)| directory))
        .collect();
    for module in modules {
        if !map.is_empty() && !names_module(map, module) {
            findings.push(format!(
                "ARCHITECTURE.md:1: says nothing of the module {module}: name it as {module}.rs or {module}/"
            ));
        }
    }
    report(findings);
}

#[test]
fn the_map_is_in_the_order_of_the_layers() {
    let files = files();
    let map = text_of(&files, "ARCHITECTURE.md");
    let row = |module: &str| {
        let name = module.split("::").next().unwrap_or_default();
        let names = [format!("`src/{name}.rs`"), format!("`src/{name}/`")];
        map.lines().position(|line| {
            let first = line.split('|').nth(1).unwrap_or_default();
            names.iter().any(|name| first.contains(name.as_str()))
        })
    };
    let mut findings = Vec::new();
    for (module, may) in LAYERS {
        for import in may.iter().filter(|import| row(import) < row(module)) {
            findings.push(format!("ARCHITECTURE.md:1: {import} stands above {module}, which imports it"));
        }
    }
    report(findings);
}

#[test]
fn nothing_is_left_behind() {
    let words = [
        (concat!("TO", "DO"), "do it, or file it elsewhere"),
        (concat!("FIX", "ME"), "fix it, or file it elsewhere"),
        (concat!("X", "XX"), "do it, or file it elsewhere"),
        (concat!("todo", "!"), "write it"),
        (concat!("unimplemented", "!"), "write it, or refuse with an error"),
        (concat!("#[ign", "ore"), "run it, or remove it"),
    ];
    let places = [concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/wo", "rk/")];
    let mut findings = Vec::new();
    for file in files() {
        for (number, line) in file.text.lines().enumerate() {
            let place = format!("{}:{}", file.path, number + 1);
            for (word, what) in words {
                if has_word(line, word) {
                    findings.push(format!("{place}: {word}: {what}"));
                }
            }
            for path in places {
                if begins_path(line, path) {
                    findings.push(format!("{place}: {path}: a path of one machine: make it relative"));
                }
            }
        }
        let is_test = file.path.starts_with("tests/") && file.path.ends_with(".rs");
        // Waiting for another process or a counter is polling: the helpers for that are in one place.
        if is_test && !file.path.starts_with("tests/common/") {
            for (number, line) in tidy::code::code_of(&file.text).lines().enumerate() {
                if line.contains("thread::sleep") {
                    findings.push(format!(
                        "{}:{}: a test that sleeps is slow or fails sometimes: wait for the event itself, with a \
                         helper of tests/common",
                        file.path,
                        number + 1
                    ));
                }
            }
        }
    }
    report(findings);
}

#[test]
fn files_can_be_read_in_one_sitting() {
    let sources = [".rs", ".c", ".py", ".sh"];
    let findings = files()
        .iter()
        .filter(|file| sources.iter().any(|end| file.path.ends_with(end)))
        .filter(|file| file.text.lines().count() > LINES_MAX)
        .map(|file| {
            let lines = file.text.lines().count();
            format!("{}:{LINES_MAX}: {lines} lines, at most {LINES_MAX}: split it by what it does", file.path)
        })
        .collect();
    report(findings);
}

#[track_caller]
fn report(findings: Vec<String>) {
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
}

/// The layer that a path of modules, and perhaps an item, belongs to: the longest one listed.
fn owner_of(path: &[String]) -> Option<&'static str> {
    (1..=path.len()).rev().find_map(|len| {
        let name = path[..len].join("::");
        LAYERS.iter().map(|(module, _)| *module).find(|module| *module == name)
    })
}

fn children_of(modules: &[Module], parent: &Module) -> Vec<String> {
    let is_child = |module: &&Module| module.path.split_last().is_some_and(|(_, above)| above == parent.path);
    modules.iter().filter(is_child).filter_map(|module| module.path.last().cloned()).collect()
}

/// Why a path from the crate's root is none that users of the crate could write; `None`: they could.
fn not_public(modules: &[Module], path: &[String]) -> Option<String> {
    let mut module = modules.iter().find(|module| module.path.is_empty())?;
    for (depth, name) in path.iter().enumerate() {
        if name == "*" {
            return Some("a glob hides what is public: name what is used".to_owned());
        }
        let code = without_tests(&module.file.text);
        let is_public = code.lines().any(|line| declares_publicly(line.trim_start(), name))
            || reexports(&module.file.text).contains(name);
        if !is_public {
            return Some(format!(
                "{name} is not public in {}: use the crate's public names",
                module.file.path
            ));
        }
        match modules.iter().find(|module| module.path == path[..=depth]) {
            Some(next) => module = next,
            None => return None, // an item, and what is within it
        }
    }
    None
}

fn declares_publicly(line: &str, name: &str) -> bool {
    let Some(rest) = line.strip_prefix("pub ") else { return false };
    let mut words = rest.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty());
    let kinds = ["mod", "fn", "struct", "enum", "trait", "type", "const", "static", "union"];
    let modifiers = ["const", "unsafe", "async", "extern", "mut"];
    let mut declared = false;
    words.find(|word| {
        declared |= kinds.contains(word);
        !kinds.contains(word) && !modifiers.contains(word)
    }) == Some(name)
        && declared
}

fn text_of<'a>(files: &'a [File], path: &str) -> &'a str {
    files.iter().find(|file| file.path == path).map_or("", |file| &file.text)
}

fn is_included(files: &[File], directory: &str, name: &str) -> bool {
    let line = format!("#include \"{name}\"");
    files.iter().any(|file| file.path.starts_with(directory) && file.text.contains(&line))
}

/// Whether a directory is in a package that the workspace lists.
fn is_in_member(manifest: &str, directory: &str) -> bool {
    Path::new(directory).ancestors().any(|above| {
        let above = above.display().to_string();
        !above.is_empty() && manifest.contains(&format!("\"{above}\""))
    })
}

/// Every file that links lead to, over other pages too.
fn linked_from(files: &[File], from: &[&str]) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut next: Vec<String> = from.iter().map(|page| (*page).to_owned()).collect();
    while let Some(page) = next.pop() {
        if !seen.insert(page.clone()) || !page.ends_with(".md") {
            continue;
        }
        let directory = page.rsplit_once('/').map_or("", |(directory, _)| directory);
        for link in text_of(files, &page).split("](").skip(1) {
            let target = link.split([')', '#', ' ']).next().unwrap_or_default();
            next.push(joined(directory, target));
        }
    }
    seen
}

fn joined(directory: &str, target: &str) -> String {
    let mut parts: Vec<&str> = directory.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn names_module(map: &str, module: &str) -> bool {
    [format!("{module}.rs"), format!("{module}/")].iter().any(|name| {
        map.match_indices(name.as_str())
            .any(|(at, _)| !map[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '-'))
    })
}

/// Whether `word` stands in `line` for itself, not within another word.
fn has_word(line: &str, word: &str) -> bool {
    let is_letter = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + word.len()..]);
        let goes_on = word.ends_with(is_letter) && after.starts_with(is_letter);
        !goes_on && !before.ends_with(is_letter)
    })
}

#[test]
fn no_private_words_are_left() {
    let findings = files().iter().flat_map(|file| tidy::names::findings(&file.path, &file.text)).collect();
    report(findings);
}

/// Whether an absolute path in `line` begins with `directory`.
fn begins_path(line: &str, directory: &str) -> bool {
    line.match_indices(directory)
        .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-/})*~".contains(c)))
}

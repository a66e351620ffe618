//! The copy of the sources that has all mutants in it.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::list::Mutant;
use crate::files::about;
use crate::place::Place;

/// The variable that chooses a mutant by its number, from 1 on.
pub(super) const SWITCH: &str = "RESAY_MUTANT";

/// The copy, and where it is built.
pub(super) struct Tree {
    pub(super) sources: PathBuf,
    pub(super) built: PathBuf,
}

impl Tree {
    /// Writes what has changed since the last time, so that no more than that is compiled.
    pub(super) fn write(place: &Place, mutants: &[Mutant]) -> Result<Tree, String> {
        let directory = place.target()?.join("mutants");
        let tree = Tree { sources: directory.join("sources"), built: directory.join("target") };
        let files = files(&place.root)?;
        for path in files_below(&tree.sources)? {
            if !files.contains(&path) {
                let path = tree.sources.join(path);
                fs::remove_file(&path).map_err(about(&path))?;
            }
        }
        for path in &files {
            let (from, to) = (place.root.join(path), tree.sources.join(path));
            if let Some(parent) = to.parent() {
                fs::create_dir_all(parent).map_err(about(parent))?;
            }
            if let Ok(target) = fs::read_link(&from) {
                if fs::read_link(&to).ok().as_ref() != Some(&target) {
                    symlink(target, &to).map_err(about(&to))?;
                }
                continue;
            }
            let bytes = fs::read(&from).map_err(about(&from))?;
            let bytes = match path.to_str().filter(|path| path.starts_with("src/")) {
                Some(name) => {
                    let text = String::from_utf8(bytes).map_err(|error| format!("{name}: {error}"))?;
                    mutated(name, text, mutants)?.into_bytes()
                }
                None => bytes,
            };
            if fs::read(&to).ok().as_ref() != Some(&bytes) {
                fs::write(&to, bytes).map_err(about(&to))?;
            }
            let permissions = fs::metadata(&from).map_err(about(&from))?.permissions();
            fs::set_permissions(&to, permissions).map_err(about(&to))?;
        }
        Ok(tree)
    }
}

/// What cannot be found in the sources, or is in the way of another mutant.
pub(super) fn overlaps(place: &Place, mutants: &[Mutant]) -> Vec<String> {
    let mut findings = Vec::new();
    let names: BTreeSet<_> = mutants.iter().map(|mutant| mutant.file.as_str()).collect();
    for name in names {
        let path = place.root.join(name);
        let is_of_engine = name.starts_with("src/");
        match fs::read_to_string(&path).map_err(about(&path)) {
            Ok(text) if is_of_engine => findings.extend(mutated(name, text, mutants).err()),
            Ok(_) => findings.push(format!("{name}: mutants are in src/")),
            Err(reason) => findings.push(reason),
        }
    }
    findings
}

/// What git knows of, or would.
fn files(root: &Path) -> Result<BTreeSet<PathBuf>, String> {
    let mut list = Command::new("git");
    list.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(root);
    let output = list.output().map_err(|error| format!("git: {error}"))?;
    if !output.status.success() {
        return Err(format!("git ls-files: {}", output.status));
    }
    let names = String::from_utf8_lossy(&output.stdout).into_owned();
    let paths = names.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from);
    // One that was just removed is still known.
    Ok(paths.filter(|path| root.join(path).symlink_metadata().is_ok()).collect())
}

fn files_below(directory: &Path) -> Result<BTreeSet<PathBuf>, String> {
    let mut found = BTreeSet::new();
    let mut next = vec![PathBuf::new()];
    while let Some(below) = next.pop() {
        let Ok(entries) = fs::read_dir(directory.join(&below)) else { continue };
        for entry in entries {
            let entry = entry.map_err(about(directory))?;
            let path = below.join(entry.file_name());
            let kind = entry.file_type().map_err(about(&path))?;
            if kind.is_dir() {
                next.push(path);
            } else {
                found.insert(path);
            }
        }
    }
    Ok(found)
}

/// A file of the engine with its mutants.
fn mutated(name: &str, text: String, mutants: &[Mutant]) -> Result<String, String> {
    let mut places = Vec::new();
    for (number, mutant) in (1..).zip(mutants).filter(|(_, mutant)| mutant.file == name) {
        places.push((find(&text, mutant)?, number, mutant));
    }
    places.sort_by_key(|(place, ..)| place.start);
    if let Some([(_, _, first), (_, _, second)]) =
        places.windows(2).find(|pair| pair[0].0.end > pair[1].0.start)
    {
        return Err(format!("{} and {} change the same text", first.name, second.name));
    }
    let mut result = text;
    for (place, number, mutant) in places.into_iter().rev() {
        result.replace_range(place, &switched(number, mutant));
    }
    if name == "src/lib.rs" {
        // What a mutant does not use any more is no news.
        result = format!("#![allow(warnings)]\n{result}{}", module());
    }
    Ok(result)
}

/// Where a mutant's text is.
fn find(text: &str, mutant: &Mutant) -> Result<Range<usize>, String> {
    let Mutant { name, file, within, old, .. } = mutant;
    let once = |text: &str, part: &str| match text.match_indices(part).collect::<Vec<_>>()[..] {
        [(at, _)] => Ok(at),
        [] => Err(format!("{name}: {file} has no text {part:?}")),
        _ => Err(format!("{name}: {file} has the text {part:?} more than once")),
    };
    let begin = once(text, within)? + once(within, old)?;
    Ok(begin..begin + old.len())
}

/// Both texts, one of which is chosen while the program runs.
fn switched(number: usize, mutant: &Mutant) -> String {
    let Mutant { old, new, .. } = mutant;
    if old.ends_with([';', '}']) {
        return format!("if crate::mutants::is({number}) {{ {new} }} else {{ {old} }}");
    }
    format!("(if crate::mutants::is({number}) {{ {new} }} else {{ {old} }})")
}

/// What is asked.
fn module() -> String {
    format!(
        "\n/// Which mutant this is.\npub(crate) mod mutants {{\n    static CHOSEN: std::sync::OnceLock<u32> = \
         std::sync::OnceLock::new();\n    pub(crate) fn is(number: u32) -> bool {{\n        let chosen = || \
         std::env::var(\"{SWITCH}\").ok().and_then(|number| number.parse().ok());\n        \
         *CHOSEN.get_or_init(|| chosen().unwrap_or(0)) == number\n    }}\n}}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::super::list::parse;
    use super::*;

    fn mutant(within: &str, old: &str, new: &str) -> Mutant {
        let text = format!(
            "[[mutant]]\nname = 'm'\nfile = 'src/a.rs'\nwithin = '{within}'\nold = '{old}'\nnew = '{new}'\ntests = ['lib a']"
        );
        parse(&text).unwrap().remove(0)
    }

    #[test]
    fn both_texts_are_in_the_copy() {
        let text = || "f(a < b); f(a < c); g();".to_owned();
        let all = [mutant("a < c", "<", "<="), mutant("g();", "g();", "")];
        assert_eq!(
            mutated("src/a.rs", text(), &all).unwrap(),
            "f(a < b); f(a (if crate::mutants::is(1) { <= } else { < }) c); \
             if crate::mutants::is(2) {  } else { g(); }"
        );
        assert_eq!(mutated("src/b.rs", text(), &all).unwrap(), text());
    }

    #[test]
    fn a_text_that_is_not_there_once_is_an_error() {
        let text = || "f(a < b); f(a < c);".to_owned();
        for (within, old, reason) in
            [("a > b", "a", "has no text"), ("f(a", "a", "more than once"), ("a < b", "c", "has no text")]
        {
            let all = [mutant(within, old, "x")];
            assert!(mutated("src/a.rs", text(), &all).unwrap_err().contains(reason), "{within}");
        }
        let all = [mutant("a < b", "a < b", "x"), mutant("f(a < b)", "f(a", "y")];
        assert!(mutated("src/a.rs", text(), &all).unwrap_err().contains("the same text"));
    }
}

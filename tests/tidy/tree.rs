//! The files of the repository, and the modules of a crate.

use std::fs;
use std::path::{Path, PathBuf};

use super::code;

/// Not ours, or made by tools.
const SKIPPED: [&str; 10] = [
    "target",
    ".git",
    "__pycache__",
    ".pytest_cache",
    ".venv",
    "node_modules",
    "build",
    "dist",
    "corpus",
    "artifacts",
];

/// A text file, its path from the root with slashes.
#[derive(Debug, Clone)]
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// A module of a crate and the file that it is in.
#[derive(Debug, Clone)]
pub(crate) struct Module {
    /// Its names from the crate's root, which is empty itself.
    pub(crate) path: Vec<String>,
    pub(crate) file: File,
    /// Only there in tests.
    pub(crate) is_test: bool,
}

impl Module {
    pub(crate) fn name(&self) -> String {
        self.path.join("::")
    }
}

/// The sources of one package: a directory, and the files from which modules are reached.
#[derive(Debug)]
pub(crate) struct CrateRoot {
    pub(crate) directory: String,
    pub(crate) files: Vec<String>,
    /// Packages within the directory.
    pub(crate) nested: Vec<String>,
}

impl CrateRoot {
    pub(crate) fn has(&self, path: &str) -> bool {
        path.starts_with(&self.directory) && !self.nested.iter().any(|package| path.starts_with(package))
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All text files, in order.
pub(crate) fn files() -> Vec<File> {
    let mut found = Vec::new();
    walk(root(), &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(found.len() > 20, "the repository is not at {}", root().display());
    found
}

fn walk(directory: &Path, found: &mut Vec<File>) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let kind = entry.file_type().unwrap();
        if SKIPPED.contains(&name.as_str()) {
            // In a second working tree, .git is a file.
            continue;
        }
        if kind.is_dir() && !name.ends_with(".egg-info") {
            walk(&entry.path(), found);
        } else if kind.is_file() && name != "Cargo.lock" {
            // What is no text has no words.
            if let Ok(text) = fs::read_to_string(entry.path()) {
                found.push(File { path: shown(&entry.path()), text });
            }
        }
    }
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned()
}

/// Every package with a `src` directory, or with `lib.rs` beside its manifest, which then names its other roots.
pub(crate) fn crate_roots(files: &[File]) -> Vec<CrateRoot> {
    let manifests: Vec<_> = files
        .iter()
        .filter_map(|file| Some((file.path.strip_suffix("Cargo.toml")?, file.text.as_str())))
        .collect();
    manifests
        .iter()
        .map(|&(package, manifest)| {
            let is_flat = files.iter().any(|file| file.path.strip_prefix(package) == Some("lib.rs"));
            let directory = if is_flat { package.to_owned() } else { format!("{package}src/") };
            let is_root = |path: &str| {
                path.strip_prefix(&directory).is_some_and(|rest| {
                    ["lib.rs", "main.rs"].contains(&rest)
                        || rest.starts_with("bin/")
                        || (is_flat && manifest.contains(&format!("path = \"{rest}\"")))
                })
            };
            let roots = files.iter().filter(|file| is_root(&file.path)).map(|file| file.path.clone());
            let nested = manifests.iter().map(|(other, _)| *other);
            let nested = nested.filter(|other| *other != package && other.starts_with(&directory));
            CrateRoot { files: roots.collect(), nested: nested.map(str::to_owned).collect(), directory }
        })
        .filter(|root| !root.files.is_empty())
        .collect()
}

/// The modules that `mod` leads to from a crate's root file, itself first.
pub(crate) fn modules(root_file: &str) -> Vec<Module> {
    let mut found = Vec::new();
    let path = root().join(root_file);
    let below = path.parent().unwrap().to_owned();
    visit(&path, &below, Vec::new(), false, &mut found);
    found
}

fn visit(file: &Path, below: &Path, path: Vec<String>, is_test: bool, found: &mut Vec<Module>) {
    let Ok(text) = fs::read_to_string(file) else {
        // The compiler says so, better.
        return;
    };
    for declared in code::declared_modules(&text) {
        let mut child = path.clone();
        child.push(declared.name.clone());
        let candidates: [PathBuf; 2] =
            [below.join(format!("{}.rs", declared.name)), below.join(&declared.name).join("mod.rs")];
        if let Some(file) = candidates.iter().find(|file| file.is_file()) {
            visit(file, &below.join(&declared.name), child, is_test || declared.is_test, found);
        }
    }
    found.push(Module { path, file: File { path: shown(file), text }, is_test });
}

//! New projects in each language: they build as their README says, without warnings and without a network, pass the
//! check, and are vectorised.
#![allow(clippy::unwrap_used, clippy::panic, unused_crate_dependencies, missing_docs)]

#[allow(dead_code)] // each program of tests uses some of it
mod common;

use common::{assert_passes, options, skipped};
use resay_check::{Lang, check};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

#[test]
fn child() {
    common::child();
}

/// What each project promises, and what is tested of that.
const PROBES: &[&str] = &["exports", "bytewise", "threads"];

#[test]
fn a_project_in_c() {
    let dir = tempfile::tempdir().unwrap();
    let files = resay_check::new("my-flip", Lang::C, dir.path()).unwrap();
    assert_eq!(files[0], dir.path().join("my-flip/my-flip.c"));
    let plugin = make(dir.path(), "CFLAGS", "-Wpedantic -Werror");
    passes_at_full_speed(&plugin, "<map>");
}

#[test]
fn a_project_in_cpp() {
    if Command::new("c++").arg("--version").output().is_err() {
        return skipped("a new project in C++: there is no c++");
    }
    let dir = tempfile::tempdir().unwrap();
    resay_check::new("my-flip", Lang::Cpp, dir.path()).unwrap();
    let plugin = make(dir.path(), "CXXFLAGS", "-Wpedantic -Wold-style-cast -Wextra-semi -Werror");
    passes_at_full_speed(&plugin, "8call_mapEPv");
}

#[test]
fn a_project_in_rust() {
    let dir = tempfile::tempdir().unwrap();
    resay_check::new("my-flip", Lang::Rust, dir.path()).unwrap();
    let project = dir.path().join("my-flip");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("new");
    for task in ["test", "build"] {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args([task, "--release", "--offline", "--quiet", "-j1"]).current_dir(&project);
        // The SDK is a part of the project: its warnings would be the user's.
        cargo.env("CARGO_TARGET_DIR", &target).env("RUSTFLAGS", "-Dwarnings");
        succeeds(cargo.output().unwrap());
    }
    passes_at_full_speed(&target.join("release/libmy_flip.so"), "4shim3map");
}

/// Runs make with its own flags and these: the plugin.
fn make(dir: &Path, variable: &str, flags: &str) -> PathBuf {
    let project = dir.join("my-flip");
    let makefile = std::fs::read_to_string(project.join("Makefile")).unwrap();
    let own = makefile.lines().find_map(|line| line.strip_prefix(&format!("{variable} ?= "))).unwrap();
    let mut make = Command::new("make");
    make.arg("-C").arg(&project).arg(format!("{variable}={own} {flags}")).env_remove(variable);
    succeeds(make.output().unwrap());
    project.join("libmy-flip.so")
}

fn succeeds(output: Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn passes_at_full_speed(plugin: &Path, function: &str) {
    let mut options = options();
    options.cost = true;
    let report = check(plugin, &options);
    println!("{report}");
    assert_passes(&report, PROBES);
    assert!(report.hints.is_empty(), "{report}");
    has_vector_instructions(plugin, function);
}

/// Looks at the function whose symbol contains this name.
fn has_vector_instructions(plugin: &Path, function: &str) {
    if !cfg!(target_arch = "x86_64") {
        return skipped("vector instructions of a new project: the names are those of x86-64");
    }
    let Ok(output) = Command::new("objdump").arg("-d").arg(plugin).output() else {
        return skipped("vector instructions of a new project: there is no objdump");
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // A function begins with its name in angle brackets, and ends with an empty line.
    let is_head = |line: &str| line.ends_with(">:") && line.contains(function);
    let body: Vec<&str> =
        text.lines().skip_while(|line| !is_head(line)).take_while(|line| !line.is_empty()).collect();
    assert!(!body.is_empty(), "no function {function} in {}", plugin.display());
    // Comparing or subtracting sixteen bytes at once.
    let is_packed = |line: &str| {
        ["psubb", "paddb", "pminub", "psubusb", "pcmpeqb", "pcmpgtb"].iter().any(|name| line.contains(name))
    };
    assert!(body.iter().copied().any(is_packed), "{}", body.join("\n"));
}

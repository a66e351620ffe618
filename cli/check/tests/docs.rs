//! Every block of code in docs/plugins.md is compiled, and the plugins are checked.
#![allow(clippy::unwrap_used, clippy::panic, unused_crate_dependencies, missing_docs)]

#[allow(dead_code)] // each program of tests uses some of it
mod common;

use common::{assert_passes, cargo, options, root};
use resay_check::{Lang, check};
use std::fs;
use std::process::Command;

#[test]
fn child() {
    common::child();
}

/// The blocks of that language in docs/plugins.md.
fn blocks(language: &str) -> Vec<String> {
    blocks_of("docs/plugins.md", language)
}

fn blocks_of(page: &str, language: &str) -> Vec<String> {
    let page = fs::read_to_string(root().join(page)).unwrap();
    page.split("\n```")
        .skip(1)
        .step_by(2)
        .filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n'))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_block_is_of_a_kind_that_is_tested() {
    let page = fs::read_to_string(root().join("docs/plugins.md")).unwrap();
    let languages: Vec<&str> =
        page.split("\n```").skip(1).step_by(2).map(|block| block.lines().next().unwrap()).collect();
    for language in languages {
        assert!(["c", "cpp", "rust", "toml", "console", "text"].contains(&language), "{language}");
    }
}

#[test]
fn the_blocks_in_c() {
    let dir = tempfile::tempdir().unwrap();
    let header = root().join("include/resay_plugin.h");
    fs::copy(header, dir.path().join("resay_plugin.h")).unwrap();
    let console = blocks("console").join("\n");
    let command = console.lines().find_map(|line| line.strip_prefix("$ cc ")).unwrap();
    let sources = blocks("c");
    assert_eq!(sources.len(), 2);
    for source in sources {
        fs::write(dir.path().join("shout.c"), source).unwrap();
        let command = format!("cc -Wall -Wextra -Werror {command}");
        let output = Command::new("sh").args(["-c", &command]).current_dir(dir.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_passes(
            &check(&dir.path().join("libshout.so"), &options()),
            &["exports", "sessions", "threads"],
        );
    }
}

#[test]
fn the_block_in_cpp() {
    if Command::new("c++").arg("--version").output().is_err() {
        return common::skipped("the block in C++: there is no c++");
    }
    let dir = tempfile::tempdir().unwrap();
    for header in ["resay_plugin.h", "resay_plugin.hpp"] {
        fs::copy(root().join("include").join(header), dir.path().join(header)).unwrap();
    }
    let console = blocks("console").join("\n");
    let command = console.lines().find_map(|line| line.strip_prefix("$ c++ ")).unwrap();
    let [source] = blocks("cpp").try_into().unwrap();
    fs::write(dir.path().join("quote.cpp"), source).unwrap();
    let command = format!("c++ -Wall -Wextra -Wpedantic -Wold-style-cast -Wextra-semi -Werror {command}");
    let output = Command::new("sh").args(["-c", &command]).current_dir(dir.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_passes(
        &check(&dir.path().join("libquote.so"), &options()),
        &["exports", "sessions", "threads", "options"],
    );
}

#[test]
fn the_blocks_in_rust() {
    let manifests = blocks("toml");
    assert_eq!(manifests.len(), 1);
    let sources = blocks("rust");
    assert_eq!(sources.len(), 2);
    for (index, source) in sources.iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        // The target directory is shared with other tests: a name of its own.
        let name = format!("docs-{index}");
        resay_check::new(&name, Lang::Rust, dir.path()).unwrap();
        let project = dir.path().join(&name);
        let manifest = manifests[0].replace("\"shout\"", &format!("\"{name}\""));
        fs::write(project.join("Cargo.toml"), manifest + "\n[workspace]\n").unwrap();
        fs::write(project.join("src/lib.rs"), source).unwrap();
        cargo(&["test"], &project);
        let built = cargo(&["build"], &project);
        let report = check(&built.join(format!("libdocs_{index}.so")), &options());
        assert_passes(&report, &["exports", "sessions", "threads"]);
    }
}

#[test]
fn the_plugins_of_the_readme() {
    let mut options = options();
    options.cost = true;
    let dir = tempfile::tempdir().unwrap();
    let in_c = blocks_of("README.md", "c").into_iter().find(|block| block.contains("RESAY_PLUGIN(")).unwrap();
    fs::write(dir.path().join("flip.c"), in_c).unwrap();
    let shell = blocks_of("README.md", "sh").join("\n");
    let command = shell.lines().find(|line| line.starts_with("cc ") && line.contains("flip.c")).unwrap();
    let include = format!("-I{}", root().join("include").display());
    let command = command.replace("-Iinclude", &format!("-Wall -Wextra -Werror {include}"));
    let output = Command::new("sh").args(["-c", &command]).current_dir(dir.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report = check(&dir.path().join("libflip.so"), &options);
    assert_passes(&report, &["exports", "bytewise"]);
    assert!(report.hints.is_empty(), "{report}");

    let in_rust = blocks_of("README.md", "rust").into_iter().find(|block| block.contains("export!")).unwrap();
    resay_check::new("readme", Lang::Rust, dir.path()).unwrap();
    let project = dir.path().join("readme");
    fs::write(project.join("src/lib.rs"), in_rust).unwrap();
    let built = cargo(&["build"], &project);
    assert_passes(&check(&built.join("libreadme.so"), &common::options()), &["exports", "bytewise"]);
}

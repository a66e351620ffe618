//! Plugins that keep their promises pass, each with the probes that are about it; and what the library says of
//! files that are no plugins.
#![allow(clippy::unwrap_used, clippy::panic, unused_crate_dependencies, missing_docs)]

#[allow(dead_code)] // each program of tests uses some of it
mod common;

use common::{assert_passes, broken, cargo, compile, options, root};
use resay_check::{CheckOptions, Lang, Outcome, Report, check};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

#[test]
fn child() {
    common::child();
}

#[test]
fn the_example_in_c() {
    let dir = tempfile::tempdir().unwrap();
    let plugin = dir.path().join("librot13.so");
    compile(&root().join("examples/c/plugin_rot13.c"), &plugin, &[]);
    let mut options = options();
    options.cost = true;
    let report = check(&plugin, &options);
    println!("{report}");
    assert_passes(
        &report,
        &["exports", "bytewise", "memory", "sessions", "threads", "leaks", "alone", "fuzz"],
    );
    let sizes: Vec<usize> = report.costs.iter().map(|cost| cost.bytes).collect();
    assert_eq!(sizes, [16, 64, 1024, 65_536, 1 << 20]);
    assert!(report.costs.iter().all(|cost| cost.nanoseconds > 0.0));
}

#[test]
fn the_example_in_cpp() {
    let dir = tempfile::tempdir().unwrap();
    let plugin = dir.path().join("libquote.so");
    let output = std::process::Command::new("c++")
        .args(["-std=c++11", "-O2", "-shared", "-fPIC", "-fvisibility=hidden", "-I"])
        .arg(root().join("include"))
        .arg(root().join("examples/cpp/plugin_quote.cpp"))
        .arg("-o")
        .arg(&plugin)
        .output();
    let Ok(output) = output else { return common::skipped("the example in C++: there is no c++") };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report = check(&plugin, &options());
    println!("{report}");
    assert_passes(
        &report,
        &["exports", "options", "structs", "leaks", "room", "ends", "sessions", "threads", "fuzz"],
    );
}

/// init() and shutdown() alternate, the path is the library's own, and the host tells [C] from [W].
#[test]
fn a_library_with_a_lifecycle() {
    let (_dir, plugin) = good("lifecycle.c");
    let report = check(&plugin, &options());
    println!("{report}");
    assert_passes(&report, &["lifecycle", "create", "structs", "leaks", "threads"]);
    let text = resay_check::info(&plugin, &options()).unwrap().to_string();
    assert!(text.contains("lifecycle   init() and shutdown()"), "{text}");
}

/// A process that has loaded a file which was written to since may crash: whoever checks the file hears of it.
#[test]
fn a_file_that_an_older_process_has_loaded_has_a_hint() {
    let (_dir, plugin) = good("several.c");
    let mut sleeper =
        std::process::Command::new("sleep").arg("600").env("LD_PRELOAD", &plugin).spawn().unwrap();
    let maps = format!("/proc/{}/maps", sleeper.id());
    while !fs::read_to_string(&maps).unwrap().contains("libgood.so") {
        std::thread::yield_now();
    }
    let hints = || check(&plugin, &options()).hints.into_iter().map(|hint| hint.text).collect::<Vec<_>>();
    let before = hints();
    let file = fs::File::options().write(true).open(&plugin).unwrap();
    file.set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(10)).unwrap();
    let after = hints();
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    assert_eq!(before, [""; 0]);
    let name = format!("loaded by process {} (sleep)", sleeper.id());
    assert!(after.len() == 1 && after[0].contains(&name) && after[0].contains("by rename"), "{after:?}");
}

fn good(name: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let plugin = dir.path().join("libgood.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/good").join(name);
    compile(&source, &plugin, &[]);
    (dir, plugin)
}

fn with(mut options: CheckOptions, given: &[(&str, &str)]) -> CheckOptions {
    options.options = given.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    options
}

#[test]
fn a_stateful_one_that_saves_its_sessions() {
    let (_dir, plugin) = good("carries.c");
    let report = check(&plugin, &options());
    println!("{report}");
    assert_passes(&report, &["state", "sessions", "threads", "room", "ends", "memory", "options", "unload"]);
}

#[test]
fn one_that_grows_within_its_bound_and_works_in_place() {
    let (_dir, plugin) = good("escapes.c");
    let report = check(&plugin, &options());
    println!("{report}");
    assert_passes(&report, &["bound", "room", "memory", "ends", "fuzz"]);
}

#[test]
fn random_answers_are_not_accused() {
    let (_dir, plugin) = good("random.c");
    for given in [&[][..], &[("rate", "100")], &[("seed", "7")], &[("clock", "1")]] {
        let report = check(&plugin, &with(options(), given));
        println!("{report}");
        assert!(report.passed(), "{given:?}\n{report}");
        let sessions = report.findings.iter().find(|finding| finding.probe == "sessions").unwrap();
        if given.len() == 1 && given[0].0 == "rate" {
            assert!(matches!(&sessions.outcome, Outcome::Skip(why) if why.contains("nothing to compare")));
        }
    }
}

#[test]
fn a_kind_of_peer_may_be_refused() {
    let (_dir, plugin) = good("only.c");
    let mut options = options();
    options.cost = true;
    let report = check(&plugin, &options);
    println!("{report}");
    assert_passes(&report, &["call", "room", "sessions", "fuzz"]);
}

#[test]
fn options_that_must_be_given_are_given() {
    let (_dir, plugin) = good("must.c");
    assert_passes(&check(&plugin, &options()), &["create", "options", "leaks"]);
    assert_passes(&check(&plugin, &with(options(), &[("mask", "32")])), &["create", "bytewise"]);
    let report = check(&plugin, &with(options(), &[("mask", "many")]));
    assert_eq!(broken(&report), ["creates"]);
    assert!(report.to_string().contains("mask is a number"), "{report}");
    assert_eq!(broken(&check(&plugin, &with(options(), &[("mass", "1")]))), ["options"]);
}

#[test]
fn several_transforms_and_one_of_them() {
    let (_dir, plugin) = good("several.c");
    let ids = |report: &Report| {
        let mut ids: Vec<_> = report.findings.iter().map(|finding| finding.transform.clone()).collect();
        ids.dedup();
        ids
    };
    let report = check(&plugin, &options());
    assert_eq!(ids(&report), ["", "first", "second"]);
    assert_passes(&report, &["create"]);
    let second = PathBuf::from(format!("{}#second", plugin.display()));
    assert_eq!(ids(&check(&second, &options())), ["", "second"]);
    let none = PathBuf::from(format!("{}#third", plugin.display()));
    let report = check(&none, &options());
    assert_eq!(broken(&report), ["table"]);
    assert!(report.to_string().contains("there is no 'third' here, but first, second"), "{report}");

    let info = resay_check::info(&plugin, &options()).unwrap();
    assert_eq!(info.transforms.len(), 2);
    let text = info.to_string();
    for part in
        ["second 2.0", "promises    bytewise, observer", "count=<integer>", "[default: 1]", "in place (map)"]
    {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert_eq!(resay_check::info(&second, &options()).unwrap().transforms[0].id, "second");
    resay_check::info(&none, &options()).unwrap_err();
}

#[test]
fn a_filter_alone() {
    let (_dir, plugin) = good("filter.c");
    assert_passes(&check(&plugin, &options()), &["exports", "table", "entry"]);
    let info = resay_check::info(&plugin, &options()).unwrap();
    assert!(info.transforms.is_empty());
    let text = info.to_string();
    for part in [
        "bits 1.5",
        "works       between a socket and its stream (filter)",
        "promises    peers say that their side ends",
        "connection  24 B",
        "word=<string>  means nothing [default: ]",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

#[test]
fn files_that_are_no_plugins() {
    let dir = tempfile::tempdir().unwrap();
    let plugin = dir.path().join("librot13.so");
    compile(&root().join("examples/c/plugin_rot13.c"), &plugin, &[]);
    let whole = fs::read(&plugin).unwrap();
    let say = |name: &str, bytes: &[u8], mode: u32| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let report = check(&path, &options());
        assert_eq!(report.exit_status(), 6, "{report}");
        resay_check::info(&path, &options()).unwrap_err();
        (broken(&report).join(" "), report.to_string())
    };
    for (name, bytes, mode, promise, words) in [
        ("script.so", &b"#!/bin/sh\necho\n"[..], 0o755, "file", "not a library"),
        ("empty.so", b"", 0o755, "file", "not a library"),
        ("half.so", &whole[..whole.len() / 2], 0o755, "file", "truncated"),
        ("open.so", &whole, 0o777, "file", "writable by everyone"),
    ] {
        let (code, text) = say(name, bytes, mode);
        assert_eq!(code, promise, "{text}");
        assert!(text.contains(words), "{text}");
    }
    let nothing = check(&dir.path().join("nothing.so"), &options());
    assert_eq!(broken(&nothing), ["file"]);
    assert_eq!(broken(&check(dir.path(), &options())), ["file"]);

    let source = dir.path().join("other.c");
    fs::write(&source, "int other(void) { return 1; }\n").unwrap();
    let other = dir.path().join("libother.so");
    compile(&source, &other, &[]);
    let report = check(&other, &options());
    assert_eq!(broken(&report), ["exports"], "{report}");
    assert!(report.to_string().contains("there is no resay_plugin_v1"), "{report}");
}

#[test]
fn a_seed_repeats_a_run() {
    let dir = tempfile::tempdir().unwrap();
    let plugin = dir.path().join("libbad.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad/crash_in_map.c");
    compile(&source, &plugin, &[]);
    let mut options = options();
    let details = |options: &CheckOptions| {
        let report = check(&plugin, options);
        let fuzz = report.findings.iter().find(|finding| finding.probe == "structs").unwrap();
        (report.seed, format!("{fuzz:?}"))
    };
    let once = details(&options);
    assert_eq!(once, details(&options));
    options.seed = None;
    assert_ne!(details(&options).0, details(&options).0);
}

#[test]
fn plugins_in_rust() {
    let dir = tempfile::tempdir().unwrap();
    resay_check::new("panics", Lang::Rust, dir.path()).unwrap();
    let project = dir.path().join("panics");
    // It panics: that is found, and nothing else.
    fs::write(project.join("src/lib.rs"), include_str!("good/panics.rs.in")).unwrap();
    let built = cargo(&["build"], &project);
    let report = check(&built.join("libpanics.so"), &options());
    println!("{report}");
    assert_eq!(broken(&report), ["no-panic"]);

    let built = cargo(
        &["build", "-p", "resay-transforms", "--example", "uppercase", "--example", "identity"],
        &root(),
    )
    .join("examples");
    let uppercase = built.join("libuppercase.so");
    assert_passes(&check(&uppercase, &options()), &["exports", "bytewise", "options", "threads"]);
    let unicode = check(&uppercase, &with(options(), &[("unicode", "1")]));
    println!("{unicode}");
    assert_passes(&unicode, &["bound", "room", "ends", "memory", "sessions", "threads"]);
    assert_passes(&check(&built.join("libidentity.so"), &options()), &["call", "fuzz"]);
}

#[test]
fn globals_that_threads_may_change_are_not_accused() {
    let (_dir, plugin) = good("globals.c");
    let report = check(&plugin, &options());
    println!("{report}");
    assert!(report.passed(), "{report}");
    let races: Vec<_> = report.findings.iter().filter(|finding| finding.probe == "races").collect();
    assert_eq!(races.len(), 9);
    if cfg!(target_arch = "x86_64") {
        assert!(races.iter().all(|finding| finding.outcome == Outcome::Pass), "{report}");
    }
}

#[test]
fn a_slow_map_passes_with_a_hint() {
    let (_dir, plugin) = good("slow.c");
    let mut options = options();
    options.cost = true;
    let report = check(&plugin, &options);
    assert_passes(&report, &["call", "bytewise"]);
    assert_eq!(report.hints.len(), 1, "{report}");
    assert!(report.to_string().contains("  hint  map() runs at 0."), "{report}");
    assert!(report.hints[0].text.contains("without a branch"), "{report}");
}

#[test]
fn a_program_that_forgets_child_main_does_not_multiply() {
    // This test is what its own child runs, without child_main().
    let dir = tempfile::tempdir().unwrap();
    let plugin = dir.path().join("librot13.so");
    compile(&root().join("examples/c/plugin_rot13.c"), &plugin, &[]);
    let mut options = options();
    options.child_arguments[0] = "a_program_that_forgets_child_main_does_not_multiply".into();
    let report = check(&plugin, &options);
    assert!(!report.passed(), "{report}");
}

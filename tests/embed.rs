//! The library as C programs see it: each file in `tests/c/` is compiled against the header and the library of this very
//! build, and run. What needs a tool that is not installed is left out, and said.

#![allow(clippy::unwrap_used, clippy::panic)] // Also in helpers.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// For all compilers and languages.
const STRICT: [&str; 6] = ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Werror"];
/// Much longer than any of the programs takes, and they have patience limits of their own.
const SECONDS_MAX: &str = "1800";
/// What a static library of Rust needs of the system.
const SYSTEM: [&str; 4] = ["-lpthread", "-ldl", "-lm", "-lgcc_s"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A directory for one test, with the library in it under its SONAME, and where cargo has put it.
fn place(test: &str) -> (PathBuf, PathBuf) {
    let here = Path::new(env!("CARGO_TARGET_TMPDIR")).join("embed").join(test);
    if here.exists() {
        fs::remove_dir_all(&here).unwrap();
    }
    fs::create_dir_all(&here).unwrap();
    let built = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    let library = built.join("libresay.so");
    assert!(library.is_file(), "{} is not there", library.display());
    for name in ["libresay.so".to_owned(), format!("libresay.so.{}", constant("RESAY_ABI"))] {
        symlink(&library, here.join(name)).unwrap();
    }
    (here, built)
}

fn header() -> String {
    fs::read_to_string(root().join("include/resay.h")).unwrap()
}

/// Every `#define NAME value` of the header.
fn constants() -> Vec<(String, String)> {
    let words = |line: &str| {
        let (name, value) = line.strip_prefix("#define ")?.split_once(' ')?;
        Some((name.to_owned(), value.trim_end_matches('u').to_owned()))
    };
    header().lines().filter_map(words).collect()
}

fn constant(name: &str) -> String {
    constants().into_iter().find(|(found, _)| found == name).unwrap().1
}

/// Every function of the header.
fn functions() -> BTreeSet<String> {
    let name = |line: &str| {
        let (before, _) = line.split_once('(')?;
        let name = before.rsplit([' ', '*']).next()?;
        (line.starts_with(|first: char| first.is_ascii_lowercase()) && name.starts_with("resay_"))
            .then(|| name.to_owned())
    };
    header().lines().filter(|line| !line.starts_with("typedef")).filter_map(name).collect()
}

fn text(output: &Output) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&both).into_owned()
}

fn exists(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    if !found {
        eprintln!("{program} is not installed");
    }
    found
}

/// Compiles; what a compiler has to say fails the test.
#[track_caller]
fn compile(compiler: &str, arguments: &[&str], source: &Path, output: &Path) {
    let mut command = Command::new(compiler);
    command
        .args(STRICT)
        .arg("-I")
        .arg(root().join("include"))
        .args(arguments[..].iter().take_while(|a| **a != "--"));
    command.arg(source).arg("-o").arg(output);
    command.args(arguments[..].iter().skip_while(|a| **a != "--").skip(1));
    let result = command.output().unwrap();
    assert!(result.status.success(), "{command:?}:\n{}", text(&result));
}

/// Runs a program that is to answer 0, and gives what it printed.
#[track_caller]
fn run(command: &mut Command) -> String {
    let mut limited = Command::new("timeout");
    limited.arg(SECONDS_MAX).arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        limited.env(key, value.unwrap_or_default());
    }
    if let Some(directory) = command.get_current_dir() {
        limited.current_dir(directory);
    }
    let result = limited.output().unwrap();
    assert!(result.status.success(), "{command:?}: {}\n{}", result.status, text(&result));
    text(&result)
}

/// Compiles one of the programs against the shared library; `None`: there is no compiler. `flavour` tells apart those that
/// several tests use.
#[track_caller]
fn program(name: &str, flavour: &str, flags: &[&str]) -> Option<Command> {
    if !exists("cc") {
        return None;
    }
    let (here, _) = place(&format!("{name}{flavour}"));
    let (source, output) = (root().join(format!("tests/c/{name}.c")), here.join(name));
    let (search, path) = (format!("-L{}", here.display()), format!("-Wl,-rpath,{}", here.display()));
    let mut arguments = vec!["-std=c11", "-g", "-Wno-conversion"];
    arguments.extend(flags);
    arguments.extend(["--", &search, "-lresay", "-pthread", &path]);
    compile("cc", &arguments, &source, &output);
    let mut command = Command::new(output);
    command.current_dir(here);
    Some(command)
}

#[track_caller]
fn passes(name: &str) {
    if let Some(mut program) = program(name, "", &[]) {
        println!("{}", run(&mut program));
    }
}

/// On each of the two drivers; one that is not to be had is left out, and said.
#[track_caller]
fn passes_on_both_drivers(name: &str) {
    for backend in ["epoll", "uring"] {
        let Some(mut program) = program(name, backend, &[]) else { return };
        let result = program.env("RESAY_TEST_BACKEND", backend).output().unwrap();
        let is_skipped = result.status.code() == Some(77);
        println!("{}", text(&result));
        assert!(result.status.success() || is_skipped, "{backend}: {}", text(&result));
    }
}

#[test]
fn the_header_is_clean_in_every_language() {
    let (here, built) = place("header");
    let languages = [
        (["gcc", "clang"], "c", ["c99", "c11", "c17", "c2x"]),
        (["g++", "clang++"], "c++", ["c++11", "c++14", "c++17", "c++20"]),
    ];
    for (compilers, language, standards) in languages {
        for compiler in compilers {
            if !exists(compiler) {
                continue;
            }
            for standard in standards {
                let output = here.join(format!("{compiler}-{standard}.o"));
                let arguments = ["-c", "-x", language, &format!("-std={standard}")];
                compile(compiler, &arguments, &root().join("tests/c/header.c"), &output);
            }
            // The archive is complete, and a program in either language can be linked with it.
            let (object, output) = (here.join(format!("{compiler}-{}.o", standards[0])), here.join(compiler));
            let archive = built.join("libresay.a");
            let mut after = vec!["--", archive.to_str().unwrap()];
            after.extend(SYSTEM);
            compile(compiler, &after, &object, &output);
            run(&mut Command::new(output));
        }
    }
}

#[test]
fn every_constant_is_tested_from_c() {
    let Some(mut program) = program("constants", "", &[]) else { return };
    let tested: BTreeSet<_> = run(&mut program).lines().map(str::to_owned).collect();
    let defined: BTreeSet<_> = constants().into_iter().map(|(name, _)| name).collect();
    assert!(defined.len() > 30, "{defined:?}");
    assert_eq!(tested, defined, "tests/c/constants.c has not the constants of include/resay.h");
}

#[test]
fn nothing_else_is_exported() {
    let (_, built) = place("exports");
    if !exists("nm") {
        return;
    }
    let library = built.join("libresay.so");
    let result = Command::new("nm").args(["-D", "--defined-only"]).arg(library).output().unwrap();
    let exported: BTreeSet<_> =
        text(&result).lines().filter_map(|line| Some(line.rsplit_once(' ')?.1.to_owned())).collect();
    assert_eq!(exported, functions());
}

#[test]
fn the_soname_follows_the_abi() {
    let (_, built) = place("soname");
    if !exists("readelf") {
        return;
    }
    let result = Command::new("readelf").arg("-d").arg(built.join("libresay.so")).output().unwrap();
    let wanted = format!("[libresay.so.{}]", constant("RESAY_ABI"));
    assert!(text(&result).lines().any(|line| line.contains("(SONAME)") && line.contains(&wanted)));
}

#[test]
fn what_is_wrong_is_an_error() {
    passes("arguments");
}

#[test]
fn a_tap_has_every_message() {
    passes("tap");
}

#[test]
fn three_ways_to_run() {
    passes("ways");
}

#[test]
fn callbacks() {
    passes("callbacks");
}

#[test]
fn functions_with_sessions_and_answers_later() {
    passes("functions");
}

#[test]
fn events_log_and_figures() {
    passes("observing");
}

#[test]
fn connections_are_directed() {
    passes_on_both_drivers("connections");
}

#[test]
fn parts_of_the_interface_that_meet() {
    passes_on_both_drivers("interplay");
}

#[test]
fn calls_wait_for_what_they_say() {
    passes_on_both_drivers("waits");
}

#[test]
fn listeners_share_a_port() {
    passes_on_both_drivers("sharing");
}

#[test]
fn the_client() {
    passes("clients");
}

#[test]
fn sockets_that_are_handed_over() {
    // By default a datagram socket is io_uring's, where there is one.
    for backend in ["auto", "epoll"] {
        if let Some(mut program) = program("adopting", backend, &[]) {
            println!("{}", run(program.env("RESAY_TEST_BACKEND", backend)));
        }
    }
}

#[test]
fn forks() {
    passes("forking");
}

#[test]
fn eight_threads_at_once() {
    passes("threads");
}

#[test]
fn signals() {
    passes("signals");
}

#[test]
fn every_call_in_every_state() {
    passes("states");
}

#[test]
fn a_host_with_more_rights_than_its_caller_obeys_no_variable() {
    passes("secure");
}

#[test]
fn a_cancelled_thread_ends_after_its_call() {
    passes("cancelling");
}

#[test]
fn a_filter_against_io_uring_leaves_epoll() {
    passes("sandbox");
}

#[test]
fn handlers_of_the_host_never_run_on_threads_of_an_engine() {
    passes("births");
}

#[test]
fn watching_the_poll_descriptor_is_enough() {
    passes("polling");
}

#[test]
fn a_host_decides_about_threads() {
    passes("hosting");
}

#[test]
fn memory_that_runs_out_ends_one_connection() {
    passes("shortage");
}

#[test]
fn a_thread_that_exits_in_a_callback_ends_nothing_else() {
    passes("leaving");
}

#[test]
fn python_may_end_while_callbacks_run() {
    if !exists("python3") {
        return;
    }
    let (here, _) = place("python");
    let script = root().join("examples/python/ctypes_callback.py");
    for _ in 0..10 {
        let mut python = Command::new("python3");
        python.arg(&script).env("RESAY_LIBRARY", here.join("libresay.so"));
        let said = run(&mut python);
        assert!(said.ends_with("callbacks are running\nthreads left: 0\n"), "{said}");
    }
}

#[test]
fn a_thousand_engines_leave_nothing() {
    let flags: &[&str] = if cfg!(target_env = "gnu") { &["-DCOUNT_BLOCKS", "-fno-builtin"] } else { &[] };
    if let Some(mut program) = program("cycles", "", flags) {
        println!("{}", run(program.arg("1000")));
    }
}

#[test]
fn valgrind_finds_nothing_lost() {
    if !exists("valgrind") {
        return;
    }
    for (name, argument) in
        [("cycles", "30"), ("arguments", ""), ("callbacks", "quick"), ("functions", "quick"), ("clients", "")]
    {
        let Some(checked) = program(name, "-checked", &[]) else { return };
        let mut valgrind = Command::new("valgrind");
        valgrind.args(["-q", "--error-exitcode=9", "--leak-check=full"]);
        valgrind.arg("--errors-for-leak-kinds=definite,indirect,possible").arg("--fair-sched=yes");
        run(valgrind.arg(checked.get_program()).args(Some(argument).filter(|argument| !argument.is_empty())));
    }
}

#[test]
fn plugins_are_loaded_and_loaded_anew() {
    let Some(mut program) = program("plugins", "", &[]) else { return };
    let here = program.get_current_dir().unwrap().to_owned();
    for word in ["one", "two"] {
        let define = format!("-DWORD=\"{word}\"");
        let flags = ["-std=c99", "-shared", "-fPIC", "-Wno-missing-field-initializers", &define];
        compile("cc", &flags, &root().join("tests/c/turns.c"), &here.join(format!("{word}.so")));
    }
    run(program.args(["one.so", "two.so", "turns.so"].map(|file| here.join(file))));
}

#[test]
fn what_there_is_can_be_looked_up() {
    let Some(mut program) = program("lookups", "", &[]) else { return };
    let plugins = program.get_current_dir().unwrap().join("plugins");
    fs::create_dir_all(&plugins).unwrap();
    let flags = ["-std=c99", "-shared", "-fPIC", "-Wno-missing-field-initializers", "-DWORD=\"one\""];
    compile("cc", &flags, &root().join("tests/c/turns.c"), &plugins.join("libturns.so"));
    let broken = plugins.join("libbroken.so");
    fs::write(&broken, "no library").unwrap();
    run(program.arg(&plugins).arg(&broken).env_remove("RESAY_PLUGIN_PATH"));
}

/// The blocks of one language in the guide.
fn blocks(language: &str) -> Vec<String> {
    let guide = fs::read_to_string(root().join("docs/embedding.md")).unwrap();
    let begin = format!("```{language}\n");
    guide.split(&begin).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn the_guide_compiles() {
    if !exists("cc") {
        return;
    }
    let (here, built) = place("guide");
    let (mut programs, mut snippets) = (0, 0);
    fs::create_dir_all(here.join("target")).unwrap();
    symlink(&built, here.join("target/release")).unwrap();
    symlink(root().join("include"), here.join("include")).unwrap();
    for code in blocks("c") {
        let is_whole = code.contains("int main(");
        let code = if is_whole {
            programs += 1;
            code
        } else {
            snippets += 1;
            // What the text around it speaks of.
            format!(
                "#define _GNU_SOURCE\n#include <poll.h>\n#include <stdio.h>\n#include <string.h>\n#include <resay.h>\n\
                 int snippet(resay_engine *engine, resay_error error, resay_id listener, int fd);\n\
                 int snippet(resay_engine *engine, resay_error error, resay_id listener, int fd)\n{{\n\
                 (void)engine, (void)error, (void)listener, (void)fd;\n{code}\nreturn 0;\n}}\n"
            )
        };
        let source = here.join("server.c");
        fs::write(&source, code).unwrap();
        compile("cc", &["-std=gnu11", "-c"], &source, &here.join("server.o"));
        if !is_whole {
            continue;
        }
        // Linked in each way that the guide shows.
        for command in blocks("sh").iter().filter(|command| command.contains("cc ")) {
            run(Command::new("sh").args(["-e", "-c", command]).current_dir(&here));
            assert!(here.join("server").is_file(), "{command}");
        }
    }
    assert!(programs > 0 && snippets > 0, "{programs} programs, {snippets} snippets");
    if exists("python3") {
        for code in blocks("python") {
            run(Command::new("python3").args(["-c", &code]).current_dir(&here));
        }
    }
}

/// Each file that the page names in the line before a block is that block; `RESAY_BLESS=1` writes them anew.
#[test]
fn the_page_of_languages_shows_the_examples() {
    let path = root().join("docs/languages.md");
    let page = fs::read_to_string(&path).unwrap();
    let mut shown = String::new();
    let mut rest = page.as_str();
    let mut files = BTreeSet::new();
    while let Some((before, after)) = rest.split_once("`:\n\n```") {
        let (language, block) = after.split_once('\n').unwrap();
        let file = before.rsplit('`').next().unwrap();
        let text = fs::read_to_string(root().join(file)).unwrap();
        shown.push_str(&format!("{before}`:\n\n```{language}\n{text}```"));
        rest = match block.strip_prefix("```") {
            Some(after) => after,
            None => block.split_once("\n```").unwrap().1,
        };
        files.insert(file.to_owned());
    }
    shown.push_str(rest);
    if std::env::var_os("RESAY_BLESS").is_some() {
        fs::write(&path, &shown).unwrap();
    } else {
        let line = shown.lines().zip(page.lines()).position(|(shown, page)| shown != page);
        assert!(
            page == shown,
            "docs/languages.md:{:?} is not as the example; RESAY_BLESS=1 writes it anew",
            line
        );
    }
    // No tour is missing.
    for directory in fs::read_dir(root().join("examples")).unwrap() {
        let Ok(entries) = fs::read_dir(directory.unwrap().path()) else { continue };
        for entry in entries {
            let file = entry.unwrap().path().strip_prefix(root()).unwrap().display().to_string();
            assert!(!file.contains("/tour") || files.contains(&file), "{file} is not in docs/languages.md");
        }
    }
}

//! `cargo xtask check` and `cargo xtask test`: everything that must hold before a change is in. `cargo xtask install`
//! and `cargo xtask deb`: what others build upon. `cargo xtask peers`: how Resay stands beside other servers.
//! `cargo xtask transcript`: the terminal in README.md.
//!
//! The first two print a line for each step, with its outcome, and close with the sum: `312 passed, 0 failed, 1 skipped`.
//! `cargo xtask sanitize` does too; it takes longer, and a nightly toolchain or one that RESAY_SANITIZE_TOOLCHAIN names.
//! What a step needs and does not find is skipped, and said. They may be named together: `cargo xtask check test`.

mod commits;
mod coverage;
mod deb;
mod examples;
mod files;
mod fuzz;
mod install;
mod languages;
mod mutants;
mod packages;
mod packaging;
mod patience;
mod peers;
mod place;
mod python;
mod report;
mod sanitize;
mod situations;
mod soak;
mod torture;
mod transcript;

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use files::{about, files_in};
use place::{Place, uring_refusal};
use report::{Outcome, Report, Runner, run, run_named_tests, run_or_skip, run_tests};
use situations::Passed;

const USAGE: &str = "usage: cargo xtask check|test|examples|packaging|python|sanitize|torture...
  check      formatting, what is in packages, lints, documentation, the committed headers, the map (tests/tidy.rs),
             subjects of commits
  test       builds everything; every test of the workspace, and docs/situations.md; instruction counts (benches/instructions.toml); the examples
             in Rust, C and Python, and the tour in each language at hand; packages to publish; what install and deb make;
             the Python package
  examples   that part of test alone, after a build
  packaging  the part of test alone that installs
  python     the part of test alone that builds the Python package, and tests it on each Python at hand, on both drivers
  sanitize   the C tests with AddressSanitizer and ThreadSanitizer, as far as the toolchain has what they take
  torture    engines whose calls fail, each call that can with each of its errors; test does it with one error for each
       cargo xtask install [--prefix DIR] [--libdir DIR] [--destdir DIR] [--no-strip]
       cargo xtask deb [DIR]
       cargo xtask peers [--quick] [--only TEXT]... [--servers A,B,...] [--install] [--help]
       cargo xtask notices FILE
       cargo xtask mutants [TEXT]...
       cargo xtask simulate [--minutes N]
       cargo xtask transcript
       cargo xtask fuzz [--minutes N] [TARGET]...
       cargo xtask miri
       cargo xtask coverage
       cargo xtask soak [--minutes N]
  install     builds with the profile dist; installs command, libraries, headers, plugins and manual pages under a prefix
  deb         makes Debian packages of the same in DIR (default: target/debian)
  notices     writes the licences of what command and libraries contain of others
  peers       measures Resay beside other people's servers, and writes docs/performance.md
  transcript  runs the commands of the terminal in README.md, and writes docs/terminal.svg
  mutants     whether tests notice that a line of the engine is wrong: those of tests/mutants.toml, or
              those with a text in their names or in those of their tests
  simulate    simulates networks, with seeds that nobody has tried yet, for 10 minutes or N
  fuzz        each target of fuzz/, or those named, for some minutes (2), where cargo-fuzz and a nightly toolchain are
  miri        the unit tests of the parts without system calls in an interpreter, where a nightly toolchain has it
  coverage    how many branches of the modules that decide what becomes of bytes the unit tests take, where a nightly
              toolchain, cargo-llvm-cov and a new enough LLVM are; fails below 95 % of one of them
  soak        the server for some minutes (5) under everything at once; target/soak/ gets a picture and a table";

fn main() -> ExitCode {
    let tasks: Vec<String> = std::env::args().skip(1).collect();
    if let [first, rest @ ..] = tasks.as_slice()
        && matches!(first.as_str(), "install" | "deb" | "notices" | "transcript")
    {
        return match make(first, rest) {
            Ok(()) => ExitCode::SUCCESS,
            Err(reason) => {
                eprintln!("xtask: {reason}");
                ExitCode::FAILURE
            }
        };
    }
    if let Some((task, arguments)) = tasks.split_first()
        && task == "peers"
    {
        return with_place(|place| peers::run(place, arguments));
    }
    match tasks.split_first() {
        Some((task, arguments)) if task == "fuzz" => {
            return with_place(|place| fuzz::fuzz(place, arguments));
        }
        Some((task, arguments)) if task == "soak" => {
            return with_place(|place| soak::soak(place, arguments));
        }
        Some((task, arguments)) if task == "mutants" => {
            return with_report(|place, report| mutants::run_all(place, report, arguments));
        }
        Some((task, arguments)) if task == "simulate" => {
            return with_report(|place, report| {
                report.step("simulation", || torture::simulate(place, arguments));
            });
        }
        _ => {}
    }
    if tasks.is_empty()
        || tasks.iter().any(|task| {
            !matches!(
                task.as_str(),
                "check"
                    | "test"
                    | "examples"
                    | "packaging"
                    | "python"
                    | "sanitize"
                    | "miri"
                    | "torture"
                    | "coverage"
            )
        })
    {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    }
    with_report(|place, report| {
        for task in &tasks {
            match task.as_str() {
                "check" => check(place, report),
                "examples" => all_examples(place, report),
                "packaging" => packaging::all(place, report),
                "python" => {
                    python::all(place, report, python::Drivers::All, python::Environments::begin());
                }
                "sanitize" => sanitize::sanitize(place, report),
                "miri" => fuzz::miri(place, report),
                "coverage" => coverage::coverage(place, report),
                "torture" => {
                    report.step("torture", || torture::torture(place));
                }
                _ => test(place, report),
            }
        }
    })
}

/// Does steps, and closes with their sum.
fn with_report(steps: impl FnOnce(&Place, &mut Report)) -> ExitCode {
    with_place(|place| {
        let mut report = Report::default();
        steps(place, &mut report);
        println!("{report}");
        if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    })
}

fn with_place(task: impl FnOnce(&Place) -> ExitCode) -> ExitCode {
    match Place::find() {
        Ok(place) => task(&place),
        Err(reason) => {
            eprintln!("xtask: {reason}");
            ExitCode::from(2)
        }
    }
}

/// The tasks that make something, and print the names of its files.
fn make(task: &str, arguments: &[String]) -> Result<(), String> {
    let place = Place::find()?;
    let made = match (task, arguments) {
        ("install", arguments) => {
            let destdir = std::env::var_os("DESTDIR").map(PathBuf::from);
            install::install(&place, &install::Request::parse(arguments, destdir)?)?
        }
        ("notices", [file]) => {
            let path = PathBuf::from(file);
            fs::write(&path, install::notices(&place)?).map_err(about(&path))?;
            vec![path]
        }
        ("transcript", []) => vec![transcript::write(&place)?],
        ("deb", []) => deb(&place, &place.target()?.join("debian"))?,
        ("deb", [directory]) if !directory.starts_with('-') => deb(&place, Path::new(directory))?,
        _ => return Err(format!("too many arguments for {task}\n{USAGE}")),
    };
    for path in made {
        println!("{}", path.display());
    }
    Ok(())
}

fn deb(place: &Place, directory: &Path) -> Result<Vec<PathBuf>, String> {
    deb::packages(place, directory, deb::Size::Small).map_err(|refusal| refusal.to_string())
}

fn check(place: &Place, report: &mut Report) {
    let needs = |name: &str, arguments: &str| {
        if place.has_cargo(name) {
            run(place.cargo(arguments))
        } else {
            Outcome::Skipped(format!("cargo {name} is not installed"))
        }
    };
    report.step("format", || needs("fmt", "fmt --all --check"));
    report.step("packages to publish", || packages::check(place));
    report.step("lints", || needs("clippy", "clippy --workspace --all-targets -- -D warnings"));
    report.step("without bundled transforms", || {
        run(place.cargo("check --package resay --lib --no-default-features"))
    });
    report.step("list of mutants", || mutants::check(place));
    report.step("commit subjects", || commits::check(place));
    report.step("programs of the fuzzer", || fuzz::check(place));
    report.step("documentation", || {
        let mut doc = place.cargo("doc --workspace --no-deps");
        doc.env("RUSTDOCFLAGS", "-D warnings");
        run(doc)
    });
    // Each is also a part of `test`; here they answer at once.
    for (what, name) in [("headers", "headers"), ("map", "tidy")] {
        report.step(what, || {
            if place.root.join(format!("tests/{name}.rs")).is_file() {
                run_tests(Runner::Cargo, place.cargo(&format!("test --workspace --test {name}")))
            } else {
                Outcome::Skipped(format!("there is no tests/{name}.rs"))
            }
        });
    }
}

/// Libraries, programs and examples, as tests have them. Each step afterwards says `--workspace`, so that packages have the
/// same features there, and nothing is compiled twice.
fn build(place: &Place, report: &mut Report, more: &str) -> bool {
    report.step("build", || run(place.cargo(&format!("build --workspace --lib --bins --examples {more}"))))
}

fn test(place: &Place, report: &mut Report) {
    if !build(place, report, "--tests") {
        // What an earlier build left behind is not what is to be tested.
        report.step("tests and examples", || Outcome::Skipped("the build failed".to_owned()));
        return;
    }
    if place.has_cargo("nextest") {
        let mut passed = Passed::default();
        report.step("tests", || {
            let (outcome, names) = run_named_tests(Runner::Nextest, place.cargo(&nextest()));
            passed.auto = names;
            outcome
        });
        let arguments = &nextest();
        report.step("tests of the engine on epoll", || {
            let (outcome, names) = engine(place, Runner::Nextest, arguments, "epoll");
            passed.epoll = names;
            outcome
        });
        report.step("tests of the engine on io_uring", || {
            let (outcome, names) = uring(place, Runner::Nextest, arguments);
            passed.uring = names;
            outcome
        });
        report.step("situations", || situations::check(place, &passed));
        report.step("documentation tests", || {
            run_tests(Runner::Cargo, place.cargo("test --workspace --doc --no-fail-fast"))
        });
    } else {
        report.step("tests", || run_tests(Runner::Cargo, place.cargo("test --workspace --no-fail-fast")));
        report.step("tests of the engine on epoll", || {
            engine(place, Runner::Cargo, "test --workspace --no-fail-fast", "epoll").0
        });
        report.step("tests of the engine on io_uring", || {
            uring(place, Runner::Cargo, "test --workspace --no-fail-fast").0
        });
        let why = "cargo nextest, which names the tests that passed, is not installed";
        report.step("situations", || Outcome::Skipped(why.to_owned()));
    }
    for backend in ["epoll", "uring"] {
        report.step(&format!("transports through a layer, {backend}"), || layered(place, backend));
    }
    report.step("terminal in README.md", || transcript::compare(place));
    // A busy machine changes nothing from here on.
    let environments = python::Environments::begin();
    report.step("instruction counts", || instructions(place));
    examples::rust(place, report);
    examples::c(place, report);
    examples::python(place, report);
    languages::all(place, report);
    packaging::all(place, report);
    python::all(place, report, python::Drivers::InTurn, environments);
}

/// Runs tests. Most wait for peers and for times, not for a processor: so many at once that one is seldom idle.
fn nextest() -> String {
    let threads = 2 * std::thread::available_parallelism().map_or(1, NonZero::get);
    format!("nextest run --workspace --no-fail-fast --color never --test-threads {threads}")
}

fn all_examples(place: &Place, report: &mut Report) {
    if build(place, report, "") {
        examples::rust(place, report);
        examples::c(place, report);
        examples::python(place, report);
        languages::all(place, report);
    }
}

/// The tests of the transports with something around every stream: see tests/common/layer.rs.
fn layered(place: &Place, backend: &str) -> Outcome {
    let (runner, arguments) = if place.has_cargo("nextest") {
        (Runner::Nextest, nextest())
    } else {
        (Runner::Cargo, "test --workspace --no-fail-fast".to_owned())
    };
    let mut command = place.cargo(&arguments);
    command.args(["--test", "transports"]).env("RESAY_LAYER", "1").env("RESAY_BACKEND", backend);
    match (backend, uring_refusal()) {
        ("uring", Some(why)) => Outcome::Skipped(why),
        _ => run_tests(runner, command),
    }
}

/// Counts and not times: a busy machine changes nothing.
fn instructions(place: &Place) -> Outcome {
    if !examples::exists("valgrind") {
        return Outcome::Skipped(examples::missing("valgrind"));
    }
    run_or_skip(place.cargo("bench --quiet --package resay --bench instructions -- --check"))
}

/// The engine's tests once more, with one driver alone.
fn uring(place: &Place, runner: Runner, arguments: &str) -> (Outcome, Option<BTreeSet<String>>) {
    match uring_refusal() {
        None => {
            let (outcome, passed) = engine(place, runner, arguments, "uring");
            (outcome, Some(passed))
        }
        Some(why) => (Outcome::Skipped(why), None),
    }
}

/// Those that make engines with what all of these share, `tests/common`, which reads RESAY_BACKEND.
fn engine(place: &Place, runner: Runner, arguments: &str, backend: &str) -> (Outcome, BTreeSet<String>) {
    let suites = match suites_of_the_engine(place) {
        Ok(suites) => suites,
        Err(reason) => return (Outcome::Failed(reason), BTreeSet::new()),
    };
    let mut command = place.cargo(arguments);
    for name in suites {
        command.arg("--test").arg(name);
    }
    command.env("RESAY_BACKEND", backend);
    run_named_tests(runner, command)
}

fn suites_of_the_engine(place: &Place) -> Result<Vec<OsString>, String> {
    let mut suites = Vec::new();
    for file in files_in(&place.root.join("tests"))? {
        let is_one = file.extension().is_some_and(|extension| extension == "rs")
            && fs::read_to_string(&file).map_err(about(&file))?.lines().any(|line| line == "mod common;");
        if is_one {
            suites.extend(file.file_stem().map(OsStr::to_os_string));
        }
    }
    Ok(suites)
}

//! `cargo xtask fuzz`: each target of `fuzz/` for some time, with what cargo-fuzz and a nightly toolchain offer; and `cargo
//! xtask miri`: the pure parts of the engine, interpreted. What of these tools is missing is said.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use crate::files::about;
use crate::place::Place;
use crate::report::{Outcome, Report, Runner, run, run_tests};
use crate::sanitize::{said, tool};

const MINUTES: u64 = 2;
/// A single input that takes longer has found something.
const INPUT_SECONDS_MAX: u64 = 20;
const INPUT_BYTES_MAX: u64 = 2048;
/// Modules without a call of the kernel, as tests are named.
const PURE: [&str; 10] = [
    "frame::",
    "net::address::",
    "transform::spec::",
    "options::",
    "values::",
    "slab::",
    "timer::",
    "later::",
    "buffer::",
    "tap::ring::",
];

pub(crate) fn fuzz(place: &Place, arguments: &[String]) -> ExitCode {
    let mut report = Report::default();
    match Request::parse(place, arguments) {
        Ok(request) => request.targets.iter().for_each(|target| {
            report.step(&format!("fuzz {target}"), || match missing() {
                Some(missing) => Outcome::Skipped(missing),
                None => fuzz_one(place, target, request.minutes),
            });
        }),
        Err(reason) => {
            eprintln!("xtask: {reason}");
            return ExitCode::from(2);
        }
    }
    println!("{report}");
    if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[derive(Debug, PartialEq, Eq)]
struct Request {
    minutes: u64,
    targets: Vec<String>,
}

impl Request {
    fn parse(place: &Place, arguments: &[String]) -> Result<Request, String> {
        let manifest = place.root.join("fuzz/Cargo.toml");
        let known = targets(&fs::read_to_string(&manifest).map_err(about(&manifest))?);
        Request::of(&known, arguments)
    }

    fn of(known: &[String], arguments: &[String]) -> Result<Request, String> {
        let mut request = Request { minutes: MINUTES, targets: Vec::new() };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            if argument == "--minutes" {
                let number =
                    arguments.next().and_then(|number| number.parse().ok()).filter(|number| *number > 0);
                request.minutes = number.ok_or("--minutes takes a number of minutes for each target")?;
            } else if known.contains(argument) {
                request.targets.push(argument.clone());
            } else {
                return Err(format!("fuzz [--minutes N] [TARGET]...: the targets are {}", known.join(", ")));
            }
        }
        if request.targets.is_empty() {
            request.targets = known.to_vec();
        }
        Ok(request)
    }
}

/// The names of the programs in a manifest.
fn targets(manifest: &str) -> Vec<String> {
    let programs = manifest.split("[[bin]]").skip(1);
    let name = |program: &str| Some(program.split_once("name = \"")?.1.split_once('"')?.0.to_owned());
    programs.filter_map(name).collect()
}

fn missing() -> Option<String> {
    if said(tool(None, "cargo").arg("--version")).is_none() {
        return Some("there is no nightly toolchain (rustup toolchain install nightly)".to_owned());
    }
    if said(tool(None, "cargo").args(["fuzz", "--version"])).is_none() {
        return Some("there is no cargo-fuzz (cargo install cargo-fuzz)".to_owned());
    }
    None
}

/// That they compile, with any toolchain.
pub(crate) fn check(place: &Place) -> Outcome {
    let mut command = place.cargo("check --quiet --manifest-path fuzz/Cargo.toml --all-targets");
    command.env("CARGO_TARGET_DIR", place.built.join("fuzz-check")).env("RUSTFLAGS", "--cfg fuzzing");
    // So its own library, in C++, is not compiled: nothing is linked.
    command.env("CUSTOM_LIBFUZZER_PATH", "/libfuzzer.a");
    run(command)
}

/// What it finds new stays below the target directory; inputs that fail are in fuzz/artifacts/.
fn fuzz_one(place: &Place, target: &str, minutes: u64) -> Outcome {
    let found = place.built.join("fuzz").join("corpus").join(target);
    if let Err(error) = fs::create_dir_all(&found) {
        return Outcome::Failed(about(&found)(error));
    }
    let mut command = tool(None, "cargo");
    command.args(["fuzz", "run", target]).arg(&found).arg(Path::new("fuzz/corpus").join(target)).arg("--");
    command.arg(format!("-max_total_time={}", minutes * 60)).arg(format!("-timeout={INPUT_SECONDS_MAX}"));
    command.arg(format!("-max_len={INPUT_BYTES_MAX}")).arg("-print_final_stats=1");
    command.env("CARGO_TARGET_DIR", place.built.join("fuzz")).current_dir(&place.root);
    run(command)
}

pub(crate) fn miri(place: &Place, report: &mut Report) {
    report.step("miri", || {
        if said(tool(None, "cargo").args(["miri", "--version"])).is_none() {
            let how = "rustup component add miri rust-src --toolchain nightly";
            return Outcome::Skipped(format!("there is no miri ({how})"));
        }
        let mut command = tool(None, "cargo");
        command
            .args(["miri", "test", "--package", "resay", "--lib", "--no-default-features", "--"])
            .args(PURE);
        command.env("CARGO_TARGET_DIR", place.built.join("miri")).current_dir(&place.root);
        // An interpreter has time for a few.
        command.env("PROPTEST_CASES", "4").env("MIRIFLAGS", "-Zmiri-disable-isolation");
        run_tests(Runner::Cargo, command)
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_those_of_the_manifest() {
        let manifest =
            "[package]\nname = \"all\"\n[[bin]]\nname = \"a\"\npath = \"x\"\n\n[[bin]]\nname = \"b\"\n";
        let known = targets(manifest);
        assert_eq!(known, ["a", "b"]);
        let parse = |arguments: &[&str]| {
            Request::of(&known, &arguments.iter().map(|argument| (*argument).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(parse(&[]), Ok(Request { minutes: MINUTES, targets: known.clone() }));
        assert_eq!(
            parse(&["b", "--minutes", "9"]),
            Ok(Request { minutes: 9, targets: vec!["b".to_owned()] })
        );
        assert!(parse(&["c"]).unwrap_err().contains("a, b"));
        assert!(parse(&["--minutes", "0"]).is_err() && parse(&["--minutes"]).is_err());
    }
}

//! `cargo xtask sanitize`: the C tests with a library that watches itself, by AddressSanitizer (with leaks) and
//! ThreadSanitizer. It takes a nightly toolchain; ThreadSanitizer also takes the sources of the standard library, because
//! what is not compiled with it looks like a race.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Place;
use crate::report::{Outcome, Report, run, run_example};

/// A sanitizer, and what it is run on.
struct Sanitizer {
    name: &'static str,
    runtime: &'static str,
    environment: (&'static str, &'static str),
    needs_source: bool,
    /// Programs of `tests/c/`, each with an argument that makes it short, or none.
    programs: &'static [(&'static str, &'static str)],
}

const SANITIZERS: [Sanitizer; 2] = [
    Sanitizer {
        name: "address",
        runtime: "asan",
        environment: ("ASAN_OPTIONS", "detect_leaks=1"),
        needs_source: false,
        programs: &[
            ("arguments", ""),
            ("ways", ""),
            ("callbacks", "quick"),
            ("observing", ""),
            ("clients", ""),
            ("forking", ""),
            ("threads", "1"),
            ("cycles", "100"),
        ],
    },
    Sanitizer {
        name: "thread",
        runtime: "tsan",
        environment: ("TSAN_OPTIONS", "exitcode=66"),
        needs_source: true,
        programs: &[("callbacks", ""), ("observing", ""), ("clients", ""), ("threads", "2")],
    },
];

pub(crate) fn sanitize(place: &Place, report: &mut Report) {
    for sanitizer in &SANITIZERS {
        let title = format!("sanitizer {}", sanitizer.name);
        let toolchain = match Toolchain::find(sanitizer) {
            Ok(toolchain) => toolchain,
            Err(reason) => {
                report.step(&title, || Outcome::Skipped(reason));
                continue;
            }
        };
        let target = place.built.join(format!("sanitize-{}", sanitizer.name));
        if !report.step(&format!("{title}: build"), || run(toolchain.build(place, sanitizer, &target))) {
            continue;
        }
        let archive = target.join(&toolchain.host).join("debug/libresay.a");
        for (name, argument) in sanitizer.programs {
            report.step(&format!("{title}: {name}"), || {
                let program = target.join(name);
                match run_example(toolchain.compile(place, sanitizer, name, &archive, &program)) {
                    Outcome::Ok => {}
                    failed => return failed,
                }
                let mut command = Command::new(&program);
                command.args(Some(argument).filter(|argument| !argument.is_empty()));
                command.env(sanitizer.environment.0, sanitizer.environment.1).current_dir(&target);
                run_example(command)
            });
        }
    }
}

/// A nightly compiler of this machine, and a C compiler that knows the same sanitizers.
struct Toolchain {
    host: String,
    runtime: PathBuf,
}

impl Toolchain {
    fn find(sanitizer: &Sanitizer) -> Result<Toolchain, String> {
        let said = |program: &str, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).output().ok()?;
            output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        said("clang", &["--version"]).ok_or("clang is not installed")?;
        let missing = "there is no nightly toolchain (rustup toolchain install nightly)";
        let version = said("rustc", &["+nightly", "-vV"]).ok_or(missing)?;
        let root = PathBuf::from(said("rustc", &["+nightly", "--print", "sysroot"]).ok_or(missing)?);
        let host = version.lines().find_map(|line| line.strip_prefix("host: ")).ok_or(missing)?.to_owned();
        if sanitizer.needs_source && !root.join("lib/rustlib/src/rust/library/Cargo.lock").is_file() {
            return Err(
                "without the sources of the standard library everything looks like a race (rustup component \
                        add rust-src --toolchain nightly)"
                    .to_owned(),
            );
        }
        let name = format!("librustc-nightly_rt.{}.a", sanitizer.runtime);
        let runtime = root.join("lib/rustlib").join(&host).join("lib").join(name);
        if !runtime.is_file() {
            return Err(format!("the toolchain has none for {host}"));
        }
        Ok(Toolchain { host, runtime })
    }

    fn build(&self, place: &Place, sanitizer: &Sanitizer, target: &Path) -> Command {
        let mut command = Command::new("cargo");
        command.args(["+nightly", "rustc", "--package", "resay", "--lib", "--crate-type", "staticlib"]);
        command.args(["--target", &self.host]).arg("--target-dir").arg(target).current_dir(&place.root);
        let mut flags = format!("-Zsanitizer={}", sanitizer.name);
        if sanitizer.needs_source {
            command.arg("-Zbuild-std");
        } else {
            flags += " -Cunsafe-allow-abi-mismatch=sanitizer";
        }
        // What the outer cargo has set is for its own toolchain.
        for variable in ["CARGO", "RUSTC", "RUSTUP_TOOLCHAIN", "CARGO_ENCODED_RUSTFLAGS"] {
            command.env_remove(variable);
        }
        command.env("RUSTFLAGS", flags);
        command
    }

    /// The runtime is the nightly compiler's own: that of clang may be of another version.
    fn compile(
        &self,
        place: &Place,
        sanitizer: &Sanitizer,
        name: &str,
        archive: &Path,
        program: &Path,
    ) -> Command {
        let tests = place.root.join("tests/c");
        let object = program.with_extension("o");
        let script = "clang -std=c11 -g -fsanitize=\"$1\" -I \"$2\" -I \"$3\" -c \"$4\" -o \"$5\" && clang \"$5\" \"$6\" \
                      -Wl,--whole-archive \"$7\" -Wl,--no-whole-archive -Wl,--export-dynamic -pthread -ldl -lm -lrt \
                      -lgcc_s -lstdc++ -o \"$8\"";
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh", sanitizer.name]).arg(place.root.join("include")).arg(&tests);
        command.arg(tests.join(format!("{name}.c"))).arg(object).arg(archive).arg(&self.runtime).arg(program);
        // A program of before, where this fails.
        let _ = fs::remove_file(program);
        command
    }
}

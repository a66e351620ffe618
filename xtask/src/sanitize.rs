//! `cargo xtask sanitize`: the C tests with a library that watches itself, by AddressSanitizer (with leaks) and
//! ThreadSanitizer. It takes a nightly toolchain; ThreadSanitizer also takes the sources of the standard library, because
//! what is not compiled with it looks like a race. Instead of the nightly one, a toolchain can be named by its directory.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::place::Place;
use crate::report::{Outcome, Report, run, run_example};

/// A sanitizer, and what it is run on.
struct Sanitizer {
    name: &'static str,
    runtime: &'static str,
    environment: (&'static str, &'static str),
    needs_source: bool,
    /// Programs of `tests/c/`, each with an argument that makes it short, or none.
    programs: &'static [(&'static str, &'static str)],
    /// Each program runs on each of them; `None`: as the program has it.
    backends: &'static [Option<&'static str>],
}

/// The directory of a toolchain to take instead of rustup's nightly: `bin/cargo`, `bin/rustc` and, for ThreadSanitizer, the
/// standard library's sources of the same version in `lib/rustlib/src/rust`.
const TOOLCHAIN: &str = "RESAY_SANITIZE_TOOLCHAIN";
/// What `tests/c/check.h` reads.
const BACKEND: &str = "RESAY_TEST_BACKEND";

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
            ("functions", "quick"),
            ("observing", ""),
            ("clients", ""),
            ("adopting", ""),
            ("forking", ""),
            ("tap", ""),
            ("connections", ""),
            ("interplay", "quick"),
            ("sharing", ""),
            ("hosting", ""),
            ("states", "quick"),
            ("births", ""),
            ("cancelling", ""),
            ("leaving", ""),
            ("polling", ""),
            ("sandbox", ""),
            ("threads", "1"),
            ("cycles", "100"),
        ],
        backends: &[None],
    },
    Sanitizer {
        name: "thread",
        runtime: "tsan",
        // A child of fork(2) may have threads.
        environment: ("TSAN_OPTIONS", "exitcode=66 die_after_fork=0"),
        needs_source: true,
        programs: &[
            ("arguments", ""),
            ("ways", ""),
            ("callbacks", ""),
            ("functions", ""),
            ("observing", ""),
            ("clients", ""),
            ("adopting", ""),
            ("forking", ""),
            ("tap", ""),
            ("connections", ""),
            ("interplay", ""),
            ("sharing", ""),
            ("hosting", ""),
            ("states", "quick"),
            ("births", ""),
            ("cancelling", ""),
            ("leaving", ""),
            ("polling", ""),
            ("sandbox", ""),
            ("signals", ""),
            ("threads", "3"),
            ("cycles", "30"),
        ],
        // What goes through the memory of an io_uring orders nothing, for ThreadSanitizer, where a socket call would: with
        // uring it is the stricter.
        backends: &[Some("epoll"), Some("uring")],
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
            let program = target.join(name);
            let title = format!("{title}: {name}");
            let compile = || run_example(toolchain.compile(place, sanitizer, name, &archive, &program));
            if !report.step(&format!("{title}: compile"), compile) {
                continue;
            }
            for backend in sanitizer.backends {
                let title = backend.map_or_else(|| title.clone(), |backend| format!("{title}, {backend}"));
                report.step(&title, || {
                    let mut command = Command::new(&program);
                    command.args(Some(argument).filter(|argument| !argument.is_empty()));
                    command.env(sanitizer.environment.0, sanitizer.environment.1).current_dir(&target);
                    command.env_remove(BACKEND).envs(backend.map(|backend| (BACKEND, backend)));
                    run_example(command)
                });
            }
        }
    }
}

/// A compiler that takes the flags of nightly, and a C compiler that knows the same sanitizers.
struct Toolchain {
    /// `None`: rustup's nightly.
    directory: Option<PathBuf>,
    host: String,
    runtime: PathBuf,
}

impl Toolchain {
    fn find(sanitizer: &Sanitizer) -> Result<Toolchain, String> {
        let directory = env::var_os(TOOLCHAIN).map(std::path::absolute).transpose();
        let directory = directory.map_err(|error| format!("{TOOLCHAIN}: {error}"))?;
        said(Command::new("clang").arg("--version")).ok_or("clang is not installed")?;
        let missing = || match &directory {
            Some(directory) => format!("{TOOLCHAIN}: {} has no bin/rustc that runs", directory.display()),
            None => "there is no nightly toolchain (rustup toolchain install nightly)".to_owned(),
        };
        let ask = |arguments: &[&str]| {
            said(tool(directory.as_deref(), "rustc").args(arguments)).ok_or_else(missing)
        };
        let version = ask(&["-vV"])?;
        let root = PathBuf::from(ask(&["--print", "sysroot"])?);
        let host =
            version.lines().find_map(|line| line.strip_prefix("host: ")).ok_or_else(missing)?.to_owned();
        if sanitizer.needs_source && !root.join("lib/rustlib/src/rust/library/Cargo.lock").is_file() {
            return Err(format!(
                "without the sources of the standard library everything looks like a race, and {} has none (rustup \
                 component add rust-src --toolchain nightly; or {TOOLCHAIN}=DIR, a toolchain that has them)",
                root.display()
            ));
        }
        // librustc-nightly_rt.tsan.a, librustc-stable_rt.tsan.a
        let ending = format!("_rt.{}.a", sanitizer.runtime);
        let libraries = root.join("lib/rustlib").join(&host).join("lib");
        let files = fs::read_dir(&libraries).map_err(|error| format!("{}: {error}", libraries.display()))?;
        let runtime = files
            .filter_map(|file| Some(file.ok()?.path()))
            .find(|file| file.to_string_lossy().ends_with(&ending))
            .ok_or_else(|| format!("{} has no *{ending}", libraries.display()))?;
        Ok(Toolchain { directory, host, runtime })
    }

    fn build(&self, place: &Place, sanitizer: &Sanitizer, target: &Path) -> Command {
        let mut command = tool(self.directory.as_deref(), "cargo");
        command.args(["rustc", "--package", "resay", "--lib", "--crate-type", "staticlib"]);
        command.args(["--target", &self.host]).arg("--target-dir").arg(target).current_dir(&place.root);
        let mut flags = format!("-Zsanitizer={}", sanitizer.name);
        if sanitizer.needs_source {
            command.arg("-Zbuild-std=std,panic_unwind");
        } else {
            flags += " -Cunsafe-allow-abi-mismatch=sanitizer";
        }
        command.env("RUSTFLAGS", flags);
        command
    }

    /// The runtime is the Rust compiler's own: that of clang may be of another version. All of it is linked, as clang does
    /// with its own, so that what it intercepts is.
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
        let script = "clang -std=c11 -g -fsanitize=\"$1\" -I \"$2\" -I \"$3\" -c \"$4\" -o \"$5\" && clang \"$5\" \
                      -Wl,--whole-archive \"$6\" \"$7\" -Wl,--no-whole-archive -Wl,--export-dynamic -pthread -ldl -lm -lrt \
                      -lgcc_s -lstdc++ -o \"$8\"";
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh", sanitizer.name]).arg(place.root.join("include")).arg(&tests);
        command.arg(tests.join(format!("{name}.c"))).arg(object).arg(archive).arg(&self.runtime).arg(program);
        // A program of before, where this fails.
        let _ = fs::remove_file(program);
        command
    }
}

/// A program of the toolchain.
pub(crate) fn tool(directory: Option<&Path>, name: &str) -> Command {
    let mut command = match directory {
        // So it takes the flags of nightly, whichever it is.
        Some(directory) => {
            let mut command = Command::new(directory.join("bin").join(name));
            command.env("RUSTC", directory.join("bin/rustc")).env("RUSTC_BOOTSTRAP", "1");
            command
        }
        None => {
            let mut command = Command::new(name);
            command.arg("+nightly").env_remove("RUSTC");
            command
        }
    };
    // What the outer cargo has set is for its own toolchain. A compiler that finds that one's libraries takes its standard
    // library too.
    for variable in ["CARGO", "RUSTUP_TOOLCHAIN", "CARGO_ENCODED_RUSTFLAGS", "LD_LIBRARY_PATH"] {
        command.env_remove(variable);
    }
    command
}

/// What a program prints, where it succeeds.
pub(crate) fn said(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

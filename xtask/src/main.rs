//! `cargo xtask check` and `cargo xtask test`: everything that must hold before a change is in.
//!
//! Both print a line for each step, with its outcome, and close with the sum: `312 passed, 0 failed, 1 skipped`.
//! What a step needs and does not find is skipped, and said. They may be named together: `cargo xtask check test`.

mod examples;
mod peers;
mod report;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use report::{Outcome, Report, Runner, run, run_tests};

const USAGE: &str = "usage: cargo xtask check|test...
       cargo xtask peers [--quick] [--only TEXT]... [--servers A,B,...] [--install] [--help]
  check  formatting, lints, documentation, the committed headers, the map (tests/tidy.rs)
  test   builds everything; every test of the workspace; the examples in C and Python
  peers  measures Resay beside other people's servers, and writes docs/performance.md";

fn main() -> ExitCode {
    let tasks: Vec<String> = std::env::args().skip(1).collect();
    if let Some((task, arguments)) = tasks.split_first()
        && task == "peers"
    {
        return with_place(|place| peers::run(place, arguments));
    }
    if tasks.is_empty() || tasks.iter().any(|task| task != "check" && task != "test") {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    }
    with_place(|place| {
        let mut report = Report::default();
        for task in &tasks {
            match task.as_str() {
                "check" => check(place, &mut report),
                _ => test(place, &mut report),
            }
        }
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

/// Where things are.
#[derive(Debug)]
struct Place {
    /// The workspace.
    root: PathBuf,
    /// Where `cargo build` puts libraries and programs: this program's own directory.
    built: PathBuf,
}

impl Place {
    fn find() -> Result<Place, String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("no workspace above xtask")?;
        let program = std::env::current_exe().map_err(|error| format!("where am I: {error}"))?;
        let built = program.parent().ok_or("this program is in no directory")?;
        Ok(Place { root: root.to_owned(), built: built.to_owned() })
    }

    /// `cargo` with arguments, as of the toolchain that built this.
    fn cargo(&self, arguments: &str) -> Command {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(arguments.split_whitespace()).current_dir(&self.root);
        command
    }

    /// Whether `cargo NAME` exists.
    fn has_cargo(&self, name: &str) -> bool {
        let version = self.cargo(&format!("{name} --version")).output();
        version.is_ok_and(|output| output.status.success())
    }
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
    report.step("lints", || needs("clippy", "clippy --workspace --all-targets -- -D warnings"));
    report.step("without bundled transforms", || {
        run(place.cargo("check --package resay --lib --no-default-features"))
    });
    report.step("documentation", || {
        let mut doc = place.cargo("doc --workspace --no-deps");
        doc.env("RUSTDOCFLAGS", "-D warnings");
        run(doc)
    });
    // Each is also a part of `test`; here they answer at once.
    for (what, name) in [("headers", "headers"), ("map", "tidy")] {
        report.step(what, || {
            if place.root.join(format!("tests/{name}.rs")).is_file() {
                run_tests(Runner::Cargo, place.cargo(&format!("test --package resay --test {name}")))
            } else {
                Outcome::Skipped(format!("there is no tests/{name}.rs"))
            }
        });
    }
}

fn test(place: &Place, report: &mut Report) {
    if !report.step("build", || run(place.cargo("build --workspace"))) {
        // What an earlier build left behind is not what is to be tested.
        report.step("tests and examples", || Outcome::Skipped("the build failed".to_owned()));
        return;
    }
    if place.has_cargo("nextest") {
        report.step("tests", || {
            run_tests(Runner::Nextest, place.cargo("nextest run --workspace --no-fail-fast"))
        });
        report.step("documentation tests", || {
            run_tests(Runner::Cargo, place.cargo("test --workspace --doc --no-fail-fast"))
        });
    } else {
        report.step("tests", || run_tests(Runner::Cargo, place.cargo("test --workspace --no-fail-fast")));
    }
    examples::c(place, report);
    examples::python(place, report);
}

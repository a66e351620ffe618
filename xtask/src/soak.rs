//! `cargo xtask soak --minutes N`: the server for a long time under everything at once. `benches/soak/` has the peers.

use std::process::{Command, ExitCode};

use crate::place::Place;
use crate::report::{Outcome, Report, run};

const MINUTES: u64 = 5;

pub(crate) fn soak(place: &Place, arguments: &[String]) -> ExitCode {
    let minutes = match arguments {
        [] => Some(MINUTES),
        [name, number] if name == "--minutes" => number.parse().ok().filter(|minutes| *minutes > 0),
        _ => None,
    };
    let Some(minutes) = minutes else {
        eprintln!("xtask: soak [--minutes N]");
        return ExitCode::from(2);
    };
    let mut report = Report::default();
    let packages = "build --release --package resay-cli --package resay-soak";
    if report.step("build", || run(place.cargo(packages))) {
        report.step(&format!("soak, {minutes} minutes"), || match (place.release(), place.target()) {
            (Ok(built), Ok(target)) => {
                let mut command = Command::new(built.join("soak"));
                command.arg(built.join("resay")).arg(target.join("soak")).arg(minutes.to_string());
                run(command)
            }
            (Err(reason), _) | (_, Err(reason)) => Outcome::Failed(reason),
        });
    }
    println!("{report}");
    if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

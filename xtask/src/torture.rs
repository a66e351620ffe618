//! `cargo xtask torture` and `cargo xtask simulate`: the long forms of two kinds of tests.

use std::process::Stdio;

use crate::place::Place;
use crate::report::{Outcome, Runner, run_tests};

/// Lets each call of an engine that can fail do so, with each of its errors: `src/torture.rs`.
pub(crate) fn torture(place: &Place) -> Outcome {
    let (runner, arguments) = if place.has_cargo("nextest") {
        (Runner::Nextest, "nextest run --package resay --lib --no-fail-fast torture::")
    } else {
        (Runner::Cargo, "test --package resay --lib --no-fail-fast torture::")
    };
    let mut command = place.cargo(arguments);
    command.env("RESAY_TORTURE", "full");
    run_tests(runner, command)
}

/// Simulates networks that nobody has tried yet, for so many minutes: `src/worker/simulation/`.
pub(crate) fn simulate(place: &Place, arguments: &[String]) -> Outcome {
    let minutes = match arguments {
        [] => Some(10),
        [option, number] if option == "--minutes" => number.parse::<u64>().ok(),
        _ => None,
    };
    let (Some(minutes), Ok(target)) = (minutes, place.target()) else {
        return Outcome::Failed("usage: cargo xtask simulate [--minutes N]".to_owned());
    };
    // Its assertions stay in, and it is several times as fast as what the other tests are compiled to.
    let mut command = place.cargo("test --package resay --lib --config profile.dev.opt-level=2");
    command.args(["worker::simulation::as_long_as_it_is_asked_to", "--", "--exact", "--nocapture"]);
    command.env("CARGO_TARGET_DIR", target.join("simulate")).env("RESAY_MINUTES", minutes.to_string());
    match command.stdin(Stdio::null()).status() {
        Ok(status) if status.success() => Outcome::Ok,
        Ok(status) => Outcome::Failed(status.to_string()),
        Err(error) => Outcome::Failed(format!("cargo: {error}")),
    }
}

//! On what and when: a figure without its machine says nothing.

use std::fs;
use std::process::Command;

use resay_measure::machine;

/// Processor, cores, kernel.
pub(super) fn machine() -> String {
    let processor = machine::processor().unwrap_or_else(|| "unknown processor".to_owned());
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    // Of the machine: this process is pinned to one.
    let cores = text.lines().filter(|line| line.starts_with("processor")).count();
    let (system, release) = machine::system();
    // What follows the dash names whoever built it.
    let kernel = release.split('-').next().unwrap_or_default();
    format!("{processor}, {cores} cores, {system} {kernel}")
}

/// Today, in UTC.
pub(super) fn date() -> String {
    let output = Command::new("date").args(["-u", "+%Y-%m-%d"]).output().map(|output| output.stdout);
    String::from_utf8(output.unwrap_or_default()).unwrap_or_default().trim().to_owned()
}

/// How many processes wanted a core a minute ago until now: more than ours makes figures noisy.
pub(super) fn load_average() -> String {
    machine::load_average().unwrap_or_else(|| "unknown".to_owned())
}

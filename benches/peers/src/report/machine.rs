//! On what and when: a figure without its machine says nothing.

use std::fs;
use std::process::Command;

/// Processor, cores, kernel.
pub(super) fn machine() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = text
        .lines()
        .find_map(|line| Some(line.strip_prefix("model name")?.split_once(':')?.1.trim()))
        .unwrap_or("unknown processor");
    // Of the machine: this process is pinned to one.
    let cores = text.lines().filter(|line| line.starts_with("processor")).count();
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    // What follows the dash names whoever built it.
    let kernel = release.trim().split('-').next().unwrap_or_default().to_owned();
    format!("{processor}, {cores} cores, Linux {kernel}")
}

/// Today, in UTC.
pub(super) fn date() -> String {
    let output = Command::new("date").args(["-u", "+%Y-%m-%d"]).output().map(|output| output.stdout);
    String::from_utf8(output.unwrap_or_default()).unwrap_or_default().trim().to_owned()
}

/// How many processes wanted a core a minute ago until now: more than ours makes figures noisy.
pub(super) fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("unknown").to_owned()
}

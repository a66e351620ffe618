//! `cargo xtask soak`: the real server for a long time, with everything at once that peers, operators and the system do to it.
//!
//! ```text
//! steady peers of every kind ──┐                       ┌── each second: memory, descriptors, threads, latency
//! churn, slow, hostile, gone ──┼──> resay serve ... ───┤
//! chains swapped, faults, SIGSTOP ─┘                   └── at the end: is it as it was? ──> soak.svg, soak.csv
//! ```
//!
//! `load.rs` has the peers, `server.rs` the process and what happens to it, `watch.rs` the samples, `picture.rs` draws them.

mod load;
mod picture;
mod server;
mod watch;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use load::Load;
use server::Server;
use watch::{Sample, Watch};

/// Peers have this long to begin, and the server to be as it was, when all have gone.
const SETTLING: Duration = Duration::from_secs(5);
/// How much more memory the last quarter may have than the second: what the allocator keeps varies by this.
const GROWTH_BYTES_MAX: f64 = 6e6;
/// Descriptors that may be open at the end: the server closes what peers have left within seconds.
const RETURN_PATIENCE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(resay), Some(directory), Some(minutes)) =
        (arguments.next(), arguments.next(), arguments.next().and_then(|text| text.parse::<f64>().ok()))
    else {
        eprintln!("usage: soak RESAY DIRECTORY MINUTES");
        return ExitCode::from(2);
    };
    match soak(&resay, &PathBuf::from(directory), minutes) {
        Ok(faults) if faults.is_empty() => ExitCode::SUCCESS,
        Ok(faults) => {
            faults.iter().for_each(|fault| eprintln!("soak: {fault}"));
            ExitCode::FAILURE
        }
        Err(reason) => {
            eprintln!("soak: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// What was found wrong.
fn soak(resay: &str, directory: &PathBuf, minutes: f64) -> Result<Vec<String>, String> {
    fs::create_dir_all(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let mut server = Server::start(resay, directory)?;
    let load = Arc::new(Load::new(&server.urls));
    let watch = Watch::new(server.pid());
    let before = watch.sample(&load)?;
    let end = Instant::now() + Duration::from_secs_f64(minutes * 60.0);
    let peers = load.begin();
    let begin = Instant::now();
    let mut samples = Vec::new();
    let mut due = begin;
    while Instant::now() < end {
        due += Duration::from_secs(1);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        server.happen(begin.elapsed())?;
        samples.push(watch.sample(&load)?);
        if samples.len() % 60 == 0 {
            println!("{}", samples.last().map(Sample::told).unwrap_or_default());
        }
    }
    load.end();
    for peer in peers {
        peer.join().map_err(|_| "a peer panicked")?;
    }
    let after = settled(&watch, &load, &before)?;
    let log = server.end()?;
    let svg = directory.join("soak.svg");
    let csv = directory.join("soak.csv");
    fs::write(&svg, picture::draw(&samples, minutes))
        .map_err(|error| format!("{}: {error}", svg.display()))?;
    fs::write(&csv, watch::csv(&samples)).map_err(|error| format!("{}: {error}", csv.display()))?;
    let faults = faults(&samples, &before, &after, &load, &log);
    println!("{}\n{}\n{}", load.told(), svg.display(), csv.display());
    println!(
        "memory {} before, {} after; descriptors {}, {}; threads {}, {}",
        resay_measure::numbers::bytes(before.memory_bytes),
        resay_measure::numbers::bytes(after.memory_bytes),
        before.descriptors,
        after.descriptors,
        before.threads,
        after.threads
    );
    Ok(faults)
}

/// A sample as soon as descriptors are as before, or when that was waited for in vain.
fn settled(watch: &Watch, load: &Load, before: &Sample) -> Result<Sample, String> {
    let begin = Instant::now();
    thread::sleep(SETTLING);
    loop {
        let sample = watch.sample(load)?;
        if sample.descriptors <= before.descriptors || begin.elapsed() > RETURN_PATIENCE {
            return Ok(sample);
        }
        thread::sleep(Duration::from_millis(200));
    }
}

fn faults(samples: &[Sample], before: &Sample, after: &Sample, load: &Load, log: &str) -> Vec<String> {
    let mut faults = load.faults();
    if after.descriptors > before.descriptors {
        faults
            .push(format!("{} descriptors are open, {} were before", after.descriptors, before.descriptors));
    }
    let quarter = samples.len() / 4;
    let memory = |from: usize| -> f64 {
        let values: Vec<f64> =
            samples.iter().skip(from).take(quarter).map(|sample| sample.memory_bytes).collect();
        resay_measure::median(&values).unwrap_or_default()
    };
    let (second, last) = (memory(quarter), memory(3 * quarter));
    if last > second * 1.1 + GROWTH_BYTES_MAX {
        faults.push(format!("memory grows: {second:.0} bytes in the second quarter, {last:.0} in the last"));
    }
    for word in ["panicked", " bug", "fault of resay"] {
        if let Some(line) = log.lines().find(|line| line.to_lowercase().contains(word)) {
            faults.push(format!("the log says: {line}"));
        }
    }
    faults
}

//! What a server takes and how long its answers take, second by second.

use std::fmt::Write as _;
use std::fs;
use std::time::Instant;

use resay_measure::numbers;

use crate::load::Load;

/// One second.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) second: f64,
    pub(crate) memory_bytes: f64,
    pub(crate) descriptors: usize,
    pub(crate) threads: usize,
    pub(crate) answers: u64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) max_us: f64,
}

pub(crate) struct Watch {
    pid: u32,
    begin: Instant,
}

impl Watch {
    pub(crate) fn new(pid: u32) -> Watch {
        Watch { pid, begin: Instant::now() }
    }

    pub(crate) fn sample(&self, load: &Load) -> Result<Sample, String> {
        let file = |name: &str| format!("/proc/{}/{name}", self.pid);
        let gone = |error| format!("the server: {error}");
        let status = fs::read_to_string(file("status")).map_err(gone)?;
        let figure = |name: &str| -> Option<f64> {
            let rest = status.lines().find_map(|line| line.strip_prefix(name))?;
            rest.trim_start_matches(':').split_whitespace().next()?.parse().ok()
        };
        let latency = load.take_latency();
        Ok(Sample {
            second: self.begin.elapsed().as_secs_f64(),
            memory_bytes: figure("VmRSS").unwrap_or_default() * 1024.0,
            descriptors: fs::read_dir(file("fd")).map_err(gone)?.count(),
            threads: figure("Threads").unwrap_or_default() as usize,
            answers: latency.len(),
            p50_us: latency.value_at_quantile(0.5) as f64,
            p99_us: latency.value_at_quantile(0.99) as f64,
            max_us: latency.max() as f64,
        })
    }
}

impl Sample {
    pub(crate) fn told(&self) -> String {
        format!(
            "{:>6.0} s: {} of memory, {} descriptors, {} answers/s, p50 {}, p99 {}, longest {}",
            self.second,
            numbers::bytes(self.memory_bytes),
            self.descriptors,
            numbers::count(self.answers),
            numbers::time(self.p50_us),
            numbers::time(self.p99_us),
            numbers::time(self.max_us)
        )
    }
}

/// All samples, for others to draw.
pub(crate) fn csv(samples: &[Sample]) -> String {
    let mut text = "second,memory_bytes,descriptors,threads,answers,p50_us,p99_us,max_us\n".to_owned();
    for sample in samples {
        // Writing to a String does not fail.
        let _ = writeln!(
            text,
            "{:.1},{:.0},{},{},{},{:.0},{:.0},{:.0}",
            sample.second,
            sample.memory_bytes,
            sample.descriptors,
            sample.threads,
            sample.answers,
            sample.p50_us,
            sample.p99_us,
            sample.max_us
        );
    }
    text
}

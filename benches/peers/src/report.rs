//! What was measured: medians, and their ratios to the first server of the same workload.

use std::fmt::Write as _;
use std::process::Command;

use crate::load::{Sample, Workload};
use crate::server::Server;

/// The samples of one server under one workload, a round each.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) workload: &'static str,
    pub(crate) server: Server,
    pub(crate) samples: Vec<Sample>,
}

/// The whole table as text: Markdown, which is also readable as it is.
pub(crate) fn table(workloads: &[Workload], rows: &[Row]) -> String {
    let mut text = String::from(
        "| workload | server          | CPU µs/message | ratio | messages/s | ratio | spread of CPU |\n\
         |----------|-----------------|---------------:|------:|-----------:|------:|--------------:|\n",
    );
    for workload in workloads {
        let of_workload: Vec<_> = rows.iter().filter(|row| row.workload == workload.name).collect();
        let Some(first) = of_workload.first() else { continue };
        let (base_cpu, base_rate) = medians(first);
        for row in &of_workload {
            let (cpu, rate) = medians(row);
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "| {:8} | {:15} | {:14.2} | {:5.2} | {:10.0} | {:5.2} | {:>13} |",
                row.workload,
                row.server,
                cpu,
                cpu / base_cpu,
                rate,
                rate / base_rate,
                spread(row),
            );
        }
    }
    text
}

fn medians(row: &Row) -> (f64, f64) {
    let median_of = |value: fn(&Sample) -> f64| median(row.samples.iter().map(value).collect());
    (median_of(|sample| sample.cpu_us_per_message), median_of(|sample| sample.messages_per_s))
}

/// The least and the most, so that a ratio near 1 is not taken for more than it is.
fn spread(row: &Row) -> String {
    let values = || row.samples.iter().map(|sample| sample.cpu_us_per_message);
    format!("{:.2}–{:.2}", values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.get(middle.wrapping_sub(1)), values.get(middle)) {
        (Some(below), Some(above)) if values.len().is_multiple_of(2) => (below + above) / 2.0,
        (_, Some(middle)) => *middle,
        (_, None) => f64::NAN,
    }
}

/// On what and when: a figure without its machine says nothing.
pub(crate) fn machine() -> String {
    let processor = std::fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        })
        .unwrap_or_else(|| "unknown processor".to_owned());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let date = Command::new("date").args(["-u", "+%Y-%m-%d"]).output().map(|output| output.stdout);
    let date = String::from_utf8(date.unwrap_or_default()).unwrap_or_default();
    format!("{processor}, {cores} cores, Linux {}, {}", kernel.trim(), date.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_even_and_odd() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(vec![4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
        assert!(median(Vec::new()).is_nan());
    }
}

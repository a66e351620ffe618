//! Connections that stay, TCP and unix streams: `resay bench` loads them, and measures the server's processor time too.

use std::error::Error;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::Deserialize;

use super::sample::Sample;
use crate::running::Running;

#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) connections: usize,
    pub(super) message_bytes: usize,
    pub(super) pipeline: usize,
    pub(super) shouts: bool,
}

/// What is used of its document.
#[derive(Debug, Deserialize)]
struct Document {
    throughput: Throughput,
    latency_us: Latency,
    server: Server,
}

#[derive(Debug, Deserialize)]
struct Throughput {
    messages_per_s: f64,
}

#[derive(Debug, Deserialize)]
struct Latency {
    p50: f64,
    p99: f64,
}

#[derive(Debug, Deserialize)]
struct Server {
    /// None: nothing was answered.
    cpu_us_per_answer: Option<f64>,
}

/// Runs it on the cores of this process. A wrong answer, or an end before its time, is an error.
pub(super) fn run(
    plan: Plan,
    server: &Running,
    warm_up: Duration,
    measured: Duration,
) -> Result<Sample, Box<dyn Error>> {
    let mut command = Command::new(command()?);
    command.args(["bench", &server.place.url(), "--json", "-"]);
    command.args(["--connections", &plan.connections.to_string()]);
    command.args(["--size", &plan.message_bytes.to_string()]);
    command.args(["--pipeline", &plan.pipeline.to_string()]);
    command.args(["--expect", if plan.shouts { "uppercase" } else { "identity" }]);
    command.args(["--warmup", &format!("{}us", warm_up.as_micros())]);
    command.args(["--duration", &format!("{}us", measured.as_micros())]);
    command.args(["--timeout", "10s", "--server-pid", &server.pid().to_string()]);
    let output = command.stdin(Stdio::null()).output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        // Warnings come before, and a wrong answer has lines of its own.
        let why = said.lines().find(|line| !line.contains("warning:")).unwrap_or("it failed without a word");
        return Err(why.trim_start_matches("resay: ").to_owned().into());
    }
    let document: Document = serde_json::from_slice(&output.stdout)?;
    let cpu_us = document.server.cpu_us_per_answer.ok_or("not one message was answered")?;
    Ok(Sample {
        cpu_us,
        messages_per_s: document.throughput.messages_per_s,
        p50_us: document.latency_us.p50,
        p99_us: document.latency_us.p99,
        lost: 0.0,
    })
}

/// The command `resay`, built beside this program.
fn command() -> Result<PathBuf, Box<dyn Error>> {
    let mut directory = std::env::current_exe()?;
    while directory.pop() {
        let command = directory.join("resay");
        if command.is_file() {
            return Ok(command);
        }
        // A test of this program is in a directory of its own.
        if directory.file_name().is_some_and(|name| name != "deps") {
            break;
        }
    }
    Err("the command `resay` is not beside this program: cargo build -p resay-cli".into())
}

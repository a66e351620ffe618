//! `resay bench`: load a server, check every answer, and say what was seen.
//!
//! ```text
//! Arguments ──> Plan ──> Script: messages and the answers that the chain gives
//!                 │         │
//!                 v         v
//!               measure: connect, one `Job` a thread ──> Tally
//!                                                         │
//!        text, CSV, HTML <── JSON document <── report <───┘
//! ```
//!
//! What runs once a message is in a crate of its own, resay-load, which is compiled for speed.
//!
//! `compare` does that for several chains, each on a `server` of its own, and compares.

mod compare;
mod cores;
mod interrupt;
mod machine;
mod measure;
mod numbers;
mod output;
mod plan;
mod progress;
mod replacement;
mod report;
mod server;

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::Args;
use resay::SocketKind;
use resay::net::address::Address;
use resay::options::{Frame, parse_duration, parse_size};
use resay_load::{LoadError, Pace, Script, ScriptError};
use resay_measure::process;

use crate::exit::{Exit, Failure, complain};
use crate::help;
use crate::tls::TlsArguments;
use compare::Comparing;
use measure::{Measured, measure};
use numbers::{at_least_one, parse_rate};
use output::Outputs;
use plan::Plan;
use progress::Progress;
use report::comparison::Comparison;
use report::{About, Outcome, Run};

/// Measure throughput and latency, and check every answer
///
/// Sends messages for some time, compares every answer with the expected one, and prints throughput and latency. All
/// kinds of sockets work: tcp, udp, unix, unix-dgram, unix-seqpacket.
///
/// Without --rate the loop is closed: each connection has --pipeline messages in flight, and sends the next one when an
/// answer arrives. This measures the capacity of the server. While the server pauses, nothing is sent, so a pause
/// counts as one slow answer.
///
/// With --rate the loop is open: messages are due at fixed times, independently of the server, and latency counts from
/// the time when a message was due. A pause then counts in every message that was due during it, as users see it.
///
/// Ctrl-C or SIGTERM ends the measurement early and prints the results up to then; of a comparison, those of the
/// complete rounds. During the warm-up there are none, and no file is written. A second signal ends the command at once. A file of results is replaced only when the new one is
/// complete.
///
/// The expected answers are computed in advance from the chain in --expect. A wrong answer ends the command with
/// status 1, and is printed.
///
/// With --compare the command starts its own servers, one for each chain, and measures them in alternation: the
/// processor time of each chain relative to the first, and whether the difference exceeds the noise.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = long_help())]
pub(crate) struct Arguments {
    /// The server, for example tcp://127.0.0.1:8888; with --compare the address of its own servers
    #[arg(value_name = "URL", required_unless_present = "compare")]
    url: Option<String>,
    /// Number of connections or datagram sockets [default: 1; with --compare 50]
    #[arg(short = 'c', long, value_name = "N", value_parser = at_least_one)]
    connections: Option<usize>,
    /// Size of a message without its frame, for example 64k or 1m
    #[arg(short, long, value_name = "SIZE", default_value = "64", value_parser = message_size)]
    size: u64,
    /// Messages in flight on each connection [default: 1; with --rate all that are due]
    #[arg(short, long, value_name = "N", value_parser = at_least_one)]
    pipeline: Option<usize>,
    /// Duration of the measurement, after the warm-up [default: 10s; with --compare 1s a round]
    #[arg(short, long, value_name = "DURATION", value_parser = parse_duration)]
    duration: Option<Duration>,
    /// Duration of the warm-up [default: 1s; with --compare 200ms]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    warmup: Option<Duration>,
    /// Messages due per second over all connections; 50k is 50,000
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    rate: Option<f64>,
    /// The chain of the server, which determines the expected answers
    #[arg(long, value_name = "CHAIN", default_value = "identity")]
    expect: String,
    #[command(flatten)]
    tls: TlsArguments,
    /// The frame of the server's stream, as its option frame
    #[arg(long, value_name = "FRAME", default_value = "raw")]
    frame: Frame,
    /// Number of threads that share the connections
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    threads: usize,
    /// Time limit for connecting, and for silence of the server
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = parse_duration)]
    timeout: Duration,
    /// A datagram without an answer for this time is lost
    #[arg(long, value_name = "DURATION", default_value = "250ms", value_parser = parse_duration)]
    lost_after: Duration,
    /// Seed of the bytes of the messages
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Also measure the processor time of this process, the server, with its threads and descendants
    #[arg(long, value_name = "PID", conflicts_with = "compare", value_parser = clap::value_parser!(u32).range(1..))]
    server_pid: Option<u32>,
    /// Look for plugins of --expect in this directory; repeatable
    #[arg(long = "plugin-dir", value_name = "DIR")]
    plugin_directories: Vec<PathBuf>,
    #[command(flatten)]
    outputs: Outputs,
    #[command(flatten)]
    comparing: Comparing,
}

const EXAMPLES: &str = "\
Examples:
  resay bench tcp://127.0.0.1:8888 -c 64
  resay bench tcp://127.0.0.1:8888 -c 50 --rate 50k -d 30s --html run.html
  resay bench udp://127.0.0.1:8888 -c 8 --pipeline 32 --size 1400
  resay bench tcp://127.0.0.1:8888 --expect reverse --frame lines --pipeline 16
  resay bench unix:/tmp/e.sock --json - | jq .latency_us.p99
  resay bench tcp://127.0.0.1:8888 --server-pid $(pidof resay)
  resay bench --compare identity,uppercase,'uppercase | hex' --rounds 9
  resay bench unix:@bench --compare identity,reverse --frame lines --cores apart";

fn long_help() -> String {
    let statuses = "\
Exit status:
  0  measured, and every answer was the right one
  1  an answer was wrong
  2  usage; answers that cannot be known beforehand; a message that is too long
  3  refused or unreachable, for one connection or all
  4  no answer for as long as --timeout, or none in the measured time
  5  the server ended or reset a connection
  130  interrupted by SIGINT (143: SIGTERM), after telling what was measured";
    [EXAMPLES, help::URLS, statuses].join("\n\n")
}

/// The longest message.
const MESSAGE_BYTES_MAX: u64 = 64 << 20;

fn message_size(text: &str) -> Result<u64, String> {
    let bytes = parse_size(text).map_err(|fault| fault.to_string())?;
    if bytes > MESSAGE_BYTES_MAX {
        return Err(format!("a message has at most {}m", MESSAGE_BYTES_MAX >> 20));
    }
    Ok(bytes)
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let plan = plan_of(arguments)?;
    let outputs = arguments.outputs.open()?;
    interrupt::watch()?;
    if !arguments.comparing.compare.is_empty() {
        return compare(arguments, &plan, outputs);
    }
    let script = Script::new(&plan.load, &arguments.plugin_directories)?;
    let about = About::new("run", &plan, now());
    let server_cpu_ns = arguments.server_pid.map(server_clock).transpose()?;
    let server_cpu_ns = server_cpu_ns.as_ref().map(|clock| clock as _);
    let (measured, failure) = match measure(&plan, &script, &Progress::new(""), server_cpu_ns) {
        Ok(measured) => (measured, None),
        Err(failure) if has_no_document(&failure) => return Err(failure),
        Err(failure) => (Measured::nothing(&plan, &failure)?, Some(failure)),
    };
    if let (Some(interrupt), false) = (measured.interrupt, measured.has_begun) {
        let text = format!("{} came during the warm-up: nothing was measured", interrupt.name());
        return Err(Failure::new(interrupt.exit(), text));
    }
    let mut result = Outcome::of(&plan, &measured, &script)?;
    result.warnings.extend(about.machine.warning());
    let exit = result.exit(&measured);
    let run = Run { about, result };
    let text = || if failure.is_some() { String::new() } else { report::text::run(&run) };
    outputs.write(&run, text, || report::csv::run(&run), || report::html::run(&run))?;
    if let Some(failure) = failure {
        return Err(failure);
    }
    for warning in &run.result.warnings {
        complain(format!("warning: {warning}"));
    }
    if let Some(wrong) = &run.result.first_wrong {
        complain(report::text::wrong(wrong));
    }
    Ok(exit)
}

/// Nothing is written of what was refused or interrupted before there was a figure: an older file stays.
fn has_no_document(failure: &Failure) -> bool {
    matches!(failure.exit, Exit::Usage | Exit::Interrupted | Exit::Terminated)
}

/// Reads the processor time that a server has used so far.
fn server_clock(pid: u32) -> Result<impl Fn() -> Option<u64> + Sync, Failure> {
    let unusable = |error| Failure::new(Exit::Usage, format!("--server-pid {pid}: {error}"));
    process::family_cpu_time_ns(pid).map_err(unusable)?;
    Ok(move || process::family_cpu_time_ns(pid).ok())
}

fn compare(arguments: &Arguments, plan: &Plan, outputs: output::Open) -> Result<Exit, Failure> {
    let about = About::new("compare", plan, now());
    let compared = compare::run(plan, &arguments.comparing, &arguments.plugin_directories, about.clone());
    let (comparison, exit) = match compared {
        Ok(compared) => compared,
        Err(failure) if has_no_document(&failure) => return Err(failure),
        Err(failure) => {
            let nothing = Comparison::nothing(about, &failure);
            outputs.write(&nothing, String::new, || nothing.csv(), || nothing.html())?;
            return Err(failure);
        }
    };
    outputs.write(&comparison, || comparison.text(), || comparison.csv(), || comparison.html())?;
    for warning in &comparison.warnings {
        complain(format!("warning: {warning}"));
    }
    Ok(exit)
}

fn plan_of(arguments: &Arguments) -> Result<Plan, Failure> {
    let compares = !arguments.comparing.compare.is_empty();
    let url = arguments.url.as_deref().unwrap_or("tcp://127.0.0.1:0");
    let address: Address = url.parse()?;
    let kind = address.socket_kind().ok_or_else(|| {
        Failure::new(Exit::Usage, format!("{url}: a descriptor has no address to connect to"))
    })?;
    let tls = arguments.tls.of(url)?;
    if compares && tls.is_some() {
        let text = format!("{url}: --compare starts servers without TLS");
        return Err(Failure::new(Exit::Usage, text));
    }
    if let Address::Tcp(endpoint) | Address::Udp(endpoint) = &address
        && compares
        && endpoint.port != 0
    {
        let text = format!("{url}: each chain has a server of its own, so the port must be 0");
        return Err(Failure::new(Exit::Usage, text));
    }
    let or = |given: Option<Duration>, single: Duration, compared: Duration| {
        given.unwrap_or(if compares { compared } else { single })
    };
    let duration = or(arguments.duration, Duration::from_secs(10), Duration::from_secs(1));
    let warmup = or(arguments.warmup, Duration::from_secs(1), Duration::from_millis(200));
    let usage = |text: String| Err(Failure::new(Exit::Usage, text));
    let is_stream = matches!(kind, SocketKind::Tcp | SocketKind::UnixStream);
    if !is_stream && arguments.frame != Frame::Raw {
        return usage(format!("--frame {}: a {} message has no frame", arguments.frame, kind.scheme()));
    }
    if let Frame::Fixed(bytes) = arguments.frame
        && bytes as u64 != arguments.size
    {
        return usage(format!(
            "--frame {}: messages have {} bytes (--size)",
            arguments.frame, arguments.size
        ));
    }
    if duration.is_zero() {
        return usage("--duration 0s: nothing would be measured".to_owned());
    }
    if arguments.lost_after.is_zero() {
        return usage("--lost-after 0s: every datagram would be lost".to_owned());
    }
    let pace = match arguments.rate {
        None => Pace::Closed { pipeline: arguments.pipeline.unwrap_or(1) },
        Some(rate) => Pace::Open { rate, pipeline: arguments.pipeline },
    };
    let load = resay_load::Plan {
        kind,
        connections: arguments.connections.unwrap_or(if compares { 50 } else { 1 }),
        message_bytes: arguments.size as usize,
        pace,
        frame: arguments.frame.clone(),
        expect: arguments.expect.clone(),
        warmup,
        duration,
        timeout: help::limit(arguments.timeout).unwrap_or(Duration::MAX),
        lost_after: arguments.lost_after,
        seed: arguments.seed,
    };
    Ok(Plan { url: url.to_owned(), tls, threads: arguments.threads, core: None, load })
}

impl From<ScriptError> for Failure {
    fn from(error: ScriptError) -> Failure {
        match error {
            ScriptError::Chain(error) => error.into(),
            ScriptError::Empty { .. } => Failure::new(
                Exit::Usage,
                format!("--size 0: {error}; choose another --size, or --frame lines"),
            ),
            ScriptError::Silent { .. } => {
                Failure::new(Exit::Usage, format!("{error}; choose another --size, or a --frame"))
            }
            error => Failure::new(Exit::Usage, error.to_string()),
        }
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Failure {
        Failure::new(Exit::Unreachable, error.to_string())
    }
}

fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A plan that connects nowhere.
    pub(crate) fn plan(url: &str) -> Plan {
        let load = resay_load::Plan {
            kind: url.parse::<Address>().unwrap().socket_kind().unwrap(),
            connections: 1,
            message_bytes: 64,
            pace: Pace::Closed { pipeline: 1 },
            frame: Frame::Raw,
            expect: String::new(),
            warmup: Duration::ZERO,
            duration: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            lost_after: Duration::from_secs(1),
            seed: 1,
        };
        Plan { url: url.to_owned(), tls: None, threads: 1, core: None, load }
    }
}

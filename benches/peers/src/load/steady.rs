//! Connections that stay, and datagram sockets: the load generator of `resay bench` loads them, in this process.

use std::error::Error;
use std::os::fd::OwnedFd;
use std::time::Duration;

use resay::options::Frame;
use resay::{Client, SocketKind};
use resay_load::{Job, Pace, Plan, Probe, Report, Runs, Script, ServerTime, Socket, Sockets};
use socket2::SockRef;

use super::sample::Sample;
use crate::running::Running;
use crate::workload::Kind;

/// Connecting, and silence, may take so long.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A datagram that has not come back for so long is lost.
const LOST_AFTER: Duration = Duration::from_millis(100);
/// What a socket of datagrams may hold for us.
const SOCKET_BYTES: usize = 4 << 20;

#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    pub(super) kind: Kind,
    pub(super) connections: usize,
    pub(super) message_bytes: usize,
    /// In flight a connection.
    pub(super) pipeline: usize,
    /// Whether all that are in flight are sent as one, and answers are taken as the kernel has gathered them.
    pub(super) runs: bool,
    pub(super) shouts: bool,
}

/// Loads it from this thread. A wrong answer, or an end before its time, is an error.
pub(super) fn run(
    load: Load,
    server: &Running,
    warm_up: Duration,
    measured: Duration,
) -> Result<Sample, Box<dyn Error>> {
    let url = server.place.url(load.kind);
    let cpu_ns = || server.cpu_time_ns().ok();
    let (report, probe) = measure(load, &url, &cpu_ns, warm_up, measured)?;
    let tally = &report.tally;
    let cost = probe.cost().filter(|cost| cost.answers > 0).ok_or("not one message was answered")?;
    let counts = tally.counts;
    let latencies = tally.latencies()?;
    let arrived: u64 = tally.intervals.iter().map(|interval| interval.answers).sum();
    Ok(Sample {
        cpu_us: cost.cpu_ns as f64 / 1000.0 / cost.answers as f64,
        messages_per_s: arrived as f64 / measured.as_secs_f64(),
        p50_us: latencies.at(0.5) as f64 / 1000.0,
        p99_us: latencies.at(0.99) as f64 / 1000.0,
        lost: counts.lost as f64 / counts.asked.max(1) as f64,
    })
}

/// Loads what is at `url`, which may be any process.
pub(super) fn measure<'a>(
    load: Load,
    url: &str,
    server_cpu_ns: &'a ServerTime<'a>,
    warm_up: Duration,
    measured: Duration,
) -> Result<(Report, Probe<'a>), Box<dyn Error>> {
    let kind = match load.kind {
        Kind::Tcp => SocketKind::Tcp,
        Kind::Udp => SocketKind::Udp,
        Kind::Unix => SocketKind::UnixStream,
    };
    let plan = Plan {
        kind,
        connections: load.connections,
        message_bytes: load.message_bytes,
        pace: Pace::Closed { pipeline: load.pipeline },
        frame: Frame::Raw,
        expect: if load.shouts { "uppercase" } else { "identity" }.to_owned(),
        warmup: warm_up,
        duration: measured,
        timeout: TIMEOUT,
        lost_after: LOST_AFTER,
        seed: 1,
    };
    let script = Script::new(&plan, &[])?;
    let mut sockets = Sockets::with_capacity(load.connections);
    for number in 0..load.connections {
        let socket = connect(load, url).map_err(|error| format!("connection {number}: {error}"))?;
        sockets.push((number, socket));
    }
    let job = Job::new(&plan, &script, sockets)?;
    let probe = Probe::new(1, Some(server_cpu_ns));
    let report = job.run(&probe, 0)?;
    let counts = report.tally.counts;
    let streams_unasked = if load.kind == Kind::Udp { 0 } else { counts.unasked };
    if let Some(wrong) = &report.tally.first_wrong {
        return Err(format!("a wrong answer of {} bytes", wrong.got_bytes).into());
    } else if streams_unasked > 0 {
        return Err("an answer that nobody asked for".into());
    } else if counts.ended + counts.reset > 0 {
        return Err("closed by the server".into());
    } else if counts.refused > 0 {
        return Err("refused by the server".into());
    } else if report.is_silent {
        return Err(format!("no answer for {TIMEOUT:?}").into());
    }
    match report.failure {
        Some(error) => Err(error.into()),
        None => Ok((report, probe)),
    }
}

fn connect(load: Load, url: &str) -> Result<Socket, Box<dyn Error>> {
    let socket = OwnedFd::from(Client::open(url, Some(TIMEOUT))?);
    if load.kind != Kind::Udp {
        return Ok(Socket::Plain(socket));
    }
    SockRef::from(&socket).set_recv_buffer_size(SOCKET_BYTES)?;
    Ok(if load.runs { Socket::Runs(Runs::new(socket, load.message_bytes)?) } else { Socket::Plain(socket) })
}

//! One measurement: connect, load, add up.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

use resay::Client;
use resay::net::address::{Address, Endpoint, Host};
use resay_load::{Cost, Job, LoadError, Probe, Report, Script, ServerTime, Sockets, Span, Tally};
use rustix::io::Errno;
use rustix::net::getpeername;
use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::process::{Resource, getrlimit, setrlimit};

use super::interrupt::{self, Interrupt};
use super::plan::Plan;
use super::{cores, progress::Progress};
use crate::deadline::Deadline;
use crate::exit::{Exit, Failure};
use crate::tls::Peer;

/// What a measurement saw.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) tally: Tally,
    pub(crate) span: Span,
    /// Answers may be lost, and may come twice.
    pub(crate) is_datagram: bool,
    pub(crate) connections: Connections,
    pub(crate) threads: Vec<Busy>,
    /// Nothing was answered any more.
    pub(crate) is_silent: bool,
    /// Why a connection failed in a way that has no name.
    pub(crate) failure: Option<(Exit, String)>,
    /// Processor time of the server, and the answers meanwhile.
    pub(crate) server: Option<Cost>,
    /// It ended before its time.
    pub(crate) interrupt: Option<Interrupt>,
    /// It got beyond the warm-up.
    pub(crate) has_begun: bool,
    /// What could not be done as asked, and does no harm but to the figures.
    pub(crate) notes: Vec<String>,
}

#[derive(Debug, Clone)]
pub(crate) struct Connections {
    /// Those that could not be made, and why the first of them could not.
    pub(crate) failed: usize,
    pub(crate) failed_because: Option<String>,
    pub(crate) open_at_end: usize,
}

/// How much of the measured time a thread of the generator ran.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Busy {
    pub(crate) cpu: Duration,
    pub(crate) share: f64,
}

impl Measured {
    /// What there is to tell where nothing could be measured.
    pub(crate) fn nothing(plan: &Plan, failure: &Failure) -> Result<Measured, Failure> {
        let mut measured = sum(plan, Span::of(&plan.load), Vec::new())?;
        measured.connections.failed = plan.load.connections;
        measured.connections.failed_because = Some(failure.text().to_owned());
        measured.failure = Some((failure.exit, failure.text().to_owned()));
        Ok(measured)
    }
}

/// What a socket of datagrams may hold for us.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;
/// Descriptors for everything else that a process has open.
const OTHER_DESCRIPTORS: usize = 64;
/// How often whoever waits for the end looks.
const LOOK: Duration = Duration::from_millis(20);

/// Measures. `server_cpu_ns` says how much processor time the server has used so far, where that is known.
pub(crate) fn measure(
    plan: &Plan,
    script: &Script,
    progress: &Progress,
    server_cpu_ns: Option<&ServerTime<'_>>,
) -> Result<Measured, Failure> {
    raise_descriptor_limit(plan.load.connections);
    let Connected { sockets, failed, why } = connect(plan, script)?;
    let threads = plan.threads.min(sockets.len()).max(1);
    let mut shares: Vec<Sockets> = (0..threads).map(|_| Sockets::new()).collect();
    for (place, (number, socket)) in sockets.into_iter().enumerate() {
        if let Some(share) = shares.get_mut(place % threads) {
            share.push((number, socket));
        }
    }
    let mut span = Span::of(&plan.load);
    let jobs = shares.into_iter().map(|share| Job::new(&plan.load, script, share));
    let jobs = jobs.collect::<Result<Vec<_>, LoadError>>()?;
    let probe = &Probe::new(threads, server_cpu_ns);
    let mut notes = Vec::new();
    let (reports, interrupt) = thread::scope(|scope| {
        let mut handles = Vec::new();
        for (number, job) in jobs.into_iter().enumerate() {
            let work = move || {
                let pinned = plan.core.map_or(Ok(()), cores::pin);
                (job.run(probe, number), pinned)
            };
            let spawned = thread::Builder::new().name("load".to_owned()).spawn_scoped(scope, work);
            let failed = |error| Failure::new(Exit::Unreachable, format!("start a thread: {error}"));
            handles.push(spawned.map_err(failed)?);
        }
        watch(span, probe, progress);
        let interrupt = interrupt::seen();
        let mut reports = Vec::new();
        for handle in handles {
            let lost = || Failure::new(Exit::Broken, "a thread of the generator ended before its time");
            let (report, pinned) = handle.join().map_err(|_| lost())?;
            if let (Err(error), Some(core)) = (pinned, plan.core) {
                notes.push(format!("the load could not be kept on core {core}: {error}"));
            }
            reports.push(report?);
        }
        Ok::<_, Failure>((reports, interrupt))
    })?;
    notes.dedup();
    span.end = reports.iter().map(|report| report.tally.span.end).max().unwrap_or(span.end);
    let has_begun = span.end > span.begin;
    if !has_begun {
        // Nothing was due in the measured time.
        span = Span::of(&plan.load);
    }
    let mut sum = sum(plan, span, reports)?;
    (sum.interrupt, sum.has_begun) = (interrupt, has_begun);
    sum.connections.failed = failed;
    sum.connections.failed_because = why.map(|failure| failure.text().to_owned());
    sum.server = probe.cost();
    sum.notes = notes;
    Ok(sum)
}

fn sum(plan: &Plan, span: Span, reports: Vec<Report>) -> Result<Measured, Failure> {
    let mut measured = Measured {
        tally: Tally::new(span)?,
        span,
        is_datagram: plan.load.kind.is_datagram(),
        connections: Connections { failed: 0, failed_because: None, open_at_end: 0 },
        threads: Vec::new(),
        is_silent: false,
        failure: None,
        server: None,
        interrupt: None,
        has_begun: true,
        notes: Vec::new(),
    };
    for report in reports {
        let share = match report.measured.as_secs_f64() {
            seconds if seconds > 0.0 => report.cpu.as_secs_f64() / seconds,
            _ => 0.0,
        };
        measured.threads.push(Busy { cpu: report.cpu, share });
        measured.is_silent |= report.is_silent;
        measured.connections.open_at_end += report.open;
        if let Some(error) = report.failure {
            measured.failure = Some(match Errno::from_io_error(&error) {
                Some(Errno::MSGSIZE) => (
                    Exit::Usage,
                    format!("{} bytes are too long for one message: {error}", plan.load.message_bytes),
                ),
                _ => (Exit::Unreachable, error.to_string()),
            });
        }
        measured.tally.add(report.tally);
    }
    Ok(measured)
}

/// Shows how far they are, until all threads have ended.
fn watch(span: Span, probe: &Probe<'_>, progress: &Progress) {
    progress.begin(span);
    while !probe.is_over() {
        progress.show(probe.now(), probe.answers());
        if interrupt::seen().is_some() {
            probe.cut();
        }
        thread::sleep(LOOK);
    }
    progress.end();
}

struct Connected {
    sockets: Sockets,
    failed: usize,
    /// Why the first of those that failed did.
    why: Option<Failure>,
}

/// All connections that can be made; none at all is a failure.
fn connect(plan: &Plan, script: &Script) -> Result<Connected, Failure> {
    // Where descriptors run out, some are left to wait for events with.
    let spare: Vec<_> = (0..OTHER_DESCRIPTORS).map_while(|_| std::fs::File::open("/dev/null").ok()).collect();
    let deadline = Deadline::after(plan.load.timeout, &plan.url);
    let url = answering(plan, script).unwrap_or_else(|| plan.url.clone());
    let mut sockets = Sockets::with_capacity(plan.load.connections);
    let mut first_failure = None;
    let mut failed = 0;
    for number in 0..plan.load.connections {
        if let Some(interrupt) = interrupt::seen() {
            let text =
                format!("{} came before all connections were made: nothing was measured", interrupt.name());
            return Err(Failure::new(interrupt.exit(), text));
        }
        let connected = deadline.left().and_then(|left| {
            Peer::open(&url, plan.tls.as_ref(), left).map_err(|error| deadline.failure(error))
        });
        match connected {
            Ok(client) => {
                let socket = client.into_socket();
                if plan.load.kind.is_datagram() {
                    // What does not fit is lost; as much as the system grants.
                    let _ = set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER_BYTES);
                }
                sockets.push((number, socket));
            }
            Err(failure) => {
                failed += 1;
                // A URL that is wrong, or descriptors that have run out, will not get better.
                let is_hopeless = sockets.is_empty() || failure.exit == Exit::Usage;
                first_failure.get_or_insert(failure);
                if is_hopeless {
                    break;
                }
            }
        }
    }
    drop(spare);
    match first_failure {
        Some(failure) if sockets.is_empty() => Err(failure),
        why => Ok(Connected { sockets, failed, why }),
    }
}

/// Which of the addresses of a name answers datagrams: connecting would not tell. One message is asked for that.
fn answering(plan: &Plan, script: &Script) -> Option<String> {
    let Ok(Address::Udp(Endpoint { host: Host::Any | Host::Name(_), .. })) = plan.url.parse() else {
        return None;
    };
    let client = Client::open(&plan.url, Some(plan.load.timeout)).ok()?;
    client.send(script.message(0), Some(plan.load.timeout)).ok()?;
    client.recv(&mut [0], Some(plan.load.lost_after)).ok()?;
    let peer = SocketAddr::try_from(getpeername(OwnedFd::from(client)).ok()??).ok()?;
    Some(format!("udp://{}", SocketAddr::new(peer.ip().to_canonical(), peer.port())))
}

/// As many descriptors as there are connections; where that is refused, connecting says so.
fn raise_descriptor_limit(connections: usize) {
    let limit = getrlimit(Resource::Nofile);
    let wanted = (connections + OTHER_DESCRIPTORS) as u64;
    if limit.current.is_some_and(|current| current < wanted) {
        let raised = limit.maximum.map_or(wanted, |maximum| wanted.min(maximum));
        let _: Result<(), io::Error> =
            setrlimit(Resource::Nofile, rustix::process::Rlimit { current: Some(raised), ..limit })
                .map_err(Into::into);
    }
}

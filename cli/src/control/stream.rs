//! What a client of the control socket is told as it happens: events, and what becomes of messages. A line of JSON each:
//!
//! ```text
//! event  = {"ts", "level", "kind", "listener", "listener_id", "connection", "cause", "errno", "text"}
//!          as in the log (`--log json`), but that the peer is in the text; null: it does not apply
//! record = {"ts", "sequence", "listener", "listener_id", "connection", "peer", "outcome", "reason",
//!           "message", "message_bytes", "answer", "answer_bytes"}
//!          message and answer may be cut; bytes that are not printable ASCII are written as \xNN, \t, \r, \n
//! lost   = {"lost": NUMBER}     the client, or its line, was too slow: so many were left out here
//! ```
//!
//! ```text
//! workers ──> queue or ring, bounded ──> a thread for each client ── write, bounded in time ──> client
//! ```

use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use resay::{
    Engine, EventCause, EventQueue, EventRecord, ListenerId, Tap, TapOptions, TapOutcome, TapRecord,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use super::wire::write_all;
use crate::exit::{Exit, Failure};
use crate::log::escape_into;
use crate::reload::Reloader;

/// Clients of one control socket that are told at once.
const STREAMS_MAX: usize = 8;
/// Events that wait for a client.
const EVENTS_MAX: usize = 4096;
/// Memory for records that wait for a client.
const TAP_CAPACITY_BYTES: usize = 4 << 20;
/// The most that is kept of a message, and of an answer.
pub(super) const TAP_BYTES_MAX: usize = 65536;
/// What is written at once.
const BATCH_BYTES: usize = 64 * 1024;

/// How many clients are told now.
#[derive(Debug, Clone, Default)]
pub(super) struct Streams(Arc<AtomicUsize>);

/// One of them; the place is free again when it is dropped.
#[derive(Debug)]
struct Place(Streams);

impl Streams {
    fn enter(&self) -> Result<Place, Failure> {
        let next = |count: usize| (count < STREAMS_MAX).then_some(count + 1);
        match self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) {
            Ok(_) => Ok(Place(self.clone())),
            Err(_) => {
                let text = format!("{STREAMS_MAX} clients watch or tap this server already");
                Err(Failure::new(Exit::Unreachable, text))
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Streams {
    /// Tells a client of events from now on.
    pub(super) fn watch(&self, client: &UnixStream, kinds: u32, names: Names) -> Result<(), Failure> {
        let place = self.enter()?;
        let queue = names.engine.events(kinds, EVENTS_MAX)?;
        spawn(place, client, Events { queue, told: 0 }, names)
    }

    /// Shows a client `count` messages, or with 0 all that come from now on.
    pub(super) fn tap(
        &self,
        client: &UnixStream,
        listener: u64,
        count: u64,
        bytes: usize,
        names: Names,
    ) -> Result<(), Failure> {
        let place = self.enter()?;
        let options = TapOptions {
            answers: true,
            listener: (listener != 0).then(|| ListenerId::from_number(listener)),
            capacity_bytes: TAP_CAPACITY_BYTES,
            data_bytes_max: bytes,
        };
        let tap = names.engine.tap(options)?;
        let left = if count == 0 { u64::MAX } else { count };
        spawn(place, client, Records { tap, told: 0, left }, names)
    }
}

fn spawn(place: Place, client: &UnixStream, source: impl Source, names: Names) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::new(Exit::Unreachable, format!("start a stream: {error}"));
    let client = client.try_clone().map_err(failed)?;
    let work = move || {
        // The client is gone, or reads nothing in time: that is its own affair.
        let _ = run(&client, source, names);
        drop(place);
    };
    thread::Builder::new().name("stream".to_owned()).spawn(work).map(drop).map_err(failed)
}

/// Where lines come from.
trait Source: Send + 'static {
    /// Appends what waits, up to [`BATCH_BYTES`] or a little more; whether more may come.
    fn take(&mut self, lines: &mut String, names: &mut Names) -> bool;

    /// Readable while something waits.
    fn fd(&self) -> BorrowedFd<'_>;
}

fn run(client: &UnixStream, mut source: impl Source, mut names: Names) -> Result<(), Failure> {
    write_all(client, b"ok\n")?;
    let mut lines = String::new();
    loop {
        lines.clear();
        let may_come = source.take(&mut lines, &mut names);
        write_all(client, lines.as_bytes())?;
        if !may_come || has_ended(client) {
            return Ok(());
        }
        if lines.is_empty() {
            wait(client, source.fd());
        }
    }
}

/// Waits until there is something to tell, or the client has ended.
fn wait(client: &UnixStream, source: BorrowedFd<'_>) {
    let mut fds = [PollFd::from_borrowed_fd(source, PollFlags::IN), PollFd::new(client, PollFlags::empty())];
    // After a signal the caller looks for itself.
    let _ = poll(&mut fds, None);
}

/// Whether the client has ended. One that only has no more to say, as behind a pipe, still listens.
fn has_ended(client: &UnixStream) -> bool {
    let mut fds = [PollFd::new(client, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(poll(&mut fds, Some(&now)), Ok(1..))
}

/// What listeners are called.
pub(super) struct Names {
    engine: Arc<Engine>,
    reloader: Option<Arc<Reloader>>,
    urls: HashMap<u64, Option<String>>,
}

impl Names {
    pub(super) fn new(engine: &Arc<Engine>, reloader: Option<&Arc<Reloader>>) -> Names {
        Names { engine: Arc::clone(engine), reloader: reloader.cloned(), urls: HashMap::new() }
    }

    /// Its name in the configuration file, or else its URL; `None`: it is closed, or there is none.
    fn of(&mut self, id: u64) -> Option<String> {
        let named = self.reloader.as_ref().and_then(|reloader| reloader.name(id));
        named.or_else(|| {
            let look = || self.engine.listener(ListenerId::from_number(id)).ok().map(|info| info.url);
            // One that is closed by now is remembered as long as somebody speaks of it.
            self.urls.entry(id).or_insert_with(look).clone()
        })
    }
}

#[derive(Debug, Serialize)]
struct Lost {
    lost: u64,
}

/// Tells how many were lost since that was last told.
fn tell_lost(lines: &mut String, lost: u64, told: &mut u64) {
    if lost > *told {
        push(lines, &Lost { lost: lost - *told });
        *told = lost;
    }
}

fn push(lines: &mut String, line: &impl Serialize) {
    // Strings and numbers only: this does not fail.
    escape_into(lines, &serde_json::to_string(line).unwrap_or_default());
    lines.push('\n');
}

struct Events {
    queue: EventQueue,
    told: u64,
}

#[derive(Debug, Serialize)]
struct EventLine<'a> {
    ts: String,
    level: &'static str,
    kind: &'static str,
    listener: Option<String>,
    listener_id: Option<u64>,
    connection: Option<u64>,
    cause: Option<&'static str>,
    errno: Option<i32>,
    text: &'a str,
}

impl Source for Events {
    fn take(&mut self, lines: &mut String, names: &mut Names) -> bool {
        while lines.len() < BATCH_BYTES {
            match self.queue.next(Some(Duration::ZERO)) {
                Ok(Some(record)) => push(lines, &event_line(&record, names)),
                Ok(None) => break,
                // The engine has ended.
                Err(_) => {
                    tell_lost(lines, self.queue.lost(), &mut self.told);
                    return false;
                }
            }
        }
        tell_lost(lines, self.queue.lost(), &mut self.told);
        true
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.queue.fd()
    }
}

fn event_line<'a>(record: &'a EventRecord, names: &mut Names) -> EventLine<'a> {
    let id = (record.listener_id != 0).then_some(record.listener_id);
    EventLine {
        ts: wall_clock(record.time_ns),
        level: record.level.name(),
        kind: record.kind.name(),
        listener: id.and_then(|id| names.of(id)),
        listener_id: id,
        connection: (record.connection != 0).then_some(record.connection),
        cause: record.cause.map(EventCause::name),
        errno: match record.cause {
            Some(EventCause::System(errno)) => Some(errno),
            _ => None,
        },
        text: record.text(),
    }
}

struct Records {
    tap: Tap,
    told: u64,
    left: u64,
}

#[derive(Debug, Serialize)]
struct RecordLine {
    ts: String,
    sequence: u64,
    listener: Option<String>,
    listener_id: u64,
    connection: Option<u64>,
    peer: String,
    outcome: &'static str,
    reason: Option<&'static str>,
    message: String,
    message_bytes: u64,
    answer: String,
    answer_bytes: u64,
}

impl Source for Records {
    fn take(&mut self, lines: &mut String, names: &mut Names) -> bool {
        let left = &mut self.left;
        let taken = self.tap.read(Some(Duration::ZERO), |record| {
            let takes = *left > 0 && lines.len() < BATCH_BYTES;
            if takes {
                *left -= 1;
                push(lines, &record_line(record, names));
            }
            takes
        });
        tell_lost(lines, self.tap.lost(), &mut self.told);
        // If it fails the engine has ended.
        self.left > 0 && taken.is_ok()
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.tap.fd()
    }
}

fn record_line(record: &TapRecord<'_>, names: &mut Names) -> RecordLine {
    RecordLine {
        ts: wall_clock(record.time_ns),
        sequence: record.sequence,
        listener: names.of(record.listener_id),
        listener_id: record.listener_id,
        connection: (record.connection != 0).then_some(record.connection),
        peer: record.peer().to_string(),
        outcome: record.outcome.name(),
        reason: match record.outcome {
            TapOutcome::Closed(reason) | TapOutcome::Reset(reason) => Some(reason.name()),
            TapOutcome::Dropped(reason) | TapOutcome::Failed(reason) | TapOutcome::Unsendable(reason) => {
                Some(reason.name())
            }
            _ => None,
        },
        message: record.data.escape_ascii().to_string(),
        message_bytes: record.message_bytes,
        answer: record.answer.escape_ascii().to_string(),
        answer_bytes: record.answer_bytes,
    }
}

/// A moment of CLOCK_MONOTONIC as the clock on the wall shows it.
fn wall_clock(time_ns: u64) -> String {
    let now = clock_gettime(ClockId::Monotonic);
    let now = Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0));
    let ago = now.saturating_sub(Duration::from_nanos(time_ns));
    let then = SystemTime::now().checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH);
    humantime::format_rfc3339_millis(then).to_string()
}

//! What the engine tells its owner while it runs: levelled events, and nothing formatted that nobody wants.
//!
//! They go two ways, each or both of which may be open: to a sink, which is called at once and gets words; and into a
//! bounded [queue](Queue), from which the owner takes records when it likes.

mod queue;

pub(crate) use queue::Queue;
pub use queue::{EVENT_TEXT_BYTES_MAX, EventRecord};

use std::cell::Cell;
use std::ffi::CStr;
use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::peer::Peer;
use crate::stats::{CloseReason, DropReason};

/// How important an event is. The numbers are those of `RESAY_LOG_*` in the C headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum LogLevel {
    /// Something that should work does not.
    Error = 1,
    /// Something that the operator should look at.
    Warn = 2,
    /// The engine's own comings and goings.
    Info = 3,
    /// Each connection.
    Debug = 4,
    /// Each step.
    Trace = 5,
}

/// The levels in the order of their numbers, which count from 1, with their names.
const LEVELS: [(LogLevel, &CStr); 5] = [
    (LogLevel::Error, c"error"),
    (LogLevel::Warn, c"warn"),
    (LogLevel::Info, c"info"),
    (LogLevel::Debug, c"debug"),
    (LogLevel::Trace, c"trace"),
];

impl LogLevel {
    /// All of them, in the order of their numbers.
    pub const ALL: [LogLevel; 5] = {
        let mut all = [LEVELS[0].0; 5];
        let mut place = 0;
        while place < all.len() {
            all[place] = LEVELS[place].0;
            assert!(all[place] as usize == place + 1, "the rows are in order");
            place += 1;
        }
        all
    };

    /// The level with that number; numbers out of range are clamped.
    pub fn from_number(number: i32) -> LogLevel {
        match number {
            ..=1 => LogLevel::Error,
            2 => LogLevel::Warn,
            3 => LogLevel::Info,
            4 => LogLevel::Debug,
            _ => LogLevel::Trace,
        }
    }

    /// The level in lower case.
    pub fn name(self) -> &'static str {
        self.c_name().to_str().unwrap_or_default()
    }

    /// [`name`](Self::name), ended by NUL.
    pub fn c_name(self) -> &'static CStr {
        LEVELS[self as usize - 1].1
    }
}

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventKind {
    /// A listener serves.
    Listening,
    /// A listener is closed.
    ListenerClosed,
    /// A connection came.
    Accepted,
    /// A connection is over.
    Closed,
    /// A connection was turned away.
    Rejected,
    /// accept(2) failed.
    AcceptFailed,
    /// A message was not answered.
    Dropped,
    /// A transform failed.
    TransformFailed,
    /// A transform says something.
    TransformLog,
    /// A chain was swapped.
    ChainChanged,
    /// The engine's state changed; at level error, a fault of Resay itself was found.
    Engine,
}

/// The kinds in the order of their bits, with their names.
const KINDS: [(EventKind, &CStr); 11] = [
    (EventKind::Listening, c"listening"),
    (EventKind::ListenerClosed, c"listener_closed"),
    (EventKind::Accepted, c"accepted"),
    (EventKind::Closed, c"closed"),
    (EventKind::Rejected, c"rejected"),
    (EventKind::AcceptFailed, c"accept_failed"),
    (EventKind::Dropped, c"dropped"),
    (EventKind::TransformFailed, c"transform_failed"),
    (EventKind::TransformLog, c"transform_log"),
    (EventKind::ChainChanged, c"chain_changed"),
    (EventKind::Engine, c"engine"),
];

impl EventKind {
    /// All of them, in the order of their bits.
    pub const ALL: [EventKind; 11] = {
        let mut all = [KINDS[0].0; 11];
        let mut place = 0;
        while place < all.len() {
            all[place] = KINDS[place].0;
            assert!(all[place] as usize == place, "the rows are in order");
            place += 1;
        }
        all
    };

    /// The kind as one bit, for sets of kinds: 1, 2, 4 and so on in the order of [`ALL`](EventKind::ALL).
    pub fn bit(self) -> u32 {
        1 << self as u32
    }

    /// The kind with that bit.
    pub fn from_bit(bit: u32) -> Option<EventKind> {
        Self::ALL.into_iter().find(|kind| kind.bit() == bit)
    }

    /// The name in snake_case, for programs: it is the same in all versions, in JSON too.
    pub fn name(self) -> &'static str {
        self.c_name().to_str().unwrap_or_default()
    }

    /// [`name`](Self::name), ended by NUL.
    pub fn c_name(self) -> &'static CStr {
        KINDS[self as usize].1
    }
}

/// What is behind an event, where there is more than its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventCause {
    /// Why a connection is over.
    Closed(CloseReason),
    /// Why a message got no answer.
    Dropped(DropReason),
    /// The `errno` of a call that failed.
    System(i32),
    /// The transform that failed is a function of the host's.
    Function,
    /// The transform that failed stands behind a table.
    Table,
}

impl EventCause {
    /// The `errno` of an error, if it has one.
    pub(crate) fn of(error: &io::Error) -> Option<EventCause> {
        error.raw_os_error().map(EventCause::System)
    }

    /// The name in snake_case, for programs: it is the same in all versions, in JSON too. That of the reason, where there
    /// is one.
    pub fn name(self) -> &'static str {
        self.c_name().to_str().unwrap_or_default()
    }

    /// [`name`](Self::name), ended by NUL.
    pub fn c_name(self) -> &'static CStr {
        match self {
            EventCause::Closed(reason) => reason.c_name(),
            EventCause::Dropped(reason) => reason.c_name(),
            EventCause::System(_) => c"system_error",
            EventCause::Function => c"callback_failed",
            EventCause::Table => c"plugin_failed",
        }
    }
}

/// One event. It borrows all it says: a sink copies what it keeps.
#[derive(Clone, Copy)]
pub struct Event<'a> {
    /// How important.
    pub level: LogLevel,
    /// What about.
    pub kind: EventKind,
    /// The listener's URL, where one is concerned, else empty.
    pub listener: &'a str,
    /// That listener's number ([`ListenerId::number`](crate::ListenerId::number)), or 0.
    pub listener_id: u64,
    /// The connection's number in this engine, or 0.
    pub connection: u64,
    /// The other side, where one is concerned.
    pub peer: Option<&'a Peer>,
    /// What is behind it.
    pub cause: Option<EventCause>,
    /// The rest, in words.
    pub text: &'a dyn fmt::Display,
}

impl fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut gap = "";
        if !self.listener.is_empty() {
            f.write_str(self.listener)?;
            gap = ": ";
        }
        if self.connection != 0 {
            write!(f, "{gap}connection {}", self.connection)?;
            gap = ": ";
        }
        if let Some(peer) = self.peer {
            let join = if self.connection != 0 { " from " } else { gap };
            write!(f, "{join}{peer}")?;
            gap = ": ";
        }
        write!(f, "{gap}{}", self.text)
    }
}

impl fmt::Debug for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Event({} {} {self})", self.level.name(), self.kind.name())
    }
}

/// Where events go. Called on the thread on which the event happens, workers included: it must not block.
pub(crate) type Sink = dyn Fn(&Event<'_>) + Send + Sync;

/// What an event is about, for [`Events::emit_about`]: nothing but the engine, or a listener.
pub(crate) trait Subject {
    /// Its number and its URL.
    fn subject(&self) -> (u64, &str);
}

impl Subject for () {
    fn subject(&self) -> (u64, &str) {
        (0, "")
    }
}

thread_local! {
    /// A sink runs on this thread. What it causes itself is not told to it: that could go on for ever.
    static IN_SINK: Cell<bool> = const { Cell::new(false) };
}

/// Where events go: a sink that wants to hear of what is important enough, and a queue of some kinds.
#[derive(Default)]
pub(crate) struct Events {
    /// What transforms may ask before they format a line: the sink's level, or more where the queue takes their lines.
    level: AtomicU8,
    sink_level: AtomicU8,
    /// Held for reading while the sink is called, so that whoever replaces it knows that it is not running.
    sink: RwLock<Option<Box<Sink>>>,
    /// The bits of the kinds that go into the queue.
    kinds: AtomicU32,
    queue: OnceLock<Queue>,
}

impl Events {
    pub(crate) fn new(level: LogLevel, sink: Box<Sink>) -> Events {
        let events = Events::default();
        events.set_sink(Some((level, sink)));
        events
    }

    /// The level as a byte that others may watch; 0: nothing is wanted.
    pub(crate) fn level(&self) -> &AtomicU8 {
        &self.level
    }

    /// Puts another sink in the place of the one that there is. When this returns, the old one is not running and
    /// will not be called again.
    pub(crate) fn set_sink(&self, sink: Option<(LogLevel, Box<Sink>)>) {
        let mut place = self.sink.write().unwrap_or_else(PoisonError::into_inner);
        self.sink_level.store(sink.as_ref().map_or(0, |(level, _)| *level as u8), Ordering::Relaxed);
        let old = std::mem::replace(&mut *place, sink.map(|(_, sink)| sink));
        drop(place);
        self.set_level();
        // What it holds may have a destructor that takes its time.
        drop(old);
    }

    /// Which kinds go into the queue from now on, and how many of them may wait there. The capacity is that of the
    /// first call.
    pub(crate) fn set_kinds(&self, kinds: u32, capacity: usize) -> Result<()> {
        if kinds != 0 && self.queue.get().is_none() {
            let queue = Queue::new(capacity).map_err(Error::system("open a queue of events"))?;
            // Whoever was faster has made one just like it.
            let _ = self.queue.set(queue);
        }
        self.kinds.store(kinds, Ordering::Relaxed);
        self.set_level();
        Ok(())
    }

    fn set_level(&self) {
        let lines = if self.kinds.load(Ordering::Relaxed) & EventKind::TransformLog.bit() != 0 {
            LogLevel::Info as u8
        } else {
            0
        };
        self.level.store(lines.max(self.sink_level.load(Ordering::Relaxed)), Ordering::Relaxed);
    }

    pub(crate) fn wants(&self, level: LogLevel, kind: EventKind) -> bool {
        level as u8 <= self.sink_level.load(Ordering::Relaxed)
            || kind.bit() & self.kinds.load(Ordering::Relaxed) != 0
    }

    pub(crate) fn emit(&self, event: &Event<'_>) {
        if event.kind.bit() & self.kinds.load(Ordering::Relaxed) != 0
            && let Some(queue) = self.queue.get()
        {
            queue.push(event);
        }
        if event.level as u8 > self.sink_level.load(Ordering::Relaxed) || IN_SINK.replace(true) {
            return;
        }
        let _leaving = Leaving;
        if let Some(sink) = &*self.sink.read().unwrap_or_else(PoisonError::into_inner) {
            // What the host's code does to itself is reported by the panic hook, and must not end a worker.
            let _ = catch_unwind(AssertUnwindSafe(|| sink(event)));
        }
    }

    /// An event that concerns no peer.
    pub(crate) fn emit_about(
        &self,
        level: LogLevel,
        kind: EventKind,
        about: &impl Subject,
        text: impl fmt::Display,
    ) {
        self.emit_caused(level, kind, about, None, text);
    }

    /// The same, with what is behind it.
    pub(crate) fn emit_caused(
        &self,
        level: LogLevel,
        kind: EventKind,
        about: &impl Subject,
        cause: Option<EventCause>,
        text: impl fmt::Display,
    ) {
        let (listener_id, listener) = about.subject();
        self.emit(&Event {
            level,
            kind,
            listener,
            listener_id,
            connection: 0,
            peer: None,
            cause,
            text: &text,
        });
    }

    /// Takes the first event that waits; see [`Queue::next`].
    pub(crate) fn next(&self, timeout: Option<Duration>) -> Result<Option<EventRecord>> {
        self.queue()?.next(timeout)
    }

    /// A descriptor that is readable while events wait.
    pub(crate) fn queue_fd(&self) -> Result<BorrowedFd<'_>> {
        Ok(self.queue()?.fd())
    }

    /// Events that found the queue full.
    pub(crate) fn lost(&self) -> u64 {
        self.queue.get().map_or(0, Queue::lost)
    }

    /// Nothing more will come.
    pub(crate) fn end(&self) {
        if let Some(queue) = self.queue.get() {
            queue.end();
        }
    }

    fn queue(&self) -> Result<&Queue> {
        self.queue.get().ok_or(Error::State("events are not enabled"))
    }
}

/// The sink has returned, or panicked.
struct Leaving;

impl Drop for Leaving {
    fn drop(&mut self) {
        IN_SINK.set(false);
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("level", &self.level).finish_non_exhaustive()
    }
}

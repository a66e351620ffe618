//! What the engine tells its owner while it runs: levelled events, and nothing formatted that nobody wants.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::peer::Peer;

/// How important an event is. The numbers are those of `RESAY_LOG_*` in the C headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Level {
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

impl Level {
    /// The level with that number; numbers out of range are clamped.
    pub fn from_number(number: i32) -> Level {
        match number {
            ..=1 => Level::Error,
            2 => Level::Warn,
            3 => Level::Info,
            4 => Level::Debug,
            _ => Level::Trace,
        }
    }

    /// The level in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        }
    }
}

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
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
    /// The engine's state changed.
    Engine,
}

impl Kind {
    /// The kind in lower case, with underscores.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Listening => "listening",
            Kind::ListenerClosed => "listener_closed",
            Kind::Accepted => "accepted",
            Kind::Closed => "closed",
            Kind::Rejected => "rejected",
            Kind::AcceptFailed => "accept_failed",
            Kind::Dropped => "dropped",
            Kind::TransformFailed => "transform_failed",
            Kind::TransformLog => "transform_log",
            Kind::ChainChanged => "chain_changed",
            Kind::Engine => "engine",
        }
    }
}

/// One event. It borrows all it says: a sink copies what it keeps.
#[derive(Clone, Copy)]
pub struct Event<'a> {
    /// How important.
    pub level: Level,
    /// What about.
    pub kind: Kind,
    /// The listener's URL, where one is concerned, else empty.
    pub listener: &'a str,
    /// The connection's number in this engine, or 0.
    pub connection: u64,
    /// The other side, where one is concerned.
    pub peer: Option<&'a Peer>,
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

/// The sink and the level up to which it wants to hear.
#[derive(Default)]
pub(crate) struct Events {
    level: AtomicU8,
    sink: Option<Box<Sink>>,
}

impl Events {
    pub(crate) fn new(level: Level, sink: Box<Sink>) -> Events {
        Events { level: AtomicU8::new(level as u8), sink: Some(sink) }
    }

    /// The level as a byte that others may watch; 0: nothing is wanted.
    pub(crate) fn level(&self) -> &AtomicU8 {
        &self.level
    }

    pub(crate) fn wants(&self, level: Level) -> bool {
        level as u8 <= self.level.load(Ordering::Relaxed)
    }

    pub(crate) fn emit(&self, event: &Event<'_>) {
        if self.wants(event.level)
            && let Some(sink) = &self.sink
        {
            sink(event);
        }
    }

    /// An event that concerns no peer.
    pub(crate) fn say(&self, level: Level, kind: Kind, listener: &str, text: impl fmt::Display) {
        self.emit(&Event { level, kind, listener, connection: 0, peer: None, text: &text });
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("level", &self.level).finish_non_exhaustive()
    }
}

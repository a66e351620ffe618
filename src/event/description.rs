//! An event: how important it is, what it is about, and what is behind it.

use std::ffi::CStr;
use std::fmt;
use std::io;

use crate::peer::Peer;
use crate::stats::{CloseReason, DropReason, RejectReason};

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
    /// A transform has not returned for a long time.
    TransformStuck,
    /// One of those has returned.
    TransformReturned,
    /// A preface has said who the peer of a connection is.
    Identified,
}

/// The kinds in the order of their bits, with their names.
const KINDS: [(EventKind, &CStr); 14] = [
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
    (EventKind::TransformStuck, c"transform_stuck"),
    (EventKind::TransformReturned, c"transform_returned"),
    (EventKind::Identified, c"identified"),
];

impl EventKind {
    /// All of them, in the order of their bits.
    pub const ALL: [EventKind; 14] = {
        let mut all = [KINDS[0].0; 14];
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
    /// Why a connection was turned away.
    Rejected(RejectReason),
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
            EventCause::Rejected(reason) => reason.c_name(),
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

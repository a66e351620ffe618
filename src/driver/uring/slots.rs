//! What is known of each socket.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::in_flight::Sending;
use crate::driver::flags::Flags;
use crate::peer::Peer;
use crate::sys;

/// Records of one seqpacket connection that are reported in a turn before the others have theirs.
pub(super) const RECORD_BURST: u8 = 16;

/// The receive is one of the requests.
pub(super) const RECEIVING: u16 = 1;
pub(super) const CANCELLING: u16 = 1 << 1;
pub(super) const PAUSED: u16 = 1 << 2;
/// The kernel will bring nothing more.
pub(super) const ENDED: u16 = 1 << 3;
pub(super) const DRAINING: u16 = 1 << 4;
/// It is to be released.
pub(super) const LEAVING: u16 = 1 << 5;
/// The peer sends faster than it is read: a receive brings one buffer and is over, lest many come in a turn, of which
/// all but the first would have to be kept.
pub(super) const FLOODING: u16 = 1 << 6;
/// In the queue for the next turn.
pub(super) const QUEUED: u16 = 1 << 7;
/// Its send has a completion only if it fails, or comes short; it has one; the worker wants to hear of its end all the same.
pub(super) const SUBMITTED: u16 = 1 << 8;
pub(super) const IS_SHORT: u16 = 1 << 9;
pub(super) const IS_REPORTED: u16 = 1 << 10;
/// The receive that goes on has brought nothing yet.
pub(super) const BEGUN: u16 = 1 << 11;

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) socket: OwnedFd,
    /// The token's.
    pub(super) version: u32,
    /// What one read may bring.
    pub(super) read_bytes_max: u32,
    pub(super) role: Role,
    pub(super) flags: Flags,
    /// Requests whose last completion has not come.
    pub(super) requests: u16,
    /// The turn of the last read, and how many it has had in it.
    pub(super) read_in: u16,
    pub(super) reads: u8,
    /// How much of a flood its reads are, of late.
    pub(super) flood: u8,
    pub(super) unreported: Unreported,
    pub(super) sending: Sending,
}

/// What an idle connection costs here.
const _: () = assert!(size_of::<Option<Slot>>() <= 48);

/// What a slot's socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Stream,
    /// A receive brings one buffer and is over.
    UnixStream,
    /// A seqpacket connection, and the place of its limit.
    Records {
        limit: u16,
    },
    Listener,
    Datagrams {
        socket: u16,
    },
}

/// What came while it could not be reported, in order. A slot that has nothing of the kind has no queue.
#[derive(Debug, Default)]
pub(super) struct Unreported(Option<Box<Events>>);

#[derive(Debug, Default)]
struct Events(VecDeque<Event>);

/// What a receive brings.
#[derive(Debug)]
pub(super) enum Event {
    /// A buffer of the ring; at most [`UNREPORTED_MAX`](super::UNREPORTED_MAX) of a connection.
    Buffer {
        id: u16,
        len: usize,
    },
    /// A part of a message's buffer, that from its beginning to `end` is filled.
    Record {
        id: u16,
        start: u32,
        end: u32,
        truncated: bool,
    },
    /// Either, copied.
    Bytes {
        bytes: Vec<u8>,
        truncated: bool,
    },
    Accepted {
        socket: OwnedFd,
        peer: Peer,
    },
    End,
    Failed(io::Error),
}

impl Slot {
    /// The request that receives, or accepts, has brought its last completion.
    pub(super) fn end_receive(&mut self) {
        self.requests -= 1;
        self.flags.clear(RECEIVING | CANCELLING | BEGUN);
    }

    /// Whether one more may be reported in this turn.
    pub(super) fn may_read(&self, turn: u16) -> bool {
        let most = match self.role {
            Role::Stream | Role::UnixStream => 1,
            Role::Records { .. } => RECORD_BURST,
            // What comes at once is bounded by the kernel.
            Role::Listener | Role::Datagrams { .. } => u8::MAX,
        };
        self.read_in != turn || self.reads < most
    }

    pub(super) fn count_read(&mut self, turn: u16) {
        self.reads = if self.read_in == turn { self.reads.saturating_add(1) } else { 1 };
        self.read_in = turn;
    }

    /// Sends a record, at once or not at all: whether it left. Those of one turn all leave in it that way.
    pub(super) fn send_record(&self, bytes: &[u8]) -> io::Result<bool> {
        match sys::send(self.socket.as_fd(), bytes) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Unreported {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(super) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |events| events.0.len())
    }

    pub(super) fn push(&mut self, event: Event) {
        self.0.get_or_insert_default().0.push_back(event);
    }

    pub(super) fn pop(&mut self) -> Option<Event> {
        let events = self.0.as_mut()?;
        let event = events.0.pop_front();
        if events.0.is_empty() {
            self.0 = None;
        }
        event
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Event> {
        self.0.iter_mut().flat_map(|events| events.0.iter_mut())
    }

    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = &Event> {
        self.0.iter().flat_map(|events| events.0.iter())
    }
}

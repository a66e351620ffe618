//! A record: what is known of one message, and how it stands in the ring.

use std::ffi::CStr;
use std::fmt;

use super::ring::HEAD_WORDS;
use crate::peer::{Peer, SocketKind};
use crate::stats::{CloseReason, DropReason};
use crate::sys;
use crate::timer::Moment;

/// What became of a message when it was processed; if its answer comes later, when that has come, or when it is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TapOutcome {
    /// There is an answer, which leaves now, later, or with others. Whether the peer receives it is not known yet.
    Answered,
    /// No answer, for this reason.
    Dropped(DropReason),
    /// A transform closes the connection, with or without a last answer.
    Closed(CloseReason),
    /// A transform resets the connection.
    Reset(CloseReason),
    /// A transform failed.
    Failed(DropReason),
    /// An answer could not be sent to whoever sent it, so no transform has seen it.
    Unsendable(DropReason),
}

/// The outcomes' names, in the order of their numbers, which count from 1.
const OUTCOMES: [&CStr; 6] = [c"answered", c"dropped", c"closed", c"reset", c"failed", c"unsendable"];

impl TapOutcome {
    /// Its number in C: `RESAY_TAP_…`.
    pub const fn number(self) -> u32 {
        match self {
            TapOutcome::Answered => 1,
            TapOutcome::Dropped(_) => 2,
            TapOutcome::Closed(_) => 3,
            TapOutcome::Reset(_) => 4,
            TapOutcome::Failed(_) => 5,
            TapOutcome::Unsendable(_) => 6,
        }
    }

    /// The number of the reason, or 0.
    pub fn reason(self) -> i32 {
        match self {
            TapOutcome::Answered => 0,
            TapOutcome::Closed(reason) | TapOutcome::Reset(reason) => reason.number(),
            TapOutcome::Dropped(reason) | TapOutcome::Failed(reason) | TapOutcome::Unsendable(reason) => {
                reason.number()
            }
        }
    }

    /// The name in snake_case, for programs: it is the same in all versions.
    pub fn name(self) -> &'static str {
        TapOutcome::c_name(self.number()).and_then(|name| name.to_str().ok()).unwrap_or_default()
    }

    /// The name of the outcome with that number, ended by NUL.
    pub fn c_name(number: u32) -> Option<&'static CStr> {
        OUTCOMES.get((number as usize).checked_sub(1)?).copied()
    }

    /// Refused before the chain: either nobody could be answered, or the message is not one.
    pub(crate) fn refused(reason: DropReason) -> TapOutcome {
        match reason {
            DropReason::Unnamed | DropReason::BadSource | DropReason::GroupDestination => {
                TapOutcome::Unsendable(reason)
            }
            _ => TapOutcome::Dropped(reason),
        }
    }

    fn from_numbers(number: u32, reason: i32) -> Option<TapOutcome> {
        let dropped = DropReason::from_number(reason);
        let closed = CloseReason::from_number(reason);
        match number {
            1 => Some(TapOutcome::Answered),
            2 => dropped.map(TapOutcome::Dropped),
            3 => closed.map(TapOutcome::Closed),
            4 => closed.map(TapOutcome::Reset),
            5 => dropped.map(TapOutcome::Failed),
            6 => dropped.map(TapOutcome::Unsendable),
            _ => None,
        }
    }
}

/// One message, and what became of it.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct TapRecord<'a> {
    /// Counts the records of this tap, from 1, lost ones too: a gap is as many as were lost.
    pub sequence: u64,
    /// When the turn began in which the message was processed, in nanoseconds of `CLOCK_MONOTONIC`, to the microsecond.
    pub time_ns: u64,
    /// The listener's number ([`ListenerId::number`](crate::ListenerId::number)).
    pub listener_id: u64,
    /// The connection's number; 0: a datagram.
    pub connection: u64,
    /// The kind of its socket.
    pub kind: SocketKind,
    /// What transforms hear of the message: `RESAY_IO_` bits.
    pub flags: u32,
    /// What became of it.
    pub outcome: TapOutcome,
    /// The message as it came, without its frame; on a raw stream what one read brought. Cut at the tap's limit.
    pub data: &'a [u8],
    /// Bytes of the whole message.
    pub message_bytes: u64,
    /// The answer without its frame, if the tap keeps answers. Cut at the tap's limit.
    pub answer: &'a [u8],
    /// Bytes of the whole answer, whether it is kept or not.
    pub answer_bytes: u64,
    /// Who sent it, as a sockaddr.
    peer: &'a [u8],
}

impl TapRecord<'_> {
    /// Who sent it.
    pub fn peer(&self) -> Peer {
        sys::peer_of_sockaddr(self.peer)
    }

    /// The same as the bytes of a sockaddr (ip(7), ipv6(7), unix(7)).
    pub fn peer_sockaddr(&self) -> &[u8] {
        self.peer
    }
}

impl fmt::Debug for TapRecord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TapRecord { sequence, connection, outcome, data, answer, .. } = self;
        write!(
            f,
            "TapRecord({sequence}, connection {connection} {}, {outcome:?}, \"{}\" -> \"{}\")",
            self.peer(),
            data.escape_ascii(),
            answer.escape_ascii()
        )
    }
}

/// All that a worker says of a message beside bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recorded<'a> {
    pub(crate) time: Moment,
    pub(crate) listener: u64,
    /// 0: a datagram.
    pub(crate) connection: u64,
    pub(crate) peer: &'a Peer,
    pub(crate) kind: SocketKind,
    /// Those of `resay_io`.
    pub(crate) flags: u32,
    pub(crate) outcome: TapOutcome,
}

/// Bytes of a message or an answer, of which only the first may be kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bytes<'a> {
    pub(super) kept: &'a [u8],
    /// How many there are.
    pub(super) count: usize,
}

impl<'a> Bytes<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Bytes<'a> {
        Bytes { kept: bytes, count: bytes.len() }
    }

    pub(super) fn cut(self, most: usize) -> Bytes<'a> {
        Bytes { kept: self.kept.get(..most).unwrap_or(self.kept), ..self }
    }
}

/// What stands in the ring before the bytes.
pub(super) fn head_of(
    of: &Recorded<'_>,
    peer: &[u8],
    data: Bytes<'_>,
    answer: Bytes<'_>,
) -> [u64; HEAD_WORDS] {
    let kind = of.kind as u64;
    [
        (peer.len() as u64) << 48 | kind << 40 | u64::from(of.outcome.number()) << 32,
        0,
        of.time.nanos(),
        of.listener,
        of.connection,
        u64::from(of.flags) << 32 | u64::from(of.outcome.reason() as u32),
        (data.kept.len() as u64) << 32 | answer.kept.len() as u64,
        data.count as u64,
        answer.count as u64,
    ]
}

/// The kinds in their order.
const SOCKET_KINDS: [SocketKind; 5] = [
    SocketKind::Tcp,
    SocketKind::Udp,
    SocketKind::UnixStream,
    SocketKind::UnixDatagram,
    SocketKind::UnixSeqpacket,
];

const _: () = {
    let mut place = 0;
    while place < SOCKET_KINDS.len() {
        assert!(SOCKET_KINDS[place] as usize == place, "the kinds are in order");
        place += 1;
    }
};

pub(super) fn word(record: &[u8], place: usize) -> u64 {
    record.as_chunks().0.get(place).map_or(0, |word| u64::from_ne_bytes(*word))
}

/// The record that stands in the ring like this.
pub(super) fn parse(record: &[u8], sequence: u64) -> Option<TapRecord<'_>> {
    let low = |place| word(record, place) & u64::from(u32::MAX);
    let high = |place| word(record, place) >> 32;
    let first = high(0);
    let lengths = [(first >> 16) as usize, high(6) as usize, low(6) as usize];
    let mut at = HEAD_WORDS * size_of::<u64>();
    let [peer, data, answer] = lengths.map(|length| {
        let part = record.get(at..at + length);
        at += length.next_multiple_of(size_of::<u64>());
        part
    });
    Some(TapRecord {
        sequence,
        time_ns: word(record, 2),
        listener_id: word(record, 3),
        connection: word(record, 4),
        kind: *SOCKET_KINDS.get((first >> 8 & 0xff) as usize)?,
        flags: high(5) as u32,
        outcome: TapOutcome::from_numbers(first as u32 & 0xff, low(5) as u32 as i32)?,
        data: data?,
        message_bytes: word(record, 7),
        answer: answer?,
        answer_bytes: word(record, 8),
        peer: peer?,
    })
}

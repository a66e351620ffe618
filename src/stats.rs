//! Counters: one block a worker and listener, each with a single writer, so that nothing is shared on the path.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Why a connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer ended its side and has all its answers.
    PeerEnded,
    /// The peer reset the connection, or is gone.
    PeerReset,
    /// Nothing came for `idle_timeout`.
    IdleTimeout,
    /// The peer took nothing for `write_timeout`.
    WriteTimeout,
    /// A message was over `max_message`.
    MessageTooLong,
    /// A transform asked for it.
    TransformClosed,
    /// A transform failed.
    TransformFailed,
    /// It needed a chain that had been replaced, for longer than `swap_timeout`.
    ChainChanged,
    /// The engine drained.
    Drained,
    /// The engine drained, and the time was up before the connection was done.
    CutOff,
    /// The engine stopped.
    Stopped,
    /// The operating system reported another error.
    SystemError,
    /// Less passed than `min_rate` asks for.
    TooSlow,
    /// What stands before the stream could not be read, or named a peer that may not come in.
    PrefaceRefused,
    /// What stands around the stream could not be agreed upon, or was broken.
    LayerFailed,
}

impl CloseReason {
    /// All of them, in the order of their numbers.
    pub const ALL: [CloseReason; 15] = [
        CloseReason::PeerEnded,
        CloseReason::PeerReset,
        CloseReason::IdleTimeout,
        CloseReason::WriteTimeout,
        CloseReason::MessageTooLong,
        CloseReason::TransformClosed,
        CloseReason::TransformFailed,
        CloseReason::ChainChanged,
        CloseReason::Drained,
        CloseReason::CutOff,
        CloseReason::Stopped,
        CloseReason::SystemError,
        CloseReason::TooSlow,
        CloseReason::PrefaceRefused,
        CloseReason::LayerFailed,
    ];

    /// The reason in words.
    pub fn name(self) -> &'static str {
        match self {
            CloseReason::PeerEnded => "the peer has ended",
            CloseReason::PeerReset => "the peer reset the connection",
            CloseReason::IdleTimeout => "idle_timeout",
            CloseReason::WriteTimeout => "write_timeout",
            CloseReason::MessageTooLong => "message too long",
            CloseReason::TransformClosed => "closed by a transform",
            CloseReason::TransformFailed => "a transform failed",
            CloseReason::ChainChanged => "its chain was replaced",
            CloseReason::Drained => "drained",
            CloseReason::CutOff => "cut off at the end of draining",
            CloseReason::Stopped => "stopped",
            CloseReason::SystemError => "system error",
            CloseReason::TooSlow => "min_rate",
            CloseReason::PrefaceRefused => "preface refused",
            CloseReason::LayerFailed => "layer failed",
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a message got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DropReason {
    /// A transform said `RESAY_DROP`.
    ByTransform,
    /// A transform failed.
    TransformFailed,
    /// It was longer than `max_message`.
    TooLong,
    /// Its source cannot be answered: port 0, address 0.0.0.0 or ::, broadcast or multicast.
    BadSource,
    /// It was sent to a broadcast or multicast address.
    GroupDestination,
    /// Its unix sender has no name, or a relative one, which would be a file of ours.
    Unnamed,
    /// The peer's queue is full.
    PeerFull,
    /// Its answer was longer than `max_amplification` allows, and its source is not verified.
    Amplified,
    /// Too many delayed answers wait already.
    QueueFull,
    /// The answer could not be sent.
    SendFailed,
    /// The connection broke before the answer was sent, or its last frame was unfinished.
    Undelivered,
}

impl DropReason {
    /// All of them, in the order of their numbers.
    pub const ALL: [DropReason; 11] = [
        DropReason::ByTransform,
        DropReason::TransformFailed,
        DropReason::TooLong,
        DropReason::BadSource,
        DropReason::GroupDestination,
        DropReason::Unnamed,
        DropReason::PeerFull,
        DropReason::Amplified,
        DropReason::QueueFull,
        DropReason::SendFailed,
        DropReason::Undelivered,
    ];

    /// The reason in words.
    pub fn name(self) -> &'static str {
        match self {
            DropReason::ByTransform => "dropped by a transform",
            DropReason::TransformFailed => "a transform failed",
            DropReason::TooLong => "too long",
            DropReason::BadSource => "source cannot be answered",
            DropReason::GroupDestination => "sent to a broadcast or multicast address",
            DropReason::Unnamed => "sender has no absolute name",
            DropReason::PeerFull => "peer's queue is full",
            DropReason::Amplified => "answer exceeds max_amplification",
            DropReason::QueueFull => "too many delayed answers wait",
            DropReason::SendFailed => "answer could not be sent",
            DropReason::Undelivered => "not delivered",
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A counter with one writer: adding is a load and a store.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of one listener in one worker, on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Block {
    pub(crate) accepted: Counter,
    pub(crate) rejected: Counter,
    pub(crate) accept_errors: Counter,
    pub(crate) messages_in: Counter,
    pub(crate) messages_out: Counter,
    pub(crate) bytes_in: Counter,
    pub(crate) bytes_out: Counter,
    pub(crate) undelivered_bytes: Counter,
    pub(crate) dropped_bytes: Counter,
    pub(crate) transform_errors: Counter,
    closed: [Counter; CloseReason::ALL.len()],
    dropped: [Counter; DropReason::ALL.len()],
}

impl Block {
    pub(crate) fn closed(&self, reason: CloseReason) {
        self.closed[reason as usize].add(1);
    }

    pub(crate) fn dropped(&self, reason: DropReason, messages: u64) {
        self.dropped[reason as usize].add(messages);
    }

    /// Takes over what was counted elsewhere for this block.
    pub(crate) fn add_block(&self, other: &Block) {
        for (to, from) in [
            (&self.messages_in, &other.messages_in),
            (&self.messages_out, &other.messages_out),
            (&self.bytes_in, &other.bytes_in),
            (&self.bytes_out, &other.bytes_out),
            (&self.undelivered_bytes, &other.undelivered_bytes),
            (&self.dropped_bytes, &other.dropped_bytes),
            (&self.transform_errors, &other.transform_errors),
        ] {
            to.add(from.get());
        }
        for (to, from) in self.dropped.iter().zip(&other.dropped) {
            to.add(from.get());
        }
    }

    pub(crate) fn closed_total(&self) -> u64 {
        self.closed.iter().map(Counter::get).sum()
    }
}

/// What a listener, or a whole engine, has done so far. The figures of running workers are read one by one, so
/// they may be a few messages apart from each other; after a stop they balance: `accepted == open + closed`,
/// `messages_in == messages_out + dropped` and, on connections whose chain keeps the length of what it changes,
/// `bytes_in == bytes_out + undelivered_bytes + dropped_bytes`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Connections open now.
    pub open: u64,
    /// Connections that accept(2) brought and that were served.
    pub accepted: u64,
    /// Connections that are over, whatever the reason.
    pub closed: u64,
    /// Connections turned away before anything was read: `max_connections`, `max_per_peer`, `allow_uid`.
    pub rejected: u64,
    /// Failures of accept(2).
    pub accept_errors: u64,
    /// Messages received. On a raw stream, each read is one.
    pub messages_in: u64,
    /// Messages whose answers the kernel took, or that need none. Of a send that was cut off, none of its messages counts.
    pub messages_out: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes that the kernel took.
    pub bytes_out: u64,
    /// Messages without an answer, whatever the reason.
    pub dropped: u64,
    /// Bytes of answers that were still waiting when their connection ended.
    pub undelivered_bytes: u64,
    /// Bytes received on connections that were given no answer: of dropped messages, and what was not answered when a
    /// connection ended.
    pub dropped_bytes: u64,
    /// Messages or conversations at which a transform failed.
    pub transform_errors: u64,
    closed_by_reason: [u64; CloseReason::ALL.len()],
    dropped_by_reason: [u64; DropReason::ALL.len()],
}

impl Stats {
    /// How many connections ended for this reason.
    pub fn closed_by(&self, reason: CloseReason) -> u64 {
        self.closed_by_reason[reason as usize]
    }

    /// How many messages got no answer for this reason.
    pub fn dropped_by(&self, reason: DropReason) -> u64 {
        self.dropped_by_reason[reason as usize]
    }

    /// Adds what another listener has done.
    pub(crate) fn add(&mut self, other: &Stats) {
        self.open += other.open;
        self.accepted += other.accepted;
        self.closed += other.closed;
        self.rejected += other.rejected;
        self.accept_errors += other.accept_errors;
        self.messages_in += other.messages_in;
        self.messages_out += other.messages_out;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.dropped += other.dropped;
        self.undelivered_bytes += other.undelivered_bytes;
        self.dropped_bytes += other.dropped_bytes;
        self.transform_errors += other.transform_errors;
        for (sum, n) in self.closed_by_reason.iter_mut().zip(other.closed_by_reason) {
            *sum += n;
        }
        for (sum, n) in self.dropped_by_reason.iter_mut().zip(other.dropped_by_reason) {
            *sum += n;
        }
    }

    pub(crate) fn add_block(&mut self, block: &Block) {
        // What is counted later is read first, so that no balance is negative.
        for (sum, counter) in self.closed_by_reason.iter_mut().zip(&block.closed) {
            let n = counter.get();
            *sum += n;
            self.closed += n;
        }
        for (sum, counter) in self.dropped_by_reason.iter_mut().zip(&block.dropped) {
            let n = counter.get();
            *sum += n;
            self.dropped += n;
        }
        self.messages_out += block.messages_out.get();
        self.bytes_out += block.bytes_out.get();
        self.undelivered_bytes += block.undelivered_bytes.get();
        self.dropped_bytes += block.dropped_bytes.get();
        self.transform_errors += block.transform_errors.get();
        self.messages_in += block.messages_in.get();
        self.bytes_in += block.bytes_in.get();
        self.rejected += block.rejected.get();
        self.accept_errors += block.accept_errors.get();
        self.accepted += block.accepted.get();
        self.open = self.accepted.saturating_sub(self.closed);
    }
}

//! Counters: one block a worker and listener, each with a single writer, so that nothing is shared on the path.

use std::ffi::CStr;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What reasons have in common: numbers and names, out of the table of their rows.
macro_rules! reasons {
    ($reason:ident, $rows:ident, $count:literal) => {
        impl $reason {
            /// All of them, in the order of their numbers.
            pub const ALL: [$reason; $count] = {
                let mut all = [$rows[0].0; $count];
                let mut place = 0;
                while place < all.len() {
                    all[place] = $rows[place].0;
                    assert!(all[place] as usize == place, "the rows are in order");
                    place += 1;
                }
                all
            };

            /// The name in snake_case, for programs: it is the same in all versions, in JSON too.
            pub fn name(self) -> &'static str {
                self.c_name().to_str().unwrap_or_default()
            }

            /// [`name`](Self::name), ended by NUL.
            pub fn c_name(self) -> &'static CStr {
                $rows[self as usize].1
            }

            /// The number in C, where 0 means that there is no reason.
            pub fn number(self) -> i32 {
                self as i32 + 1
            }

            /// The reason with that number.
            pub fn from_number(number: i32) -> Option<$reason> {
                Self::ALL.get(usize::try_from(number).ok()?.checked_sub(1)?).copied()
            }
        }

        /// In words, for people: they may change.
        impl fmt::Display for $reason {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($rows[*self as usize].2)
            }
        }
    };
}

/// Why a connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer closed its side and received all its answers.
    PeerClosed,
    /// The peer reset the connection, or vanished.
    PeerReset,
    /// The peer was silent for `idle_timeout`.
    IdleTimeout,
    /// The peer read nothing for `write_timeout`.
    WriteTimeout,
    /// A message was longer than `max_message`.
    MessageTooLong,
    /// A transform asked for it.
    TransformClosed,
    /// A transform failed.
    TransformFailed,
    /// Its chain was replaced, and it still needed the old one after `swap_timeout`.
    ChainReplaced,
    /// The engine drained.
    Drained,
    /// The engine drained, and the connection did not finish in time.
    CutOff,
    /// The engine stopped.
    Stopped,
    /// Another system error.
    SystemError,
    /// Slower than `min_rate`.
    TooSlow,
    /// The preface of the stream is invalid, or names a peer that is not allowed.
    PrefaceRefused,
    /// The layer around the stream could not be negotiated, or failed.
    LayerFailed,
    /// An answer was longer than the send buffer of its socket, which takes a record whole or not at all.
    AnswerTooLong,
    /// The host asked for it.
    ByHost,
    /// Too many messages of its chain waited for a thread: the chain has a transform that may block.
    Overloaded,
    /// The socket ended before the layer around the stream did: the peer, or somebody between, has cut it off.
    LayerTruncated,
}

/// The reasons in the order of their numbers, which count from 1, with their names for programs and for people.
const CLOSE_REASONS: [(CloseReason, &CStr, &str); 19] = [
    (CloseReason::PeerClosed, c"peer_closed", "closed by the peer"),
    (CloseReason::PeerReset, c"peer_reset", "reset by the peer"),
    (CloseReason::IdleTimeout, c"idle_timeout", "silent for longer than idle_timeout"),
    (CloseReason::WriteTimeout, c"write_timeout", "the peer read nothing for longer than write_timeout"),
    (CloseReason::MessageTooLong, c"message_too_long", "message longer than max_message"),
    (CloseReason::TransformClosed, c"transform_closed", "closed by a transform"),
    (CloseReason::TransformFailed, c"transform_failed", "a transform failed"),
    (CloseReason::ChainReplaced, c"chain_replaced", "its chain was replaced (swap_timeout)"),
    (CloseReason::Drained, c"drained", "drained"),
    (CloseReason::CutOff, c"cut_off", "cut off at the end of draining"),
    (CloseReason::Stopped, c"stopped", "the engine stopped"),
    (CloseReason::SystemError, c"system_error", "system error"),
    (CloseReason::TooSlow, c"too_slow", "slower than min_rate"),
    (CloseReason::PrefaceRefused, c"preface_refused", "preface refused"),
    (CloseReason::LayerFailed, c"layer_failed", "layer failed"),
    (CloseReason::AnswerTooLong, c"answer_too_long", "answer longer than the send buffer (sndbuf)"),
    (CloseReason::ByHost, c"by_host", "closed by the program"),
    (CloseReason::Overloaded, c"overloaded", "too many messages wait for a transform that may block"),
    (CloseReason::LayerTruncated, c"layer_truncated", "the stream was cut off"),
];

reasons!(CloseReason, CLOSE_REASONS, 19);

/// Why a message got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DropReason {
    /// A transform returned `RESAY_DROP`.
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
    /// Its peer has not read earlier answers: its queue is full, or they use its share of the socket's send buffer.
    PeerFull,
    /// Its answer was longer than `max_amplification` allows, and its source is not verified.
    Amplified,
    /// Too many delayed answers wait already.
    QueueFull,
    /// The answer could not be sent.
    SendFailed,
    /// The connection broke before the answer was sent, or its last frame was unfinished.
    Undelivered,
    /// The answer was longer than a datagram of its socket may be: 65,507 bytes over UDP, else what the send buffer takes.
    AnswerTooLong,
    /// Too many messages of its chain waited for a thread: the chain has a transform that may block.
    Overloaded,
    /// The send buffer of its unix datagram socket is full of answers that peers, perhaps others, have not read.
    SocketFull,
    /// Its source is a UDP socket of this engine.
    OwnAddress,
    /// Its source port is not in `from_ports`.
    FromPort,
    /// Its source is in a network that `allow` and `deny` keep out.
    Denied,
    /// It arrived with the hop limit of a server's answer (`loop_mark`).
    LoopMark,
    /// Its network, or the listener, has had its `rate`.
    Rate,
    /// It is an answer that came back once too often (`loop_hops`).
    Loop,
    /// It has no valid header of a proxy, although the listener asks for one (`proxy`).
    ProxyHeader,
    /// It does not come from one of the proxies (`proxy_from`).
    NotFromProxy,
}

/// The reasons in the order of their numbers, which count from 1, with their names for programs and for people.
const DROP_REASONS: [(DropReason, &CStr, &str); 22] = [
    (DropReason::ByTransform, c"by_transform", "dropped by a transform"),
    (DropReason::TransformFailed, c"transform_failed", "a transform failed"),
    (DropReason::TooLong, c"too_long", "longer than max_message"),
    (DropReason::BadSource, c"bad_source", "the source cannot be answered"),
    (DropReason::GroupDestination, c"group_destination", "sent to a broadcast or multicast address"),
    (DropReason::Unnamed, c"unnamed", "sender has no absolute name"),
    (DropReason::PeerFull, c"peer_full", "the peer has not read earlier answers"),
    (DropReason::Amplified, c"amplified", "answer exceeds max_amplification"),
    (DropReason::QueueFull, c"queue_full", "too many delayed answers are waiting"),
    (DropReason::SendFailed, c"send_failed", "the answer could not be sent"),
    (DropReason::Undelivered, c"undelivered", "the connection broke before the answer was sent"),
    (DropReason::AnswerTooLong, c"answer_too_long", "the answer is longer than its socket can send"),
    (DropReason::Overloaded, c"overloaded", "too many messages wait for a transform that may block"),
    (
        DropReason::SocketFull,
        c"socket_full",
        "the socket's send buffer is full of answers that peers have not read",
    ),
    (DropReason::OwnAddress, c"own_address", "the source is a socket of this engine"),
    (DropReason::FromPort, c"from_port", "source port not in from_ports"),
    (DropReason::Denied, c"denied", "source not in allow, or in deny"),
    (DropReason::LoopMark, c"loop_mark", "answer of a server (loop_mark)"),
    (DropReason::Rate, c"rate", "over the rate"),
    (DropReason::Loop, c"loop", "answer that came back (loop_hops)"),
    (DropReason::ProxyHeader, c"proxy_header", "no valid PROXY header"),
    (DropReason::NotFromProxy, c"not_from_proxy", "sender not in proxy_from"),
];

reasons!(DropReason, DROP_REASONS, 22);

/// Why a connection was turned away before anything was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RejectReason {
    /// Its listener has `max_connections` already.
    MaxConnections,
    /// Its peer, or its peer's network, has `max_per_peer` already.
    MaxPerPeer,
    /// Its peer is in a network that `allow` and `deny` keep out.
    Denied,
    /// Its peer's user is not in `allow_uid`.
    AllowUid,
    /// The system does not say whose it is, and that is asked for.
    UnknownUser,
    /// It does not come from one of the proxies (`proxy_from`).
    NotFromProxy,
}

/// The reasons in the order of their numbers, which count from 1, with their names for programs and for people.
const REJECT_REASONS: [(RejectReason, &CStr, &str); 6] = [
    (RejectReason::MaxConnections, c"max_connections", "max_connections reached"),
    (RejectReason::MaxPerPeer, c"max_per_peer", "max_per_peer reached"),
    (RejectReason::Denied, c"denied", "peer not in allow, or in deny"),
    (RejectReason::AllowUid, c"allow_uid", "user not in allow_uid"),
    (RejectReason::UnknownUser, c"unknown_user", "the system does not say whose it is"),
    (RejectReason::NotFromProxy, c"not_from_proxy", "peer not in proxy_from"),
];

reasons!(RejectReason, REJECT_REASONS, 6);

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
    rejected: [Counter; RejectReason::ALL.len()],
}

impl Block {
    pub(crate) fn closed(&self, reason: CloseReason) {
        self.closed[reason as usize].add(1);
    }

    pub(crate) fn dropped(&self, reason: DropReason, messages: u64) {
        self.dropped[reason as usize].add(messages);
    }

    pub(crate) fn rejected(&self, reason: RejectReason) {
        self.rejected[reason as usize].add(1);
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
    /// Connections turned away before anything was read: `max_connections`, `max_per_peer`, `allow_uid`, `allow`, `deny` and
    /// `proxy_from`.
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
    rejected_by_reason: [u64; RejectReason::ALL.len()],
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

    /// How many connections were turned away for this reason.
    pub fn rejected_by(&self, reason: RejectReason) -> u64 {
        self.rejected_by_reason[reason as usize]
    }

    /// Sets how many connections ended for this reason, for figures that come from elsewhere.
    pub fn set_closed_by(&mut self, reason: CloseReason, count: u64) {
        self.closed_by_reason[reason as usize] = count;
    }

    /// Sets how many messages got no answer for this reason, for figures that come from elsewhere.
    pub fn set_dropped_by(&mut self, reason: DropReason, count: u64) {
        self.dropped_by_reason[reason as usize] = count;
    }

    /// Sets how many connections were turned away for this reason, for figures that come from elsewhere.
    pub fn set_rejected_by(&mut self, reason: RejectReason, count: u64) {
        self.rejected_by_reason[reason as usize] = count;
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
        for (sum, n) in self.rejected_by_reason.iter_mut().zip(other.rejected_by_reason) {
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
        for (sum, counter) in self.rejected_by_reason.iter_mut().zip(&block.rejected) {
            let n = counter.get();
            *sum += n;
            self.rejected += n;
        }
        self.accept_errors += block.accept_errors.get();
        self.accepted += block.accepted.get();
        self.open = self.accepted.saturating_sub(self.closed);
    }
}

/// The counters of closed listeners, so that an engine's figures never run backwards. Connections outlive their listener
/// and are still counted, so a block is added up once its last worker has dropped it.
#[derive(Debug, Default)]
pub(crate) struct ClosedListeners {
    finished: Stats,
    blocks: Vec<Arc<Block>>,
}

impl ClosedListeners {
    pub(crate) fn add(&mut self, blocks: &[Arc<Block>]) {
        self.add_up_finished();
        self.blocks.extend_from_slice(blocks);
    }

    pub(crate) fn stats(&mut self) -> Stats {
        self.add_up_finished();
        let mut sum = self.finished.clone();
        self.blocks.iter().for_each(|block| sum.add_block(block));
        sum
    }

    fn add_up_finished(&mut self) {
        let finished = &mut self.finished;
        self.blocks.retain_mut(|block| match Arc::get_mut(block) {
            Some(block) => {
                finished.add_block(block);
                false
            }
            None => true,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_have_numbers_and_names_of_their_own() {
        fn assert_distinct<T: Copy + fmt::Display>(
            all: &[T],
            name: fn(T) -> &'static str,
            number: fn(T) -> i32,
        ) {
            for (place, &reason) in all.iter().enumerate() {
                assert_eq!(number(reason), place as i32 + 1);
                assert!(name(reason).chars().all(|letter| letter.is_ascii_lowercase() || letter == '_'));
                let twins = all
                    .iter()
                    .filter(|other| name(**other) == name(reason) || other.to_string() == reason.to_string());
                assert_eq!(twins.count(), 1, "{reason}");
            }
        }
        assert_distinct(&CloseReason::ALL, CloseReason::name, CloseReason::number);
        assert_distinct(&DropReason::ALL, DropReason::name, DropReason::number);
        assert_eq!(
            CloseReason::from_number(CloseReason::LayerFailed.number()),
            Some(CloseReason::LayerFailed)
        );
        assert_eq!((CloseReason::from_number(0), DropReason::from_number(-1)), (None, None));
    }

    #[test]
    fn closed_listeners_stay_in_the_sum() {
        let mut closed = ClosedListeners::default();
        let block = Arc::new(Block::default());
        block.accepted.add(2);
        block.closed(CloseReason::PeerClosed);
        closed.add(&[Arc::clone(&block)]);
        assert_eq!((closed.stats().accepted, closed.stats().open), (2, 1));
        block.closed(CloseReason::Stopped);
        drop(block);
        let stats = closed.stats();
        assert_eq!((stats.accepted, stats.closed, stats.open), (2, 2, 0));
        assert_eq!(closed.blocks.len(), 0);
        assert_eq!(closed.stats(), stats);
    }
}

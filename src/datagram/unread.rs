//! Whose answers fill the send buffer of a unix datagram socket.
//!
//! Linux charges an answer to the socket that sent it until its peer has read it (sock(7), unix(7)), so one peer that reads
//! nothing could leave no room for anybody else. The kernel tells how much of the buffer is used, but not by whom. So
//! what is sent is noted by peer while the buffer is not nearly empty, and a peer that holds a quarter as much as is still
//! free gets no more: the dynamic thresholds of shared buffers in switches (Choudhury and Hahne, 1998), where the share of
//! each shrinks as more of them hold something.
//!
//! What disappears from the buffer was read by somebody, and is taken to be of those who were answered last: who reads does
//! so soon. Two peers that ask in turn can deceive that guess, so before a peer is refused the kernel is asked, not too
//! often, whose queues are empty (sock_diag(7), where it has that): these hold nothing, and the others what they were thought to hold.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::peer::Peer;
use crate::sys::SendBuffer;

/// Up to this part of the buffer nothing is noted, and the kernel not asked.
const LOW: usize = 8;
/// A peer may hold this part of what is free.
const SHARE: usize = 4;
/// What the kernel allocates beside the bytes of a datagram, and the longest one of which all is in one piece of a size
/// that is a power of two: `struct sk_buff` and `struct skb_shared_info`, and `SKB_MAX_ALLOC`. Rather too much: what was
/// charged too much is taken to be read.
const HEAD_BYTES: usize = 1024;
const PIECE_BYTES_MAX: usize = 16 * 1024;

/// Asking whose queues are empty takes a thirtieth of the time at most.
const QUEUES_LOOK_SHARE: u32 = 30;
const QUEUES_LOOK_MIN: Duration = Duration::from_millis(1);
/// Peers that are told apart.
const PEERS_MAX: usize = 1024;

/// The unread answers of one socket.
#[derive(Debug, Default)]
pub(crate) struct UnreadAnswers {
    /// Of the socket's send buffer; 0: not known yet.
    room: usize,
    /// What is unread at most: as of the last look, and what was sent since.
    unread: usize,
    /// What the kernel has not been told of yet, or has not answered: each answer, and their sum.
    unsent: VecDeque<usize>,
    unsent_bytes: usize,
    is_noted: bool,
    /// Also those that were taken to have read everything, rightly or not.
    peers: HashMap<Peer, PeerUnread>,
    last: u64,
    /// When the queues may be looked at again.
    next_look: Option<Instant>,
}

/// What one peer has not read, and the number of its last answer.
#[derive(Debug, Clone, Copy)]
struct PeerUnread {
    bytes: usize,
    last: u64,
}

/// The kernel, as far as it is asked.
pub(crate) trait Kernel {
    fn send_buffer(&self) -> Option<SendBuffer>;
    /// Whether something unread waits at each peer that it knows.
    fn queues(&self, each: impl FnMut(Peer, bool));
}

impl UnreadAnswers {
    /// Whether a peer holds so much that it is not answered now.
    pub(crate) fn is_over(&mut self, peer: &Peer, kernel: &impl Kernel) -> bool {
        if self.room > 0 && self.unread <= self.room / LOW {
            return false;
        }
        let Some(buffer) = kernel.send_buffer() else { return false };
        self.look(buffer);
        if self.is_too_much(peer) {
            self.look_at_queues(kernel);
        }
        self.is_too_much(peer)
    }

    /// The kernel has taken or refused the next answers.
    pub(crate) fn done(&mut self, answers: usize) {
        let done = self.unsent.drain(..answers.min(self.unsent.len()));
        self.unsent_bytes -= done.sum::<usize>();
    }

    /// An answer of so many bytes will be handed to the kernel.
    pub(crate) fn sent(&mut self, peer: &Peer, bytes: usize) {
        let cost = cost(bytes);
        self.unsent.push_back(cost);
        self.unsent_bytes += cost;
        self.unread += cost;
        if self.is_noted {
            self.hold(peer, cost);
        }
    }

    fn hold(&mut self, peer: &Peer, more: usize) {
        self.last += 1;
        let last = self.last;
        if let Some(unread) = self.peers.get_mut(peer) {
            *unread = PeerUnread { bytes: unread.bytes + more, last };
            return;
        }
        if self.peers.len() == PEERS_MAX {
            self.peers.retain(|_, unread| unread.bytes > 0);
        }
        // If there are still as many, nobody knows whose this is.
        if self.peers.len() < PEERS_MAX {
            self.peers.insert(peer.clone(), PeerUnread { bytes: more, last });
        }
    }

    fn held(&self, peer: &Peer) -> usize {
        self.peers.get(peer).map_or(0, |unread| unread.bytes)
    }

    fn is_too_much(&self, peer: &Peer) -> bool {
        let held = self.held(peer);
        held > 0 && held >= self.room.saturating_sub(self.unread) / SHARE
    }

    fn look(&mut self, buffer: SendBuffer) {
        self.room = buffer.size;
        let used = buffer.used + self.unsent_bytes;
        let mut read = self.unread.saturating_sub(used);
        self.unread = used;
        self.is_noted = used > self.room / LOW;
        if !self.is_noted {
            self.peers.clear();
            return;
        }
        while read > 0
            && let Some(latest) =
                self.peers.values_mut().filter(|unread| unread.bytes > 0).max_by_key(|unread| unread.last)
        {
            let taken = latest.bytes.min(read);
            read -= taken;
            latest.bytes -= taken;
        }
    }

    fn look_at_queues(&mut self, kernel: &impl Kernel) {
        let begin = Instant::now();
        if self.next_look.is_some_and(|next| begin < next) {
            return;
        }
        let mut wrong = 0;
        let mut waiting = Vec::new();
        kernel.queues(|peer, is_waiting| {
            // Others have queues too, which are not of our answers.
            let Some(unread) = self.peers.get_mut(&peer) else { return };
            if is_waiting {
                waiting.push(peer);
            } else {
                wrong += std::mem::take(&mut unread.bytes);
            }
        });
        for peer in &waiting {
            self.hold(peer, wrong / waiting.len());
        }
        let end = Instant::now();
        let rest = (end.duration_since(begin) * QUEUES_LOOK_SHARE).max(QUEUES_LOOK_MIN);
        self.next_look = end.checked_add(rest);
    }
}

/// What the kernel charges for an answer, or somewhat more.
fn cost(bytes: usize) -> usize {
    let in_piece = bytes.min(PIECE_BYTES_MAX);
    in_piece.next_power_of_two() + HEAD_BYTES + (bytes - in_piece).next_multiple_of(4096)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use super::*;

    const SIZE: usize = 212_992;

    fn peer(name: usize) -> Peer {
        Peer::Abstract(name.to_string().into_bytes())
    }

    /// What is unread in truth.
    #[derive(Default)]
    struct Truth {
        unread: HashMap<usize, usize>,
        /// Whether it tells of queues.
        tells: bool,
        looks: Cell<usize>,
    }

    impl Truth {
        fn used(&self) -> usize {
            self.unread.values().sum()
        }
    }

    impl Kernel for Truth {
        fn send_buffer(&self) -> Option<SendBuffer> {
            self.looks.set(self.looks.get() + 1);
            Some(SendBuffer { used: self.used(), size: SIZE })
        }

        fn queues(&self, mut each: impl FnMut(Peer, bool)) {
            if self.tells {
                (0..200).for_each(|name| each(peer(name), self.unread.contains_key(&name)));
            }
        }
    }

    /// The socket of a server, and who has read what.
    #[derive(Default)]
    struct Server {
        answers: UnreadAnswers,
        truth: Truth,
        unsent: Vec<(usize, usize)>,
        /// So many answers are handed over at once.
        batch: usize,
    }

    impl Server {
        /// Whether a request was answered.
        fn ask(&mut self, from: usize, bytes: usize) -> bool {
            // Time passes between two looks at the queues.
            self.answers.next_look = None;
            if self.answers.is_over(&peer(from), &self.truth) {
                return false;
            }
            self.answers.sent(&peer(from), bytes);
            self.unsent.push((from, bytes));
            self.unsent.len() < self.batch || self.send()
        }

        /// Hands over what is to be sent; whether there was room for all.
        fn send(&mut self) -> bool {
            let mut fits = true;
            for (to, bytes) in std::mem::take(&mut self.unsent) {
                fits &= self.deliver(to, bytes);
                self.answers.done(1);
            }
            fits
        }

        fn deliver(&mut self, from: usize, bytes: usize) -> bool {
            let fits = self.truth.used() < SIZE;
            if fits {
                *self.truth.unread.entry(from).or_default() += cost(bytes) - 100;
            }
            fits
        }

        fn read(&mut self, by: usize) {
            self.truth.unread.remove(&by);
        }
    }

    #[test]
    fn who_reads_is_answered_whatever_one_other_leaves_unread() {
        for (tells, bytes) in [(true, 1), (false, 1), (true, 1000), (false, 20_000), (true, 60_000)] {
            let mut server = Server::default();
            server.truth.tells = tells;
            let mut answered = 0;
            for _ in 0..1000 {
                answered += usize::from(server.ask(0, bytes));
                for reader in 1..4 {
                    assert!(server.ask(reader, 30_000), "after {answered} of {bytes}");
                    server.read(reader);
                }
            }
            assert!((1..200).contains(&answered), "{answered} of {bytes}");
            server.read(0);
            assert!(server.ask(0, bytes), "it has read");
        }
    }

    /// It asks whenever another has been answered and not read yet, so that what that one reads seems to be its own.
    #[test]
    fn who_asks_between_an_answer_and_its_reading_deceives_nobody() {
        let mut server = Server::default();
        server.truth.tells = true;
        let mut answered = 0;
        for round in 0..1000 {
            assert!(server.ask(1, 1000), "round {round}, after {answered}");
            answered += usize::from(server.ask(0, 1000));
            server.read(1);
        }
        assert!(answered < 100, "{answered}");
    }

    #[test]
    fn many_that_do_not_read_leave_room_for_who_does() {
        let mut server = Server::default();
        server.truth.tells = true;
        for round in 0..100 {
            for lazy in 0..20 {
                server.ask(lazy, 1000);
            }
            assert!(server.ask(100, 1000), "round {round}");
            server.read(100);
        }
    }

    #[test]
    fn the_kernel_is_not_asked_while_little_is_unread() {
        let mut server = Server::default();
        for _ in 0..SIZE / LOW / cost(64) {
            assert!(server.ask(0, 64));
        }
        assert_eq!(server.truth.looks.get(), 1, "how large the buffer is");
        assert!(server.answers.peers.is_empty());
    }

    /// What waits to be handed over with others is no more read than what the kernel has.
    #[test]
    fn answers_that_leave_together_count_at_once() {
        let mut server = Server { batch: 32, ..Server::default() };
        let answered = (0..32 * 100).filter(|_| server.ask(0, 1000)).count();
        assert!((20..100).contains(&answered), "{answered}");
        assert!(server.ask(1, 1000));
        assert!(server.send());
        assert_eq!(server.answers.unsent_bytes, 0);
    }

    /// Beyond so many peers nobody knows whose an answer is; who has read everything makes room for others.
    #[test]
    fn peers_that_are_told_apart_are_bounded() {
        let mut answers = UnreadAnswers { is_noted: true, room: SIZE, ..UnreadAnswers::default() };
        (0..=PEERS_MAX).for_each(|name| answers.sent(&peer(name), 1));
        assert_eq!((answers.peers.len(), answers.held(&peer(PEERS_MAX))), (PEERS_MAX, 0));
        answers.peers.values_mut().skip(1).for_each(|unread| unread.bytes = 0);
        answers.sent(&peer(PEERS_MAX), 1);
        assert_eq!((answers.peers.len(), answers.held(&peer(PEERS_MAX))), (2, cost(1)));
    }

    /// The queues are not looked at again before some time has passed.
    #[test]
    fn queues_are_looked_at_now_and_then() {
        let mut truth = Truth { tells: true, ..Truth::default() };
        let mut answers = UnreadAnswers::default();
        answers.sent(&peer(0), SIZE / 2);
        answers.done(1);
        truth.unread.insert(1, SIZE / 2);
        answers.is_noted = true;
        answers.hold(&peer(0), SIZE / 2);
        answers.next_look = Instant::now().checked_add(Duration::from_secs(3600));
        assert!(answers.is_over(&peer(0), &truth), "as far as anybody knows");
        answers.next_look = None;
        assert!(!answers.is_over(&peer(0), &truth), "its queue is empty");
        assert!(answers.next_look.is_some());
    }

    proptest! {
        #[test]
        fn what_is_noted_is_at_most_what_the_kernel_has(
            tells in any::<bool>(),
            steps in proptest::collection::vec((0..5usize, 0..70_000usize, any::<bool>()), 1..200),
        ) {
            let mut server = Server::default();
            server.truth.tells = tells;
            for (who, bytes, reads) in steps {
                server.ask(who, bytes);
                if reads {
                    server.read(who);
                }
                server.answers.look(SendBuffer { used: server.truth.used(), size: SIZE });
                prop_assert_eq!(server.answers.unread, server.truth.used());
                let held: usize = server.answers.peers.values().map(|unread| unread.bytes).sum();
                prop_assert!(held <= server.truth.used(), "{held} of {}", server.truth.used());
                prop_assert!(server.answers.peers.len() <= PEERS_MAX);
            }
        }
    }
}

//! Unsafe boundary: completions from io_uring.
//!
//! ```text
//!  a turn:  wait ── one io_uring_enter: submits what the last turn asked for, runs it, waits for one completion
//!           next ── Received: the buffer that the kernel chose ── send_from_recv_buf: the same buffer, at the next enter
//! ```
//!
//! The ring serves the sockets that it was given, under their tokens, and knows of no other driver. Whoever owns it
//! (`hybrid.rs`) asks [`serves`](Uring::serves) first, calls [`wait`](Uring::wait) only while there is something that the ring
//! serves, and takes over what it [releases](Released): a socket that is better off elsewhere, because its peer floods, because
//! it was asked for, or because it is a listener or a datagram socket to be drained, of which only calls can say that
//! nothing is left. A released socket has no request, and nothing of it is unreported. The ring also watches one foreign
//! descriptor for its owner, so that one wait covers both.
//!
//! - **Accepting** is one multishot request a listener. Who has connected is asked for afterwards: getpeername(2).
//! - **Receiving** from TCP is one multishot request a connection; the kernel takes a buffer from a shared ring only when
//!   bytes have come. Each invocation ends with a full buffer, so a peer that floods in full ones has one read a turn, like
//!   all others; of shorter reads the kernel may bring up to 32 at once, which are kept and reported one a turn. From unix
//!   streams it may bring as many full ones: a bounded multishot receive forgets bytes of theirs that are there already
//!   (Linux 6.18 does not continue it, and no more arrive to wake it). Whoever floods is read once a request from then on.
//!   The end of a stream may be lost where it comes with the first bytes of a receive; it is looked for once (`look_for_end`).
//! - **Datagrams and records** come by multishot recvmsg, each in a buffer of its own behind a head with its name and
//!   control messages (`datagrams.rs`, `replies.rs`).
//! - **Pausing** cancels the request. What comes before it has ended is copied out of the ring and kept, so that a peer
//!   that does not read costs bounded memory and nobody's buffers.
//! - **Sending** goes with the next enter, without a completion where nobody waits for its end (`submitted.rs`); where a turn
//!   has one completion only, by a call of its own, which is cheaper
//!   than two turns, and for records always, since each must leave by itself. It never waits in the kernel. What the socket
//!   does not take at once waits for a poll that says that it takes more: in its buffer where few do, else copied, so that
//!   there are always buffers to receive into.
//! - **Closing** cancels what is in flight. The token's index is free at once; descriptor and memory are kept until the last
//!   completion of the requests has come. The version in a request's name tells the tenants of an index apart.

mod accept;
mod buffers;
mod datagrams;
mod in_flight;
mod messages;
mod operations;
mod receiving;
mod recvmsg;
mod replies;
mod reply_in_flight;
mod ring;
mod sending;
mod slots;
mod sockets;
mod submitted;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use io_uring::{cqueue, opcode, types};

use self::buffers::{Buffers, Group};
use self::in_flight::Sending;
use self::messages::Messages;
use self::recvmsg::RecvMessage;
use self::ring::{Operation, Request, Ring, builder, on_helper_thread};
use self::slots::{DRAINING, Role, Slot};
use super::chunks::Chunks;
use super::{Close, Completion, Datagram, Progress, Token};
use crate::buffer::Outgoing;
use crate::limits::RING_REQUESTS;
use crate::peer::SocketKind;
use crate::sys::Descriptors;

/// How long closed sockets may take until the kernel has ended their requests, which it is asked to at once, and how often
/// that is looked at.
const CLOSED_WITHIN: Duration = Duration::from_millis(500);
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// Buffers of one connection that wait for their turn; with as many it is not received for it until they are gone.
const UNREPORTED_MAX: usize = 4;
/// A read that brings less is no part of a flood, and takes one off the score of its stream; one that fills its buffer adds
/// to it, whatever came between; with so much of it, it is one. Messages of 64 KiB and more are, after the second. Where the
/// stream stays with the ring all the same, only full reads in a row are.
const FLOOD_BYTES: usize = 4096;
const FLOOD_FULL_READ: u8 = 8;
const FLOOD_MIN: u8 = 16;
const FLOOD_MIN_TO_STAY: u8 = 32;
/// Completions that are taken out of the ring at once.
const REAPED_AT_ONCE: usize = 32;
/// Entries that a queue may keep room for after a burst.
const TRIMMED_ENTRIES: usize = 256;
/// What names and control messages take of a message's buffer, at most.
const MESSAGE_HEAD_BYTES: usize = 1024;

/// The driver.
#[derive(Debug)]
pub(crate) struct Uring {
    /// First, so that it is dropped before the memory that the kernel may still write to.
    ring: Ring,
    buffers: Buffers,
    /// Those for datagrams and records, and what they need beside.
    message_buffers: Buffers,
    messages: Messages,
    /// What became of answers to datagrams, and memory that comes back.
    answered: VecDeque<(Token, usize, io::Result<usize>, Vec<u8>)>,
    /// For each token's index what is known of its socket.
    slots: Chunks<Slot>,
    /// Closed sockets with requests that the kernel has not ended, under the names of those.
    closing: HashMap<u64, Slot>,
    /// Streams with a send that nobody waits for, and those of them whose send is pending after all.
    submitted: Vec<Token>,
    unsent: Vec<Token>,
    /// Memory of the worker's that is being sent.
    owned: Chunks<Outgoing>,
    /// Sockets that are here, listeners not counted.
    users: usize,
    /// Streams that flood are to go elsewhere.
    releases_floods: bool,
    released: Vec<Released>,
    descriptors: Arc<Descriptors>,
    /// The ring is enabled, which makes the calling thread its only user.
    is_enabled: bool,
    is_watching: bool,
    /// The foreign descriptor has become readable.
    has_seen: bool,
    arrived: VecDeque<Arrived>,
    /// Slots with something to do in the next turn, and how many of them belong to this one.
    next_turn: VecDeque<Token>,
    budget: usize,
    turn: u16,
    /// This turn has no more than one completion.
    is_alone: bool,
    recv: RecvSource,
    scratch: Vec<u8>,
    /// What is to become of the next answer to a datagram that comes back from the kernel.
    #[cfg(test)]
    fail_next_answer: Option<i32>,
}

/// A socket that the ring does not serve any more.
#[derive(Debug)]
pub(crate) struct Released {
    pub(crate) token: Token,
    pub(crate) socket: OwnedFd,
    pub(crate) kind: ReleasedKind,
    /// It was being drained.
    pub(crate) is_draining: bool,
    /// What one read may bring.
    pub(crate) read_bytes_max: usize,
    /// What is left of a stream's send, if there is one; as many bytes as the memory has are what was asked for.
    pub(crate) outgoing: Option<Outgoing>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReleasedKind {
    Listener,
    Stream(SocketKind),
    Datagrams { reports: bool },
}

/// A completion as the ring brought it.
#[derive(Debug, Clone, Copy)]
struct Arrived {
    request: Request,
    result: i32,
    flags: u32,
}

/// Where the received bytes are.
#[derive(Debug)]
enum RecvSource {
    Nothing,
    Buffer { id: u16, len: usize },
    Record { id: u16, start: usize, end: usize },
    Message(RecvMessage),
    Bytes(Vec<u8>),
    Scratch { len: usize },
}

impl Uring {
    /// A ring of its own. It belongs to the thread that first waits with it. `descriptors` gets what it has open.
    pub(crate) fn new(releases_floods: bool, descriptors: &Arc<Descriptors>) -> io::Result<Uring> {
        let (ring, buffers, message_buffers) = on_helper_thread(|| {
            let ring = Ring(builder().setup_r_disabled().build(RING_REQUESTS)?);
            let mut buffers = Buffers::new(Group::STREAMS)?;
            buffers.register(&ring.0)?;
            let mut message_buffers = Buffers::new(Group::MESSAGES)?;
            message_buffers.register(&ring.0)?;
            Ok((ring, buffers, message_buffers))
        })?;
        descriptors.add(ring.0.as_raw_fd());
        Ok(Uring {
            ring,
            buffers,
            message_buffers,
            messages: Messages::new(),
            answered: VecDeque::new(),
            slots: Chunks::new(),
            closing: HashMap::new(),
            submitted: Vec::new(),
            unsent: Vec::new(),
            owned: Chunks::new(),
            users: 0,
            releases_floods,
            released: Vec::new(),
            descriptors: Arc::clone(descriptors),
            is_enabled: false,
            is_watching: false,
            has_seen: false,
            arrived: VecDeque::new(),
            next_turn: VecDeque::new(),
            budget: 0,
            turn: 0,
            is_alone: false,
            recv: RecvSource::Nothing,
            scratch: Vec::new(),
            #[cfg(test)]
            fail_next_answer: None,
        })
    }

    /// Why this driver cannot be had here, if it cannot.
    pub(crate) fn probe() -> io::Result<()> {
        ring::probe()
    }

    /// Whether it serves nothing and has nothing to report, so that there is nothing to wait for.
    pub(crate) fn is_idle(&self) -> bool {
        !self.has_slots() && self.arrived.is_empty() && self.answered.is_empty() && self.released.is_empty()
    }

    /// Whether the next turn has work without waiting.
    pub(crate) fn has_leftovers(&self) -> bool {
        !self.next_turn.is_empty() || !self.arrived.is_empty() || !self.answered.is_empty()
    }

    /// Whether the last wait found anything of its own.
    pub(crate) fn has_found(&self) -> bool {
        !self.arrived.is_empty() || !self.unsent.is_empty() || !self.answered.is_empty() || self.budget > 0
    }

    /// How many sockets it serves, listeners not counted.
    pub(crate) fn users(&self) -> usize {
        self.users
    }

    /// Takes turns of what is gone: to be called where there is no turn, because nothing is served.
    pub(crate) fn rest(&mut self) {
        self.recycle_recv_buf();
        self.next_turn.clear();
        self.budget = 0;
    }

    /// Waits until something has happened or the time is up, or until `watched` is readable, which
    /// [`take_seen`](Self::take_seen) then says once. It is to be the same descriptor each time.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>, watched: RawFd) -> io::Result<()> {
        self.recycle_recv_buf();
        self.turn = self.turn.wrapping_add(1);
        if !self.is_enabled {
            self.ring.0.submitter().register_enable_rings()?;
            self.is_enabled = true;
            // What was begun before is still to be asked for.
            for index in self.slots.indices() {
                if let Some(slot) = self.slots.get(index) {
                    self.receive_or_fail(Token::new(index as u32, slot.version));
                }
            }
        }
        self.refill();
        self.watch(watched)?;
        // The worker counts what was submitted as soon as it has left.
        let is_at_once = self.has_leftovers() || !self.submitted.is_empty();
        let timeout = if is_at_once { Some(Duration::ZERO) } else { timeout };
        let result = self.ring.enter(timeout);
        self.reap();
        self.end_submitted();
        self.is_alone = self.arrived.len() + self.next_turn.len() <= 1;
        self.budget = self.next_turn.len();
        result
    }

    /// Whether a burst is over that has left more memory than is needed.
    pub(crate) fn is_bloated(&self) -> bool {
        self.buffers.is_bloated() || self.message_buffers.is_bloated()
    }

    /// Gives back memory that only a burst has needed; to be asked about once a second.
    pub(crate) fn trim(&mut self) {
        // A buffer in the ring is empty as far as we know: not where there are completions that we have not seen.
        if self.ring.0.completion().is_empty() && !self.ring.0.submission().cq_overflow() {
            self.buffers.trim();
            self.message_buffers.trim();
        }
        if self.closing.is_empty() {
            self.closing.shrink_to(TRIMMED_ENTRIES);
        }
        self.arrived.shrink_to(TRIMMED_ENTRIES);
        self.next_turn.shrink_to(TRIMMED_ENTRIES);
        self.submitted.shrink_to(TRIMMED_ENTRIES);
        self.answered.shrink_to(TRIMMED_ENTRIES);
        self.messages.trim();
    }

    /// Whether the watched descriptor was seen readable since this was last asked.
    pub(crate) fn take_seen(&mut self) -> bool {
        std::mem::take(&mut self.has_seen)
    }

    /// The completions of this turn, as [`Driver::next`](super::Driver::next) gives them.
    pub(crate) fn next(&mut self) -> Option<Completion<OwnedFd>> {
        if !matches!(self.recv, RecvSource::Nothing) {
            self.send_replies();
            self.recycle_recv_buf();
        }
        if let Some((token, answers, result, memory)) = self.answered.pop_front() {
            return Some(Completion::Answered { token, answers, result, memory });
        }
        while let Some(arrived) = self.arrived.pop_front() {
            if let Some(token) = self.take_plain_read(arrived) {
                return Some(Completion::Received { token, truncated: false });
            }
            if let Some(completion) = self.take_arrived(arrived) {
                return Some(completion);
            }
        }
        while self.budget > 0 {
            self.budget -= 1;
            let token = self.next_turn.pop_front()?;
            if let Some(completion) = self.step(token) {
                return Some(completion);
            }
        }
        None
    }

    /// A socket that it serves no more. To be asked after `next` has given `None`.
    pub(crate) fn take_released(&mut self) -> Option<Released> {
        self.released.pop()
    }

    /// Takes the ring's completions. Those of closed slots are dealt with at once.
    fn reap(&mut self) {
        let mut room = [const { MaybeUninit::uninit() }; REAPED_AT_ONCE];
        loop {
            let entries = self.ring.0.completion().fill(&mut room);
            if entries.is_empty() {
                return;
            }
            for entry in entries {
                if let Some(request) = Request::of(entry.user_data()) {
                    self.reap_one(Arrived { request, result: entry.result(), flags: entry.flags() });
                }
            }
        }
    }

    #[inline]
    fn reap_one(&mut self, arrived: Arrived) {
        let request = arrived.request;
        if let Some(id) = arrived.buffer() {
            self.buffers_of(request.operation).taken(id, usize::try_from(arrived.result).unwrap_or(0));
        }
        match request.operation {
            Operation::Reply => self.take_answered(request.index, arrived),
            Operation::Accept if arrived.result >= 0 => {
                // For a child of fork(2), before anybody has taken it.
                self.descriptors.add(arrived.result);
                self.keep_arrived(arrived);
            }
            Operation::Watch => {
                self.has_seen = true;
                self.is_watching &= cqueue::more(arrived.flags);
            }
            Operation::Cancel => {}
            Operation::Send => {
                self.note_short(request);
                self.keep_arrived(arrived);
            }
            Operation::Receive | Operation::ReceiveMessage | Operation::Accept | Operation::Writable => {
                self.keep_arrived(arrived);
            }
        }
    }

    fn keep_arrived(&mut self, arrived: Arrived) {
        if self.closing.is_empty() || !self.take_closed(arrived) {
            self.arrived.push_back(arrived);
        }
    }

    /// Those that an operation takes its buffer from.
    fn buffers_of(&mut self, operation: Operation) -> &mut Buffers {
        match operation {
            Operation::ReceiveMessage => &mut self.message_buffers,
            _ => &mut self.buffers,
        }
    }

    #[inline]
    fn take_arrived(&mut self, arrived: Arrived) -> Option<Completion<OwnedFd>> {
        let request = arrived.request;
        let slot = self.slots.get(request.index as usize).filter(|slot| request.is_of(slot.version));
        let Some(slot) = slot else {
            // An earlier tenant.
            if !self.take_closed(arrived) {
                self.forget(arrived);
            }
            return None;
        };
        let token = Token::new(request.index, slot.version);
        match request.operation {
            Operation::Receive => self.take_received(token, arrived),
            Operation::ReceiveMessage => self.take_message(token, arrived),
            Operation::Accept => self.take_accepted(token, arrived),
            Operation::Send => self.take_sent(token, arrived),
            Operation::Writable => self.take_writable(token),
            Operation::Reply | Operation::Watch | Operation::Cancel => None,
        }
    }

    /// Takes a completion of a closed socket's request, if it is one.
    fn take_closed(&mut self, arrived: Arrived) -> bool {
        let Some(slot) = self.closing.get_mut(&arrived.request.socket_name()) else { return false };
        let sends = matches!(arrived.request.operation, Operation::Send | Operation::Writable);
        if sends {
            let sending = std::mem::replace(&mut slot.sending, Sending::Nothing);
            self.forget_send(sending);
        }
        self.forget(arrived);
        if sends || !cqueue::more(arrived.flags) {
            self.end_request(arrived.request);
        }
        true
    }

    fn forget(&mut self, arrived: Arrived) {
        if let Some(id) = arrived.buffer() {
            self.buffers_of(arrived.request.operation).give_back(id);
        }
        if arrived.request.operation == Operation::Accept {
            drop(self.accepted_by(arrived));
        }
    }

    /// Takes back what was received and not sent.
    fn recycle_recv_buf(&mut self) {
        match std::mem::replace(&mut self.recv, RecvSource::Nothing) {
            RecvSource::Buffer { id, .. } => self.buffers.give_back(id),
            RecvSource::Record { id, .. } => self.message_buffers.give_back(id),
            RecvSource::Message(received) => self.free_message_buffer(received.id),
            RecvSource::Nothing | RecvSource::Bytes(_) | RecvSource::Scratch { .. } => {}
        }
    }

    /// Asks the kernel to say when a foreign descriptor is readable.
    fn watch(&mut self, watched: RawFd) -> io::Result<()> {
        if !self.is_watching {
            let poll = opcode::PollAdd::new(types::Fd(watched), libc::POLLIN as u32).multi(true);
            self.ring.push(poll.build().user_data(Request::plain(Operation::Watch, 0).name()))?;
            self.is_watching = true;
        }
        Ok(())
    }

    /// Gives a socket up of which nothing is in flight.
    fn release(&mut self, token: Token) {
        let Some(role) = self.slot(token).map(|slot| slot.role) else { return };
        let kind = match role {
            Role::Stream => ReleasedKind::Stream(SocketKind::Tcp),
            Role::UnixStream => ReleasedKind::Stream(SocketKind::UnixStream),
            Role::Records { .. } => ReleasedKind::Stream(SocketKind::UnixSeqpacket),
            Role::Listener => ReleasedKind::Listener,
            Role::Datagrams { .. } => {
                let reports = self.messages.socket(role).is_some_and(|socket| socket.reports);
                ReleasedKind::Datagrams { reports }
            }
        };
        let Some(mut slot) = self.take_slot(token) else { return };
        let outgoing = self.take_outgoing(std::mem::replace(&mut slot.sending, Sending::Nothing));
        self.forget_slot(&slot);
        let Slot { socket, flags, read_bytes_max, .. } = slot;
        let is_draining = flags.has(DRAINING);
        let read_bytes_max = read_bytes_max as usize;
        self.released.push(Released { token, socket, kind, is_draining, read_bytes_max, outgoing });
    }
}

impl Arrived {
    /// The buffer that the kernel chose.
    fn buffer(&self) -> Option<u16> {
        cqueue::buffer_select(self.flags)
    }
}

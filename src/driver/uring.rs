//! DOOR: completions from io_uring.
//!
//! ```text
//!  a turn:  wait ── one io_uring_enter: submits what the last turn asked for, runs it, waits for one completion
//!           next ── Received: the buffer that the kernel chose ── send_from_recv_buf: the same buffer, at the next enter
//! ```
//!
//! The driver contains a [`Epoll`], whose epoll instance the ring polls. It serves what is not the ring's [`Share`]
//! (`sharing.rs`), sockets that are being emptied (only a call can say that nothing is left), and streams and messages whose
//! lengths do not suit the ring's buffers. While nothing is with the ring, it is not used at all.
//!
//! - **Accepting** is one multishot request a listener. Who has connected is asked for afterwards: getpeername(2).
//! - **Receiving** from TCP is one multishot request a connection; the kernel takes a buffer from a shared ring only when
//!   bytes have come. Each invocation ends with a full buffer, so a peer that floods in full ones has one read a turn, like
//!   all others; of shorter reads the kernel may bring up to 32 at once, which are held and told one a turn. From unix
//!   streams it may bring as many full ones: a bounded multishot receive forgets bytes of theirs that are there already
//!   (Linux 6.18 does not continue it, and no more arrive to wake it). Whoever floods is read once a request from then on.
//! - **Datagrams and records** come by multishot recvmsg, each in a buffer of its own behind a head with its name and
//!   control messages (`messages.rs`).
//! - **Pausing** cancels the request. What comes before it has ended is copied out of the ring and held, so that a peer
//!   that does not read costs bounded memory and nobody's buffers.
//! - **Sending** goes with the next enter; where a turn has one completion only, by a call of its own, which is cheaper
//!   than two turns, and for records always, since each must leave by itself. It never waits in the kernel. What the socket
//!   does not take at once waits for a poll that says that it takes more: in its buffer where few do, else copied, so that
//!   there are always buffers to receive into.
//! - **Closing** cancels what is in flight. A slot is only reused, its descriptor and memory only let go of, when the
//!   last completion of its requests has come; a generation in the request's name tells its tenants apart.

mod accepting;
mod buffers;
mod messages;
mod receiving;
mod ring;
mod sending;
mod sharing;
mod slots;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use io_uring::{cqueue, opcode, types};
use mio::Waker;
use socket2::SockRef;

use self::buffers::{Buffers, Group};
use self::messages::{LentMessage, Messages};
use self::ring::{Operation, Request, Ring, aside, builder, quietly};
use super::epoll::Epoll;
use super::{Close, Completion, Driver, Progress, RecvBuf, Share, Token};
use crate::buffer::{Outgoing, Pool};
use crate::limits::{
    HEADROOM_BYTES, RING_BUFFER_BYTES, RING_HEADROOM_BYTES, RING_MESSAGE_BUFFER_BYTES, RING_REQUESTS,
};
use crate::peer::{Peer, SocketKind};
use crate::sys::{self, Descriptors, Reply, ReplyTo};
use crate::timer::Moment;

/// No slot.
const NOWHERE: u32 = u32::MAX;
/// How long closed sockets may take until the kernel has let go of them, which it is asked to at once, and how often it
/// is looked after.
const LETTING_GO: Duration = Duration::from_millis(500);
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// Buffers of one connection that wait for their turn; with as many it is not received for it until they are gone.
const HELD_MAX: usize = 4;
/// A read that brings less is no part of a flood; so many full buffers in a row are one.
const FLOOD_BYTES: usize = 4096;
const FLOOD_READS: u8 = 4;
/// Records of one seqpacket connection that are told in a turn before the others have theirs.
const RECORD_BURST: u8 = 16;
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
    slots: Vec<Place>,
    free: Vec<u32>,
    /// For each token's index the slot that it means.
    routes: Vec<u32>,
    epoll: Epoll,
    share: Share,
    /// Streams that `epoll` serves while they are few.
    few: Vec<(Token, SocketKind, usize)>,
    /// All listeners. They are where connections will be: here while the ring has anything else.
    listeners: Vec<Token>,
    /// Sockets that are here, listeners not counted.
    users: usize,
    /// The ring is enabled, which makes the calling thread its only user.
    is_enabled: bool,
    /// `epoll`'s epoll instance is being polled.
    is_polling: bool,
    epoll_has_events: bool,
    /// `epoll` has completions in this turn.
    epoll_has_turn: bool,
    arrived: VecDeque<Arrived>,
    /// Slots with something to do in the next turn, and how many of them belong to this one.
    again: VecDeque<u32>,
    budget: usize,
    turn: u32,
    /// This turn has no more than one completion.
    is_alone: bool,
    lent: Source,
    scratch: Vec<u8>,
    /// What is to become of the next answer to a datagram that comes back from the kernel.
    #[cfg(test)]
    fail_next_answer: Option<i32>,
}

/// A completion as the ring brought it.
#[derive(Debug, Clone, Copy)]
struct Arrived {
    request: Request,
    result: i32,
    flags: u32,
}

#[derive(Debug)]
struct Place {
    /// How often the place was used before, in 24 bits.
    generation: u32,
    slot: Option<Slot>,
}

#[derive(Debug)]
struct Slot {
    socket: OwnedFd,
    token: Token,
    role: Role,
    /// What one read may bring, for readiness.
    read_bytes_max: u32,
    /// Requests whose last completion has not come.
    requests: u16,
    /// The receive is one of them.
    is_receiving: bool,
    is_cancelling: bool,
    /// The worker has closed it.
    is_closed: bool,
    is_paused: bool,
    /// The kernel will bring nothing more.
    has_ended: bool,
    is_draining: bool,
    /// It is to go to readiness.
    is_leaving: bool,
    /// The peer sends faster than it is read: a receive brings one buffer and is over, lest many come in a turn, of which
    /// all but the first would have to be held.
    is_flooding: bool,
    /// Reads in a row that filled their buffers.
    full_reads: u8,
    /// In the queue for the next turn.
    is_queued: bool,
    /// The turn of the last read, and how many it has had in it.
    read_in: u32,
    reads: u8,
    /// What came while it could not be reported.
    held: VecDeque<Held>,
    sending: Sending,
}

/// What a slot's socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Stream,
    /// A receive brings one buffer and is over.
    UnixStream,
    /// A seqpacket connection, and the place of its limit.
    Records {
        limit: u16,
    },
    Listener,
    Datagrams {
        port: u16,
    },
}

#[derive(Debug)]
enum Held {
    /// A buffer of the ring; at most [`HELD_MAX`] of a connection.
    Ring {
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

#[derive(Debug)]
enum Sending {
    Nothing,
    /// A part of a buffer of the ring; `bytes` are what the worker asked for. Where it `waits`, the socket has not taken
    /// all of it.
    Ring {
        id: u16,
        start: u32,
        len: u32,
        bytes: u32,
        waits: bool,
    },
    /// `bytes` are what the worker asked for.
    Owned {
        outgoing: Outgoing,
        bytes: usize,
    },
}

/// Where the lent bytes are.
#[derive(Debug)]
enum Source {
    Nothing,
    Epoll,
    Ring { id: u16, len: usize },
    Record { id: u16, start: usize, end: usize },
    Message(LentMessage),
    Bytes(Vec<u8>),
    Scratch { len: usize },
}

impl Uring {
    /// A driver, and what wakes it from another thread. It belongs to the thread that first waits with it. What is not
    /// the ring's share is left to readiness.
    pub(crate) fn new(share: Share) -> io::Result<(Uring, Arc<Waker>)> {
        let (ring, buffers, message_buffers) = aside(|| {
            let ring = Ring(builder().setup_r_disabled().build(RING_REQUESTS)?);
            let mut buffers = Buffers::new(Group::STREAMS)?;
            buffers.register(&ring.0)?;
            let mut message_buffers = Buffers::new(Group::MESSAGES)?;
            message_buffers.register(&ring.0)?;
            Ok((ring, buffers, message_buffers))
        })?;
        let (epoll, waker) = Epoll::new()?;
        epoll.descriptors().add(ring.0.as_raw_fd());
        let uring = Uring {
            ring,
            buffers,
            message_buffers,
            messages: Messages::new(),
            answered: VecDeque::new(),
            slots: Vec::new(),
            free: Vec::new(),
            routes: Vec::new(),
            epoll,
            share,
            few: Vec::new(),
            listeners: Vec::new(),
            users: 0,
            is_enabled: false,
            is_polling: false,
            epoll_has_events: false,
            epoll_has_turn: false,
            arrived: VecDeque::new(),
            again: VecDeque::new(),
            budget: 0,
            turn: 0,
            is_alone: false,
            lent: Source::Nothing,
            scratch: Vec::new(),
            #[cfg(test)]
            fail_next_answer: None,
        };
        Ok((uring, waker))
    }

    /// Why this driver cannot be had here, if it cannot.
    pub(crate) fn probe() -> Result<(), String> {
        ring::probe()
    }

    pub(crate) fn poll_fd(&self) -> RawFd {
        self.epoll.poll_fd()
    }

    pub(crate) fn descriptors(&self) -> &Arc<Descriptors> {
        self.epoll.descriptors()
    }

    pub(crate) fn has_leftovers(&self) -> bool {
        !self.again.is_empty()
            || !self.arrived.is_empty()
            || !self.answered.is_empty()
            || self.epoll_has_events
            || self.epoll.has_leftovers()
    }

    /// Takes the ring's completions. Those of closed slots are dealt with at once.
    fn reap(&mut self) {
        loop {
            let Some(entry) = self.ring.0.completion().next() else { return };
            let Some(request) = Request::of(entry.user_data()) else { continue };
            let arrived = Arrived { request, result: entry.result(), flags: entry.flags() };
            if arrived.buffer().is_some() {
                self.buffers_of(request.operation).taken(usize::try_from(arrived.result).unwrap_or(0));
            }
            match request.operation {
                Operation::Answer => self.take_answered(request.slot, arrived),
                Operation::Accept if arrived.result >= 0 => {
                    // For a child of fork(2), before anybody has taken it.
                    self.epoll.descriptors().add(arrived.result);
                    self.keep_arrived(arrived);
                }

                Operation::Poll => {
                    self.epoll_has_events = true;
                    self.is_polling &= cqueue::more(arrived.flags);
                }
                Operation::Cancel => {}
                Operation::Receive
                | Operation::ReceiveMessage
                | Operation::Accept
                | Operation::Send
                | Operation::Writable => self.keep_arrived(arrived),
            }
        }
    }

    fn keep_arrived(&mut self, arrived: Arrived) {
        match self.slot_at(arrived.request.slot) {
            Some(Slot { is_closed: true, .. }) => drop(self.take_arrived(arrived)),
            _ => self.arrived.push_back(arrived),
        }
    }

    /// Those that an operation takes its buffer from.
    fn buffers_of(&mut self, operation: Operation) -> &mut Buffers {
        match operation {
            Operation::ReceiveMessage => &mut self.message_buffers,
            _ => &mut self.buffers,
        }
    }

    fn take_arrived(&mut self, arrived: Arrived) -> Option<Completion<OwnedFd>> {
        let index = arrived.request.slot;
        let is_of = |place: &Place| place.generation == arrived.request.generation && place.slot.is_some();
        if !self.slots.get(index as usize).is_some_and(is_of) {
            // An earlier tenant, of which only a buffer is left.
            self.forget(arrived);
            return None;
        }
        match arrived.request.operation {
            Operation::Receive => self.take_received(index, arrived),
            Operation::ReceiveMessage => self.take_message(index, arrived),
            Operation::Accept => self.take_accepted(index, arrived),
            Operation::Send => self.take_sent(index, arrived),
            Operation::Writable => self.take_writable(index),
            Operation::Answer | Operation::Poll | Operation::Cancel => None,
        }
    }

    /// Takes what has arrived for a closed slot, of which nothing is told.
    fn take_all_arrived(&mut self, index: u32) {
        for _ in 0..self.arrived.len() {
            match self.arrived.pop_front() {
                Some(arrived) if arrived.request.slot == index => drop(self.take_arrived(arrived)),
                Some(arrived) => self.arrived.push_back(arrived),
                None => break,
            }
        }
    }

    fn forget(&mut self, arrived: Arrived) {
        if let Some(id) = arrived.buffer() {
            self.buffers_of(arrived.request.operation).give_back(id);
        }
        if arrived.request.operation == Operation::Accept {
            drop(self.accepted_by(arrived));
        }
    }

    /// Takes back what was lent and not sent.
    fn end_lending(&mut self) {
        match std::mem::replace(&mut self.lent, Source::Nothing) {
            Source::Ring { id, .. } => self.buffers.give_back(id),
            Source::Record { id, .. } => self.message_buffers.give_back(id),
            Source::Message(lent) => self.free_message_buffer(lent.id),
            Source::Nothing | Source::Epoll | Source::Bytes(_) | Source::Scratch { .. } => {}
        }
    }

    fn wait_epoll(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.epoll_has_turn = true;
        let result = self.epoll.wait(timeout);
        // The ring tells each edge once: what did not fit is to be fetched without being told.
        self.epoll_has_events = result.is_err() || self.epoll.has_more_events();
        result
    }

    /// Asks the kernel to say when `epoll` has something to do.
    fn watch_epoll(&mut self) -> io::Result<()> {
        if !self.is_polling {
            let request = Request { operation: Operation::Poll, slot: 0, generation: 0 };
            let poll = opcode::PollAdd::new(types::Fd(self.epoll.poll_fd()), libc::POLLIN as u32).multi(true);
            self.ring.push(poll.build().user_data(request.name()))?;
            self.is_polling = true;
        }
        Ok(())
    }
}

impl Driver for Uring {
    type Socket = OwnedFd;

    fn now(&self) -> Moment {
        self.epoll.now()
    }

    fn read_clock(&self) -> Moment {
        self.epoll.read_clock()
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.end_lending();
        self.turn = self.turn.wrapping_add(1);
        if !self.has_slots() && self.arrived.is_empty() && self.answered.is_empty() {
            // Whatever happens, happens to `epoll`. Places in the queue were those of slots that are gone.
            self.again.clear();
            return self.wait_epoll(if self.has_leftovers() { Some(Duration::ZERO) } else { timeout });
        }
        if !self.is_enabled {
            self.ring.0.submitter().register_enable_rings()?;
            self.is_enabled = true;
            // What was begun before is still to be asked for.
            (0..self.slots.len()).for_each(|index| self.receive_or_fail(index as u32));
        }
        self.feed();
        let timeout = if self.has_leftovers() { Some(Duration::ZERO) } else { timeout };
        self.watch_epoll()?;
        let result = self.ring.enter(timeout);
        self.reap();
        self.is_alone = self.arrived.len() + self.again.len() <= 1;
        self.budget = self.again.len();
        if self.epoll_has_events || self.epoll.has_leftovers() {
            self.wait_epoll(Some(Duration::ZERO))?;
        } else {
            self.epoll.set_now();
        }
        result
    }

    fn has_found(&self) -> bool {
        !self.arrived.is_empty()
            || !self.answered.is_empty()
            || self.budget > 0
            || (self.epoll_has_turn && self.epoll.has_found())
    }

    fn next(&mut self) -> Option<Completion<OwnedFd>> {
        if let Some(completion) = self.continue_message() {
            return Some(completion);
        }
        self.end_lending();
        if let Some((token, answers, result, memory)) = self.answered.pop_front() {
            return Some(Completion::Answered { token, answers, result, memory });
        }
        if self.epoll_has_turn {
            if let Some(completion) = self.epoll.next() {
                self.lent = Source::Epoll;
                return Some(completion);
            }
            self.epoll_has_turn = false;
        }
        while let Some(arrived) = self.arrived.pop_front() {
            if let Some(completion) = self.take_arrived(arrived) {
                return Some(completion);
            }
        }
        while self.budget > 0 {
            self.budget -= 1;
            let index = self.again.pop_front()?;
            if let Some(completion) = self.step(index) {
                return Some(completion);
            }
        }
        None
    }

    fn add_listener(&mut self, token: Token, socket: OwnedFd) -> io::Result<()> {
        self.listeners.push(token);
        if self.users == 0 && self.share != Share::All {
            return self.epoll.add_listener(token, socket);
        }
        self.begin(token, socket, Role::Listener, 0)
    }

    fn peer_user(&self, socket: &OwnedFd) -> io::Result<u32> {
        sys::peer_user(socket.as_fd())
    }

    fn add_stream(
        &mut self,
        token: Token,
        socket: OwnedFd,
        kind: SocketKind,
        read_bytes_max: usize,
    ) -> io::Result<()> {
        let role = match kind {
            SocketKind::UnixSeqpacket => {
                let fits = read_bytes_max + MESSAGE_HEAD_BYTES <= RING_MESSAGE_BUFFER_BYTES;
                let limit = if fits { self.messages.limit_of_records(read_bytes_max) } else { None };
                let Some(limit) = limit else {
                    return self.epoll.add_stream(token, socket, kind, read_bytes_max);
                };
                sys::tell_empty_records(socket.as_fd())?;
                self.migrate_to_ring();
                return self.begin(token, socket, Role::Records { limit }, read_bytes_max);
            }
            SocketKind::UnixStream => Role::UnixStream,
            _ => Role::Stream,
        };
        if read_bytes_max < RING_BUFFER_BYTES {
            return self.epoll.add_stream(token, socket, kind, read_bytes_max);
        }
        if self.is_for_few() {
            self.migrate_listeners_to_epoll();
            self.epoll.add_stream(token, socket, kind, read_bytes_max)?;
            self.few.push((token, kind, read_bytes_max));
            return Ok(());
        }
        if kind == SocketKind::UnixStream {
            // Unlike TCP's, it is not inherited from the listener.
            sys::keep_urgent_inline(socket.as_fd())?;
        }
        self.migrate_to_ring();
        self.begin(token, socket, role, read_bytes_max)
    }

    fn add_datagram_socket(
        &mut self,
        token: Token,
        socket: OwnedFd,
        message_bytes_max: usize,
        destinations: bool,
    ) -> io::Result<()> {
        let fits = message_bytes_max + MESSAGE_HEAD_BYTES <= RING_MESSAGE_BUFFER_BYTES;
        if !fits {
            return self.epoll.add_datagram_socket(token, socket, message_bytes_max, destinations);
        }
        self.migrate_to_ring();
        let is_coalesced = sys::receive_coalesced(socket.as_fd());
        match self.messages.open(message_bytes_max, destinations, is_coalesced) {
            Some(port) => self.begin(token, socket, Role::Datagrams { port }, message_bytes_max),
            None => self.epoll.add_datagram_socket(token, socket, message_bytes_max, destinations),
        }
    }

    fn recv_buf(&mut self) -> RecvBuf<'_> {
        match &mut self.lent {
            Source::Nothing => RecvBuf { buffer: &mut [], start: 0 },
            Source::Epoll => self.epoll.recv_buf(),
            Source::Ring { id, len } => {
                RecvBuf { buffer: self.buffers.bytes(*id, *len), start: RING_HEADROOM_BYTES }
            }
            Source::Record { id, start, end } => {
                let buffer = self.message_buffers.bytes(*id, end.saturating_sub(RING_HEADROOM_BYTES));
                RecvBuf { buffer, start: *start }
            }
            Source::Message(LentMessage { id, len, start, end, .. }) => {
                let buffer = self.message_buffers.bytes(*id, *len);
                RecvBuf { buffer: buffer.get_mut(*start..*end).unwrap_or_default(), start: 0 }
            }
            Source::Bytes(bytes) => RecvBuf { buffer: bytes, start: 0 },
            Source::Scratch { len } => {
                let buffer = self.scratch.get_mut(..HEADROOM_BYTES + *len).unwrap_or_default();
                RecvBuf { buffer, start: HEADROOM_BYTES }
            }
        }
    }

    fn send_from_recv_buf(&mut self, token: Token, range: Range<usize>, pool: &mut Pool) -> Progress {
        let Some(index) = self.place_of(token) else {
            return self.epoll.send_from_recv_buf(token, range, pool);
        };
        match std::mem::replace(&mut self.lent, Source::Nothing) {
            Source::Ring { id, .. } => {
                let (start, len) = (range.start as u32, (range.end - range.start) as u32);
                let sending = Sending::Ring { id, start, len, bytes: len, waits: false };
                self.begin_send(index, sending)
            }
            Source::Record { id, end, .. } => {
                let bytes = self.message_buffers.bytes(id, end.saturating_sub(RING_HEADROOM_BYTES));
                let bytes = bytes.get(range).unwrap_or_default();
                let progress = match self.slots.get(index as usize).and_then(|place| place.slot.as_ref()) {
                    Some(slot) => slot.send_record(bytes),
                    None => Err(io::ErrorKind::NotConnected.into()),
                };
                let progress = match progress {
                    Ok(true) => Progress::Done(Vec::new()),
                    Ok(false) => {
                        let bytes = pool.copy_of(bytes);
                        self.send(token, bytes)
                    }
                    Err(error) => Progress::Failed(error),
                };
                self.message_buffers.give_back(id);
                progress
            }
            Source::Bytes(mut bytes) => {
                bytes.truncate(range.end);
                let mut outgoing = Outgoing::new(bytes);
                outgoing.advance(range.start);
                let bytes = range.end - range.start;
                self.begin_send(index, Sending::Owned { outgoing, bytes })
            }
            Source::Scratch { .. } => {
                let bytes = pool.copy_of(self.scratch.get(range).unwrap_or_default());
                self.send(token, bytes)
            }
            Source::Message(_) | Source::Epoll | Source::Nothing => {
                Progress::Failed(io::ErrorKind::NotConnected.into())
            }
        }
    }

    fn send(&mut self, token: Token, bytes: Vec<u8>) -> Progress {
        let Some(index) = self.place_of(token) else { return self.epoll.send(token, bytes) };
        let count = bytes.len();
        let outgoing = Outgoing::new(bytes);
        self.begin_send(index, Sending::Owned { outgoing, bytes: count })
    }

    fn unsent(&self, token: Token) -> usize {
        let Some(index) = self.place_of(token) else { return self.epoll.unsent(token) };
        match self.slots.get(index as usize).and_then(|place| place.slot.as_ref()).map(|slot| &slot.sending) {
            Some(Sending::Ring { len, .. }) => *len as usize,
            Some(Sending::Owned { outgoing, .. }) => outgoing.rest().len(),
            Some(Sending::Nothing) | None => 0,
        }
    }

    fn reply_from_recv_buf(&mut self, range: Range<usize>) {
        match &self.lent {
            Source::Message(lent) => {
                self.set_reply(Reply::InPlace(lent.start + range.start..lent.start + range.end));
            }
            _ => self.epoll.reply_from_recv_buf(range),
        }
    }

    fn reply(&mut self, bytes: Vec<u8>) {
        match &self.lent {
            Source::Message(_) => self.set_reply(Reply::Bytes(bytes)),
            _ => self.epoll.reply(bytes),
        }
    }

    fn reply_to(&mut self) -> Option<ReplyTo> {
        match &self.lent {
            Source::Message(_) => self.reply_to_of_recv_buf(),
            _ => self.epoll.reply_to(),
        }
    }

    fn send_to(&mut self, token: Token, to: &ReplyTo, bytes: &[u8]) -> io::Result<usize> {
        let Some(slot) = self.slot_mut(token) else { return self.epoll.send_to(token, to, bytes) };
        loop {
            match to.send(slot.socket.as_fd(), bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn take_send_results(&mut self, token: Token) -> Option<(usize, io::Result<usize>)> {
        let index = self.place_of(token)?;
        if self.is_answering(index) {
            // None of them waits in the kernel: this sends all.
            self.ring.enter(Some(Duration::ZERO)).ok()?;
            self.reap();
        }
        let place = self.answered.iter().position(|(answered, ..)| *answered == token)?;
        let (_, answers, result, _) = self.answered.remove(place)?;
        Some((answers, result))
    }

    fn recycle_peer(&mut self, peer: Peer) {
        match &self.lent {
            Source::Message(_) => self.messages.from = peer,
            _ => self.epoll.recycle_peer(peer),
        }
    }

    fn pause(&mut self, token: Token) {
        let Some(index) = self.place_of(token) else { return self.epoll.pause(token) };
        if let Some(slot) = self.slot_at(index) {
            slot.is_paused = true;
        }
        self.cancel_receive(index);
    }

    fn resume(&mut self, token: Token) {
        let Some(index) = self.place_of(token) else { return self.epoll.resume(token) };
        if let Some(slot) = self.slot_at(index)
            && std::mem::take(&mut slot.is_paused)
        {
            self.enqueue(index);
        }
    }

    fn drain(&mut self, token: Token) {
        let Some(index) = self.place_of(token) else { return self.epoll.drain(token) };
        if let Some(slot) = self.slot_at(index) {
            slot.is_draining = true;
        }
        self.cancel_receive(index);
        self.enqueue(index);
    }

    fn shutdown_write(&mut self, token: Token) -> io::Result<()> {
        match self.slot_mut(token) {
            Some(slot) => SockRef::from(&slot.socket).shutdown(std::net::Shutdown::Write),
            None => self.epoll.shutdown_write(token),
        }
    }

    fn wait_closed(&mut self) {
        let is_held = |place: &Place| place.slot.as_ref().is_some_and(|slot| slot.is_closed);
        let until = Instant::now() + LETTING_GO;
        while self.slots.iter().any(is_held) && Instant::now() < until {
            // What cannot be waited for is over with the ring.
            if self.ring.enter(Some(LOOK_AGAIN)).is_err() {
                return;
            }
            self.reap();
        }
    }

    fn close(&mut self, token: Token, how: Close) {
        self.listeners.retain(|other| *other != token);
        let Some(index) = self.place_of(token) else {
            self.few.retain(|(other, ..)| *other != token);
            return self.epoll.close(token, how);
        };
        self.routes[token.index()] = NOWHERE;
        let Some(slot) = self.slots.get_mut(index as usize).and_then(|place| place.slot.as_mut()) else {
            return;
        };
        slot.is_closed = true;
        if how == Close::Reset {
            // Fails on sockets that know no linger; then it is a plain close.
            let _ = SockRef::from(&slot.socket).set_linger(Some(Duration::ZERO));
        }
        for held in std::mem::take(&mut slot.held) {
            match held {
                Held::Ring { id, .. } => self.buffers.give_back(id),
                Held::Record { id, .. } => self.message_buffers.give_back(id),
                Held::Bytes { .. } | Held::Accepted { .. } | Held::End | Held::Failed(_) => {}
            }
        }
        if slot.requests > 0 {
            // A request holds the socket open, whatever becomes of our descriptor. The next enter ends it; where there
            // is no room for the cancellation, the ring's own end does.
            let all = types::CancelBuilder::fd(types::Fd(slot.socket.as_raw_fd())).all();
            let _ = self.ring.push(quietly(opcode::AsyncCancel2::new(all).build()));
            self.take_all_arrived(index);
        }
        self.free_if_over(index);
    }
}

impl Arrived {
    /// The buffer that the kernel chose.
    fn buffer(&self) -> Option<u16> {
        cqueue::buffer_select(self.flags)
    }
}

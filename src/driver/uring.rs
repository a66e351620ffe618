//! DOOR: completions from io_uring, for TCP.
//!
//! ```text
//!  a turn:  wait ── one io_uring_enter: submits what the last turn asked for, runs it, waits for one completion
//!           next ── Received: the buffer that the kernel chose ── send_lent: the same buffer, at the next enter
//! ```
//!
//! What readiness serves as well stays with a [`Ready`] that this driver contains: listeners, datagrams (batches),
//! unix sockets (of a stream's bytes that are there already, Linux 6.18 forgets some: a multishot receive is not
//! continued, and no more arrives to wake it), and TCP whose reads are to be shorter than a buffer of the ring. Its
//! epoll instance is polled by the ring. While no connection is with the ring, it is not used at all.
//!
//! - **Receiving** is one multishot request a connection; the kernel takes a buffer from a shared ring only when bytes
//!   have come. Each invocation ends with a full buffer, so a peer that floods in full ones has one read a turn, like all
//!   others; of shorter reads the kernel may bring up to 32 at once, which are held and told one a turn.
//! - **Pausing** cancels the request. What comes before it has ended is copied out of the ring and held, so that a peer
//!   that does not read costs bounded memory and nobody's buffers.
//! - **Sending** goes with the next enter; where a turn has one completion only, by a call of its own, which is cheaper
//!   than two turns. It never waits in the kernel. Of a lent buffer, what the socket does not take at once is copied and the
//!   buffer goes back, so that the ring's buffers all come back with the next turn; the copy is sent when a poll says
//!   that the socket takes more.
//! - **Closing** cancels what is in flight. A slot is only reused, its descriptor and memory only let go of, when the
//!   last completion of its requests has come; a generation in the request's name tells its tenants apart.

mod buffers;
mod receiving;
mod ring;
mod sending;
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

use self::buffers::Buffers;
use self::ring::{Operation, Request, Ring, aside, builder, quietly};
use super::ready::Ready;
use super::{Close, Completion, Driver, Lent, Progress, Token};
use crate::buffer::{Outgoing, Pool};
use crate::limits::{HEADROOM_BYTES, RING_BUFFER_BYTES, RING_HEADROOM_BYTES, RING_REQUESTS};
use crate::peer::{Peer, SocketKind};
use crate::sys::{self, Descriptors, Envelope};
use crate::timer::Moment;

/// No slot.
const NOWHERE: u32 = u32::MAX;
/// How long closed sockets may take until the kernel has let go of them, which it is asked to at once, and how often it
/// is looked after.
const LETTING_GO: Duration = Duration::from_millis(500);
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// Buffers of one connection that wait for their turn; with as many it is not received for it until they are gone.
const HELD_MAX: usize = 4;

/// The driver.
#[derive(Debug)]
pub(crate) struct Uring {
    /// First, so that it is dropped before the memory that the kernel may still write to.
    ring: Ring,
    buffers: Buffers,
    slots: Vec<Place>,
    free: Vec<u32>,
    /// For each token's index the slot that it means.
    routes: Vec<u32>,
    ready: Ready,
    /// Connections that `ready` serves while they are few, and how many those may be.
    few: Vec<(Token, SocketKind)>,
    few_max: usize,
    /// The ring is enabled, which makes the calling thread its only user.
    is_enabled: bool,
    /// `ready`'s epoll instance is being polled.
    is_polling: bool,
    ready_has_events: bool,
    /// `ready` has completions in this turn.
    ready_has_turn: bool,
    arrived: VecDeque<Arrived>,
    /// Slots with something to do in the next turn, and how many of them belong to this one.
    again: VecDeque<u32>,
    budget: usize,
    /// Slots that found no buffer.
    starved: Vec<u32>,
    turn: u32,
    /// This turn has no more than one completion.
    is_alone: bool,
    lent: Source,
    scratch: Vec<u8>,
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
    /// Requests whose last completion has not come.
    requests: u8,
    /// A receive brings one buffer and is over.
    receives_once: bool,
    /// The receive is one of them.
    is_receiving: bool,
    is_cancelling: bool,
    /// The worker has closed it.
    is_closed: bool,
    is_paused: bool,
    /// The kernel will bring nothing more.
    has_ended: bool,
    is_draining: bool,
    /// In the queue for the next turn.
    is_queued: bool,
    /// The turn of the last read.
    read_in: u32,
    /// What came while it could not be reported.
    held: VecDeque<Held>,
    sending: Sending,
}

#[derive(Debug)]
enum Held {
    /// A buffer of the ring; at most [`HELD_MAX`] of a connection.
    Ring {
        id: u16,
        len: usize,
    },
    /// The same, copied.
    Bytes(Vec<u8>),
    End,
    Failed(io::Error),
}

#[derive(Debug)]
enum Sending {
    Nothing,
    /// A part of a buffer of the ring.
    Ring {
        id: u16,
        start: u32,
        len: u32,
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
    Ready,
    Ring { id: u16, len: usize },
    Bytes(Vec<u8>),
    Scratch { len: usize },
}

impl Uring {
    /// A driver, and what wakes it from another thread. It belongs to the thread that first connects with it. Up to
    /// `few_max` connections are left to readiness, which is cheaper for them than the ring; with one more, all go over.
    pub(crate) fn new(few_max: usize) -> io::Result<(Uring, Arc<Waker>)> {
        let (ring, buffers) = aside(|| {
            let ring = Ring(builder().setup_r_disabled().build(RING_REQUESTS)?);
            let mut buffers = Buffers::new()?;
            buffers.register(&ring.0)?;
            Ok((ring, buffers))
        })?;
        let (ready, waker) = Ready::new()?;
        ready.descriptors().add(ring.0.as_raw_fd());
        let uring = Uring {
            ring,
            buffers,
            slots: Vec::new(),
            free: Vec::new(),
            routes: Vec::new(),
            ready,
            few: Vec::with_capacity(few_max),
            few_max,
            is_enabled: false,
            is_polling: false,
            ready_has_events: false,
            ready_has_turn: false,
            arrived: VecDeque::new(),
            again: VecDeque::new(),
            budget: 0,
            starved: Vec::new(),
            turn: 0,
            is_alone: false,
            lent: Source::Nothing,
            scratch: Vec::new(),
        };
        Ok((uring, waker))
    }

    /// Why this driver cannot be had here, if it cannot.
    pub(crate) fn probe() -> Result<(), String> {
        ring::probe()
    }

    pub(crate) fn poll_fd(&self) -> RawFd {
        self.ready.poll_fd()
    }

    pub(crate) fn descriptors(&self) -> &Arc<Descriptors> {
        self.ready.descriptors()
    }

    pub(crate) fn has_leftovers(&self) -> bool {
        !self.again.is_empty()
            || !self.arrived.is_empty()
            || self.ready_has_events
            || self.ready.has_leftovers()
    }

    /// The place of the slot that a token means.
    fn place_of(&self, token: Token) -> Option<u32> {
        let index = *self.routes.get(token.index())?;
        let slot = self.slots.get(index as usize)?.slot.as_ref()?;
        (slot.token == token).then_some(index)
    }

    fn slot_mut(&mut self, token: Token) -> Option<&mut Slot> {
        let index = self.place_of(token)?;
        self.slot_at(index)
    }

    fn slot_at(&mut self, index: u32) -> Option<&mut Slot> {
        self.slots.get_mut(index as usize)?.slot.as_mut()
    }

    fn has_slots(&self) -> bool {
        self.free.len() < self.slots.len()
    }

    fn insert(&mut self, token: Token, socket: OwnedFd, kind: SocketKind) -> u32 {
        self.descriptors().add(socket.as_raw_fd());
        let slot = Slot {
            socket,
            token,
            requests: 0,
            receives_once: kind != SocketKind::Tcp,
            is_receiving: false,
            is_cancelling: false,
            is_closed: false,
            is_paused: false,
            has_ended: false,
            is_draining: false,
            is_queued: false,
            read_in: self.turn.wrapping_sub(1),
            held: VecDeque::new(),
            sending: Sending::Nothing,
        };
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.slots.push(Place { generation: 0, slot: None });
                (self.slots.len() - 1) as u32
            }
        };
        if let Some(place) = self.slots.get_mut(index as usize) {
            place.slot = Some(slot);
        }
        if self.routes.len() <= token.index() {
            self.routes.resize(token.index() + 1, NOWHERE);
        }
        self.routes[token.index()] = index;
        index
    }

    /// Lets go of a closed slot that the kernel has let go of.
    fn free_if_over(&mut self, index: u32) {
        if let Some(place) = self.slots.get_mut(index as usize)
            && let Some(Slot { is_closed: true, requests: 0, .. }) = place.slot
        {
            if let Some(slot) = place.slot.take() {
                self.ready.descriptors().remove(slot.socket.as_raw_fd());
            }
            place.generation = (place.generation + 1) & Request::GENERATION;
            self.free.push(index);
        }
    }

    /// Puts a slot into the queue for the next turn.
    fn enqueue(&mut self, index: u32) {
        if let Some(slot) = self.slots.get_mut(index as usize).and_then(|place| place.slot.as_mut())
            && !std::mem::replace(&mut slot.is_queued, true)
        {
            self.again.push_back(index);
        }
    }

    /// Takes the ring's completions. Those of closed slots are dealt with at once.
    fn reap(&mut self) {
        loop {
            let Some(entry) = self.ring.0.completion().next() else { return };
            let Some(request) = Request::of(entry.user_data()) else { continue };
            let arrived = Arrived { request, result: entry.result(), flags: entry.flags() };
            if arrived.buffer().is_some() {
                self.buffers.taken(usize::try_from(arrived.result).unwrap_or(0));
            }
            match request.operation {
                Operation::Poll => {
                    self.ready_has_events = true;
                    self.is_polling &= cqueue::more(arrived.flags);
                }
                Operation::Cancel => {}
                Operation::Receive | Operation::Send | Operation::Writable => {
                    match self.slot_at(request.slot) {
                        Some(Slot { is_closed: true, .. }) => drop(self.take_arrived(arrived)),
                        _ => self.arrived.push_back(arrived),
                    }
                }
            }
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
            Operation::Send => self.take_sent(index, arrived),
            Operation::Writable => self.take_writable(index),
            Operation::Poll | Operation::Cancel => None,
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
            self.buffers.give_back(id);
        }
    }

    /// Takes back what was lent and not sent.
    fn end_lending(&mut self) {
        if let Source::Ring { id, .. } = std::mem::replace(&mut self.lent, Source::Nothing) {
            self.buffers.give_back(id);
        }
    }

    fn wait_for_ready(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.ready_has_turn = true;
        let result = self.ready.wait(timeout);
        // The ring tells each edge once: what did not fit is to be fetched without being told.
        self.ready_has_events = result.is_err() || self.ready.has_more_events();
        result
    }

    /// Asks the kernel to say when `ready` has something to do.
    fn watch_ready(&mut self) -> io::Result<()> {
        if !self.is_polling {
            let request = Request { operation: Operation::Poll, slot: 0, generation: 0 };
            let poll = opcode::PollAdd::new(types::Fd(self.ready.poll_fd()), libc::POLLIN as u32).multi(true);
            self.ring.push(poll.build().user_data(request.name()))?;
            self.is_polling = true;
        }
        Ok(())
    }
}

impl Driver for Uring {
    type Socket = OwnedFd;

    fn now(&self) -> Moment {
        self.ready.now()
    }

    fn read_clock(&self) -> Moment {
        self.ready.read_clock()
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.end_lending();
        self.turn = self.turn.wrapping_add(1);
        if !self.has_slots() && self.arrived.is_empty() {
            // Whatever happens, happens to `ready`. Places in the queue were those of slots that are gone.
            self.again.clear();
            return self.wait_for_ready(if self.has_leftovers() { Some(Duration::ZERO) } else { timeout });
        }
        self.feed();
        let timeout = if self.has_leftovers() { Some(Duration::ZERO) } else { timeout };
        self.watch_ready()?;
        let result = self.ring.enter(timeout);
        self.reap();
        self.is_alone = self.arrived.len() + self.again.len() <= 1;
        self.budget = self.again.len();
        if self.ready_has_events || self.ready.has_leftovers() {
            self.wait_for_ready(Some(Duration::ZERO))?;
        } else {
            self.ready.set_now();
        }
        result
    }

    fn has_found(&self) -> bool {
        !self.arrived.is_empty() || self.budget > 0 || (self.ready_has_turn && self.ready.has_found())
    }

    fn next(&mut self) -> Option<Completion<OwnedFd>> {
        self.end_lending();
        if self.ready_has_turn {
            if let Some(completion) = self.ready.next() {
                self.lent = Source::Ready;
                return Some(completion);
            }
            self.ready_has_turn = false;
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

    fn listen(&mut self, token: Token, socket: OwnedFd) -> io::Result<()> {
        self.ready.listen(token, socket)
    }

    fn peer_user(&self, socket: &OwnedFd) -> io::Result<u32> {
        sys::peer_user(socket.as_fd())
    }

    fn connect(
        &mut self,
        token: Token,
        socket: OwnedFd,
        kind: SocketKind,
        read_bytes_max: usize,
    ) -> io::Result<()> {
        if kind == SocketKind::UnixSeqpacket || read_bytes_max < RING_BUFFER_BYTES {
            return self.ready.connect(token, socket, kind, read_bytes_max);
        }
        if !self.has_slots() && self.few.len() < self.few_max {
            self.ready.connect(token, socket, kind, read_bytes_max)?;
            self.few.push((token, kind));
            return Ok(());
        }
        if kind == SocketKind::UnixStream {
            // Unlike TCP's, it is not inherited from the listener.
            sys::keep_urgent_inline(socket.as_fd())?;
        }
        if !self.is_enabled {
            self.ring.0.submitter().register_enable_rings()?;
            self.is_enabled = true;
        }
        for (token, kind) in std::mem::take(&mut self.few) {
            if let Some(socket) = self.ready.hand_over(token) {
                let index = self.insert(token, socket, kind);
                self.receive_or_fail(index);
            }
        }
        let index = self.insert(token, socket, kind);
        let result = self.receive(index);
        if result.is_err() {
            self.close(token, Close::Gently);
        }
        result
    }

    fn datagrams(
        &mut self,
        token: Token,
        socket: OwnedFd,
        message_bytes_max: usize,
        destinations: bool,
    ) -> io::Result<()> {
        self.ready.datagrams(token, socket, message_bytes_max, destinations)
    }

    fn lent(&mut self) -> Lent<'_> {
        match &mut self.lent {
            Source::Nothing => Lent { buffer: &mut [], start: 0 },
            Source::Ready => self.ready.lent(),
            Source::Ring { id, len } => {
                Lent { buffer: self.buffers.bytes(*id, *len), start: RING_HEADROOM_BYTES }
            }
            Source::Bytes(bytes) => Lent { buffer: bytes, start: 0 },
            Source::Scratch { len } => {
                let buffer = self.scratch.get_mut(..HEADROOM_BYTES + *len).unwrap_or_default();
                Lent { buffer, start: HEADROOM_BYTES }
            }
        }
    }

    fn send_lent(&mut self, token: Token, range: Range<usize>, pool: &mut Pool) -> Progress {
        let Some(index) = self.place_of(token) else { return self.ready.send_lent(token, range, pool) };
        match std::mem::replace(&mut self.lent, Source::Nothing) {
            Source::Ring { id, .. } => {
                let sending =
                    Sending::Ring { id, start: range.start as u32, len: (range.end - range.start) as u32 };
                self.begin_send(index, sending)
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
            Source::Ready | Source::Nothing => Progress::Failed(io::ErrorKind::NotConnected.into()),
        }
    }

    fn send(&mut self, token: Token, bytes: Vec<u8>) -> Progress {
        let Some(index) = self.place_of(token) else { return self.ready.send(token, bytes) };
        let count = bytes.len();
        let outgoing = Outgoing::new(bytes);
        self.begin_send(index, Sending::Owned { outgoing, bytes: count })
    }

    fn unsent(&self, token: Token) -> usize {
        let Some(index) = self.place_of(token) else { return self.ready.unsent(token) };
        match self.slots.get(index as usize).and_then(|place| place.slot.as_ref()).map(|slot| &slot.sending) {
            Some(Sending::Ring { len, .. }) => *len as usize,
            Some(Sending::Owned { outgoing, .. }) => outgoing.rest().len(),
            Some(Sending::Nothing) | None => 0,
        }
    }

    fn answer_lent(&mut self, range: Range<usize>) {
        self.ready.answer_lent(range);
    }

    fn answer(&mut self, bytes: Vec<u8>) {
        self.ready.answer(bytes);
    }

    fn envelope(&mut self) -> Option<Envelope> {
        self.ready.envelope()
    }

    fn post(&mut self, token: Token, to: &Envelope, bytes: &[u8]) -> io::Result<usize> {
        self.ready.post(token, to, bytes)
    }

    fn put_back(&mut self, peer: Peer) {
        self.ready.put_back(peer);
    }

    fn pause(&mut self, token: Token) {
        let Some(index) = self.place_of(token) else { return self.ready.pause(token) };
        if let Some(slot) = self.slot_at(index) {
            slot.is_paused = true;
        }
        self.cancel_receive(index);
    }

    fn resume(&mut self, token: Token) {
        let Some(index) = self.place_of(token) else { return self.ready.resume(token) };
        if let Some(slot) = self.slot_at(index)
            && std::mem::take(&mut slot.is_paused)
        {
            self.enqueue(index);
        }
    }

    fn drain(&mut self, token: Token) {
        let Some(index) = self.place_of(token) else { return self.ready.drain(token) };
        if let Some(slot) = self.slot_at(index) {
            slot.is_draining = true;
        }
        self.cancel_receive(index);
        self.enqueue(index);
    }

    fn finish(&mut self, token: Token) -> io::Result<()> {
        match self.slot_mut(token) {
            Some(slot) => SockRef::from(&slot.socket).shutdown(std::net::Shutdown::Write),
            None => self.ready.finish(token),
        }
    }

    fn let_go(&mut self) {
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
        let Some(index) = self.place_of(token) else {
            self.few.retain(|(other, _)| *other != token);
            return self.ready.close(token, how);
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
            if let Held::Ring { id, .. } = held {
                self.buffers.give_back(id);
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

//! DOOR: completions from io_uring, for streams of TCP and AF_UNIX.
//!
//! ```text
//!  a turn:  wait ── one io_uring_enter: submits what the last turn asked for, runs it, waits for one completion
//!           next ── Received: the buffer that the kernel chose ── send_lent: the same buffer, at the next enter
//! ```
//!
//! What readiness serves as well stays with a [`Ready`] that this driver contains: listeners, datagrams (batches),
//! records, and streams whose reads are to be shorter than a buffer of the ring. Its epoll instance is polled by the
//! ring. While no stream is open, the ring is not used at all.
//!
//! - **Receiving** is one multishot request a connection; the kernel takes a buffer from a shared ring only when bytes
//!   have come. Each invocation is capped at one buffer, so a peer that floods has one read a turn, like all others.
//! - **Pausing** cancels the request. What comes before it has ended is copied out of the ring and held, so that a peer
//!   that does not read costs bounded memory and nobody's buffers.
//! - **Sending** goes with the next enter; where a turn has one completion only, by a call of its own, which is cheaper
//!   than two turns. It never waits in the kernel. Of a lent buffer, what the socket does not take at once is copied and the
//!   buffer goes back, so that the ring's buffers all come back with the next turn; the copy is sent when a poll says
//!   that the socket takes more.
//! - **Closing** cancels what is in flight. A slot is only reused, its descriptor and memory only let go of, when the
//!   last completion of its requests has come; a generation in the request's name tells its tenants apart.

mod buffers;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use mio::Waker;
use socket2::SockRef;

use self::buffers::{Buffers, GROUP};
use super::ready::Ready;
use super::{Close, Completion, Driver, Lent, Progress, Token};
use crate::buffer::{Outgoing, Pool};
use crate::limits::{
    HEADROOM_BYTES, READ_BYTES_MAX, RING_BUFFER_BYTES, RING_COMPLETIONS, RING_HEADROOM_BYTES, RING_REQUESTS,
};
use crate::peer::SocketKind;
use crate::sys::{self, Envelope};
use crate::timer::Moment;

const ENTER_GETEVENTS: u32 = 1;
const ENTER_EXT_ARG: u32 = 8;
/// One receive takes one buffer; a full one lets the others have theirs first.
const RECEIVE_BUNDLE: u16 = 1 << 4;
/// Polls before it receives. Without it, a receive whose very first buffer is filled by what lies there already is only
/// continued when more arrives, not by what else lies there.
const RECEIVE_POLL_FIRST: u16 = 1 << 0;
/// No slot.
const NOWHERE: u32 = u32::MAX;
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

/// Names a request: what it does, and for whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Request {
    operation: Operation,
    slot: u32,
    generation: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Receive,
    Send,
    /// Waits until a socket takes more.
    Writable,
    /// Watches `ready`.
    Poll,
    Cancel,
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
    /// A buffer of the ring; only until the next turn.
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
        outgoing: Box<Outgoing>,
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

/// The queues that are shared with the kernel.
struct Ring(IoUring);

impl Uring {
    /// A driver, and what wakes it from another thread. It belongs to the thread that first connects with it.
    pub(crate) fn new() -> io::Result<(Uring, Arc<Waker>)> {
        let (ring, buffers) = aside(|| {
            let ring = Ring(builder().setup_r_disabled().build(RING_REQUESTS)?);
            let mut buffers = Buffers::new()?;
            buffers.register(&ring.0)?;
            Ok((ring, buffers))
        })?;
        let (ready, waker) = Ready::new()?;
        let uring = Uring {
            ring,
            buffers,
            slots: Vec::new(),
            free: Vec::new(),
            routes: Vec::new(),
            ready,
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
        aside(|| Ok(Self::probe_here())).unwrap_or_else(|error| Err(error.to_string()))
    }

    fn probe_here() -> Result<(), String> {
        let ring = builder().build(8).map_err(|error| match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => {
                format!(
                    "the kernel refuses it ({error}): the sysctl kernel.io_uring_disabled, or a seccomp filter"
                )
            }
            Some(libc::ENOSYS) => {
                format!("there is none ({error}): an old kernel, or a seccomp filter")
            }
            Some(libc::EINVAL) => format!("the kernel is too old for it ({error}): it takes Linux 6.17"),
            _ => error.to_string(),
        })?;
        let parameters = ring.params();
        if !parameters.is_feature_nodrop() || !parameters.is_feature_ext_arg() {
            return Err("the kernel is too old for it: it takes Linux 6.17".into());
        }
        let mut probe = io_uring::Probe::new();
        ring.submitter()
            .register_probe(&mut probe)
            .map_err(|error| format!("it cannot be asked: {error}"))?;
        let needed = [
            ("poll", opcode::PollAdd::CODE),
            ("send", opcode::Send::CODE),
            ("recv", opcode::RecvMulti::CODE),
            ("cancel", opcode::AsyncCancel2::CODE),
        ];
        if let Some((name, _)) = needed.iter().find(|(_, code)| !probe.is_supported(*code)) {
            return Err(format!("the kernel has no {name} in it"));
        }
        let mut buffers = Buffers::new().map_err(|error| format!("no memory for its buffers: {error}"))?;
        buffers.register(&ring).map_err(|error| format!("the kernel takes no ring of buffers: {error}"))?;
        probe_capped_receive(Ring(ring)).map_err(|error| match error.raw_os_error() {
            Some(libc::EINVAL) => "the kernel cannot bound a multishot receive: it takes Linux 6.17".into(),
            _ => format!("a receive fails: {error}"),
        })
    }

    pub(crate) fn poll_fd(&self) -> RawFd {
        self.ready.poll_fd()
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

    fn insert(&mut self, token: Token, socket: OwnedFd) -> u32 {
        let slot = Slot {
            socket,
            token,
            requests: 0,
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
            place.slot = None;
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

    /// Begins to receive, unless that would be wrong now.
    fn receive(&mut self, index: u32) -> io::Result<()> {
        let Some(Place { generation, slot: Some(slot) }) = self.slots.get_mut(index as usize) else {
            return Ok(());
        };
        if slot.is_receiving || slot.is_closed || slot.is_paused || slot.is_draining || slot.has_ended {
            return Ok(());
        }
        let request = Request { operation: Operation::Receive, slot: index, generation: *generation };
        self.ring.push(receive_entry(slot.socket.as_raw_fd(), request))?;
        slot.is_receiving = true;
        slot.requests += 1;
        Ok(())
    }

    /// The same where nobody can be told at once.
    fn receive_or_fail(&mut self, index: u32) {
        if let Err(error) = self.receive(index)
            && let Some(slot) = self.slot_at(index)
        {
            slot.has_ended = true;
            slot.held.push_back(Held::Failed(error));
            self.enqueue(index);
        }
    }

    /// Ends the receive; its last completion follows.
    fn cancel_receive(&mut self, index: u32) {
        let Some(Place { generation, slot: Some(slot) }) = self.slots.get_mut(index as usize) else { return };
        if !slot.is_receiving || slot.is_cancelling {
            return;
        }
        let request = Request { operation: Operation::Receive, slot: index, generation: *generation };
        let cancel = opcode::AsyncCancel2::new(types::CancelBuilder::user_data(request.name()));
        // Without room for it the receive goes on, and so does the holding.
        slot.is_cancelling = self.ring.push(quietly(cancel.build())).is_ok();
    }

    /// Hands what is to be sent to the kernel.
    fn submit_send(&mut self, index: u32) -> io::Result<()> {
        let Some(Place { generation, slot: Some(slot) }) = self.slots.get_mut(index as usize) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let (start, len) = match &slot.sending {
            Sending::Nothing => return Ok(()),
            Sending::Ring { id, start, len } => {
                let (start, len) = (*start as usize, *len as usize);
                let bytes = self.buffers.bytes(*id, (start + len).saturating_sub(RING_HEADROOM_BYTES));
                (bytes.get(start..start + len).unwrap_or_default().as_ptr(), len)
            }
            Sending::Owned { outgoing, .. } => (outgoing.rest().as_ptr(), outgoing.rest().len()),
        };
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        let request = Request { operation: Operation::Send, slot: index, generation: *generation };
        let send = opcode::Send::new(types::Fd(slot.socket.as_raw_fd()), start, len)
            .flags(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
            .build()
            .user_data(request.name());
        self.ring.push(send)?;
        slot.requests += 1;
        Ok(())
    }

    /// Sends on when the socket takes more. The request to send must not wait for that itself: it may then only come
    /// back when all has been sent, and nobody sees that the peer reads.
    fn wait_to_send(&mut self, index: u32) -> io::Result<()> {
        let Some(Place { generation, slot: Some(slot) }) = self.slots.get_mut(index as usize) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let request = Request { operation: Operation::Writable, slot: index, generation: *generation };
        let poll = opcode::PollAdd::new(types::Fd(slot.socket.as_raw_fd()), libc::POLLOUT as u32);
        self.ring.push(poll.build().user_data(request.name()))?;
        slot.requests += 1;
        Ok(())
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

    fn forget(&mut self, arrived: Arrived) {
        if let Some(id) = arrived.buffer() {
            self.buffers.give_back(id);
        }
    }

    fn take_received(&mut self, index: u32, arrived: Arrived) -> Option<Completion<OwnedFd>> {
        let turn = self.turn;
        let slot = self.slots.get_mut(index as usize)?.slot.as_mut()?;
        if !cqueue::more(arrived.flags) {
            slot.requests -= 1;
            slot.is_receiving = false;
            slot.is_cancelling = false;
        }
        if slot.is_closed {
            self.forget(arrived);
            self.free_if_over(index);
            return None;
        }
        let held = match (arrived.result, arrived.buffer()) {
            (len @ 1.., Some(id)) => Held::Ring { id, len: len as usize },
            (result, buffer) => {
                if let Some(id) = buffer {
                    self.buffers.give_back(id);
                }
                match -result {
                    libc::ENOBUFS if !slot.is_draining => {
                        self.starved.push(index);
                        return None;
                    }
                    libc::ENOBUFS | libc::ECANCELED | libc::EINTR | libc::EAGAIN => {
                        if slot.is_draining {
                            self.enqueue(index);
                        } else {
                            self.receive_or_fail(index);
                        }
                        return None;
                    }
                    0 => Held::End,
                    error => Held::Failed(io::Error::from_raw_os_error(error)),
                }
            }
        };
        slot.has_ended |= matches!(held, Held::End | Held::Failed(_));
        if slot.is_paused {
            slot.held.push_back(held);
            self.keep_held(index);
            self.cancel_receive(index);
            return None;
        }
        if !slot.held.is_empty() || slot.read_in == turn {
            slot.held.push_back(held);
            if slot.held.len() >= HELD_MAX {
                self.cancel_receive(index);
            }
            self.enqueue(index);
            return None;
        }
        if slot.is_draining {
            self.enqueue(index);
        } else if !slot.is_receiving {
            self.receive_or_fail(index);
        }
        self.report(index, held)
    }

    fn take_sent(&mut self, index: u32, arrived: Arrived) -> Option<Completion<OwnedFd>> {
        let slot = self.slot_at(index)?;
        slot.requests -= 1;
        if slot.is_closed {
            self.drop_send(index);
            self.free_if_over(index);
            return None;
        }
        self.take_send_result(index, arrived.result)
    }

    /// What send(2) said about a slot's answer.
    fn take_send_result(&mut self, index: u32, result: i32) -> Option<Completion<OwnedFd>> {
        let slot = self.slots.get_mut(index as usize)?.slot.as_mut()?;
        let token = slot.token;
        let sent = match -result {
            ..=0 => result as usize,
            libc::EAGAIN | libc::EINTR => 0,
            error => {
                self.drop_send(index);
                return Some(Completion::Failed { token, error: io::Error::from_raw_os_error(error) });
            }
        };
        let rest = match std::mem::replace(&mut slot.sending, Sending::Nothing) {
            Sending::Nothing => return None,
            Sending::Ring { id, start, len } => {
                let (start, len) = (start as usize, len as usize);
                if sent >= len {
                    self.buffers.give_back(id);
                    return Some(Completion::Sent { token, bytes: len, memory: Vec::new() });
                }
                let bytes = self.buffers.bytes(id, (start + len).saturating_sub(RING_HEADROOM_BYTES));
                let rest = bytes.get(start + sent..start + len).unwrap_or_default().to_vec();
                self.buffers.give_back(id);
                Sending::Owned { outgoing: Box::new(Outgoing::new(rest)), bytes: len }
            }
            Sending::Owned { mut outgoing, bytes } => {
                outgoing.advance(sent);
                if outgoing.is_done() {
                    return Some(Completion::Sent { token, bytes, memory: outgoing.into_bytes() });
                }
                Sending::Owned { outgoing, bytes }
            }
        };
        slot.sending = rest;
        self.wait_to_send(index).err().map(|error| Completion::Failed { token, error })
    }

    /// A socket takes more, or is broken, which the next send will say.
    fn take_writable(&mut self, index: u32) -> Option<Completion<OwnedFd>> {
        let slot = self.slot_at(index)?;
        slot.requests -= 1;
        if slot.is_closed {
            self.free_if_over(index);
            return None;
        }
        let token = slot.token;
        self.submit_send(index).err().map(|error| Completion::Failed { token, error })
    }

    /// Tells the worker what has come for a slot that may be read.
    fn report(&mut self, index: u32, held: Held) -> Option<Completion<OwnedFd>> {
        let turn = self.turn;
        let slot = self.slot_at(index)?;
        slot.read_in = turn;
        let token = slot.token;
        self.lent = match held {
            Held::End => return Some(Completion::Ended { token }),
            Held::Failed(error) => return Some(Completion::Failed { token, error }),
            Held::Ring { id, len } => Source::Ring { id, len },
            Held::Bytes(bytes) => Source::Bytes(bytes),
        };
        Some(Completion::Received { token, truncated: false })
    }

    /// Copies what waits for longer than a turn out of the ring's buffers.
    fn keep_held(&mut self, index: u32) {
        let Some(slot) = self.slots.get_mut(index as usize).and_then(|place| place.slot.as_mut()) else {
            return;
        };
        for held in &mut slot.held {
            if let Held::Ring { id, len } = *held {
                let bytes =
                    self.buffers.bytes(id, len).get(RING_HEADROOM_BYTES..).unwrap_or_default().to_vec();
                self.buffers.give_back(id);
                *held = Held::Bytes(bytes);
            }
        }
    }

    /// What a slot had left for this turn.
    fn step(&mut self, index: u32) -> Option<Completion<OwnedFd>> {
        let turn = self.turn;
        let slot = self.slot_at(index)?;
        slot.is_queued = false;
        if slot.is_closed || slot.is_paused {
            self.keep_held(index);
            return None;
        }
        if slot.read_in == turn {
            self.enqueue(index);
            return None;
        }
        if let Some(held) = slot.held.pop_front() {
            if slot.held.is_empty() {
                slot.held = VecDeque::new();
            }
            if !slot.held.is_empty() || slot.is_draining {
                self.enqueue(index);
            } else {
                self.receive_or_fail(index);
            }
            return self.report(index, held);
        }
        if !slot.is_draining {
            self.receive_or_fail(index);
            return None;
        }
        // Draining waits for the receive's last completion, which brings the slot here again.
        if slot.is_receiving || slot.has_ended {
            return None;
        }
        self.read(index)
    }

    /// Reads a socket that is being drained: only the kernel can say that nothing is left.
    fn read(&mut self, index: u32) -> Option<Completion<OwnedFd>> {
        let turn = self.turn;
        self.scratch.resize(HEADROOM_BYTES + READ_BYTES_MAX, 0);
        let bytes = self.scratch.get_mut(HEADROOM_BYTES..)?;
        let slot = self.slots.get_mut(index as usize)?.slot.as_mut()?;
        let token = slot.token;
        let received = loop {
            match sys::recv(slot.socket.as_fd(), bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                received => break received,
            }
        };
        match received {
            Ok(0) => {
                slot.has_ended = true;
                Some(Completion::Ended { token })
            }
            Ok(len) => {
                slot.read_in = turn;
                self.enqueue(index);
                self.lent = Source::Scratch { len };
                Some(Completion::Received { token, truncated: false })
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                slot.is_draining = false;
                self.scratch = Vec::new();
                self.receive_or_fail(index);
                Some(Completion::Drained { token })
            }
            Err(error) => {
                slot.has_ended = true;
                Some(Completion::Failed { token, error })
            }
        }
    }

    /// Takes back what was lent and not sent.
    fn end_lending(&mut self) {
        if let Source::Ring { id, .. } = std::mem::replace(&mut self.lent, Source::Nothing) {
            self.buffers.give_back(id);
        }
    }

    /// Gives the kernel buffers, and those a receive that found none.
    fn feed(&mut self) {
        if self.starved.is_empty() {
            return self.buffers.refill();
        }
        self.buffers.grow();
        self.buffers.refill();
        if self.buffers.has_any() {
            for index in std::mem::take(&mut self.starved) {
                self.receive_or_fail(index);
            }
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
            // Whatever happens, happens to `ready`.
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
        if kind == SocketKind::UnixStream {
            // Unlike TCP's, it is not inherited from the listener.
            sys::keep_urgent_inline(socket.as_fd())?;
        }
        if !self.is_enabled {
            self.ring.0.submitter().register_enable_rings()?;
            self.is_enabled = true;
        }
        let index = self.insert(token, socket);
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
                self.begin_send(index, Sending::Owned { outgoing: Box::new(outgoing), bytes })
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
        let outgoing = Box::new(Outgoing::new(bytes));
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

    fn close(&mut self, token: Token, how: Close) {
        let Some(index) = self.place_of(token) else { return self.ready.close(token, how) };
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
            // At once, not with the next turn, which an engine that ends will not have: a request holds the socket
            // open, whatever becomes of our descriptor.
            let all = types::CancelBuilder::fd(types::Fd(slot.socket.as_raw_fd())).all();
            let cancelled = self.ring.push(quietly(opcode::AsyncCancel2::new(all).build()));
            if cancelled.and_then(|()| self.ring.enter(Some(Duration::ZERO))).is_ok() {
                self.reap();
            }
        }
        self.free_if_over(index);
    }
}

impl Uring {
    fn begin_send(&mut self, index: u32, sending: Sending) -> Progress {
        let Some(slot) = self.slots.get_mut(index as usize).and_then(|place| place.slot.as_mut()) else {
            return Progress::Failed(io::ErrorKind::NotConnected.into());
        };
        debug_assert!(matches!(slot.sending, Sending::Nothing), "one send at a time");
        slot.sending = sending;
        if self.is_alone {
            return self.send_now(index);
        }
        match self.submit_send(index) {
            Ok(()) => Progress::Pending,
            Err(error) => {
                self.drop_send(index);
                Progress::Failed(error)
            }
        }
    }

    /// Sends by a call of its own: for one answer that costs less than the way through the ring.
    fn send_now(&mut self, index: u32) -> Progress {
        let Some(slot) = self.slots.get_mut(index as usize).and_then(|place| place.slot.as_mut()) else {
            return Progress::Failed(io::ErrorKind::NotConnected.into());
        };
        let bytes = match &slot.sending {
            Sending::Nothing => &[],
            Sending::Ring { id, start, len } => {
                let (start, end) = (*start as usize, (*start + *len) as usize);
                let bytes = self.buffers.bytes(*id, end.saturating_sub(RING_HEADROOM_BYTES));
                bytes.get(start..end).unwrap_or_default()
            }
            Sending::Owned { outgoing, .. } => outgoing.rest(),
        };
        let result = match sys::send(slot.socket.as_fd(), bytes) {
            Ok(sent) => sent as i32,
            Err(error) => -error.raw_os_error().unwrap_or(libc::EIO),
        };
        match self.take_send_result(index, result) {
            Some(Completion::Sent { memory, .. }) => Progress::Done(memory),
            Some(Completion::Failed { error, .. }) => Progress::Failed(error),
            _ => Progress::Pending,
        }
    }

    fn drop_send(&mut self, index: u32) {
        if let Some(slot) = self.slot_at(index)
            && let Sending::Ring { id, .. } = std::mem::replace(&mut slot.sending, Sending::Nothing)
        {
            self.buffers.give_back(id);
        }
    }
}

impl Arrived {
    /// The buffer that the kernel chose.
    fn buffer(&self) -> Option<u16> {
        cqueue::buffer_select(self.flags)
    }
}

impl Request {
    const GENERATION: u32 = 0xff_ffff;

    /// What the kernel gives back with a completion: the operation, the generation, the slot.
    fn name(self) -> u64 {
        (self.operation as u64) << 56 | u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    fn of(name: u64) -> Option<Request> {
        let operation = match name >> 56 {
            n if n == Operation::Receive as u64 => Operation::Receive,
            n if n == Operation::Send as u64 => Operation::Send,
            n if n == Operation::Writable as u64 => Operation::Writable,
            n if n == Operation::Poll as u64 => Operation::Poll,
            n if n == Operation::Cancel as u64 => Operation::Cancel,
            _ => return None,
        };
        Some(Request { operation, slot: name as u32, generation: (name >> 32) as u32 & Self::GENERATION })
    }
}

impl Ring {
    /// Puts a request into the queue; into the kernel, where the queue is full.
    fn push(&mut self, entry: squeue::Entry) -> io::Result<()> {
        // SAFETY: what each request points to lives until its last completion has been taken: sockets and vectors in
        // their slot, buffers in their mapping, which the ring does not outlive.
        if unsafe { self.0.submission().push(&entry) }.is_ok() {
            return Ok(());
        }
        self.enter(Some(Duration::ZERO))?;
        // SAFETY: as above.
        unsafe { self.0.submission().push(&entry) }.map_err(|_| io::ErrorKind::ResourceBusy.into())
    }

    /// io_uring_enter(2): submits what is queued, runs what is due, and waits for a completion.
    fn enter(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let queued = self.0.submission().len() as u32;
        let submitter = self.0.submitter();
        let result = match timeout {
            Some(Duration::ZERO) => {
                // SAFETY: no argument is passed.
                unsafe { submitter.enter::<libc::sigset_t>(queued, 0, ENTER_GETEVENTS, None) }
            }
            None => {
                // SAFETY: no argument is passed.
                unsafe { submitter.enter::<libc::sigset_t>(queued, 1, ENTER_GETEVENTS, None) }
            }
            Some(timeout) => {
                let timeout = types::Timespec::from(timeout);
                let arguments = types::SubmitArgs::new().timespec(&timeout);
                let flags = ENTER_GETEVENTS | ENTER_EXT_ARG;
                // SAFETY: the flag says what the argument is; both live until the call returns.
                unsafe { submitter.enter(queued, 1, flags, Some(&arguments)) }
            }
        };
        match result {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                // The time is up; or there are completions to be taken first; or the kernel is short of memory, and
                // what is queued stays queued.
                Some(libc::ETIME | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error),
            },
        }
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ring")
    }
}

fn builder() -> io_uring::Builder {
    let mut builder = IoUring::builder();
    builder.dontfork().setup_single_issuer().setup_defer_taskrun().setup_submit_all().setup_clamp();
    builder.setup_cqsize(RING_COMPLETIONS);
    builder
}

/// A receive that goes on until it is cancelled, one buffer at a time.
fn receive_entry(socket: RawFd, request: Request) -> squeue::Entry {
    let receive = opcode::RecvMulti::new(types::Fd(socket), GROUP).len(RING_BUFFER_BYTES as u32);
    let mut entry = receive.build().user_data(request.name());
    const { assert!(size_of::<squeue::Entry>() == 64) };
    // SAFETY: an entry is a `struct io_uring_sqe` (`repr(C)`), whose `ioprio` is the u16 at its third byte. The cap
    // is only kept by requests that may take several buffers; being that of one, it never gives them a second.
    unsafe { *(&raw mut entry).cast::<u16>().add(1) |= RECEIVE_BUNDLE | RECEIVE_POLL_FIRST };
    entry
}

/// A request whose success is of no interest.
fn quietly(entry: squeue::Entry) -> squeue::Entry {
    let request = Request { operation: Operation::Cancel, slot: 0, generation: 0 };
    entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(request.name())
}

/// Runs something on a thread that ends with it. The kernel notifies whoever created a ring when the ring goes, and the
/// notification interrupts what that thread then waits in (`EINTR`): it is not to be one of the host's.
fn aside<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("resay-ring".into()).spawn_scoped(scope, || {
            sys::block_signals();
            work()
        })?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that was to ask for it panicked")))
    })
}

/// Receives something as the driver does.
fn probe_capped_receive(mut ring: Ring) -> io::Result<()> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ring.push(receive_entry(
        ours.as_raw_fd(),
        Request { operation: Operation::Receive, slot: 0, generation: 0 },
    ))?;
    sys::send(theirs.as_fd(), b"?")?;
    ring.enter(Some(Duration::from_secs(1)))?;
    let Some(completion) = ring.0.completion().next() else { return Err(io::ErrorKind::TimedOut.into()) };
    match completion.result() {
        1 => Ok(()),
        error if error < 0 => Err(io::Error::from_raw_os_error(-error)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

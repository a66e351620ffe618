//! Completions out of readiness: epoll(7). Try the operation; where it cannot go on, wait for the edge that says it can.
//!
//! ```text
//!  a turn:  wait ── one epoll_wait
//!           next ── for each event: note what it says, one recv, Received ── send_from_recv_buf: one send
//!                   then for each socket in the queue: the same
//! ```
//!
//! A turn walks the list of events, and then the part of the queue that the turn began with: sockets that had more than
//! one read brings, and those that the worker resumed or drains. A socket is at most once in the queue, and an event of
//! one that is in it only adds to what is known, so each has one read a turn.
//!
//! Readiness is remembered a socket (`READABLE`, `WRITABLE`), so an edge is never lost while a socket is paused,
//! and a read that brought less than it asked for needs no second one: the next byte is a new edge. Writability
//! is only registered while a send waits for it, since unix sockets report it with every byte that the
//! peer reads.
//!
//! In a foreign loop a stream that is alone is read without asking epoll first: see `guess.rs`.
//!
//! A slot is 24 bytes; what only a slow peer needs is allocated for it alone. An event bears the socket's whole token, so one
//! that was waiting for a closed socket is never taken for its successor's.

mod datagrams;
mod guess;
mod slot;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;

use self::guess::Guess;
use self::slot::{
    AWAITS_WRITE, BROKEN, COALESCED, DRAINING, ENDED, PAUSED, QUEUED, READ_TO_END, READABLE, REPORTS, Role,
    Slot, WRITABLE, retry,
};
use super::chunks::Chunks;
use super::{Close, Completion, Datagram, Progress, RecvBuf, Token};
use crate::buffer::{Outgoing, Pool};
use crate::limits::{
    ACCEPT_BURST, DATAGRAM_BATCH, DATAGRAM_BATCH_BYTES, EVENTS_PER_WAIT, HEADROOM_BYTES, TURN_FLOOD_BYTES,
    UDP_DATAGRAM_BYTES_MAX,
};
use crate::peer::{Peer, SocketKind};
use crate::sys::epoll::{EpollFd, IN, OUT, PRI, RDHUP, Waker};
use crate::sys::{self, Batch, Descriptors, Record, ReplyTo, Timer};
use crate::timer::Moment;

/// What every socket is registered for. Urgent bytes are in the stream like all others, but reads stop at them.
const READING: u32 = IN | PRI | RDHUP;
/// Records of one seqpacket connection that are read in a turn before the others have theirs.
const RECORD_BURST: u8 = 16;

/// The readiness driver.
#[derive(Debug)]
pub(crate) struct Epoll {
    /// For each token's index what is known of its socket.
    slots: Chunks<Slot>,
    io: Io,
    /// Streams that are not closed and have no socket any more, with what is unsent of each: see [`lose`](Epoll::lose).
    lost: Vec<(Token, usize)>,
}

/// All but the slots, so that a slot and this can be used at once.
#[derive(Debug)]
struct Io {
    epoll: EpollFd,
    waker: RawFd,
    /// Since a foreign loop watches the instance: what makes it readable when something is due, and for when it is set.
    timer: Option<(Timer, Moment)>,
    guess: Guess,
    /// How many events the last wait brought, and how many of them were looked at.
    events: usize,
    events_seen: usize,
    now: Moment,
    /// Sockets that may have something to do; each at most once.
    queue: VecDeque<Token>,
    /// How many of the queue belong to this turn.
    budget: usize,
    /// Bytes of the reads of this turn that filled their buffers. From [`TURN_FLOOD_BYTES`] on the rest of the queue waits for
    /// the next turn, behind whoever has something new.
    flood_bytes: usize,
    buffer: Vec<u8>,
    recv: RecvState,
    batch: Option<Batch>,
    /// Memory for the name of a datagram's sender.
    sender: Peer,
    answered: VecDeque<(Token, usize, io::Result<usize>)>,
    /// Memory of answers that have left.
    spent: Vec<Vec<u8>>,
    descriptors: Arc<Descriptors>,
}

/// What is in the receive buffer.
#[derive(Debug, Clone, Copy)]
enum RecvState {
    Nothing,
    Stream {
        len: usize,
    },
    /// Datagrams in the batch, of which those are truncated that are longer than `message_bytes_max`.
    Datagrams {
        token: Token,
        message_bytes_max: usize,
    },
}

impl Epoll {
    /// A driver, and what wakes it from another thread.
    pub(crate) fn new() -> io::Result<(Epoll, Arc<Waker>)> {
        let epoll = EpollFd::new(EVENTS_PER_WAIT)?;
        let waker = Arc::new(epoll.waker()?);
        let io = Io {
            epoll,
            waker: waker.as_raw_fd(),
            timer: None,
            guess: Guess::default(),
            events: 0,
            events_seen: 0,
            // A worker may be told to drain within some time before it has waited once.
            now: Moment::from_micros(sys::monotonic_micros()),
            queue: VecDeque::new(),
            budget: 0,
            flood_bytes: 0,
            buffer: Vec::new(),
            recv: RecvState::Nothing,
            batch: None,
            sender: Peer::Unnamed,
            answered: VecDeque::new(),
            spent: Vec::new(),
            descriptors: Arc::default(),
        };
        Ok((Epoll { slots: Chunks::new(), io, lost: Vec::new() }, waker))
    }

    /// The epoll instance: readable when `wait` would find something.
    pub(crate) fn poll_fd(&self) -> RawFd {
        self.io.epoll.as_raw_fd()
    }

    /// The same for a foreign loop: from now on also readable when the moment of [`set_timer`](Epoll::set_timer) comes.
    pub(crate) fn foreign_poll_fd(&mut self) -> io::Result<RawFd> {
        if self.io.timer.is_none() {
            let timer = self.io.epoll.timer()?;
            self.io.descriptors.add(timer.as_raw_fd());
            self.io.timer = Some((timer, Moment::NEVER));
        }
        Ok(self.poll_fd())
    }

    /// Whether one watches it.
    pub(crate) fn has_foreign_loop(&self) -> bool {
        self.io.timer.is_some()
    }

    /// Makes the descriptor readable at `due` at the latest, if a foreign loop watches it. A deadline that has only moved later
    /// costs no call: the loop then comes once in vain.
    pub(crate) fn set_timer(&mut self, due: Moment, now: Moment) {
        if let Some((timer, set)) = &mut self.io.timer
            && (due < *set || *set <= now)
        {
            timer.set((due != Moment::NEVER).then(|| due.as_micros()));
            *set = due;
        }
    }

    /// What wakes it.
    pub(crate) fn waker_fd(&self) -> RawFd {
        self.io.waker
    }

    /// The sockets that this driver has; see [`Descriptors`].
    pub(crate) fn descriptors(&self) -> &Arc<Descriptors> {
        &self.io.descriptors
    }

    /// Whether the next turn has work without waiting.
    pub(crate) fn has_leftovers(&self) -> bool {
        !self.io.queue.is_empty()
    }

    /// Whether the last wait found as many events as it may, so that there may be more.
    pub(crate) fn has_more_events(&self) -> bool {
        self.io.events == EVENTS_PER_WAIT
    }

    /// Reads the clock, for a turn in which something else waited.
    pub(crate) fn set_now(&mut self) {
        self.io.now = self.read_clock();
    }

    fn insert(&mut self, token: Token, socket: OwnedFd, role: Role, read_bytes_max: usize) -> io::Result<()> {
        if let Err(error) = self.io.epoll.watch(socket.as_fd(), name_of(token), READING) {
            return self.io.descriptors.close(socket, error);
        }
        self.io.descriptors.add(socket.as_raw_fd());
        let read_bytes_max = u32::try_from(read_bytes_max).unwrap_or(u32::MAX);
        self.slots.put(token.index(), Slot::new(socket, token.version(), role, read_bytes_max));
        Ok(())
    }

    /// Gives the socket of a stream or a listener to whoever will serve it from now on, if nothing of it is pending here.
    pub(crate) fn hand_over(&mut self, token: Token) -> Option<OwnedFd> {
        let slot = self.slot_mut(token)?;
        let is_pending = slot.outgoing.is_some() || slot.flags.has_any(PAUSED | DRAINING | ENDED);
        if is_pending || !matches!(slot.role, Role::Stream | Role::UnixStream | Role::Listener) {
            return None;
        }
        let slot = self.slots.take(token.index())?;
        // Fails on nothing that was registered; what is left registered would only wake in vain.
        let _ = self.io.epoll.unwatch(slot.socket.as_fd());
        Some(slot.socket)
    }

    /// Sends what somebody else has begun to send; [`Completion::Sent`] follows.
    pub(crate) fn go_on_sending(&mut self, token: Token, outgoing: Outgoing) -> io::Result<()> {
        let slot = self.slots.get_mut(token.index()).ok_or_else(gone)?;
        match self.io.wait_to_write(slot, token, outgoing) {
            Progress::Failed(error) => Err(error),
            Progress::Pending | Progress::Submitted | Progress::Done(_) => Ok(()),
        }
    }

    pub(crate) fn socket(&self, token: Token) -> Option<BorrowedFd<'_>> {
        self.slot(token).map(|slot| slot.socket.as_fd())
    }

    /// Whether a socket is a listener that is here.
    pub(crate) fn is_listener(&self, token: Token) -> bool {
        self.slot(token).is_some_and(|slot| slot.role == Role::Listener)
    }

    /// Notes what is unsent of a stream whose socket is gone, until the worker closes it.
    #[cold]
    #[inline(never)]
    pub(crate) fn lose(&mut self, token: Token, unsent: usize) -> Progress {
        self.lost.retain(|(lost, _)| *lost != token);
        self.lost.push((token, unsent));
        Progress::Failed(gone())
    }

    fn slot(&self, token: Token) -> Option<&Slot> {
        self.slots.get(token.index()).filter(|slot| slot.version == token.version())
    }

    #[inline]
    fn slot_mut(&mut self, token: Token) -> Option<&mut Slot> {
        self.slots.get_mut(token.index()).filter(|slot| slot.version == token.version())
    }

    /// The peer did not take all of a part of the receive buffer.
    #[cold]
    #[inline(never)]
    fn send_rest(
        &mut self,
        token: Token,
        range: Range<usize>,
        result: io::Result<usize>,
        pool: &mut Pool,
    ) -> Progress {
        let sent = match result {
            Ok(sent) => sent,
            // Not `Done`, even where there are 0 bytes to send: an empty record is something.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => {
                if let Some(slot) = self.slots.get_mut(token.index()) {
                    slot.fail_send(Box::new(Outgoing::new(pool.copy_of(&self.io.buffer[range]))));
                }
                return Progress::Failed(error);
            }
        };
        let Some(slot) = self.slots.get_mut(token.index()) else { return Progress::Failed(gone()) };
        let Some(bytes) = pool.try_copy_of(&self.io.buffer[range]) else {
            return Progress::Failed(io::ErrorKind::OutOfMemory.into());
        };
        let mut outgoing = Outgoing::new(bytes);
        outgoing.advance(sent);
        self.io.wait_to_write(slot, token, outgoing)
    }

    /// Waits for events.
    #[inline(always)]
    fn ask(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.io.events_seen = 0;
        self.io.events = 0;
        let result = self.io.epoll.wait(timeout);
        self.io.now = self.read_clock();
        self.io.events = result?;
        if self.io.timer.is_some() {
            self.note_lone();
        }
        Ok(())
    }

    /// In a foreign loop, has the stream read that is probably what the loop has found ready; whether there is one.
    #[inline(never)]
    fn guess(&mut self) -> bool {
        let io = &mut self.io;
        let Some(token) = io.guess.likely() else { return false };
        let slot = self.slots.get_mut(token.index()).filter(|slot| slot.version == token.version());
        let is_open =
            |slot: &&mut Slot| slot.outgoing.is_none() && !slot.flags.has_any(PAUSED | ENDED | DRAINING);
        let Some(slot) = slot.filter(is_open) else { return false };
        slot.flags.set(READABLE);
        io.enqueue(slot, token, true);
        io.guess.make();
        true
    }

    /// Notes who was ready alone.
    #[inline(never)]
    fn note_lone(&mut self) {
        let is_stream =
            |token| self.slot(token).is_some_and(|slot| matches!(slot.role, Role::Stream | Role::UnixStream));
        let lone = match self.io.epoll.event(0) {
            Some((name, IN)) if self.io.events == 1 => Some(token_of(name)).filter(|token| is_stream(*token)),
            _ => None,
        };
        self.io.guess.note(lone);
    }

    /// Ends a batch of datagrams, or tells how its answers went.
    #[cold]
    fn next_of_batch(&mut self) -> Option<Completion<OwnedFd>> {
        self.send_replies();
        let (token, answers, result) = self.io.answered.pop_front()?;
        let memory = self.io.spent.pop().unwrap_or_default();
        Some(Completion::Answered { token, answers, result, memory })
    }
}

impl Io {
    /// Puts a socket into the queue for this turn (`now`) or the next.
    #[inline(never)]
    fn enqueue(&mut self, slot: &mut Slot, token: Token, now: bool) {
        if slot.flags.replace(QUEUED) {
            return;
        }
        if now {
            self.queue.push_front(token);
            self.budget += 1;
        } else {
            self.queue.push_back(token);
        }
    }

    /// Takes a step with a socket that may have something to do.
    #[inline]
    fn step(&mut self, slot: &mut Slot, token: Token) -> Option<Completion<OwnedFd>> {
        match slot.role {
            Role::Stream | Role::UnixStream | Role::Seqpacket => self.step_stream(slot, token),
            Role::Listener => self.step_listener(slot, token),
            Role::Datagram => self.step_datagrams(slot, token),
        }
    }

    #[inline(never)]
    fn step_listener(&mut self, slot: &mut Slot, token: Token) -> Option<Completion<OwnedFd>> {
        if !slot.may_read() {
            return None;
        }
        let completion = match retry(|| sys::accept(slot.socket.as_fd())) {
            Ok((socket, peer)) => Completion::Accepted { token, socket, peer },
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                slot.flags.clear(READABLE);
                slot.burst = 0;
                return slot.take_drained(token);
            }
            Err(error) => Completion::AcceptFailed { token, error },
        };
        slot.burst = (slot.burst + 1) % ACCEPT_BURST as u8;
        let now = slot.burst != 0;
        self.enqueue(slot, token, now);
        Some(completion)
    }

    #[inline(always)]
    fn step_stream(&mut self, slot: &mut Slot, token: Token) -> Option<Completion<OwnedFd>> {
        if slot.outgoing.is_some()
            && slot.flags.has(WRITABLE)
            && let Some(completion) = self.send_on(slot, token)
        {
            return Some(completion);
        }
        if !slot.may_read() {
            return None;
        }
        let room = slot.read_bytes_max as usize;
        if self.buffer.len() < HEADROOM_BYTES + room && !self.grow_buffer(room) {
            return slot.fail(token, io::ErrorKind::OutOfMemory.into());
        }
        let bytes = &mut self.buffer[HEADROOM_BYTES..][..room];
        let fd = slot.socket.as_fd();
        let result = match slot.role {
            Role::Stream => sys::recv(fd, bytes).map(|len| (len, false)),
            Role::UnixStream => sys::recv_unix(fd, bytes),
            _ => return self.receive_record(slot, token),
        };
        match result {
            Ok((len @ 1.., stopped)) => {
                self.recv = RecvState::Stream { len };
                // A short read has taken all there was.
                if len == room || stopped || slot.flags.has_any(READ_TO_END | DRAINING) {
                    self.flood_bytes += len;
                    self.enqueue(slot, token, false);
                } else {
                    slot.flags.clear(READABLE);
                }
                Some(Completion::Received { token, truncated: false })
            }
            Ok((0, _)) => Some(slot.end(token)),
            Err(error) => slot.fail(token, error),
        }
    }

    #[cold]
    #[inline(never)]
    fn grow_buffer(&mut self, room: usize) -> bool {
        let larger = sys::zeroed(HEADROOM_BYTES + room);
        larger.map(|larger| self.buffer = larger).is_some()
    }

    #[inline(never)]
    fn receive_record(&mut self, slot: &mut Slot, token: Token) -> Option<Completion<OwnedFd>> {
        let bytes = &mut self.buffer[HEADROOM_BYTES..][..slot.read_bytes_max as usize];
        match retry(|| sys::recv_record(slot.socket.as_fd(), bytes)) {
            Ok(Record::Data { len, truncated }) => {
                self.recv = RecvState::Stream { len };
                slot.burst = (slot.burst + 1) % RECORD_BURST;
                let now = slot.burst != 0;
                self.enqueue(slot, token, now);
                Some(Completion::Received { token, truncated })
            }
            Ok(Record::End) => Some(slot.end(token)),
            Err(error) => slot.fail(token, error),
        }
    }

    /// Sends what the peer did not take at once.
    #[cold]
    fn send_on(&mut self, slot: &mut Slot, token: Token) -> Option<Completion<OwnedFd>> {
        if slot.flags.has(BROKEN) {
            return None;
        }
        let mut outgoing = slot.outgoing.take()?;
        let unsent = outgoing.rest().len();
        match slot.flush(&mut outgoing) {
            Ok(true) => {
                if let Err(error) = self.watch_writes(slot, token, false) {
                    return Some(Completion::Failed { token, error });
                }
                if slot.flags.has_any(READABLE | DRAINING) {
                    self.enqueue(slot, token, true);
                }
                Some(Completion::Sent { token, memory: outgoing.into_bytes() })
            }
            Ok(false) => {
                let is_unmoved = outgoing.rest().len() == unsent;
                slot.outgoing = Some(outgoing);
                // The system had no memory for what the socket would take (tcp(7)). Where nothing is on its way to the peer
                // no edge follows.
                let again = if is_unmoved { self.watch_writes_anew(slot, token) } else { Ok(()) };
                again.err().map(|error| Completion::Failed { token, error })
            }
            Err(error) => {
                slot.fail_send(outgoing);
                Some(Completion::Failed { token, error })
            }
        }
    }

    #[cold]
    fn wait_to_write(&mut self, slot: &mut Slot, token: Token, outgoing: Outgoing) -> Progress {
        slot.flags.clear(WRITABLE);
        slot.outgoing = Some(Box::new(outgoing));
        match self.watch_writes(slot, token, true) {
            Ok(()) => Progress::Pending,
            Err(error) => {
                slot.flags.set(BROKEN | ENDED);
                Progress::Failed(error)
            }
        }
    }

    /// (De)registers for writability. Registering anew reports what is already there, so no edge is lost.
    fn watch_writes(&mut self, slot: &mut Slot, token: Token, watch: bool) -> io::Result<()> {
        if slot.flags.has(AWAITS_WRITE) == watch {
            return Ok(());
        }
        slot.flags.put(AWAITS_WRITE, watch);
        if watch {
            return self.watch_writes_anew(slot, token);
        }
        self.epoll.watch_again(slot.socket.as_fd(), name_of(token), READING)
    }

    fn watch_writes_anew(&mut self, slot: &Slot, token: Token) -> io::Result<()> {
        self.epoll.watch_again(slot.socket.as_fd(), name_of(token), READING | OUT)
    }
}

/// See [`Driver`](super::Driver).
impl Epoll {
    #[inline]
    pub(crate) fn now(&self) -> Moment {
        self.io.now
    }

    pub(crate) fn read_clock(&self) -> Moment {
        Moment::from_micros(sys::monotonic_micros())
    }

    #[inline(always)]
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let io = &mut self.io;
        // Edges that a turn that was broken off has not looked at do not come again.
        while let Some((name, events)) = io.epoll.event(io.events_seen) {
            io.events_seen += 1;
            if let Some(slot) = self.slots.get_mut(token_of(name).index())
                && slot.version == token_of(name).version()
            {
                slot.note(events);
                io.enqueue(slot, token_of(name), false);
            }
        }
        io.budget = io.queue.len();
        io.flood_bytes = 0;
        let timeout = if io.budget == 0 { timeout } else { Some(Duration::ZERO) };
        let is_guessed =
            io.timer.is_some() && timeout == Some(Duration::ZERO) && io.queue.is_empty() && self.guess();
        if is_guessed {
            self.io.now = self.read_clock();
            return Ok(());
        }
        self.ask(timeout)
    }

    /// See [`Driver::wait_again`](super::Driver::wait_again).
    pub(crate) fn wait_again(&mut self) -> bool {
        // An error comes again with the next wait.
        self.io.guess.is_this_turn() && self.ask(Some(Duration::ZERO)).is_ok() && self.io.events > 0
    }

    pub(crate) fn has_found(&self) -> bool {
        self.io.events > 0 || !self.io.queue.is_empty()
    }

    #[inline(always)]
    pub(crate) fn next(&mut self) -> Option<Completion<OwnedFd>> {
        if (matches!(self.io.recv, RecvState::Datagrams { .. }) || !self.io.answered.is_empty())
            && let Some(completion) = self.next_of_batch()
        {
            return Some(completion);
        }
        let io = &mut self.io;
        io.recv = RecvState::Nothing;
        while let Some((name, events)) = io.epoll.event(io.events_seen) {
            io.events_seen += 1;
            let token = token_of(name);
            let Some(slot) = self.slots.get_mut(token.index()) else { continue };
            if slot.version != token.version() {
                continue;
            }
            slot.note(events);
            // One in the queue has its turn there.
            if !slot.flags.has(QUEUED)
                && let Some(completion) = io.step(slot, token)
            {
                return Some(completion);
            }
        }
        while io.budget > 0 && io.flood_bytes < TURN_FLOOD_BYTES {
            io.budget -= 1;
            let token = io.queue.pop_front()?;
            let Some(slot) = self.slots.get_mut(token.index()) else { continue };
            if slot.version == token.version() {
                slot.flags.clear(QUEUED);
                if let Some(completion) = io.step(slot, token) {
                    return Some(completion);
                }
            }
        }
        None
    }

    pub(crate) fn add_listener(&mut self, token: Token, socket: OwnedFd) -> io::Result<()> {
        self.insert(token, socket, Role::Listener, 0)
    }

    pub(crate) fn accept_waiting(&mut self, token: Token) -> Option<io::Result<(OwnedFd, Peer)>> {
        let socket = self.socket(token)?;
        match retry(|| sys::accept(socket)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            result => Some(result),
        }
    }

    pub(crate) fn add_stream(
        &mut self,
        token: Token,
        socket: OwnedFd,
        kind: SocketKind,
        read_bytes_max: usize,
    ) -> io::Result<()> {
        let prepared = match kind {
            SocketKind::UnixSeqpacket => sys::tell_empty_records(socket.as_fd()).map(|()| Role::Seqpacket),
            // Unlike TCP's, it is not inherited from the listener.
            SocketKind::UnixStream => sys::keep_urgent_inline(socket.as_fd()).map(|()| Role::UnixStream),
            _ => Ok(Role::Stream),
        };
        let role = match prepared {
            // A plain receive is cheaper, and what it does not tell cannot happen any more once all has been read that lies there.
            Ok(Role::UnixStream) if sys::refuses_descriptors(socket.as_fd()) => Role::Stream,
            Ok(role) => role,
            Err(error) => return self.io.descriptors.close(socket, error),
        };
        self.insert(token, socket, role, read_bytes_max)?;
        if kind == SocketKind::UnixStream
            && let Some(slot) = self.slot_mut(token)
            && slot.role == Role::Stream
        {
            slot.flags.set(READ_TO_END);
        }
        Ok(())
    }

    pub(crate) fn add_datagram_socket(
        &mut self,
        token: Token,
        socket: OwnedFd,
        message_bytes_max: usize,
        reports: bool,
    ) -> io::Result<()> {
        let is_coalesced = sys::receive_coalesced(socket.as_fd());
        let room = if is_coalesced { UDP_DATAGRAM_BYTES_MAX } else { message_bytes_max };
        if self.io.batch.as_ref().is_none_or(|batch| batch.slot_bytes() < room) {
            // Large datagrams are few.
            let slots = (DATAGRAM_BATCH_BYTES / room.max(1)).clamp(1, DATAGRAM_BATCH);
            let Some(batch) = Batch::new(slots, room) else {
                return self.io.descriptors.close(socket, io::ErrorKind::OutOfMemory.into());
            };
            self.io.batch = Some(batch);
        }
        self.insert(token, socket, Role::Datagram, message_bytes_max)?;
        if let Some(slot) = self.slot_mut(token) {
            slot.flags.put(REPORTS, reports);
            slot.flags.put(COALESCED, is_coalesced);
        }
        Ok(())
    }

    #[inline(always)]
    pub(crate) fn next_datagram(&mut self) -> Option<(Datagram, &mut [u8])> {
        self.io.next_datagram()
    }

    #[inline(always)]
    pub(crate) fn recv_buf(&mut self) -> RecvBuf<'_> {
        match self.io.recv {
            RecvState::Stream { len } => {
                RecvBuf { buffer: &mut self.io.buffer[..HEADROOM_BYTES + len], start: HEADROOM_BYTES }
            }
            RecvState::Datagrams { .. } => match self.io.batch.as_mut() {
                Some(batch) => RecvBuf { buffer: batch.datagram(), start: 0 },
                None => RecvBuf { buffer: &mut [], start: 0 },
            },
            RecvState::Nothing => RecvBuf { buffer: &mut [], start: 0 },
        }
    }

    #[inline(always)]
    pub(crate) fn send_from_recv_buf(
        &mut self,
        token: Token,
        range: Range<usize>,
        pool: &mut Pool,
    ) -> Progress {
        let Some(slot) = self.slots.get_mut(token.index()) else { return self.lose(token, range.len()) };
        debug_assert!(slot.outgoing.is_none(), "one send at a time");
        let bytes = &self.io.buffer[range.clone()];
        match sys::send(slot.socket.as_fd(), bytes) {
            Ok(sent) if sent == bytes.len() => Progress::Done(Vec::new()),
            result => self.send_rest(token, range, result, pool),
        }
    }

    pub(crate) fn send(&mut self, token: Token, bytes: Vec<u8>) -> Progress {
        let Some(slot) = self.slots.get_mut(token.index()) else { return self.lose(token, bytes.len()) };
        debug_assert!(slot.outgoing.is_none(), "one send at a time");
        let mut outgoing = Outgoing::new(bytes);
        match slot.flush(&mut outgoing) {
            Ok(true) => Progress::Done(outgoing.into_bytes()),
            Ok(false) => self.io.wait_to_write(slot, token, outgoing),
            Err(error) => {
                slot.fail_send(Box::new(outgoing));
                Progress::Failed(error)
            }
        }
    }

    pub(crate) fn unsent(&self, token: Token) -> usize {
        match self.slots.get(token.index()) {
            Some(slot) => slot.outgoing.as_ref().map_or(0, |outgoing| outgoing.rest().len()),
            None => self.lost.iter().find(|(lost, _)| *lost == token).map_or(0, |(_, unsent)| *unsent),
        }
    }

    #[inline(always)]
    pub(crate) fn reply_from_recv_buf(&mut self, range: Range<usize>) {
        if let Some(batch) = self.io.lent_batch() {
            batch.reply_in_place(range);
        }
    }

    pub(crate) fn reply(&mut self, bytes: Vec<u8>) {
        if let Some(batch) = self.io.lent_batch() {
            batch.reply(bytes);
        }
    }

    pub(crate) fn reply_to(&mut self) -> Option<ReplyTo> {
        self.io.lent_batch().map(|batch| batch.reply_to())
    }

    pub(crate) fn send_to(&mut self, token: Token, to: &ReplyTo, bytes: &[u8]) -> io::Result<usize> {
        match self.slot_mut(token) {
            Some(slot) => retry(|| to.send(slot.socket.as_fd(), bytes)),
            None => Err(gone()),
        }
    }

    pub(crate) fn sender(&mut self) -> Peer {
        let mut sender = std::mem::replace(&mut self.io.sender, Peer::Unnamed);
        if let Some(batch) = self.io.lent_batch() {
            batch.read_sender(&mut sender);
        }
        sender
    }

    pub(crate) fn recycle_peer(&mut self, peer: Peer) {
        self.io.sender = peer;
    }

    pub(crate) fn pause(&mut self, token: Token) {
        if let Some(slot) = self.slot_mut(token) {
            slot.flags.set(PAUSED);
        }
    }

    pub(crate) fn resume(&mut self, token: Token) {
        if let Some(slot) = self.slots.get_mut(token.index())
            && slot.version == token.version()
        {
            slot.flags.clear(PAUSED);
            if slot.flags.has(READABLE) {
                self.io.enqueue(slot, token, false);
            }
        }
    }

    pub(crate) fn drain(&mut self, token: Token) {
        if let Some(slot) = self.slots.get_mut(token.index())
            && slot.version == token.version()
        {
            slot.flags.set(DRAINING);
            slot.flags.put(READABLE, !slot.flags.has(ENDED));
            self.io.enqueue(slot, token, false);
        }
    }

    pub(crate) fn shutdown_write(&mut self, token: Token) -> io::Result<()> {
        match self.slot_mut(token) {
            Some(slot) => SockRef::from(&slot.socket).shutdown(std::net::Shutdown::Write),
            None => Ok(()),
        }
    }

    pub(crate) fn close(&mut self, token: Token, how: Close) {
        if self.slot_mut(token).is_none() {
            return self.lost.retain(|(lost, _)| *lost != token);
        }
        let Some(slot) = self.slots.take(token.index()) else { return };
        self.io.descriptors.remove(slot.socket.as_raw_fd());
        if matches!(slot.role, Role::Listener | Role::Datagram) {
            // Another descriptor of the socket may be open, which would keep this one in the epoll set: a later copy under the same
            // number would find the place taken (epoll(7), questions and answers 6).
            let _ = self.io.epoll.unwatch(slot.socket.as_fd());
        }
        if how == Close::Reset {
            // Fails on sockets that know no linger; then it is a plain close.
            let _ = SockRef::from(&slot.socket).set_linger(Some(Duration::ZERO));
        }
        // Dropping the descriptor closes it and takes it out of the epoll set (epoll(7)). Its place in the queue, if it has one,
        // finds nobody.
    }
}

/// What an event of a socket is called.
#[inline]
fn name_of(token: Token) -> u64 {
    u64::from(token.version()) << 32 | token.index() as u64
}

#[inline]
fn token_of(name: u64) -> Token {
    Token::new(name as u32, (name >> 32) as u32)
}

fn gone() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

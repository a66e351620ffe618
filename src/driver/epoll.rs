//! Completions out of readiness: epoll through mio. Try the operation; where it cannot go
//! on, wait for the edge that says it can.
//!
//! Readiness is remembered a socket (`readable`, `writable`), so an edge is never lost while a socket is paused,
//! and a read that brought less than it asked for needs no second one: the next byte is a new edge. Writability
//! is only registered while a send waits for it, since unix sockets report it with every byte that the
//! peer reads.

mod datagrams;

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Waker};
use socket2::SockRef;

use super::{Close, Completion, Driver, Progress, RecvBuf, Token};
use crate::buffer::{Outgoing, Pool};
use crate::limits::{ACCEPT_BURST, DATAGRAM_BATCH, EVENTS_PER_WAIT, HEADROOM_BYTES, UDP_DATAGRAM_BYTES_MAX};
use crate::peer::{Peer, SocketKind};
use crate::sys::{self, Batch, Descriptors, LocalAddr, Record, Reply, ReplyTo};
use crate::timer::Moment;

/// What every socket is registered for. Urgent bytes are in the stream like all others, but reads stop at them.
const READING: Interest = Interest::READABLE.add(Interest::PRIORITY);
const WAKE: mio::Token = mio::Token(usize::MAX);
/// Records of one seqpacket connection that are read in a turn before the others have theirs.
const RECORD_BURST: u32 = 16;

/// The readiness driver.
#[derive(Debug)]
pub(crate) struct Epoll {
    poll: Poll,
    events: Events,
    /// The last wait filled all of `events`.
    was_full: bool,
    /// It found some.
    has_events: bool,
    started: Instant,
    now: Moment,
    slots: Vec<Option<Slot>>,
    /// Sockets that may have something to do; each at most once.
    queue: VecDeque<u32>,
    /// How many of the queue belong to this turn.
    budget: usize,
    buffer: Vec<u8>,
    lent: LentState,
    batch: Option<Batch>,
    /// Who sent what is in the batch's current slot, and to whom.
    from: Peer,
    to: LocalAddr,
    /// Answers to what is in the batch, with their slots.
    replies: Vec<(u16, Reply)>,
    answered: VecDeque<(Token, usize, io::Result<usize>)>,
    /// Memory of answers that have left.
    spent: Vec<Vec<u8>>,
    descriptors: Arc<Descriptors>,
}

#[derive(Debug)]
struct Slot {
    socket: OwnedFd,
    generation: u32,
    role: Role,
    readable: bool,
    writable: bool,
    paused: bool,
    /// In the queue.
    queued: bool,
    /// A short read proves nothing now: the peer has hung up, or there is something in the stream at which a read
    /// stops (urgent bytes). Read on until the kernel says that there is no more.
    read_to_end: bool,
    ended: bool,
    draining: bool,
    /// Registered for writability.
    awaits_write: bool,
    burst: u32,
    read_bytes_max: u32,
    outgoing: Option<Box<Outgoing>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Listener,
    Stream,
    UnixStream,
    Seqpacket,
    Datagram {
        /// The socket reports where each was sent to.
        destinations: bool,
        /// Many of one sender may come as one.
        is_coalesced: bool,
    },
}

#[derive(Debug, Clone, Copy)]
enum LentState {
    Nothing,
    Stream {
        len: usize,
    },
    /// Bytes `start..end` of slot `slot`, of `slots` that `token` received. All of the slot are `slot_end` bytes, cut
    /// every `segment_bytes`.
    Datagram {
        token: Token,
        slot: usize,
        slots: usize,
        start: usize,
        end: usize,
        slot_end: usize,
        segment_bytes: usize,
    },
}

impl Epoll {
    /// A driver, and what wakes it from another thread.
    pub(crate) fn new() -> io::Result<(Epoll, Arc<Waker>)> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        let epoll = Epoll {
            poll,
            events: Events::with_capacity(EVENTS_PER_WAIT),
            was_full: false,
            has_events: false,
            started: Instant::now(),
            now: Moment::from_micros(0),
            slots: Vec::new(),
            queue: VecDeque::new(),
            budget: 0,
            buffer: Vec::new(),
            lent: LentState::Nothing,
            batch: None,
            from: Peer::Unnamed,
            to: LocalAddr::Bound,
            replies: Vec::new(),
            answered: VecDeque::new(),
            spent: Vec::new(),
            descriptors: Arc::default(),
        };
        Ok((epoll, waker))
    }

    /// The descriptor that a foreign loop may watch: readable when `wait` would find something.
    pub(crate) fn poll_fd(&self) -> RawFd {
        self.poll.as_raw_fd()
    }

    /// The sockets that this driver has; see [`Descriptors`].
    pub(crate) fn descriptors(&self) -> &Arc<Descriptors> {
        &self.descriptors
    }

    /// Whether the next turn has work without waiting.
    pub(crate) fn has_leftovers(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether the last wait found as many events as it may, so that there may be more.
    pub(crate) fn has_more_events(&self) -> bool {
        self.was_full
    }

    /// Reads the clock, for a turn in which something else waited.
    pub(crate) fn set_now(&mut self) {
        self.now = self.read_clock();
    }

    fn insert(&mut self, token: Token, socket: OwnedFd, role: Role, read_bytes_max: usize) -> io::Result<()> {
        self.poll.registry().register(
            &mut SourceFd(&socket.as_raw_fd()),
            mio::Token(token.index()),
            READING,
        )?;
        if self.slots.len() <= token.index() {
            self.slots.resize_with(token.index() + 1, || None);
        }
        self.descriptors.add(socket.as_raw_fd());
        self.slots[token.index()] = Some(Slot {
            socket,
            generation: token.generation(),
            role,
            readable: false,
            writable: true,
            paused: false,
            queued: false,
            read_to_end: false,
            ended: false,
            draining: false,
            awaits_write: false,
            burst: 0,
            read_bytes_max: u32::try_from(read_bytes_max).unwrap_or(u32::MAX),
            outgoing: None,
        });
        Ok(())
    }

    /// Gives the socket of a stream or a listener to whoever will serve it from now on, if nothing of it is pending here.
    pub(crate) fn hand_over(&mut self, token: Token) -> Option<OwnedFd> {
        let slot = self.slot_mut(token)?;
        let is_pending = slot.outgoing.is_some() || slot.paused || slot.draining || slot.ended;
        if is_pending || !matches!(slot.role, Role::Stream | Role::UnixStream | Role::Listener) {
            return None;
        }
        let slot = self.slots.get_mut(token.index())?.take()?;
        // Fails on nothing that was registered; what is left registered would only wake in vain.
        let _ = self.poll.registry().deregister(&mut SourceFd(&slot.socket.as_raw_fd()));
        Some(slot.socket)
    }

    fn slot_mut(&mut self, token: Token) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(token.index())?.as_mut()?;
        (slot.generation == token.generation()).then_some(slot)
    }

    /// Puts a socket into the queue for this turn (`now`) or the next.
    fn enqueue(queue: &mut VecDeque<u32>, budget: &mut usize, slot: &mut Slot, index: usize, now: bool) {
        if slot.queued {
            return;
        }
        slot.queued = true;
        if now {
            queue.push_front(index as u32);
            *budget += 1;
        } else {
            queue.push_back(index as u32);
        }
    }

    fn step(&mut self, index: usize) -> Option<Completion<OwnedFd>> {
        let slot = self.slots.get_mut(index)?.as_mut()?;
        slot.queued = false;
        match slot.role {
            Role::Listener => self.step_listener(index),
            Role::Stream | Role::UnixStream | Role::Seqpacket => self.step_stream(index),
            Role::Datagram { destinations, is_coalesced } => {
                self.step_datagrams(index, destinations, is_coalesced)
            }
        }
    }

    fn step_listener(&mut self, index: usize) -> Option<Completion<OwnedFd>> {
        let slot = self.slots.get_mut(index)?.as_mut()?;
        if !slot.readable || slot.paused {
            return None;
        }
        let token = Token::new(index as u32, slot.generation);
        let completion = match retry(|| sys::accept(slot.socket.as_fd())) {
            Ok((socket, peer)) => Completion::Accepted { token, socket, peer },
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                slot.readable = false;
                slot.burst = 0;
                return slot.take_drained(token);
            }
            Err(error) => Completion::AcceptFailed { token, error },
        };
        slot.burst += 1;
        let now = slot.burst < ACCEPT_BURST;
        if !now {
            slot.burst = 0;
        }
        Self::enqueue(&mut self.queue, &mut self.budget, slot, index, now);
        Some(completion)
    }

    fn step_stream(&mut self, index: usize) -> Option<Completion<OwnedFd>> {
        let slot = self.slots.get_mut(index)?.as_mut()?;
        let token = Token::new(index as u32, slot.generation);
        if slot.writable
            && let Some(mut outgoing) = slot.outgoing.take()
        {
            match slot.flush(&mut outgoing) {
                Ok(true) => {
                    if let Err(error) = watch_writes(&self.poll, slot, index, false) {
                        return Some(Completion::Failed { token, error });
                    }
                    if slot.readable || slot.draining {
                        Self::enqueue(&mut self.queue, &mut self.budget, slot, index, true);
                    }
                    let memory = outgoing.into_bytes();
                    return Some(Completion::Sent { token, bytes: memory.len(), memory });
                }
                Ok(false) => slot.outgoing = Some(outgoing),
                Err(error) => return Some(Completion::Failed { token, error }),
            }
        }
        if !slot.readable || slot.paused || slot.ended {
            return None;
        }
        let room = slot.read_bytes_max as usize;
        if self.buffer.len() < HEADROOM_BYTES + room {
            self.buffer.resize(HEADROOM_BYTES + room, 0);
        }
        let bytes = &mut self.buffer[HEADROOM_BYTES..][..room];
        let fd = slot.socket.as_fd();
        let (received, is_all) = match slot.role {
            Role::Seqpacket => (retry(|| sys::recv_record(fd, bytes)), false),
            Role::UnixStream => match retry(|| sys::recv_unix(fd, bytes)) {
                Ok((len, stopped)) => (Ok(Record::of_stream(len)), len < room && !stopped),
                Err(error) => (Err(error), false),
            },
            _ => match retry(|| sys::recv(fd, bytes)) {
                Ok(len) => (Ok(Record::of_stream(len)), len < room),
                Err(error) => (Err(error), false),
            },
        };
        match received {
            Ok(Record::End) => {
                slot.ended = true;
                slot.readable = false;
                Some(Completion::Ended { token })
            }
            Ok(Record::Data { len, truncated }) => {
                let now = if slot.role == Role::Seqpacket {
                    slot.burst = (slot.burst + 1) % RECORD_BURST;
                    slot.burst != 0
                } else {
                    slot.readable = !is_all || slot.read_to_end;
                    false
                };
                if slot.readable || slot.draining {
                    // Draining is only over when the kernel says that nothing is left.
                    slot.readable = true;
                    Self::enqueue(&mut self.queue, &mut self.budget, slot, index, now);
                }
                self.lent = LentState::Stream { len };
                Some(Completion::Received { token, truncated })
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                slot.readable = false;
                slot.read_to_end = false;
                slot.burst = 0;
                slot.take_drained(token)
            }
            Err(error) => {
                slot.readable = false;
                slot.ended = true;
                Some(Completion::Failed { token, error })
            }
        }
    }
}

impl Driver for Epoll {
    type Socket = OwnedFd;

    fn now(&self) -> Moment {
        self.now
    }

    fn read_clock(&self) -> Moment {
        Moment::from_micros(u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = if self.queue.is_empty() { timeout } else { Some(Duration::ZERO) };
        let result = self.poll.poll(&mut self.events, timeout);
        self.now = self.read_clock();
        self.was_full = false;
        self.has_events = false;
        if let Err(error) = result {
            self.budget = self.queue.len();
            return Err(error);
        }
        let mut events = 0;
        for event in self.events.iter() {
            events += 1;
            let index = event.token().0;
            let Some(Some(slot)) = self.slots.get_mut(index) else { continue };
            let broken = event.is_error();
            slot.readable |= event.is_readable() || event.is_read_closed() || event.is_priority() || broken;
            slot.writable |= event.is_writable() || event.is_write_closed() || broken;
            slot.read_to_end |= event.is_read_closed() || event.is_priority() || broken;
            if !slot.queued {
                slot.queued = true;
                self.queue.push_back(index as u32);
            }
        }
        self.was_full = events == EVENTS_PER_WAIT;
        self.has_events = events > 0;
        self.budget = self.queue.len();
        Ok(())
    }

    fn has_found(&self) -> bool {
        self.has_events || !self.queue.is_empty()
    }

    fn next(&mut self) -> Option<Completion<OwnedFd>> {
        if let Some(completion) = self.continue_batch() {
            return Some(completion);
        }
        loop {
            if let Some((token, answers, result)) = self.answered.pop_front() {
                let memory = self.spent.pop().unwrap_or_default();
                return Some(Completion::Answered { token, answers, result, memory });
            }
            if self.budget == 0 {
                return None;
            }
            let index = self.queue.pop_front()?;
            self.budget -= 1;
            if let Some(completion) = self.step(index as usize) {
                return Some(completion);
            }
        }
    }

    fn add_listener(&mut self, token: Token, socket: OwnedFd) -> io::Result<()> {
        self.insert(token, socket, Role::Listener, 0)
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
                sys::tell_empty_records(socket.as_fd())?;
                Role::Seqpacket
            }
            SocketKind::UnixStream => {
                // Unlike TCP's, it is not inherited from the listener.
                sys::keep_urgent_inline(socket.as_fd())?;
                Role::UnixStream
            }
            _ => Role::Stream,
        };
        self.insert(token, socket, role, read_bytes_max)
    }

    fn add_datagram_socket(
        &mut self,
        token: Token,
        socket: OwnedFd,
        message_bytes_max: usize,
        destinations: bool,
    ) -> io::Result<()> {
        let is_coalesced = sys::receive_coalesced(socket.as_fd());
        let room = if is_coalesced { UDP_DATAGRAM_BYTES_MAX } else { message_bytes_max };
        if self.batch.as_ref().is_none_or(|batch| batch.slot_bytes() < room) {
            self.batch = Some(Batch::new(DATAGRAM_BATCH, room));
        }
        self.insert(token, socket, Role::Datagram { destinations, is_coalesced }, message_bytes_max)
    }

    fn recv_buf(&mut self) -> RecvBuf<'_> {
        match self.lent {
            LentState::Stream { len } => {
                RecvBuf { buffer: &mut self.buffer[..HEADROOM_BYTES + len], start: HEADROOM_BYTES }
            }
            LentState::Datagram { slot, start, end, .. } => match self.batch.as_mut() {
                Some(batch) => RecvBuf { buffer: &mut batch.slot(slot)[start..end], start: 0 },
                None => RecvBuf { buffer: &mut [], start: 0 },
            },
            LentState::Nothing => RecvBuf { buffer: &mut [], start: 0 },
        }
    }

    fn send_from_recv_buf(&mut self, token: Token, range: Range<usize>, pool: &mut Pool) -> Progress {
        let Some(Some(slot)) = self.slots.get_mut(token.index()) else {
            return Progress::Failed(io::ErrorKind::NotConnected.into());
        };
        debug_assert!(slot.outgoing.is_none(), "one send at a time");
        let bytes = &self.buffer[range];
        let sent = match retry(|| sys::send(slot.socket.as_fd(), bytes)) {
            Ok(sent) => Some(sent),
            // Not `Done`, even where there are 0 bytes to send: an empty record is something.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => return Progress::Failed(error),
        };
        if sent == Some(bytes.len()) {
            return Progress::Done(Vec::new());
        }
        let mut outgoing = Outgoing::new(pool.copy_of(bytes));
        outgoing.advance(sent.unwrap_or(0));
        wait_to_write(&self.poll, slot, token.index(), outgoing)
    }

    fn send(&mut self, token: Token, bytes: Vec<u8>) -> Progress {
        let Some(Some(slot)) = self.slots.get_mut(token.index()) else {
            return Progress::Failed(io::ErrorKind::NotConnected.into());
        };
        debug_assert!(slot.outgoing.is_none(), "one send at a time");
        let mut outgoing = Outgoing::new(bytes);
        match slot.flush(&mut outgoing) {
            Ok(true) => Progress::Done(outgoing.into_bytes()),
            Ok(false) => wait_to_write(&self.poll, slot, token.index(), outgoing),
            Err(error) => Progress::Failed(error),
        }
    }

    fn unsent(&self, token: Token) -> usize {
        match self.slots.get(token.index()) {
            Some(Some(slot)) => slot.outgoing.as_ref().map_or(0, |outgoing| outgoing.rest().len()),
            _ => 0,
        }
    }

    fn reply_from_recv_buf(&mut self, range: Range<usize>) {
        if let LentState::Datagram { start, .. } = self.lent {
            self.set_reply(Reply::InPlace(start + range.start..start + range.end));
        }
    }

    fn reply(&mut self, bytes: Vec<u8>) {
        self.set_reply(Reply::Bytes(bytes));
    }

    fn reply_to(&mut self) -> Option<ReplyTo> {
        match (self.lent, &self.batch) {
            (LentState::Datagram { slot, .. }, Some(batch)) => Some(batch.reply_to(slot)),
            _ => None,
        }
    }

    fn send_to(&mut self, token: Token, to: &ReplyTo, bytes: &[u8]) -> io::Result<usize> {
        match self.slot_mut(token) {
            Some(slot) => retry(|| to.send(slot.socket.as_fd(), bytes)),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn take_send_results(&mut self, _: Token) -> Option<(usize, io::Result<usize>)> {
        // The turn in which they left has told of all.
        None
    }

    fn recycle_peer(&mut self, peer: Peer) {
        self.from = peer;
    }

    fn pause(&mut self, token: Token) {
        if let Some(slot) = self.slot_mut(token) {
            slot.paused = true;
        }
    }

    fn resume(&mut self, token: Token) {
        if let Some(Some(slot)) = self.slots.get_mut(token.index())
            && slot.generation == token.generation()
        {
            slot.paused = false;
            if slot.readable {
                Self::enqueue(&mut self.queue, &mut self.budget, slot, token.index(), false);
            }
        }
    }

    fn drain(&mut self, token: Token) {
        if let Some(Some(slot)) = self.slots.get_mut(token.index())
            && slot.generation == token.generation()
        {
            slot.draining = true;
            slot.readable = !slot.ended;
            Self::enqueue(&mut self.queue, &mut self.budget, slot, token.index(), false);
        }
    }

    fn shutdown_write(&mut self, token: Token) -> io::Result<()> {
        match self.slot_mut(token) {
            Some(slot) => SockRef::from(&slot.socket).shutdown(std::net::Shutdown::Write),
            None => Ok(()),
        }
    }

    fn wait_closed(&mut self) {}

    fn close(&mut self, token: Token, how: Close) {
        if self.slot_mut(token).is_none() {
            return;
        }
        let slot = self.slots.get_mut(token.index()).and_then(Option::take);
        let Some(slot) = slot else { return };
        self.descriptors.remove(slot.socket.as_raw_fd());
        if how == Close::Reset {
            // Fails on sockets that know no linger; then it is a plain close.
            let _ = SockRef::from(&slot.socket).set_linger(Some(Duration::ZERO));
            // Dropping the descriptor closes it and takes it out of the epoll set (epoll(7)). Its place in the
            // queue, if it has one, finds nobody, or a successor with nothing to do.
        }
    }
}

impl Slot {
    /// Writes on; whether all of it is gone. `WouldBlock` is no error: the rest waits for the next edge.
    fn flush(&mut self, outgoing: &mut Outgoing) -> io::Result<bool> {
        loop {
            match retry(|| sys::send(self.socket.as_fd(), outgoing.rest())) {
                Ok(sent) => outgoing.advance(sent),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.writable = false;
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
            if outgoing.is_done() {
                return Ok(true);
            }
        }
    }

    fn take_drained(&mut self, token: Token) -> Option<Completion<OwnedFd>> {
        std::mem::take(&mut self.draining).then_some(Completion::Drained { token })
    }
}

fn wait_to_write(poll: &Poll, slot: &mut Slot, index: usize, outgoing: Outgoing) -> Progress {
    slot.writable = false;
    slot.outgoing = Some(Box::new(outgoing));
    match watch_writes(poll, slot, index, true) {
        Ok(()) => Progress::Pending,
        Err(error) => Progress::Failed(error),
    }
}

/// (De)registers for writability. Registering anew reports what is already there, so no edge is lost.
fn watch_writes(poll: &Poll, slot: &mut Slot, index: usize, watch: bool) -> io::Result<()> {
    if slot.awaits_write == watch {
        return Ok(());
    }
    slot.awaits_write = watch;
    let interest = if watch { READING.add(Interest::WRITABLE) } else { READING };
    poll.registry().reregister(&mut SourceFd(&slot.socket.as_raw_fd()), mio::Token(index), interest)
}

/// Repeats a call that a signal interrupted.
fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

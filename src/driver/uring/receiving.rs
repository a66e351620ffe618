//! What comes in: receives that go on by themselves, what they bring while it cannot be reported, and what a socket that is
//! being drained still has.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use io_uring::{cqueue, opcode, types};

use super::in_flight::Sending;
use super::ring::{
    Operation, Request, accept_entry, receive_entry, receive_many_entry, receive_message_entry,
    receive_once_entry, skip_success,
};
use super::slots::{
    BEGUN, CANCELLING, DRAINING, ENDED, Event, FLOODING, LEAVING, PAUSED, QUEUED, RECEIVING, Role, Slot,
};
use super::{
    Arrived, Completion, FLOOD_BYTES, FLOOD_FULL_READ, FLOOD_MIN, FLOOD_MIN_TO_STAY, RecvSource, Token,
    UNREPORTED_MAX, Uring,
};
use crate::limits::{
    HEADROOM_BYTES, READ_BYTES_MAX, RING_BUFFER_BYTES, RING_HEADROOM_BYTES, RING_MESSAGE_BUFFER_BYTES,
};
use crate::sys::{self, Presence, Record};

impl Uring {
    /// Begins to receive, unless that would be wrong now.
    pub(super) fn receive(&mut self, token: Token) -> io::Result<()> {
        let Some(slot) = self.slots.get_mut(token.index()) else { return Ok(()) };
        // What is unreported comes first; with the last of it, `step` is here again.
        let is_wrong = slot.flags.has_any(RECEIVING | PAUSED | ENDED | DRAINING | LEAVING);
        if is_wrong || !slot.unreported.is_empty() {
            return Ok(());
        }
        if !self.is_enabled {
            // The first wait does it, on the thread that the ring will belong to.
            return Ok(());
        }
        let request = Request::new(slot.role.receiving(), token);
        let socket = slot.socket.as_raw_fd();
        let goes_on = !slot.flags.has(FLOODING);
        slot.flags.put(BEGUN, goes_on && matches!(slot.role, Role::Stream | Role::UnixStream));
        let entry = match slot.role {
            Role::Stream if goes_on => receive_entry(socket, request),
            Role::UnixStream if goes_on => receive_many_entry(socket, request),
            Role::Stream | Role::UnixStream => receive_once_entry(socket, request),
            Role::Listener => accept_entry(socket, request),
            Role::Records { .. } | Role::Datagrams { .. } => {
                receive_message_entry(socket, self.messages.template(slot.role), request)
            }
        };
        self.ring.push(entry)?;
        slot.flags.set(RECEIVING);
        slot.requests += 1;
        Ok(())
    }

    /// The same where it cannot be reported at once that it fails.
    pub(super) fn receive_or_fail(&mut self, token: Token) {
        if let Err(error) = self.receive(token)
            && let Some(slot) = self.slot_mut(token)
        {
            slot.flags.set(ENDED);
            slot.unreported.push(Event::Failed(error));
            self.enqueue(token);
        }
    }

    /// Goes on where a receive is over, or empties the socket where that is asked for.
    pub(super) fn receive_on(&mut self, token: Token) {
        let Some(slot) = self.slot(token) else { return };
        if slot.flags.has(RECEIVING) {
            return;
        }
        if slot.flags.has_any(DRAINING | LEAVING) || self.is_to_leave(slot) {
            self.enqueue(token);
        } else {
            self.receive_or_fail(token);
        }
    }

    /// Whether a stream is to be released because it floods: readiness answers before it reads on, reads twice as much at
    /// once, and moves much with less.
    fn is_to_leave(&self, slot: &Slot) -> bool {
        self.releases_floods
            && slot.flags.has(FLOODING)
            && matches!(slot.role, Role::Stream | Role::UnixStream)
    }

    /// Whether a stream that is to be released can be now, with what is left of a send that the socket did not take: while
    /// it waits for its peer here, neither would be read on nor leave.
    pub(super) fn can_leave_sending(&self, token: Token) -> bool {
        self.slot(token).is_some_and(|slot| {
            self.is_to_leave(slot)
                && slot.requests == 0
                && slot.unreported.is_empty()
                && !matches!(slot.sending, Sending::Failed { .. })
                && !slot.flags.has_any(PAUSED | ENDED)
        })
    }

    /// Ends the receive; its last completion follows.
    pub(super) fn cancel_receive(&mut self, token: Token) {
        let Some(slot) = self.slots.get_mut(token.index()) else { return };
        if !slot.flags.has(RECEIVING) || slot.flags.has(CANCELLING) {
            return;
        }
        let request = Request::new(slot.role.receiving(), token);
        let cancel = opcode::AsyncCancel2::new(types::CancelBuilder::user_data(request.name()));
        // Without room for it the receive goes on, and what it brings is kept.
        slot.flags.put(CANCELLING, self.ring.push(skip_success(cancel.build())).is_ok());
    }

    /// Begins a receive anew that may have missed the end of its stream.
    ///
    /// Where bytes and the end come after the kernel's first attempt and before it waits, it is woken once for both, takes the
    /// bytes, and sees no reason to try again (Linux 6.18). That can only be with the first bytes of a receive: whatever comes
    /// later wakes it. Where it says that there is more, it goes on by itself.
    #[cold]
    fn look_for_end(&mut self, token: Token, arrived: Arrived) {
        let Some(slot) = self.slots.get(token.index()) else { return };
        if slot.flags.has(RECEIVING)
            && !cqueue::sock_nonempty(arrived.flags)
            && sys::presence(slot.socket.as_fd()) != Presence::Here
        {
            self.cancel_receive(token);
        }
    }

    /// The path of most reads: of a stream that goes on receiving and has had none in this turn, with nothing to be looked
    /// after. What is not such a read is for the general path.
    #[inline]
    pub(super) fn take_plain_read(&mut self, arrived: Arrived) -> Option<Token> {
        let Arrived { request, result, flags } = arrived;
        if request.operation != Operation::Receive || result <= 0 || !cqueue::more(flags) {
            return None;
        }
        let id = arrived.buffer()?;
        let turn = self.turn;
        let slot = self.slots.get_mut(request.index as usize)?;
        let is_plain = request.is_of(slot.version)
            && slot.flags.is(RECEIVING)
            && slot.read_in != turn
            && slot.unreported.is_empty()
            && (result as usize) < FLOOD_BYTES;
        if !is_plain {
            return None;
        }
        slot.note_read(result as usize, self.releases_floods);
        slot.count_read(turn);
        self.recv = RecvSource::Buffer { id, len: result as usize };
        Some(Token::new(request.index, slot.version))
    }

    #[inline]
    pub(super) fn take_received(&mut self, token: Token, arrived: Arrived) -> Option<Completion<OwnedFd>> {
        let slot = self.slots.get_mut(token.index())?;
        if !cqueue::more(arrived.flags) {
            slot.end_receive();
        }
        let event = match (arrived.result, arrived.buffer()) {
            (len @ 1.., Some(id)) => {
                let len = len as usize;
                slot.note_read(len, self.releases_floods);
                Event::Buffer { id, len }
            }
            (result, _) => {
                let is_draining = slot.flags.has(DRAINING);
                self.forget(arrived);
                match -result {
                    libc::ENOBUFS if !is_draining => {
                        self.buffers.note_enobufs(token);
                        return None;
                    }
                    libc::ENOBUFS | libc::ECANCELED | libc::EINTR | libc::EAGAIN => {
                        self.receive_on(token);
                        return None;
                    }
                    0 => Event::End,
                    error => Event::Failed(io::Error::from_raw_os_error(error)),
                }
            }
        };
        if self.slots.get_mut(token.index())?.flags.take(BEGUN) {
            self.look_for_end(token, arrived);
        }
        if self.slots.get(token.index())?.flags.has(FLOODING) {
            // The next receive is one of a single read, or somebody else's.
            self.cancel_receive(token);
        }
        self.report_or_keep(token, event)
    }

    /// Reports to the worker what has come, or keeps it until it may be reported.
    pub(super) fn report_or_keep(&mut self, token: Token, event: Event) -> Option<Completion<OwnedFd>> {
        let turn = self.turn;
        let slot = self.slots.get_mut(token.index())?;
        if matches!(event, Event::End | Event::Failed(_)) {
            slot.flags.set(ENDED);
        }
        if slot.flags.has(PAUSED) {
            slot.unreported.push(event);
            self.copy_unreported(token);
            self.cancel_receive(token);
            return None;
        }
        if !slot.unreported.is_empty() || !slot.may_read(turn) {
            slot.unreported.push(event);
            if slot.unreported.len() >= UNREPORTED_MAX {
                // A peer that floods has up to so many of the ring's buffers; what is more is short reads, and copied.
                slot.flags.set(FLOODING);
                self.copy_unreported(token);
                self.cancel_receive(token);
            }
            self.enqueue(token);
            return None;
        }
        if slot.flags.has(DRAINING) {
            self.enqueue(token);
        }
        if !self.slots.get(token.index())?.flags.has(RECEIVING) {
            self.receive_on(token);
        }
        self.report(token, event)
    }

    /// Reports to the worker what has come for a slot that may be read.
    fn report(&mut self, token: Token, event: Event) -> Option<Completion<OwnedFd>> {
        let turn = self.turn;
        self.slots.get_mut(token.index())?.count_read(turn);
        let mut is_truncated = false;
        self.recv = match event {
            Event::End => return Some(Completion::Ended { token }),
            Event::Failed(error) => return Some(Completion::Failed { token, error }),
            Event::Accepted { socket, peer } => return Some(Completion::Accepted { token, socket, peer }),
            Event::Buffer { id, len } => RecvSource::Buffer { id, len },
            Event::Record { id, start, end, truncated } => {
                is_truncated = truncated;
                RecvSource::Record { id, start: start as usize, end: end as usize }
            }
            Event::Bytes { bytes, truncated } => {
                is_truncated = truncated;
                RecvSource::Bytes(bytes)
            }
        };
        Some(Completion::Received { token, truncated: is_truncated })
    }

    /// Copies what waits for longer than a turn out of the ring's buffers.
    fn copy_unreported(&mut self, token: Token) {
        let Some(slot) = self.slots.get_mut(token.index()) else { return };
        for event in slot.unreported.iter_mut() {
            match *event {
                Event::Buffer { id, len } => {
                    let bytes =
                        self.buffers.bytes(id, len).get(RING_HEADROOM_BYTES..).unwrap_or_default().to_vec();
                    self.buffers.give_back(id);
                    *event = Event::Bytes { bytes, truncated: false };
                }
                Event::Record { id, start, end, truncated } => {
                    let (start, end) = (start as usize, end as usize);
                    let buffer = self.message_buffers.bytes(id, end.saturating_sub(RING_HEADROOM_BYTES));
                    let bytes = buffer.get(start..end).unwrap_or_default().to_vec();
                    self.message_buffers.give_back(id);
                    *event = Event::Bytes { bytes, truncated };
                }
                Event::Bytes { .. } | Event::Accepted { .. } | Event::End | Event::Failed(_) => {}
            }
        }
    }

    /// What a slot had left for this turn.
    pub(super) fn step(&mut self, token: Token) -> Option<Completion<OwnedFd>> {
        let turn = self.turn;
        let is_to_leave = self.slot(token).is_some_and(|slot| self.is_to_leave(slot));
        let slot = self.slot_mut(token)?;
        slot.flags.clear(QUEUED);
        if slot.flags.has(PAUSED) {
            self.copy_unreported(token);
            return None;
        }
        if !slot.may_read(turn) {
            self.enqueue(token);
            return None;
        }
        if let Some(event) = slot.unreported.pop() {
            if !slot.unreported.is_empty() || slot.flags.has_any(DRAINING | LEAVING) || is_to_leave {
                self.enqueue(token);
            } else {
                self.receive_or_fail(token);
            }
            return self.report(token, event);
        }
        if !slot.flags.has_any(DRAINING | LEAVING) {
            if !is_to_leave || slot.flags.has(ENDED) {
                self.receive_or_fail(token);
            } else if slot.requests == 0 && slot.sending == Sending::Nothing {
                self.release(token);
            } else {
                // Nothing is received any more; the end of the send brings it here again. One that waits for its peer, which
                // may be waiting for us to read, ends at once, and what is left of it goes along.
                if self.cancel_waiting_send(token).is_err() {
                    self.receive_or_fail(token);
                }
            }
            return None;
        }
        // Draining waits for the receive's last completion, which brings the slot here again.
        if slot.flags.has_any(RECEIVING | ENDED) {
            return None;
        }
        match slot.role {
            Role::Listener | Role::Datagrams { .. } if slot.requests > 0 => {
                self.enqueue(token);
                None
            }
            Role::Listener | Role::Datagrams { .. } => {
                self.release(token);
                None
            }
            Role::Stream | Role::UnixStream | Role::Records { .. } => self.read(token),
        }
    }

    /// Reads a socket that is being drained: only the kernel can say that nothing is left.
    fn read(&mut self, token: Token) -> Option<Completion<OwnedFd>> {
        const ROOM: usize = if READ_BYTES_MAX > RING_MESSAGE_BUFFER_BYTES {
            READ_BYTES_MAX
        } else {
            RING_MESSAGE_BUFFER_BYTES
        };
        let turn = self.turn;
        self.scratch.resize(HEADROOM_BYTES + ROOM, 0);
        let bytes = self.scratch.get_mut(HEADROOM_BYTES..)?;
        let slot = self.slots.get_mut(token.index())?;
        let record_bytes_max = match slot.role {
            Role::Records { limit } => self.messages.record_bytes.get(usize::from(limit)).copied(),
            _ => None,
        };
        let received = match record_bytes_max {
            Some(most) => sys::recv_record(slot.socket.as_fd(), bytes.get_mut(..most).unwrap_or_default()),
            None => {
                let bytes = bytes.get_mut(..READ_BYTES_MAX).unwrap_or_default();
                sys::recv(slot.socket.as_fd(), bytes).map(Record::of_stream)
            }
        };
        match received {
            Ok(Record::End) => {
                slot.flags.set(ENDED);
                Some(Completion::Ended { token })
            }
            Ok(Record::Data { len, truncated }) => {
                slot.count_read(turn);
                self.enqueue(token);
                self.recv = RecvSource::Scratch { len };
                Some(Completion::Received { token, truncated })
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                slot.flags.clear(DRAINING);
                self.scratch = Vec::new();
                self.receive_or_fail(token);
                Some(Completion::Drained { token })
            }
            Err(error) => {
                slot.flags.set(ENDED);
                Some(Completion::Failed { token, error })
            }
        }
    }

    /// Gives the kernel buffers, and lets those receive that found none.
    pub(super) fn refill(&mut self) {
        for token in self.buffers.refill() {
            self.receive_again(token);
        }
        for token in self.message_buffers.refill() {
            self.receive_again(token);
        }
    }

    fn receive_again(&mut self, token: Token) {
        if self.serves(token) {
            self.receive_or_fail(token);
        }
    }
}

impl Slot {
    /// A read brought so many bytes.
    #[inline]
    fn note_read(&mut self, len: usize, releases_floods: bool) {
        if len == RING_BUFFER_BYTES {
            self.flood = self.flood.saturating_add(FLOOD_FULL_READ);
            if self.flood >= if releases_floods { FLOOD_MIN } else { FLOOD_MIN_TO_STAY } {
                self.flags.set(FLOODING);
            }
            return;
        }
        if len < FLOOD_BYTES {
            self.flags.clear(FLOODING);
        }
        self.flood = if releases_floods { self.flood.saturating_sub(u8::from(len < FLOOD_BYTES)) } else { 0 };
    }
}

impl Role {
    /// What receives for it.
    fn receiving(self) -> Operation {
        match self {
            Role::Stream | Role::UnixStream => Operation::Receive,
            Role::Records { .. } | Role::Datagrams { .. } => Operation::ReceiveMessage,
            Role::Listener => Operation::Accept,
        }
    }
}

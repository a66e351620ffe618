//! What comes in: receives that go on by themselves, what they bring while it cannot be told, and what a socket that is
//! being drained still has.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use io_uring::{cqueue, opcode, types};

use super::ring::{
    Operation, Request, accept_entry, quietly, receive_entry, receive_many_entry, receive_message_entry,
    receive_once_entry,
};
use super::{
    Arrived, Completion, FLOOD_BYTES, FLOOD_READS, HELD_MAX, Held, Place, Role, Sending, Source, Uring,
};
use crate::limits::{
    HEADROOM_BYTES, READ_BYTES_MAX, RING_BUFFER_BYTES, RING_HEADROOM_BYTES, RING_MESSAGE_BUFFER_BYTES,
};
use crate::sys::{self, Record};

impl Uring {
    /// Begins to receive, unless that would be wrong now.
    pub(super) fn receive(&mut self, index: u32) -> io::Result<()> {
        let Some(Place { generation, slot: Some(slot) }) = self.slots.get_mut(index as usize) else {
            return Ok(());
        };
        let is_over = slot.is_closed || slot.has_ended || slot.is_draining || slot.is_leaving;
        // What is held comes first; with the last of it, `step` is here again.
        if slot.is_receiving || slot.is_paused || is_over || !slot.held.is_empty() {
            return Ok(());
        }
        if !self.is_enabled {
            // The first wait does it, on the thread that the ring will belong to.
            return Ok(());
        }
        let request = Request { operation: slot.role.receiving(), slot: index, generation: *generation };
        let socket = slot.socket.as_raw_fd();
        let entry = match slot.role {
            Role::Stream if !slot.is_flooding => receive_entry(socket, request),
            Role::UnixStream if !slot.is_flooding => receive_many_entry(socket, request),
            Role::Stream | Role::UnixStream => receive_once_entry(socket, request),
            Role::Listener => accept_entry(socket, request),
            Role::Records { .. } | Role::Datagrams { .. } => {
                receive_message_entry(socket, self.messages.shape(slot.role), request)
            }
        };
        self.ring.push(entry)?;
        slot.is_receiving = true;
        slot.requests += 1;
        Ok(())
    }

    /// The same where nobody can be told at once.
    pub(super) fn receive_or_fail(&mut self, index: u32) {
        if let Err(error) = self.receive(index)
            && let Some(slot) = self.slot_at(index)
        {
            slot.has_ended = true;
            slot.held.push_back(Held::Failed(error));
            self.enqueue(index);
        }
    }

    /// Goes on where a receive is over, or empties the socket where that is asked for.
    pub(super) fn receive_on(&mut self, index: u32) {
        let Some(slot) = self.slots.get(index as usize).and_then(|place| place.slot.as_ref()) else { return };
        if slot.is_receiving {
            return;
        }
        if slot.is_draining || slot.is_leaving || self.is_to_leave(slot) {
            self.enqueue(index);
        } else {
            self.receive_or_fail(index);
        }
    }

    /// Ends the receive; its last completion follows.
    pub(super) fn cancel_receive(&mut self, index: u32) {
        let Some(Place { generation, slot: Some(slot) }) = self.slots.get_mut(index as usize) else { return };
        if !slot.is_receiving || slot.is_cancelling {
            return;
        }
        let request = Request { operation: slot.role.receiving(), slot: index, generation: *generation };
        let cancel = opcode::AsyncCancel2::new(types::CancelBuilder::user_data(request.name()));
        // Without room for it the receive goes on, and so does the holding.
        slot.is_cancelling = self.ring.push(quietly(cancel.build())).is_ok();
    }

    pub(super) fn take_received(&mut self, index: u32, arrived: Arrived) -> Option<Completion<OwnedFd>> {
        let slot = self.slots.get_mut(index as usize)?.slot.as_mut()?;
        if !cqueue::more(arrived.flags) {
            slot.end_receive();
        }
        if slot.is_closed {
            self.forget(arrived);
            self.free_if_over(index);
            return None;
        }
        let held = match (arrived.result, arrived.buffer()) {
            (len @ 1.., Some(id)) => {
                let len = len as usize;
                let is_full = len == RING_BUFFER_BYTES;
                slot.full_reads = if is_full { slot.full_reads.saturating_add(1) } else { 0 };
                slot.is_flooding &= len >= FLOOD_BYTES;
                slot.is_flooding |= slot.full_reads >= FLOOD_READS;
                Held::Ring { id, len }
            }
            (result, _) => {
                let is_draining = slot.is_draining;
                self.forget(arrived);
                match -result {
                    libc::ENOBUFS if !is_draining => {
                        self.buffers.lacked_by(index);
                        return None;
                    }
                    libc::ENOBUFS | libc::ECANCELED | libc::EINTR | libc::EAGAIN => {
                        self.receive_on(index);
                        return None;
                    }
                    0 => Held::End,
                    error => Held::Failed(io::Error::from_raw_os_error(error)),
                }
            }
        };
        if self.slots.get(index as usize)?.slot.as_ref().is_some_and(|slot| slot.is_flooding) {
            // The next receive is one of a single read, or readiness's.
            self.cancel_receive(index);
        }
        self.hold_or_report(index, held)
    }

    /// Tells the worker what has come, or keeps it until it may be told.
    pub(super) fn hold_or_report(&mut self, index: u32, held: Held) -> Option<Completion<OwnedFd>> {
        let turn = self.turn;
        let slot = self.slots.get_mut(index as usize)?.slot.as_mut()?;
        slot.has_ended |= matches!(held, Held::End | Held::Failed(_));
        if slot.is_paused {
            slot.held.push_back(held);
            self.keep_held(index);
            self.cancel_receive(index);
            return None;
        }
        if !slot.held.is_empty() || !slot.may_read(turn) {
            slot.held.push_back(held);
            if slot.held.len() >= HELD_MAX {
                // A peer that floods holds up to so many of the ring's buffers; what is more is short reads, and copied.
                slot.is_flooding = true;
                self.keep_held(index);
                self.cancel_receive(index);
            }
            self.enqueue(index);
            return None;
        }
        if slot.is_draining {
            self.enqueue(index);
        }
        self.receive_on(index);
        self.report(index, held)
    }

    /// Tells the worker what has come for a slot that may be read.
    fn report(&mut self, index: u32, held: Held) -> Option<Completion<OwnedFd>> {
        let turn = self.turn;
        let slot = self.slot_at(index)?;
        slot.count_read(turn);
        let token = slot.token;
        let mut is_truncated = false;
        self.lent = match held {
            Held::End => return Some(Completion::Ended { token }),
            Held::Failed(error) => return Some(Completion::Failed { token, error }),
            Held::Accepted { socket, peer } => return Some(Completion::Accepted { token, socket, peer }),
            Held::Ring { id, len } => Source::Ring { id, len },
            Held::Record { id, start, end, truncated } => {
                is_truncated = truncated;
                Source::Record { id, start: start as usize, end: end as usize }
            }
            Held::Bytes { bytes, truncated } => {
                is_truncated = truncated;
                Source::Bytes(bytes)
            }
        };
        Some(Completion::Received { token, truncated: is_truncated })
    }

    /// Copies what waits for longer than a turn out of the ring's buffers.
    fn keep_held(&mut self, index: u32) {
        let Some(slot) = self.slots.get_mut(index as usize).and_then(|place| place.slot.as_mut()) else {
            return;
        };
        for held in &mut slot.held {
            match *held {
                Held::Ring { id, len } => {
                    let bytes =
                        self.buffers.bytes(id, len).get(RING_HEADROOM_BYTES..).unwrap_or_default().to_vec();
                    self.buffers.give_back(id);
                    *held = Held::Bytes { bytes, truncated: false };
                }
                Held::Record { id, start, end, truncated } => {
                    let (start, end) = (start as usize, end as usize);
                    let buffer = self.message_buffers.bytes(id, end.saturating_sub(RING_HEADROOM_BYTES));
                    let bytes = buffer.get(start..end).unwrap_or_default().to_vec();
                    self.message_buffers.give_back(id);
                    *held = Held::Bytes { bytes, truncated };
                }
                Held::Bytes { .. } | Held::Accepted { .. } | Held::End | Held::Failed(_) => {}
            }
        }
    }

    /// What a slot had left for this turn.
    pub(super) fn step(&mut self, index: u32) -> Option<Completion<OwnedFd>> {
        let turn = self.turn;
        let place = self.slots.get(index as usize);
        let is_to_leave =
            place.and_then(|place| place.slot.as_ref()).is_some_and(|slot| self.is_to_leave(slot));
        let slot = self.slot_at(index)?;
        slot.is_queued = false;
        if slot.is_closed || slot.is_paused {
            self.keep_held(index);
            return None;
        }
        if !slot.may_read(turn) {
            self.enqueue(index);
            return None;
        }
        if let Some(held) = slot.held.pop_front() {
            if slot.held.is_empty() {
                slot.held = VecDeque::new();
            }
            if !slot.held.is_empty() || slot.is_draining || slot.is_leaving || is_to_leave {
                self.enqueue(index);
            } else {
                self.receive_or_fail(index);
            }
            return self.report(index, held);
        }
        if !slot.is_draining && !slot.is_leaving {
            // While an answer waits for the peer it is read on here, lest both wait for each other.
            let is_free = slot.requests == 0 && matches!(slot.sending, Sending::Nothing) && !slot.has_ended;
            if is_free && is_to_leave {
                return self.migrate_to_epoll(index);
            }
            self.receive_or_fail(index);
            return None;
        }
        // Draining waits for the receive's last completion, which brings the slot here again.
        if slot.is_receiving || slot.has_ended {
            return None;
        }
        match slot.role {
            Role::Listener | Role::Datagrams { .. } if slot.requests > 0 => {
                self.enqueue(index);
                None
            }
            Role::Listener | Role::Datagrams { .. } => self.migrate_to_epoll(index),
            Role::Stream | Role::UnixStream | Role::Records { .. } => self.read(index),
        }
    }

    /// Reads a socket that is being drained: only the kernel can say that nothing is left.
    fn read(&mut self, index: u32) -> Option<Completion<OwnedFd>> {
        const ROOM: usize = if READ_BYTES_MAX > RING_MESSAGE_BUFFER_BYTES {
            READ_BYTES_MAX
        } else {
            RING_MESSAGE_BUFFER_BYTES
        };
        let turn = self.turn;
        self.scratch.resize(HEADROOM_BYTES + ROOM, 0);
        let bytes = self.scratch.get_mut(HEADROOM_BYTES..)?;
        let slot = self.slots.get_mut(index as usize)?.slot.as_mut()?;
        let token = slot.token;
        let record_bytes_max = match slot.role {
            Role::Records { limit } => self.messages.record_bytes.get(usize::from(limit)).copied(),
            _ => None,
        };
        let received = loop {
            let received = match record_bytes_max {
                Some(most) => {
                    sys::recv_record(slot.socket.as_fd(), bytes.get_mut(..most).unwrap_or_default())
                }
                None => {
                    let bytes = bytes.get_mut(..READ_BYTES_MAX).unwrap_or_default();
                    sys::recv(slot.socket.as_fd(), bytes).map(Record::of_stream)
                }
            };
            match received {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                received => break received,
            }
        };
        match received {
            Ok(Record::End) => {
                slot.has_ended = true;
                Some(Completion::Ended { token })
            }
            Ok(Record::Data { len, truncated }) => {
                slot.count_read(turn);
                self.enqueue(index);
                self.lent = Source::Scratch { len };
                Some(Completion::Received { token, truncated })
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

    /// Gives the kernel buffers, and lets those receive that found none.
    pub(super) fn feed(&mut self) {
        let starved = [self.buffers.feed(), self.message_buffers.feed()];
        for index in starved.into_iter().flatten() {
            self.receive_or_fail(index);
        }
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

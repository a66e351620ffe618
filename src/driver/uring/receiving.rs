//! What comes in: receives that go on by themselves, what they bring while it cannot be told, and what a socket that is
//! being drained still has.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use io_uring::{cqueue, opcode, types};

use super::ring::{Operation, Request, quietly, receive_entry, receive_once_entry};
use super::{Arrived, Completion, HELD_MAX, Held, Place, Source, Uring};
use crate::limits::{HEADROOM_BYTES, READ_BYTES_MAX, RING_HEADROOM_BYTES};
use crate::sys;

impl Uring {
    /// Begins to receive, unless that would be wrong now.
    pub(super) fn receive(&mut self, index: u32) -> io::Result<()> {
        let Some(Place { generation, slot: Some(slot) }) = self.slots.get_mut(index as usize) else {
            return Ok(());
        };
        if slot.is_receiving || slot.is_closed || slot.is_paused || slot.is_draining || slot.has_ended {
            return Ok(());
        }
        let request = Request { operation: Operation::Receive, slot: index, generation: *generation };
        let socket = slot.socket.as_raw_fd();
        let entry = if slot.receives_once {
            receive_once_entry(socket, request)
        } else {
            receive_entry(socket, request)
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

    /// Ends the receive; its last completion follows.
    pub(super) fn cancel_receive(&mut self, index: u32) {
        let Some(Place { generation, slot: Some(slot) }) = self.slots.get_mut(index as usize) else { return };
        if !slot.is_receiving || slot.is_cancelling {
            return;
        }
        let request = Request { operation: Operation::Receive, slot: index, generation: *generation };
        let cancel = opcode::AsyncCancel2::new(types::CancelBuilder::user_data(request.name()));
        // Without room for it the receive goes on, and so does the holding.
        slot.is_cancelling = self.ring.push(quietly(cancel.build())).is_ok();
    }

    pub(super) fn take_received(&mut self, index: u32, arrived: Arrived) -> Option<Completion<OwnedFd>> {
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
                // A peer that floods holds up to so many of the ring's buffers; what is more is short reads, and copied.
                self.keep_held(index);
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
    pub(super) fn step(&mut self, index: u32) -> Option<Completion<OwnedFd>> {
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

    /// Gives the kernel buffers, and those a receive that found none.
    pub(super) fn feed(&mut self) {
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
}

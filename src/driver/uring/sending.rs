//! Answers on their way out.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use io_uring::{opcode, types};

use super::in_flight::Sending;
use super::ring::{Operation, Request, skip_success};
use super::slots::FLOODING;
use super::{Arrived, Completion, Progress, Token, Uring};
use crate::buffer::Outgoing;
use crate::limits::RING_HEADROOM_BYTES;
use crate::sys;

impl Uring {
    pub(super) fn begin_send(&mut self, token: Token, sending: Sending) -> Progress {
        let Some(slot) = self.slots.get_mut(token.index()) else {
            return Progress::Failed(io::ErrorKind::NotConnected.into());
        };
        debug_assert!(slot.sending == Sending::Nothing, "one send at a time");
        slot.sending = sending;
        if self.is_alone {
            return self.send_now(token);
        }
        match self.submit_send(token) {
            Ok(()) => Progress::Pending,
            Err(error) => {
                self.fail_send(token);
                Progress::Failed(error)
            }
        }
    }

    /// Puts memory of the worker's where it stays until the kernel has sent it.
    pub(super) fn own(&mut self, outgoing: Outgoing) -> Sending {
        Sending::Owned { place: self.owned.insert(outgoing) as u32 }
    }

    /// Sends by a call of its own: for one answer that costs less than the way through the ring.
    fn send_now(&mut self, token: Token) -> Progress {
        let Some(slot) = self.slots.get(token.index()) else {
            return Progress::Failed(io::ErrorKind::NotConnected.into());
        };
        let rest = slot.sending.rest(&mut self.buffers, &self.owned);
        let result = sys::send(slot.socket.as_fd(), rest);
        let result = match result {
            Ok(sent) => sent as i32,
            Err(error) => -error.raw_os_error().unwrap_or(libc::EIO),
        };
        match self.take_send_result(token, result, false) {
            Some(Completion::Sent { memory, .. }) => Progress::Done(memory),
            Some(Completion::Failed { error, .. }) => Progress::Failed(error),
            _ => Progress::Pending,
        }
    }

    /// Gives back what a send had that failed, and keeps how much of it is unsent.
    #[cold]
    pub(super) fn fail_send(&mut self, token: Token) {
        let Some(slot) = self.slots.get_mut(token.index()).filter(|slot| slot.version == token.version())
        else {
            return;
        };
        let unsent = u32::try_from(slot.sending.unsent(&self.owned)).unwrap_or(u32::MAX);
        let sending = std::mem::replace(&mut slot.sending, Sending::Failed { unsent });
        self.forget_send(sending);
    }

    /// Gives back what a send had.
    pub(super) fn forget_send(&mut self, sending: Sending) {
        match sending {
            Sending::Nothing | Sending::Failed { .. } => {}
            Sending::Buffer { id, waits, .. } => self.buffers.release(id, waits),
            Sending::Owned { place, .. } => drop(self.owned.take(place as usize)),
        }
    }

    /// Hands what is to be sent to the kernel.
    fn submit_send(&mut self, token: Token) -> io::Result<()> {
        let Some(slot) = self.slots.get_mut(token.index()) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        if matches!(slot.sending, Sending::Nothing | Sending::Failed { .. }) {
            return Ok(());
        }
        let rest = slot.sending.rest(&mut self.buffers, &self.owned);
        let len = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        let send = opcode::Send::new(types::Fd(slot.socket.as_raw_fd()), rest.as_ptr(), len)
            .flags(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
            .build()
            .user_data(Request::new(Operation::Send, token).name());
        self.ring.push(send)?;
        slot.requests += 1;
        Ok(())
    }

    /// Sends on when the socket takes more. The request to send must not wait for that itself: it may then only come
    /// back when all has been sent, and nobody sees that the peer reads.
    fn wait_to_send(&mut self, token: Token) -> io::Result<()> {
        let Some(slot) = self.slots.get_mut(token.index()) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let poll = opcode::PollAdd::new(types::Fd(slot.socket.as_raw_fd()), libc::POLLOUT as u32);
        self.ring.push(poll.build().user_data(Request::new(Operation::Writable, token).name()))?;
        slot.requests += 1;
        Ok(())
    }

    /// Ends the poll of a send that waits until the socket takes more; its completion follows.
    pub(super) fn cancel_waiting_send(&mut self, token: Token) -> io::Result<()> {
        let name = Request::new(Operation::Writable, token).name();
        let cancel = opcode::AsyncCancel2::new(types::CancelBuilder::user_data(name));
        self.ring.push(skip_success(cancel.build()))
    }

    pub(super) fn take_sent(&mut self, token: Token, arrived: Arrived) -> Option<Completion<OwnedFd>> {
        self.slot_mut(token)?.requests -= 1;
        self.take_send_result(token, arrived.result, true)
    }

    /// What send(2) said about a slot's answer. `is_in_turn`: it came as a completion, so that the socket may be released.
    fn take_send_result(
        &mut self,
        token: Token,
        result: i32,
        is_in_turn: bool,
    ) -> Option<Completion<OwnedFd>> {
        let slot = self.slots.get_mut(token.index())?;
        // Nothing is not the same as all of an empty record.
        let sent = match -result {
            ..=0 => Some(result as usize),
            libc::EAGAIN | libc::EINTR => None,
            error => {
                self.fail_send(token);
                return Some(Completion::Failed { token, error: io::Error::from_raw_os_error(error) });
            }
        };
        let may_leave = self.releases_floods && slot.flags.has(FLOODING);
        let rest = match std::mem::replace(&mut slot.sending, Sending::Nothing) {
            Sending::Nothing => return None,
            failed @ Sending::Failed { .. } => {
                slot.sending = failed;
                return None;
            }
            Sending::Buffer { id, start, len, waits } => {
                let sent = sent.unwrap_or(0);
                if sent >= len as usize {
                    self.buffers.release(id, waits);
                    if may_leave {
                        self.enqueue(token);
                    }
                    return Some(Completion::Sent { token, memory: Vec::new() });
                }
                let (start, len) = (start + sent as u32, len - sent as u32);
                if waits || self.buffers.keep() {
                    Sending::Buffer { id, start, len, waits: true }
                } else {
                    let (start, end) = (start as usize, (start + len) as usize);
                    let buffer = self.buffers.bytes(id, end.saturating_sub(RING_HEADROOM_BYTES));
                    let rest = buffer.get(start..end).unwrap_or_default().to_vec();
                    self.buffers.give_back(id);
                    Sending::Owned { place: self.owned.insert(Outgoing::new(rest)) as u32 }
                }
            }
            sending @ Sending::Owned { place } => {
                let outgoing = self.owned.get_mut(place as usize)?;
                outgoing.advance(sent.unwrap_or(0));
                if sent.is_some() && outgoing.is_done() {
                    let outgoing = self.owned.take(place as usize)?;
                    if may_leave {
                        self.enqueue(token);
                    }
                    return Some(Completion::Sent { token, memory: outgoing.into_bytes() });
                }
                sending
            }
        };
        slot.sending = rest;
        if !is_in_turn && may_leave {
            self.enqueue(token);
        }
        if !is_in_turn || !self.can_leave_sending(token) {
            return self.wait_to_send(token).err().map(|error| Completion::Failed { token, error });
        }
        self.release(token);
        None
    }

    /// What is left of a send, for whoever goes on with it.
    pub(super) fn take_outgoing(&mut self, sending: Sending) -> Option<Outgoing> {
        match sending {
            Sending::Nothing | Sending::Failed { .. } => None,
            Sending::Buffer { id, start, len, waits } => {
                let (start, end) = (start as usize, (start + len) as usize);
                let buffer = self.buffers.bytes(id, end.saturating_sub(RING_HEADROOM_BYTES));
                let rest = buffer.get(start..end).unwrap_or_default().to_vec();
                self.buffers.release(id, waits);
                Some(Outgoing::new(rest))
            }
            Sending::Owned { place } => self.owned.take(place as usize),
        }
    }

    /// A socket takes more, or is broken, which the next send will say.
    pub(super) fn take_writable(&mut self, token: Token) -> Option<Completion<OwnedFd>> {
        self.slot_mut(token)?.requests -= 1;
        if self.can_leave_sending(token) {
            self.release(token);
            return None;
        }
        self.submit_send(token).err().map(|error| Completion::Failed { token, error })
    }
}

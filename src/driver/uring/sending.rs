//! Answers on their way out.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use io_uring::{opcode, types};

use super::ring::{Operation, Request};
use super::{Arrived, Completion, Place, Progress, Sending, Uring};
use crate::buffer::Outgoing;
use crate::limits::RING_HEADROOM_BYTES;
use crate::sys;

impl Uring {
    pub(super) fn begin_send(&mut self, index: u32, sending: Sending) -> Progress {
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
            Sending::Ring { id, start, len, .. } => {
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
            && let Sending::Ring { id, waits, .. } = std::mem::replace(&mut slot.sending, Sending::Nothing)
        {
            self.buffers.release(id, waits);
        }
    }

    /// Hands what is to be sent to the kernel.
    fn submit_send(&mut self, index: u32) -> io::Result<()> {
        let Some(Place { generation, slot: Some(slot) }) = self.slots.get_mut(index as usize) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let (start, len) = match &slot.sending {
            Sending::Nothing => return Ok(()),
            Sending::Ring { id, start, len, .. } => {
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

    pub(super) fn take_sent(&mut self, index: u32, arrived: Arrived) -> Option<Completion<OwnedFd>> {
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
        // Nothing is not the same as all of an empty record.
        let sent = match -result {
            ..=0 => Some(result as usize),
            libc::EAGAIN | libc::EINTR => None,
            error => {
                self.drop_send(index);
                return Some(Completion::Failed { token, error: io::Error::from_raw_os_error(error) });
            }
        };
        let rest = match std::mem::replace(&mut slot.sending, Sending::Nothing) {
            Sending::Nothing => return None,
            Sending::Ring { id, start, len, bytes, waits } => {
                let sent = sent.unwrap_or(0);
                if sent >= len as usize {
                    self.buffers.release(id, waits);
                    return Some(Completion::Sent { token, bytes: bytes as usize, memory: Vec::new() });
                }
                let (start, len) = (start + sent as u32, len - sent as u32);
                if waits || self.buffers.keep() {
                    Sending::Ring { id, start, len, bytes, waits: true }
                } else {
                    let (start, end) = (start as usize, (start + len) as usize);
                    let buffer = self.buffers.bytes(id, end.saturating_sub(RING_HEADROOM_BYTES));
                    let rest = buffer.get(start..end).unwrap_or_default().to_vec();
                    self.buffers.give_back(id);
                    Sending::Owned { outgoing: Outgoing::new(rest), bytes: bytes as usize }
                }
            }
            Sending::Owned { mut outgoing, bytes } => {
                outgoing.advance(sent.unwrap_or(0));
                if sent.is_some() && outgoing.is_done() {
                    return Some(Completion::Sent { token, bytes, memory: outgoing.into_bytes() });
                }
                Sending::Owned { outgoing, bytes }
            }
        };
        slot.sending = rest;
        self.wait_to_send(index).err().map(|error| Completion::Failed { token, error })
    }

    /// A socket takes more, or is broken, which the next send will say.
    pub(super) fn take_writable(&mut self, index: u32) -> Option<Completion<OwnedFd>> {
        let slot = self.slot_at(index)?;
        slot.requests -= 1;
        if slot.is_closed {
            self.drop_send(index);
            self.free_if_over(index);
            return None;
        }
        let token = slot.token;
        self.submit_send(index).err().map(|error| Completion::Failed { token, error })
    }
}

//! Sends that nobody waits for. The kernel completes them without a word when it takes all of them at once, so an answer
//! costs one completion less, and the worker one step less.
//!
//! ```text
//!   submit ──> submitted ──wait──┬──> done: the buffer goes back          (nothing is reported)
//!                                └──> unsent: pending, as any other send  (next_unsent, then Sent or Failed)
//! ```
//!
//! `MSG_DONTWAIT` makes the kernel run the send within the call that hands it over. `MSG_WAITALL` makes a part of the bytes a
//! failure (`io_send`: the request then has a completion, with as many bytes as were taken), and
//! `IOSQE_CQE_SKIP_SUCCESS` leaves out the completion of a success only. So after the call each of them is sent, or has a
//! completion. `ring.rs` finds out whether the kernel keeps to that.

use std::io;
use std::os::fd::AsRawFd;

use super::in_flight::Sending;
use super::ring::{Operation, Request, submitted_entry};
use super::slots::{FLOODING, IS_REPORTED, IS_SHORT, SUBMITTED};
use super::{Arrived, Progress, Token, Uring};

impl Uring {
    /// Puts a part of a buffer of the ring into the queue, as the one send of its stream.
    #[inline]
    pub(super) fn submit_buffer(&mut self, token: Token, id: u16, start: u32, len: u32) -> Progress {
        let Some(slot) = self.slots.get_mut(token.index()) else {
            return Progress::Failed(io::ErrorKind::NotConnected.into());
        };
        debug_assert!(slot.sending == Sending::Nothing, "one send at a time");
        slot.sending = Sending::Buffer { waits: false, id, start, len };
        let bytes = slot.sending.rest(&mut self.buffers, &self.owned);
        let entry = submitted_entry(slot.socket.as_raw_fd(), bytes, Request::new(Operation::Send, token));
        if let Err(error) = self.ring.push(entry) {
            self.fail_send(token);
            return Progress::Failed(error);
        }
        slot.flags.set(SUBMITTED);
        slot.requests += 1;
        self.submitted.push(token);
        Progress::Submitted
    }

    /// See [`Driver::report_sent`](crate::driver::Driver::report_sent).
    pub(crate) fn report_sent(&mut self, token: Token) -> bool {
        let Some(slot) = self.slot_mut(token).filter(|slot| slot.flags.has(SUBMITTED)) else { return false };
        slot.flags.set(IS_REPORTED);
        true
    }

    /// See [`Driver::next_unsent`](crate::driver::Driver::next_unsent).
    #[inline]
    pub(crate) fn next_unsent(&mut self) -> Option<Token> {
        self.unsent.pop()
    }

    /// Notes that a submitted send has a completion: the kernel has not taken all of it.
    #[cold]
    pub(super) fn note_short(&mut self, request: Request) {
        let slot = self.slots.get_mut(request.index as usize).filter(|slot| request.is_of(slot.version));
        let slot = slot.or_else(|| self.closing.get_mut(&request.socket_name()));
        if let Some(slot) = slot.filter(|slot| slot.flags.has(SUBMITTED)) {
            slot.flags.set(IS_SHORT);
        }
    }

    /// Takes back what the submitted sends had, those that the kernel has completed without a word.
    pub(super) fn end_submitted(&mut self) {
        if self.submitted.is_empty() {
            return;
        }
        // The kernel may leave the end of the queue for the next call, where it is short of memory.
        let is_all = self.ring.0.submission().is_empty();
        let mut submitted = std::mem::take(&mut self.submitted);
        if is_all {
            submitted.drain(..).for_each(|token| self.end_one(token));
        } else {
            for token in &submitted {
                if let Some(slot) = self.slot_mut(*token)
                    && !slot.flags.replace(IS_REPORTED)
                {
                    self.unsent.push(*token);
                }
            }
        }
        self.submitted = submitted;
    }

    #[inline]
    fn end_one(&mut self, token: Token) {
        let request = Request::new(Operation::Send, token);
        let Some(slot) = self.slots.get_mut(token.index()).filter(|slot| slot.version == token.version())
        else {
            return self.end_closed(request);
        };
        if slot.flags.has_any(IS_SHORT | IS_REPORTED | FLOODING) {
            return self.end_unusual(token);
        }
        slot.flags.clear(SUBMITTED);
        slot.requests -= 1;
        if let Sending::Buffer { id, .. } = std::mem::replace(&mut slot.sending, Sending::Nothing) {
            self.buffers.give_back(id);
        }
    }

    #[cold]
    fn end_unusual(&mut self, token: Token) {
        let Some(slot) = self.slot_mut(token) else { return };
        let (is_short, is_reported) = (slot.flags.has(IS_SHORT), slot.flags.has(IS_REPORTED));
        slot.flags.clear(SUBMITTED | IS_SHORT | IS_REPORTED);
        let Sending::Buffer { len, .. } = slot.sending else { return };
        if is_short {
            // Its completion has arrived, and says how far it came.
            if !is_reported {
                self.unsent.push(token);
            }
            return;
        }
        let arrived = Arrived { request: Request::new(Operation::Send, token), result: len as i32, flags: 0 };
        if is_reported {
            self.arrived.push_back(arrived);
        } else {
            // A stream that floods may be released now.
            let sent = self.take_sent(token, arrived);
            debug_assert!(sent.is_some(), "all of it was sent");
        }
    }

    /// The same for a socket that was closed meanwhile.
    #[cold]
    fn end_closed(&mut self, request: Request) {
        let Some(slot) = self.closing.get_mut(&request.socket_name()) else { return };
        slot.flags.clear(SUBMITTED);
        if !slot.flags.take(IS_SHORT) {
            self.take_closed(Arrived { request, result: 0, flags: 0 });
        }
    }
}

//! Datagrams: a batch is received at once, lent one datagram after the other, and answered at once.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};

use super::{Completion, Epoll, LentState, Token, retry};
use crate::limits::UDP_DATAGRAM_BYTES_MAX;
use crate::peer::Peer;
use crate::sys::{Received, Reply};

impl Epoll {
    pub(super) fn step_datagrams(
        &mut self,
        index: usize,
        destinations: bool,
        is_coalesced: bool,
    ) -> Option<Completion<OwnedFd>> {
        let slot = self.slots.get_mut(index)?.as_mut()?;
        let token = Token::new(index as u32, slot.generation);
        let batch = self.batch.as_mut()?;
        if !slot.readable || slot.paused {
            return None;
        }
        // What comes as one may be longer than each.
        let room = if is_coalesced { UDP_DATAGRAM_BYTES_MAX } else { slot.read_bytes_max as usize };
        let has_control = destinations || is_coalesced;
        match retry(|| batch.receive(slot.socket.as_fd(), room, has_control)) {
            Ok(count) => {
                slot.readable = count == batch.slots();
                if slot.readable || slot.draining {
                    slot.readable = true;
                    Self::enqueue(&mut self.queue, &mut self.budget, slot, index, false);
                }
                self.lend_datagram(token, 0, count)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                slot.readable = false;
                slot.take_drained(token)
            }
            // An error that an earlier answer left behind on the socket (ECONNREFUSED and so on, udp(7)).
            Err(error) => {
                Self::enqueue(&mut self.queue, &mut self.budget, slot, index, false);
                Some(Completion::Failed { token, error })
            }
        }
    }

    fn lend_datagram(&mut self, token: Token, slot: usize, slots: usize) -> Option<Completion<OwnedFd>> {
        let Received { destination, len, segment_bytes, truncated } =
            self.batch.as_ref()?.received(slot, &mut self.from);
        self.to = destination;
        self.lend_segment(token, slot, slots, 0..len, segment_bytes, truncated)
    }

    /// Lends the first datagram of what is left in a slot.
    fn lend_segment(
        &mut self,
        token: Token,
        slot: usize,
        slots: usize,
        left: Range<usize>,
        segment_bytes: usize,
        truncated: bool,
    ) -> Option<Completion<OwnedFd>> {
        let end = left.end.min(left.start + segment_bytes);
        let message_bytes_max = self.slots.get(token.index())?.as_ref()?.read_bytes_max as usize;
        self.lent = LentState::Datagram {
            token,
            slot,
            slots,
            start: left.start,
            end,
            slot_end: left.end,
            segment_bytes,
        };
        Some(Completion::Datagram {
            token,
            // Of several in one slot each has the same.
            from: if end < left.end {
                self.from.clone()
            } else {
                std::mem::replace(&mut self.from, Peer::Unnamed)
            },
            to: self.to,
            truncated: truncated || end - left.start > message_bytes_max,
        })
    }

    /// The next datagram of a batch, or, after its last, the answers' departure.
    pub(super) fn continue_batch(&mut self) -> Option<Completion<OwnedFd>> {
        let LentState::Datagram { token, slot, slots, end, slot_end, segment_bytes, .. } = self.lent else {
            self.lent = LentState::Nothing;
            return None;
        };
        if end < slot_end {
            return self.lend_segment(token, slot, slots, end..slot_end, segment_bytes, false);
        }
        if slot + 1 < slots {
            return self.lend_datagram(token, slot + 1, slots);
        }
        self.lent = LentState::Nothing;
        let socket = match self.slots.get(token.index()) {
            Some(Some(socket)) if socket.generation == token.generation() => socket,
            // Nobody is left to answer for it.
            _ => {
                self.replies.clear();
                return None;
            }
        };
        let answered = &mut self.answered;
        self.batch.as_mut()?.send(socket.socket.as_fd(), &self.replies, |answers, result| {
            answered.push_back((token, answers, result));
        });
        // One at least of what was just noted for each of them.
        self.spent.extend(self.replies.drain(..).filter_map(|(_, reply)| match reply {
            Reply::Bytes(bytes) => Some(bytes),
            Reply::InPlace(_) => None,
        }));
        None
    }

    pub(super) fn set_reply(&mut self, reply: Reply) {
        if let LentState::Datagram { slot, .. } = self.lent {
            self.replies.push((slot as u16, reply));
        }
    }
}

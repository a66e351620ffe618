//! Datagrams: a batch is received at once, reported one datagram after the other, and answered at once.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::slot::{COALESCED, DESTINATIONS, DRAINING, READABLE, Slot};
use super::{Completion, Epoll, Io, RecvState, Token, retry};
use crate::limits::UDP_DATAGRAM_BYTES_MAX;
use crate::peer::Peer;
use crate::sys::{Received, Reply};

impl Io {
    #[inline(never)]
    pub(super) fn step_datagrams(&mut self, slot: &mut Slot, token: Token) -> Option<Completion<OwnedFd>> {
        if !slot.may_read() {
            return None;
        }
        let batch = self.batch.as_mut()?;
        // What comes as one may be longer than each.
        let is_coalesced = slot.flags.has(COALESCED);
        let room = if is_coalesced { UDP_DATAGRAM_BYTES_MAX } else { slot.read_bytes_max as usize };
        let has_control = slot.flags.has_any(DESTINATIONS | COALESCED);
        match retry(|| batch.receive(slot.socket.as_fd(), room, has_control)) {
            Ok(count) => {
                if count == batch.slots() || slot.flags.has(DRAINING) {
                    self.enqueue(slot, token, false);
                } else {
                    slot.flags.clear(READABLE);
                }
                self.report_datagram(token, 0, count, slot.read_bytes_max as usize)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                slot.flags.clear(READABLE);
                slot.take_drained(token)
            }
            // An error that an earlier answer left behind on the socket (ECONNREFUSED and so on, udp(7)).
            Err(error) => {
                self.enqueue(slot, token, false);
                Some(Completion::Failed { token, error })
            }
        }
    }

    /// Reports the first datagram of a slot.
    fn report_datagram(
        &mut self,
        token: Token,
        slot: usize,
        slots: usize,
        message_bytes_max: usize,
    ) -> Option<Completion<OwnedFd>> {
        let Received { destination, len, segment_bytes, truncated } =
            self.batch.as_ref()?.received(slot, &mut self.from);
        self.to = destination;
        let place =
            RecvState::Datagram { token, slot, slots, start: 0, end: 0, slot_end: len, segment_bytes };
        self.report_segment(place, truncated, message_bytes_max)
    }

    /// Reports the next datagram of what is left in a slot.
    fn report_segment(
        &mut self,
        mut place: RecvState,
        truncated: bool,
        message_bytes_max: usize,
    ) -> Option<Completion<OwnedFd>> {
        let RecvState::Datagram { token, start, end, slot_end, segment_bytes, .. } = &mut place else {
            return None;
        };
        *start = *end;
        *end = (*slot_end).min(*start + *segment_bytes);
        let (token, len, is_last) = (*token, *end - *start, *end == *slot_end);
        self.recv = place;
        Some(Completion::Datagram {
            token,
            // Of several in one slot each has the same.
            from: if !is_last { self.from.clone() } else { std::mem::replace(&mut self.from, Peer::Unnamed) },
            to: self.to,
            truncated: truncated || len > message_bytes_max,
        })
    }

    pub(super) fn set_reply(&mut self, reply: Reply) {
        if let RecvState::Datagram { slot, .. } = self.recv {
            self.replies.push((slot as u16, reply));
        }
    }
}

impl Epoll {
    /// The next datagram of a batch, or, after its last, the answers' departure.
    pub(super) fn continue_batch(&mut self) -> Option<Completion<OwnedFd>> {
        let io = &mut self.io;
        let place = std::mem::replace(&mut io.recv, RecvState::Nothing);
        let RecvState::Datagram { token, slot, slots, end, slot_end, .. } = place else { return None };
        let socket = self.slots.get(token.index()).filter(|socket| socket.version == token.generation());
        let Some(socket) = socket else {
            // Nobody is left to answer for it.
            io.replies.clear();
            return None;
        };
        let message_bytes_max = socket.read_bytes_max as usize;
        if end < slot_end {
            return io.report_segment(place, false, message_bytes_max);
        }
        if slot + 1 < slots {
            return io.report_datagram(token, slot + 1, slots, message_bytes_max);
        }
        let answered = &mut io.answered;
        io.batch.as_mut()?.send(socket.socket.as_fd(), &io.replies, |answers, result| {
            answered.push_back((token, answers, result));
        });
        // One at least of what was just noted for each of them.
        io.spent.extend(io.replies.drain(..).filter_map(|(_, reply)| match reply {
            Reply::Bytes(bytes) => Some(bytes),
            Reply::InPlace(_) => None,
        }));
        None
    }
}

//! Datagrams: a batch is received at once, shown one datagram after the other, and answered at once.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::slot::{COALESCED, DRAINING, READABLE, REPORTS, Slot};
use super::{Completion, Datagram, Epoll, Io, RecvState, Token};
use crate::limits::UDP_DATAGRAM_BYTES_MAX;
use crate::sys::{Batch, Received};

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
        let has_control = slot.flags.has_any(REPORTS | COALESCED);
        match batch.receive(slot.socket.as_fd(), room, has_control) {
            Ok(count) => {
                if count == batch.slots() || slot.flags.has(DRAINING) {
                    self.enqueue(slot, token, false);
                } else {
                    slot.flags.clear(READABLE);
                }
                let message_bytes_max = slot.read_bytes_max as usize;
                self.recv = RecvState::Datagrams { token, message_bytes_max };
                Some(Completion::Datagrams { token })
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

    /// The next datagram of the batch.
    #[inline(always)]
    pub(super) fn next_datagram(&mut self) -> Option<(Datagram, &mut [u8])> {
        let RecvState::Datagrams { message_bytes_max, .. } = self.recv else { return None };
        let (received, bytes) = self.batch.as_mut()?.next()?;
        let truncated = received.truncated || bytes.len() > message_bytes_max;
        let Received { destination: to, plain_port, hops, .. } = received;
        Some((Datagram { to, truncated, plain_port, hops }, bytes))
    }

    /// The batch, while its datagrams are shown.
    #[inline(always)]
    pub(super) fn lent_batch(&mut self) -> Option<&mut Batch> {
        match self.recv {
            RecvState::Datagrams { .. } => self.batch.as_mut(),
            RecvState::Stream { .. } | RecvState::Nothing => None,
        }
    }
}

impl Epoll {
    /// Sends the answers to a batch, if there is one and somebody is left to answer for it.
    pub(super) fn send_replies(&mut self) {
        let io = &mut self.io;
        let RecvState::Datagrams { token, .. } = io.recv else { return };
        io.recv = RecvState::Nothing;
        let socket = self.slots.get(token.index()).filter(|socket| socket.version == token.version());
        if let (Some(socket), Some(batch)) = (socket, &mut io.batch) {
            batch.send(socket.socket.as_fd(), &mut io.spent, |answers, result| {
                io.answered.push_back((token, answers, result));
            });
        }
    }
}

//! The sockets that the ring serves: a live one is found under its token's index. A closed one with requests that the
//! kernel has not ended moves to `closing`, under the name that its requests bear, so that the index is free for its
//! successor at once.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use super::in_flight::Sending;
use super::ring::Request;
use super::slots::{QUEUED, Role, Slot, Unreported};
use super::{Close, Token, Uring};
use crate::driver::flags::Flags;

impl Uring {
    /// Whether this token's socket was given to the ring.
    #[inline]
    pub(crate) fn serves(&self, token: Token) -> bool {
        self.slots.get(token.index()).is_some_and(|slot| slot.version == token.version())
    }

    #[inline]
    pub(super) fn slot_mut(&mut self, token: Token) -> Option<&mut Slot> {
        self.slots.get_mut(token.index()).filter(|slot| slot.version == token.version())
    }

    #[inline]
    pub(super) fn slot(&self, token: Token) -> Option<&Slot> {
        self.slots.get(token.index()).filter(|slot| slot.version == token.version())
    }

    /// Whether it has sockets, also such as the kernel still uses after they were closed.
    pub(crate) fn has_slots(&self) -> bool {
        !self.slots.is_empty() || !self.closing.is_empty()
    }

    /// Takes a socket in and begins to receive with it.
    pub(super) fn begin(
        &mut self,
        token: Token,
        socket: OwnedFd,
        role: Role,
        read_bytes_max: usize,
    ) -> io::Result<()> {
        self.descriptors.add(socket.as_raw_fd());
        self.users += usize::from(role != Role::Listener);
        let slot = Slot {
            socket,
            version: token.version(),
            read_bytes_max: u32::try_from(read_bytes_max).unwrap_or(u32::MAX),
            role,
            flags: Flags::of(0),
            requests: 0,
            read_in: self.turn.wrapping_sub(1),
            reads: 0,
            flood: 0,
            unreported: Unreported::default(),
            sending: Sending::Nothing,
        };
        self.slots.put(token.index(), slot);
        let result = self.receive(token);
        if result.is_err() {
            self.close(token, Close::Gently);
        }
        result
    }

    /// Takes a live slot out of its place. What its requests need stays until the last of them is over.
    pub(super) fn take_slot(&mut self, token: Token) -> Option<Slot> {
        self.slot(token)?;
        self.slots.take(token.index())
    }

    /// Forgets a slot of which the kernel uses nothing any more.
    pub(super) fn forget_slot(&mut self, slot: &Slot) {
        self.users -= usize::from(slot.role != Role::Listener);
        self.forget_send(slot.sending);
        if let Role::Datagrams { socket } = slot.role
            && let Some(socket) = self.messages.sockets.get_mut(usize::from(socket))
        {
            *socket = None;
        }
    }

    /// Takes one off the requests of a slot, live or closed. A closed one goes with its last.
    pub(super) fn end_request(&mut self, request: Request) {
        let index = request.index as usize;
        if let Some(slot) = self.slots.get_mut(index).filter(|slot| request.is_of(slot.version)) {
            slot.requests -= 1;
        } else if let Some(slot) = self.closing.get_mut(&request.socket_name()) {
            slot.requests -= 1;
            if slot.requests == 0
                && let Some(slot) = self.closing.remove(&request.socket_name())
            {
                self.forget_slot(&slot);
                self.descriptors.remove(slot.socket.as_raw_fd());
            }
        }
    }

    /// Puts a slot into the queue for the next turn.
    pub(super) fn enqueue(&mut self, token: Token) {
        if let Some(slot) = self.slot_mut(token)
            && !slot.flags.replace(QUEUED)
        {
            self.next_turn.push_back(token);
        }
    }
}

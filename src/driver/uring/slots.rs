//! What is known of each socket, and where.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use super::ring::Request;
use super::{Close, Driver, NOWHERE, Place, RECORD_BURST, Role, Sending, Slot, Token, Uring};
use crate::sys;

impl Uring {
    /// The place of the slot that a token means.
    pub(super) fn place_of(&self, token: Token) -> Option<u32> {
        let index = *self.routes.get(token.index())?;
        let slot = self.slots.get(index as usize)?.slot.as_ref()?;
        (slot.token == token).then_some(index)
    }

    pub(super) fn slot_mut(&mut self, token: Token) -> Option<&mut Slot> {
        let index = self.place_of(token)?;
        self.slot_at(index)
    }

    pub(super) fn slot_at(&mut self, index: u32) -> Option<&mut Slot> {
        self.slots.get_mut(index as usize)?.slot.as_mut()
    }

    pub(super) fn has_slots(&self) -> bool {
        self.free.len() < self.slots.len()
    }

    pub(super) fn insert(&mut self, token: Token, socket: OwnedFd, role: Role, read_bytes_max: usize) -> u32 {
        self.descriptors().add(socket.as_raw_fd());
        self.users += usize::from(role != Role::Listener);
        let slot = Slot {
            socket,
            token,
            role,
            read_bytes_max: u32::try_from(read_bytes_max).unwrap_or(u32::MAX),
            requests: 0,
            is_receiving: false,
            is_cancelling: false,
            is_closed: false,
            is_paused: false,
            has_ended: false,
            is_draining: false,
            is_leaving: false,
            is_flooding: false,
            full_reads: 0,
            is_queued: false,
            read_in: self.turn.wrapping_sub(1),
            reads: 0,
            held: VecDeque::new(),
            sending: Sending::Nothing,
        };
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.slots.push(Place { generation: 0, slot: None });
                (self.slots.len() - 1) as u32
            }
        };
        if let Some(place) = self.slots.get_mut(index as usize) {
            place.slot = Some(slot);
        }
        if self.routes.len() <= token.index() {
            self.routes.resize(token.index() + 1, NOWHERE);
        }
        self.routes[token.index()] = index;
        index
    }

    /// Takes a socket in and begins to receive with it.
    pub(super) fn begin(
        &mut self,
        token: Token,
        socket: OwnedFd,
        role: Role,
        read_bytes_max: usize,
    ) -> io::Result<()> {
        let index = self.insert(token, socket, role, read_bytes_max);
        let result = self.receive(index);
        if result.is_err() {
            self.close(token, Close::Gently);
        }
        result
    }

    /// Lets go of a closed slot that the kernel has let go of.
    pub(super) fn free_if_over(&mut self, index: u32) {
        if let Some(place) = self.slots.get_mut(index as usize)
            && let Some(Slot { is_closed: true, requests: 0, .. }) = place.slot
            && let Some(slot) = self.take_slot(index)
        {
            self.epoll.descriptors().remove(slot.socket.as_raw_fd());
        }
    }

    /// Takes a slot that the kernel has let go of out of its place.
    pub(super) fn take_slot(&mut self, index: u32) -> Option<Slot> {
        let place = self.slots.get_mut(index as usize)?;
        let slot = place.slot.take()?;
        place.generation = (place.generation + 1) & Request::GENERATION;
        self.free.push(index);
        self.users -= usize::from(slot.role != Role::Listener);
        if let Role::Datagrams { port } = slot.role
            && let Some(port) = self.messages.ports.get_mut(usize::from(port))
        {
            *port = None;
        }
        Some(slot)
    }

    /// Puts a slot into the queue for the next turn.
    pub(super) fn enqueue(&mut self, index: u32) {
        if let Some(slot) = self.slots.get_mut(index as usize).and_then(|place| place.slot.as_mut())
            && !std::mem::replace(&mut slot.is_queued, true)
        {
            self.again.push_back(index);
        }
    }
}

impl Slot {
    /// The request that receives, or accepts, has brought its last completion.
    pub(super) fn end_receive(&mut self) {
        self.requests -= 1;
        self.is_receiving = false;
        self.is_cancelling = false;
    }

    /// Whether one more may be told in this turn.
    pub(super) fn may_read(&self, turn: u32) -> bool {
        let most = match self.role {
            Role::Stream | Role::UnixStream => 1,
            Role::Records { .. } => RECORD_BURST,
            // What comes at once is bounded by the kernel.
            Role::Listener | Role::Datagrams { .. } => u8::MAX,
        };
        self.read_in != turn || self.reads < most
    }

    pub(super) fn count_read(&mut self, turn: u32) {
        self.reads = if self.read_in == turn { self.reads.saturating_add(1) } else { 1 };
        self.read_in = turn;
    }

    /// Sends a record, at once or not at all: whether it left. Those of one turn all leave in it that way.
    pub(super) fn send_record(&self, bytes: &[u8]) -> io::Result<bool> {
        loop {
            match sys::send(self.socket.as_fd(), bytes) {
                Ok(_) => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

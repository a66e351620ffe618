//! What is the ring's, and what is left to readiness.

use std::os::fd::OwnedFd;

use super::{Completion, Driver, NOWHERE, Role, Share, Slot, Uring};
use crate::peer::SocketKind;

impl Uring {
    /// Whether streams, and with them listeners, are left to readiness.
    pub(super) fn is_for_few(&self) -> bool {
        match self.share {
            Share::All => false,
            Share::Many { streams_from } => self.users == 0 && self.few.len() + 1 < streams_from,
        }
    }

    /// Takes over what was left to readiness while the ring had nobody.
    pub(super) fn migrate_to_ring(&mut self) {
        for (token, kind, read_bytes_max) in std::mem::take(&mut self.few) {
            if let Some(socket) = self.epoll.hand_over(token) {
                let role = if kind == SocketKind::UnixStream { Role::UnixStream } else { Role::Stream };
                let index = self.insert(token, socket, role, read_bytes_max);
                self.receive_or_fail(index);
            }
        }
        for place in 0..self.listeners.len() {
            let token = self.listeners[place];
            if let Some(slot) = self.slot_mut(token) {
                slot.is_leaving = false;
            } else if let Some(socket) = self.epoll.hand_over(token) {
                let index = self.insert(token, socket, Role::Listener, 0);
                self.receive_or_fail(index);
            }
        }
    }

    /// Leaves the listeners to readiness: whom they bring will be there too.
    pub(super) fn migrate_listeners_to_epoll(&mut self) {
        for place in 0..self.listeners.len() {
            let Some(index) = self.place_of(self.listeners[place]) else { continue };
            if let Some(slot) = self.slot_at(index)
                && !std::mem::replace(&mut slot.is_leaving, true)
            {
                self.cancel_receive(index);
                self.enqueue(index);
            }
        }
    }

    /// Whether a connection is to go over to readiness, which answers before it reads on and moves much with less.
    pub(super) fn is_to_leave(&self, slot: &Slot) -> bool {
        slot.is_flooding && slot.role == Role::Stream && self.share != Share::All
    }

    /// Leaves a socket to readiness; one that is to be emptied because only that can say that nothing is left.
    pub(super) fn migrate_to_epoll(&mut self, index: u32) -> Option<Completion<OwnedFd>> {
        let terms = self.slot_at(index).map(|slot| slot.role).and_then(|role| self.messages.terms(role));
        let Slot { socket, token, role, is_draining, read_bytes_max, .. } = self.take_slot(index)?;
        self.routes[token.index()] = NOWHERE;
        let read_bytes_max = read_bytes_max as usize;
        let left = match (role, terms) {
            (Role::Stream, _) => self.epoll.add_stream(token, socket, SocketKind::Tcp, read_bytes_max),
            (Role::Datagrams { .. }, Some((message_bytes_max, destinations))) => {
                self.epoll.add_datagram_socket(token, socket, message_bytes_max, destinations)
            }
            _ => self.epoll.add_listener(token, socket),
        };
        if is_draining {
            self.epoll.drain(token);
        }
        left.err().map(|error| Completion::Failed { token, error })
    }
}

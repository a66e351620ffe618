//! Listeners whose options change while they are served.
//!
//! A connection keeps the edition of its listener that it began with, since what it has read and what it owes was bound by
//! that. So a worker knows each edition that it has connections of as a listener of its own; the socket, and whoever comes
//! from then on, goes with the latest.

use std::sync::Arc;

use super::{ListenerState, Socket, Worker, state_of_mut};
use crate::driver::Driver;
use crate::listener::Listener;

impl<D: Driver> Worker<D> {
    /// A later edition of a listener. A worker that has not heard of it will with the first who comes.
    pub(super) fn revise(&mut self, listener: &Arc<Listener>) {
        if let Some(place) = self.place_with(listener.id) {
            let place = self.revise_at(place as usize, listener);
            self.forget_listener_if_over(place);
        }
    }

    /// The place for those who come, where the listener of `place` may be another edition than `listener`.
    pub(super) fn revise_at(&mut self, place: usize, listener: &Arc<Listener>) -> usize {
        let Some(old) = state_of_mut(&mut self.listeners, place as u32) else { return place };
        if old.listener.edition >= listener.edition {
            return place;
        }
        let mut new = ListenerState {
            socket: old.socket.take(),
            closed: old.closed,
            is_refusing: old.is_refusing,
            waiters: std::mem::take(&mut old.waiters),
            accept_failures: old.accept_failures,
            ..ListenerState::new(listener, self.index)
        };
        new.is_amplification_logged.set(old.is_amplification_logged.get());
        // Connections follow a swap that this worker has yet to notice as they would have.
        if listener.has_chain_of(&old.listener) {
            new.chain_number = old.chain_number;
            new.generation = Arc::clone(&old.generation);
        }
        // Nothing more comes to it, and it goes with its last connection.
        (old.closed, old.is_superseded) = (true, true);
        let token = new.socket;
        let next = self.put(new);
        match token.and_then(|token| self.sockets.get_mut(token)) {
            Some(Socket::Listener { state, .. }) => *state = next as u32,
            Some(Socket::Datagrams(socket)) => socket.state = next as u32,
            Some(Socket::Connection(_) | Socket::Offloaded(_)) | None => {}
        }
        self.forget_listener_if_over(place);
        next
    }
}

//! Swapped chains.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Served, Socket, Worker, state_of};
use crate::driver::Driver;

impl<D: Driver> Worker<D> {
    /// Notices swaps, and taps: one load a turn.
    pub(super) fn look_for_chains(&mut self) {
        let epoch = self.shared.chain_epoch.load(Ordering::Acquire);
        if epoch != self.chain_epoch {
            self.chain_epoch = epoch;
            self.recorder.refresh();
            self.take_chains();
        }
    }

    /// Connections whose transforms remember nothing follow now; the others when they can, or never.
    pub(super) fn take_chains(&mut self) {
        let mut changed = Vec::new();
        for (place, state) in self.listeners.iter_mut().enumerate() {
            let Some(state) = state else { continue };
            let number = state.listener.chain_number();
            if number != state.chain_number {
                state.chain_number = number;
                let old = std::mem::replace(&mut state.generation, state.listener.generation(self.index));
                changed.push((place as u32, old.share()));
                self.shared.drop_in_background(old.share(), Some(old));
            }
        }
        if changed.is_empty() {
            return;
        }
        for token in self.sockets.tokens() {
            match self.sockets.get_mut(token) {
                Some(Socket::Connection(Served { connection, .. })) => {
                    let state = state_of(&self.listeners, connection.listener());
                    if state.is_some_and(|state| !Arc::ptr_eq(connection.generation(), &state.generation)) {
                        self.step(token, |connection, cx, _| connection.swap(cx));
                    }
                }
                Some(Socket::Datagrams(socket)) => {
                    let session = std::mem::take(&mut socket.session);
                    let old = changed.iter().find(|(place, _)| *place == socket.state);
                    self.drop_in_background(old.map_or(0, |(_, share)| *share), session);
                }
                // An offloaded connection follows when it is back.
                Some(Socket::Listener { .. } | Socket::Offloaded(_)) | None => {}
            }
        }
    }
}

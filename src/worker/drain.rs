//! Draining, stopping, and the end of a worker.

use std::time::Duration;

use super::{Socket, State, Worker};
use crate::driver::{Driver, Token};
use crate::stats::CloseReason;

impl<D: Driver> Worker<D> {
    pub(super) fn drain(&mut self, within: Duration) {
        if self.state != State::Running {
            return;
        }
        self.state = State::Draining { until: self.driver.now().after(within) };
        for token in self.sockets.tokens() {
            if let Some(Socket::Listener { .. }) = self.sockets.get(token) {
                self.driver.resume(token);
            }
            self.driver.drain(token);
        }
    }

    #[inline(never)]
    pub(super) fn drained(&mut self, token: Token) {
        match self.sockets.get_mut(token) {
            // Delayed answers are still owed; nothing new is taken.
            Some(Socket::Datagrams(socket)) if socket.is_owing() => {
                socket.ends = true;
                self.driver.pause(token);
            }
            Some(Socket::Listener { .. } | Socket::Datagrams(_)) => self.close_socket(token),
            Some(Socket::Connection(_)) => self.step(token, |connection, cx, _| connection.drained(cx)),
            // It is paused, and hears of it when it is back.
            Some(Socket::Offloaded(_)) | None => {}
        }
    }

    /// Ends everything now.
    pub(super) fn stop(&mut self, reason: CloseReason) {
        for token in self.sockets.tokens() {
            match self.sockets.get(token) {
                Some(Socket::Connection(_)) => {
                    self.step(token, |connection, _, _| connection.stopped(reason));
                }
                Some(Socket::Offloaded(_)) => self.abandon(token, reason),
                _ => self.close_socket(token),
            }
        }
        self.state = State::Draining { until: self.driver.now() };
        self.end_if_drained();
    }

    #[inline(always)]
    pub(super) fn end_if_drained(&mut self) {
        if let State::Draining { .. } = self.state {
            self.end_if_empty();
        }
    }

    #[inline(never)]
    fn end_if_empty(&mut self) {
        if self.sockets.is_empty() && self.shared.mailboxes[self.index].close() {
            self.state = State::Ended;
            self.driver.wait_closed();
            // Generations are destroyed with their last user; an ended worker uses none.
            self.listeners.clear();
        }
    }
}

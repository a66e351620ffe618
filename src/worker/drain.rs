//! Draining, stopping, and the end of a worker.

use std::time::Duration;

use super::{Socket, State, Worker, state_of, state_of_mut};
use crate::bug;
use crate::driver::{Close, Driver, Token};
use crate::stats::CloseReason;

impl<D: Driver> Worker<D> {
    pub(super) fn drain(&mut self, within: Duration) {
        if self.state != State::Running {
            return;
        }
        // The turn's own reading is older than the command by what the turn has taken.
        self.state = State::Draining { until: self.driver.read_clock().after(within) };
        for token in self.sockets.tokens() {
            match self.sockets.get(token) {
                // It accepts nobody any more, and nobody waits.
                Some(Socket::Listener { is_stopped: true, .. }) => {
                    self.close_socket(token);
                    continue;
                }
                // It is over already, but for answers that are to come.
                Some(Socket::Datagrams(socket)) if socket.ends => continue,
                Some(Socket::Listener { .. } | Socket::Datagrams(_)) => self.driver.resume(token),
                Some(Socket::Connection(served)) if served.connection.is_paused_by_host() => {
                    self.step(token, |connection, cx, _| connection.release(cx));
                }
                Some(Socket::Connection(_) | Socket::Offloaded(_)) | None => {}
            }
            if self.sockets.get(token).is_some() {
                self.driver.drain(token);
            }
        }
    }

    #[inline(never)]
    pub(super) fn drained(&mut self, token: Token) {
        let is_running = self.state == State::Running;
        match self.sockets.get_mut(token) {
            Some(Socket::Datagrams(socket)) if socket.is_owing() => {
                let had_ended = std::mem::replace(&mut socket.ends, true);
                self.stop_receiving(token, had_ended);
            }
            Some(Socket::Listener { state, .. }) => {
                let state = state_of(&self.listeners, *state);
                match state.map(|state| (state.closed, state.is_refusing)) {
                    Some((false, true)) if is_running => self.stop_listening(token),
                    // It was to refuse, and is not any more.
                    Some((false, false)) if is_running => {}
                    _ => self.close_socket(token),
                }
            }
            Some(Socket::Datagrams(socket)) => {
                let state = state_of(&self.listeners, socket.state);
                if !is_running || state.is_none_or(|state| state.closed || state.is_refusing) {
                    self.close_socket(token);
                }
            }
            Some(Socket::Connection(_)) => self.step(token, |connection, cx, _| connection.drained(cx)),
            // An offloaded connection is paused, and hears of it when it is back. None: closed earlier in this turn.
            Some(Socket::Offloaded(_)) | None => {}
        }
    }

    /// Answers of a datagram socket are still to come; nothing new is taken. Who waits for that does not wait for them: that
    /// is up to transforms and to the host.
    fn stop_receiving(&mut self, token: Token, had_ended: bool) {
        let Some(Socket::Datagrams(socket)) = self.sockets.get(token) else { return };
        let place = socket.state;
        let is_to_refuse = state_of(&self.listeners, place)
            .is_some_and(|state| (state.closed || state.is_refusing) && !state.listener.is_shared());
        if is_to_refuse && !had_ended && self.driver.refuse(token).is_ok() {
            // What came before that is taken too.
            return self.driver.drain(token);
        }
        self.driver.pause(token);
        if let Some(state) = state_of_mut(&mut self.listeners, place) {
            if state.closed {
                // Nobody reaches it by its name any more, which another socket may want.
                state.listener.remove_file();
            }
            state.waiters.clear();
        }
    }

    /// Ends everything now.
    pub(super) fn stop(&mut self, reason: CloseReason) {
        // First: nothing that refuses for now comes back.
        self.state = State::Draining { until: self.driver.now() };
        for token in self.sockets.tokens() {
            match self.sockets.get(token) {
                Some(Socket::Connection(_)) => {
                    self.step(token, |connection, _, _| connection.stopped(reason));
                }
                Some(Socket::Offloaded(_)) => self.abandon(token, reason, Close::Gently),
                Some(Socket::Listener { .. } | Socket::Datagrams(_)) => self.close_socket(token),
                None => bug::found_aside("a socket that only its own step closes"),
            }
        }
        // A worker that ends takes no further turn.
        self.recorder.wake();
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
            self.pulse.forget_listeners();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::driver::simulator::{Mail, Simulator, World};
    use crate::offload::Offload;
    use crate::timer::Moment;
    use crate::worker::{Directory, Mailbox, Shared};

    /// A turn that takes seconds takes nothing from the time that a drain gives.
    #[test]
    fn a_drain_lasts_from_when_it_is_asked_for() {
        let world = World::new(1, Vec::new(), Mail::default());
        let shared = Shared {
            events: Arc::default(),
            taps: Arc::default(),
            mailboxes: vec![Mailbox::new(Box::new(|| {}))],
            pulses: Vec::new(),
            stuck: 0.into(),
            offload: Offload::default(),
            tickets: Arc::default(),
            spin: Duration::ZERO,
            stop: Arc::default(),
            chain_epoch: 0.into(),
            directory: Directory::default(),
            own: Arc::default(),
        };
        let mut worker = Worker::new(0, Simulator::new(&world), Arc::new(shared));
        world.borrow_mut().now += 5_000_000;
        worker.drain(Duration::from_secs(1));
        assert_eq!(worker.state, State::Draining { until: Moment::from_micros(6_000_000) });
    }
}

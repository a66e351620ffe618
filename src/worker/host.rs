//! What the host asks of connections and listeners while they are served.

use std::io;

use super::ask::{Answer, Ask, Question};
use super::connection_info::ConnectionInfo;
use super::mailbox::Command;
use super::seen::Seen;
use super::{ListenerState, Served, Socket, State, Worker, state_of, state_of_mut};
use crate::channel::Sender;
use crate::connection::{ConnectionState, Request};
use crate::driver::{Close, Driver, Token};
use crate::listener::ListenerId;
use crate::stats::CloseReason;
use crate::timer::Moment;

impl<D: Driver> Worker<D> {
    /// Does what the host asks of a connection, if it is still there.
    pub(super) fn request(&mut self, token: Token, id: u64, request: Request) {
        if matches!(request, Request::Pause) && self.state != State::Running {
            // What is to end in good order is read.
            return;
        }
        match self.sockets.get_mut(token) {
            Some(Socket::Connection(served)) if served.connection.id() == id => {
                let drains = matches!(request, Request::ShutDown);
                self.step(token, |connection, cx, _| connection.asked(request, cx));
                if drains && let Some(Socket::Connection(_)) = self.sockets.get(token) {
                    self.driver.drain(token);
                }
            }
            Some(Socket::Offloaded(offloaded)) if offloaded.id == id => match request {
                Request::Reset => self.abandon(token, CloseReason::ByHost, Close::Reset),
                request => offloaded.ask(request),
            },
            // It was closed; what was to be sent goes with it.
            _ => {}
        }
    }

    /// Answers a question that nobody has answered. `is_lent`: the thread that asks has lent itself for that, and no transform
    /// may run on it.
    pub(crate) fn answer(&mut self, ask: &Ask, is_lent: bool) {
        let Some(to) = ask.take() else { return };
        self.is_lent_to_host = is_lent;
        match ask.question {
            Question::Enter => self.enter_all(),
            Question::Describe { token, id } => {
                if let Some(info) = self.describe(token).filter(|info| info.id == id) {
                    to.send(Answer::Connection(Box::new(info)));
                }
            }
            Question::CloseListener { id } => self.close_listener(id, to),
            Question::CopySocket { id } => self.copy_socket(id, &to),
            Question::Refuse { id } => self.refuse(id, to),
            Question::StopRefusing { id } => self.stop_refusing(id, &to),
            Question::Replace { id } => self.replace(id),
            Question::Reset { id } => {
                let count = self.reset_all(id);
                to.send(Answer::Count(count));
            }
            Question::Nothing => {}
            // The next turn takes it out again: then this one is over.
            Question::WholeTurn => _ = self.shared.mailboxes[self.index].push(Command::TurnEnded { _to: to }),
        }
        self.is_lent_to_host = false;
    }

    fn copy_socket(&self, id: u64, to: &Sender<Answer>) {
        let state = self.place_with(id).and_then(|place| state_of(&self.listeners, place));
        let has_ended =
            |token| matches!(self.sockets.get(token), Some(Socket::Datagrams(socket)) if socket.ends);
        if let Some(token) = state.and_then(|state| state.socket).filter(|token| !has_ended(*token)) {
            to.send(self.driver.copy_socket(token).map_or_else(Answer::Failed, Answer::Socket));
        }
    }

    fn enter_all(&self) {
        for token in self.sockets.tokens() {
            let (id, listener) = match self.sockets.get(token) {
                Some(Socket::Connection(Served { connection, .. })) => {
                    (connection.id(), connection.listener())
                }
                Some(Socket::Offloaded(offloaded)) => (offloaded.id, offloaded.listener),
                Some(Socket::Listener { .. } | Socket::Datagrams(_)) | None => continue,
            };
            if let Some(state) = state_of(&self.listeners, listener) {
                self.shared.directory.enter(id, self.index, token, &state.listener);
            }
        }
    }

    /// A connection as it is now.
    pub(super) fn describe(&self, token: Token) -> Option<ConnectionInfo> {
        let now = self.driver.now();
        let is_running = self.state == State::Running;
        let (place, peer, proxied, id, seen, waiting_bytes) = match self.sockets.get(token)? {
            Socket::Connection(Served { connection, .. }) => (
                connection.listener(),
                connection.peer(),
                connection.proxied(),
                connection.id(),
                Seen::of(connection),
                connection.waiting_bytes(),
            ),
            Socket::Offloaded(offloaded) => {
                let waiting = offloaded.owed.bytes() + offloaded.asked_bytes();
                (
                    offloaded.listener,
                    &offloaded.peer,
                    offloaded.proxied.as_ref(),
                    offloaded.id,
                    offloaded.seen,
                    waiting,
                )
            }
            Socket::Listener { .. } | Socket::Datagrams(_) => return None,
        };
        let Seen { state, silent_since, bytes_in, bytes_out, is_paused } = seen;
        let listener = &state_of(&self.listeners, place)?.listener;
        let facts = self.driver.facts(token);
        Some(ConnectionInfo {
            id,
            listener: listener.url.clone(),
            listener_id: ListenerId(listener.id),
            kind: listener.kind,
            peer: peer.clone(),
            via: proxied.and_then(|proxied| proxied.via()).cloned(),
            facts: proxied.map_or(Vec::new(), |proxied| proxied.pairs()),
            local: facts.local,
            credentials: facts.credentials,
            worker: self.index,
            idle: silent_since.until(now),
            waiting_bytes,
            bytes_in,
            bytes_out,
            state: if is_running { state } else { ConnectionState::Ending },
            is_paused,
        })
    }

    /// Connections of a listener follow what the host has said of its reading, and so do its datagrams.
    pub(super) fn hold_listener(&mut self, id: u64) {
        let Some(place) = self.place_with(id) else { return };
        let Some(state) = state_of(&self.listeners, place) else { return };
        // What is to end in good order is read.
        let is_paused = state.holds() && self.state == State::Running;
        let socket = state.socket;
        if let Some(token) = socket
            && let Some(Socket::Datagrams(socket)) = self.sockets.get(token)
            && !socket.ends
        {
            if is_paused {
                self.driver.pause(token);
            } else {
                self.driver.resume(token);
            }
        }
        for token in self.connections_of(id) {
            if let Some(Socket::Offloaded(offloaded)) = self.sockets.get_mut(token) {
                offloaded.is_listener_changed = true;
            }
            self.step(token, |connection, cx, _| connection.hold(is_paused, cx));
        }
    }

    fn reset_all(&mut self, id: u64) -> usize {
        let mut count = 0;
        for token in self.connections_of(id) {
            let id = match self.sockets.get(token) {
                Some(Socket::Connection(served)) => served.connection.id(),
                Some(Socket::Offloaded(offloaded)) => offloaded.id,
                Some(Socket::Listener { .. } | Socket::Datagrams(_)) | None => continue,
            };
            count += 1;
            if self.is_lent_to_host {
                let request = Request::Reset;
                let _ = self.shared.mailboxes[self.index].push(Command::Request { token, id, request });
            } else {
                self.request(token, id, Request::Reset);
            }
        }
        count
    }

    /// The connections of a listener, of all its editions.
    fn connections_of(&self, id: u64) -> Vec<Token> {
        let is_its =
            |place: u32| state_of(&self.listeners, place).is_some_and(|state| state.listener.id == id);
        let is_of = |token: &Token| match self.sockets.get(*token) {
            Some(Socket::Connection(served)) => is_its(served.connection.listener()),
            Some(Socket::Offloaded(offloaded)) => is_its(offloaded.listener),
            Some(Socket::Listener { .. } | Socket::Datagrams(_)) | None => false,
        };
        self.sockets.tokens().into_iter().filter(is_of).collect()
    }

    /// The place of the listener with that number, if this worker knows it.
    pub(super) fn place_with(&self, id: u64) -> Option<u32> {
        let is_it = |state: &ListenerState| state.listener.id == id && !state.is_superseded;
        let is_it = |state: &Option<ListenerState>| state.as_ref().is_some_and(is_it);
        self.listeners.iter().position(is_it).map(|place| place as u32)
    }

    /// Lets nobody come any more. Who waits already is served; `to` hears when that is done.
    fn refuse(&mut self, id: u64, to: Sender<Answer>) {
        let Some(place) = self.place_with(id) else { return };
        let is_running = self.state == State::Running;
        let Some(state) = state_of_mut(&mut self.listeners, place) else { return };
        let Some(token) = state.socket.filter(|_| is_running && !state.closed && !state.is_refusing) else {
            return;
        };
        let is_unix = state.listener.kind.is_unix();
        match self.sockets.get_mut(token) {
            Some(Socket::Listener { retry_at, .. }) => {
                state.is_refusing = true;
                state.waiters.push(to);
                self.timers.arm(token, retry_at, Moment::NEVER);
                self.driver.resume(token);
                // Where descriptors have run out it goes on when there are some again.
                if !self.driver.accepts_by_itself(token) && self.accept_all(token) {
                    self.stop_listening(token);
                } else {
                    self.driver.drain(token);
                }
            }
            Some(Socket::Datagrams(_)) if !is_unix => match self.driver.refuse(token) {
                Ok(()) => state.is_refusing = true,
                Err(error) => to.send(Answer::Failed(error)),
            },
            Some(Socket::Datagrams(_)) => {
                state.is_refusing = true;
                if self.is_lent_to_host {
                    // No turn is to be had now: at least nothing more arrives, and the next one answers what has.
                    _ = self.driver.refuse(token);
                } else {
                    state.waiters.push(to);
                }
                self.driver.resume(token);
                self.driver.drain(token);
            }
            Some(Socket::Connection(_) | Socket::Offloaded(_)) | None => {}
        }
    }

    /// Accepts all that waits at a listener; whether that was all.
    pub(super) fn accept_all(&mut self, token: Token) -> bool {
        // Who comes meanwhile waits too: a flood is left when as many have come as may wait.
        let mut left = i64::from(i32::MAX);
        if let Some(Socket::Listener { state, .. }) = self.sockets.get(token)
            && let Some(state) = state_of(&self.listeners, *state)
        {
            left = i64::from(state.listener.waiting_max()) + 1;
        }
        while left > 0 {
            left -= 1;
            match self.driver.accept_waiting(token) {
                Some(Ok((socket, peer))) => self.accepted(token, socket, peer),
                Some(Err(error)) => match error.raw_os_error() {
                    // One that was gone before it was accepted.
                    Some(libc::ECONNABORTED | libc::EPROTO) => {}
                    _ => return false,
                },
                // A listener may have begun to accept by itself, now that there are more connections.
                None => return !self.driver.accepts_by_itself(token),
            }
        }
        true
    }

    /// Nothing waits at a listener that is to refuse: it does from now on.
    pub(super) fn stop_listening(&mut self, token: Token) {
        let Some(Socket::Listener { state, is_stopped, .. }) = self.sockets.get_mut(token) else { return };
        let place = *state;
        let refused = self.driver.refuse(token);
        *is_stopped = refused.is_ok();
        let Some(state) = state_of_mut(&mut self.listeners, place) else { return };
        state.is_refusing = refused.is_ok();
        let is_unix = state.listener.kind.is_unix();
        let waiters = std::mem::take(&mut state.waiters);
        match refused {
            // Those that came before are still there to be accepted.
            Ok(()) if is_unix => _ = self.accept_all(token),
            Ok(()) => {}
            Err(error) => {
                let copy = || io::Error::from_raw_os_error(error.raw_os_error().unwrap_or(libc::EIO));
                waiters.iter().for_each(|to| to.send(Answer::Failed(copy())));
            }
        }
    }

    fn stop_refusing(&mut self, id: u64, to: &Sender<Answer>) {
        let Some(place) = self.place_with(id) else { return };
        let Some(state) = state_of_mut(&mut self.listeners, place) else { return };
        let Some(token) = state.socket.filter(|_| state.is_refusing && !state.closed) else { return };
        let waiting_max = state.listener.waiting_max();
        let result = match self.sockets.get_mut(token) {
            Some(Socket::Listener { is_stopped: is_stopped @ true, .. }) => {
                let result = self.driver.stop_refusing(token, waiting_max);
                *is_stopped = result.is_err();
                result
            }
            // It was still accepting those that had come before.
            Some(Socket::Listener { .. }) => Ok(()),
            _ => self.driver.stop_refusing(token, waiting_max),
        };
        state.is_refusing = result.is_err();
        state.waiters.clear();
        if let Err(error) = result {
            to.send(Answer::Failed(error));
        }
    }

    /// Closes a socket that refuses, if it is still there: another one takes its place.
    fn replace(&mut self, id: u64) {
        let Some(place) = self.place_with(id) else { return };
        let Some(state) = state_of(&self.listeners, place) else { return };
        if let Some(token) = state.socket.filter(|_| state.is_refusing && !state.closed) {
            self.close_socket(token);
        }
        if let Some(state) = state_of_mut(&mut self.listeners, place) {
            state.is_refusing = false;
        }
    }
}

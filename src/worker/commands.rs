//! What other threads ask of a worker.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;

use super::mailbox::{Command, ConnectionInfo};
use super::{Served, Socket, State, Worker, state_of};
use crate::driver::Driver;
use crate::stats::CloseReason;

impl<D: Driver> Worker<D> {
    /// Does what other threads have asked for: two loads a turn where nobody has.
    #[inline(always)]
    pub(super) fn take_commands(&mut self) {
        if let Some(commands) = self.shared.mailboxes[self.index].take() {
            self.obey(commands);
        }
        if self.shared.stop.load(Ordering::Acquire) && self.state != State::Ended {
            self.stop(CloseReason::Stopped);
        }
        self.end_if_drained();
    }

    #[inline(never)]
    fn obey(&mut self, commands: VecDeque<Command<D::Socket>>) {
        for command in commands {
            match command {
                Command::Listen { listener, socket } => self.listen(listener, socket),
                Command::Adopt(arrival) => self.open(arrival),
                Command::List { to } => self.list(&to),
                Command::OffloadResult(result) => self.resume_offloaded(*result),
                Command::DatagramResult(result) => self.resume_datagram(*result),
                Command::LateAnswer { socket, answer } => self.answered_late(socket, answer),
                Command::CloseListener { id } => self.close_listener(id),
                Command::Drain { within } => self.drain(within),
            }
        }
        // A wait follows.
        self.recorder.wake();
    }

    /// Connections that are with a transform that may block are left out.
    fn list(&self, to: &Sender<ConnectionInfo>) {
        let now = self.driver.now();
        for token in self.sockets.tokens() {
            let Some(Socket::Connection(Served { connection, .. })) = self.sockets.get(token) else {
                continue;
            };
            let Some(state) = state_of(&self.listeners, connection.listener()) else { continue };
            let info = ConnectionInfo {
                id: connection.id(),
                listener: state.listener.url.clone(),
                peer: connection.peer().clone(),
                worker: self.index,
                idle: connection.silent_since().until(now),
                waiting_bytes: connection.waiting_bytes(),
                is_ending: connection.is_ending() || self.state != State::Running,
            };
            // Whoever asked may have given up.
            let _ = to.send(info);
        }
    }
}

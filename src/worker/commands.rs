//! What other threads ask of a worker.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use super::connection_info::ConnectionInfo;
use super::mailbox::Command;
use super::{State, Worker};
use crate::channel::Sender;
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
                Command::Revise { listener } => self.revise(&listener),
                Command::Adopt(arrival) => self.open(arrival),
                Command::List { to } => self.list(&to),
                Command::OffloadResult(result) => self.resume_offloaded(*result),
                Command::DatagramResult(result) => self.resume_datagram(*result),
                Command::LateAnswer { socket, answer } => self.answered_late(socket, answer),
                Command::Request { token, id, request } => self.request(token, id, request),
                Command::Ask(ask) => self.answer(&ask, false),
                Command::HoldListener { id } => self.hold_listener(id),
                Command::TurnEnded { .. } => {}
                Command::Drain { within } => self.drain(within),
            }
        }
        // A wait follows.
        self.recorder.wake();
    }

    fn list(&self, to: &Sender<ConnectionInfo>) {
        for info in self.sockets.tokens().into_iter().filter_map(|token| self.describe(token)) {
            // Whoever asked may have given up.
            to.send(info);
        }
    }
}

//! Commands of other threads, swapped chains, draining and the end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::Duration;

use super::mailbox::{Command, ConnectionInfo};
use super::offloading::Work;
use super::streams::{goes_away, switch_generation};
use super::{Socket, State, Worker};
use crate::connection::{End, Phase};
use crate::driver::{Close, Driver, Token};
use crate::stats::CloseReason;
use crate::timer::Moment;

impl<D: Driver> Worker<D> {
    pub(super) fn take_commands(&mut self) {
        for command in self.shared.mailboxes[self.index].take() {
            match command {
                Command::Listen { listener, socket } => self.listen(listener, socket),
                Command::Adopt(arrival) => self.open(arrival),
                Command::List { to } => self.list(&to),
                Command::Returned(returned) => self.returned(*returned),
                Command::ReturnedDatagram(returned) => self.returned_datagram(*returned),
                Command::CloseListener { id } => self.close_listener(id),
                Command::Drain { within } => self.drain(within),
            }
        }
        if self.shared.stop.load(Ordering::Acquire) && self.state != State::Ended {
            self.stop(CloseReason::Stopped);
        }
        self.end_if_drained();
    }

    /// Notices swaps: one load a turn.
    pub(super) fn look_for_chains(&mut self) {
        let epoch = self.shared.chain_epoch.load(Ordering::Acquire);
        if epoch != self.chain_epoch {
            self.chain_epoch = epoch;
            self.take_chains();
        }
    }

    /// Connections that are with a transform that may block are left out.
    fn list(&self, to: &Sender<ConnectionInfo>) {
        let now = self.driver.now();
        for token in self.sockets.tokens() {
            let Some(Socket::Connection(connection)) = self.sockets.get(token) else { continue };
            let Some(Some(post)) = self.posts.get(connection.listener as usize) else { continue };
            let info = ConnectionInfo {
                id: connection.id,
                listener: post.listener.url.clone(),
                peer: connection.peer.clone(),
                worker: self.index,
                idle: connection.last_received.until(now),
                waiting_bytes: connection.queued_bytes(),
                is_ending: connection.phase != Phase::Open || self.state != State::Running,
            };
            // Whoever asked may have given up.
            let _ = to.send(info);
        }
    }

    /// Looks for swapped chains. Connections whose transforms remember nothing go over now; the others when
    /// they can, or never.
    pub(super) fn take_chains(&mut self) {
        let mut changed = false;
        for post in self.posts.iter_mut().flatten() {
            let number = post.listener.chain_number();
            if number != post.chain_number {
                post.chain_number = number;
                let old = std::mem::replace(&mut post.generation, post.listener.generation(self.index));
                self.shared.retire(Some(old));
                changed = true;
            }
        }
        if !changed {
            return;
        }
        let now = self.driver.now();
        for token in self.sockets.tokens() {
            match self.sockets.get_mut(token) {
                Some(Socket::Connection(connection)) => {
                    let Some(Some(post)) = self.posts.get(connection.listener as usize) else { continue };
                    if Arc::ptr_eq(connection.generation(), &post.generation) {
                        continue;
                    }
                    connection.may_switch = true;
                    if connection.swap_until == Moment::NEVER {
                        connection.swap_until = now.after(post.listener.options.swap_timeout);
                    }
                    if goes_away(connection, post) {
                        self.send_away(token, Work::Switch);
                        continue;
                    }
                    let left = switch_generation(connection, post);
                    self.shared.retire(left);
                    if !Arc::ptr_eq(connection.generation(), &post.generation) {
                        self.settle(token);
                    }
                }
                Some(Socket::Datagrams { turn, .. }) => {
                    let turn = std::mem::take(turn);
                    self.retire(turn);
                }
                Some(Socket::Listener { .. } | Socket::Away(_)) | None => {}
            }
        }
    }

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

    pub(super) fn drained(&mut self, token: Token) {
        match self.sockets.get_mut(token) {
            // Answers that are held back are still owed; nothing new is taken.
            Some(Socket::Datagrams { held, offloaded, ends, .. }) if held.len() > 0 || *offloaded > 0 => {
                *ends = true;
                self.driver.pause(token);
            }
            Some(Socket::Listener { .. } | Socket::Datagrams { .. }) => self.close_socket(token),
            Some(Socket::Connection(_)) => self.begin_end(token, Some(End::because(CloseReason::Drained))),
            Some(Socket::Away(_)) | None => {}
        }
    }

    /// Ends everything now.
    pub(super) fn stop(&mut self, reason: CloseReason) {
        for token in self.sockets.tokens() {
            match self.sockets.get(token) {
                Some(Socket::Connection(connection)) => {
                    let reason = match connection.phase {
                        Phase::Lingering(reason) => reason,
                        _ => reason,
                    };
                    self.close_connection(token, reason, Close::Gently, None);
                }
                Some(Socket::Away(_)) => self.abandon(token, reason),
                _ => self.close_socket(token),
            }
        }
        self.state = State::Draining { until: self.driver.now() };
        self.end_if_drained();
    }

    pub(super) fn end_if_drained(&mut self) {
        if matches!(self.state, State::Draining { .. })
            && self.sockets.is_empty()
            && self.shared.mailboxes[self.index].close()
        {
            self.state = State::Ended;
            self.driver.wait_closed();
            // Generations are destroyed with their last user; an ended worker uses none.
            self.posts.clear();
        }
    }
}

//! Datagrams: admit, answer at once or later.

use std::io;
use std::sync::Arc;

use super::{Socket, Worker, log_transform_error};
use crate::connection::TransformFault;
use crate::context::Reply;
use crate::datagram;
use crate::driver::{Datagram, Driver, Token};
use crate::event::{Event, EventCause, EventKind, LogLevel};
use crate::peer::Peer;
use crate::stats::DropReason;
use crate::timer::Moment;
use crate::transform::library::Fault;

impl<D: Driver> Worker<D> {
    /// Datagrams came: see [`Driver::next_datagram`].
    pub(super) fn datagrams(&mut self, token: Token) {
        while let Some((datagram, fault)) = self.answer_in_place(token) {
            let from = self.driver.sender();
            self.datagram(token, &from, datagram, fault);
            self.driver.recycle_peer(from);
        }
    }

    /// The way of most datagrams: whoever may be answered, by a chain that works in place. Stops at any other, which is
    /// counted, and at one at which a transform fails.
    fn answer_in_place(&mut self, token: Token) -> Option<(Datagram, Option<(usize, Fault)>)> {
        let Worker { driver, pool, scratch, sockets, listeners, .. } = self;
        let Some(Socket::Datagrams(socket)) = sockets.get_mut(token) else { return None };
        let Some(Some(state)) = listeners.get(socket.state as usize) else {
            debug_assert!(false, "a socket has a listener");
            return None;
        };
        let cx = state.context(pool, scratch, driver.now());
        let is_fast = socket.session.is_fast(&cx);
        let (mut messages, mut bytes) = (0, 0);
        let rest = loop {
            let Some((datagram, message)) = driver.next_datagram() else { break None };
            let len = message.len();
            messages += 1;
            bytes += len as u64;
            if !is_fast || !datagram::is_plain(&datagram) {
                break Some((datagram, None));
            }
            match socket.session.answer_in_place(message, &cx) {
                Ok(true) => driver.reply_from_recv_buf(0..len),
                Ok(false) => {}
                Err(fault) => break Some((datagram, Some(fault))),
            }
        };
        state.stats.messages_in.add(messages);
        state.stats.bytes_in.add(bytes);
        rest
    }

    /// Any datagram: that is admitted or dropped, answered at once or later.
    fn datagram(&mut self, token: Token, from: &Peer, datagram: Datagram, fault: Option<(usize, Fault)>) {
        let Worker { driver, pool, scratch, sockets, listeners, shared, timers, .. } = self;
        let Some(Socket::Datagrams(socket)) = sockets.get_mut(token) else { return };
        let Some(Some(state)) = listeners.get(socket.state as usize) else { return };
        let log_fault = |(stage, fault)| {
            let fault = TransformFault { generation: Arc::clone(&state.generation), stage, fault };
            log_transform_error(&shared.events, state, &fault, 0, from);
        };
        if let Some(fault) = fault {
            return log_fault(fault);
        }
        let drop_it = |reason: DropReason| {
            state.stats.dropped(reason, 1);
            shared.events.emit(&Event {
                level: LogLevel::Debug,
                kind: EventKind::Dropped,
                listener: &state.listener.url,
                listener_id: state.listener.id,
                connection: 0,
                peer: Some(from),
                cause: Some(EventCause::Dropped(reason)),
                text: &format_args!("dropped a datagram: {reason}"),
            });
        };
        if let Some(reason) = datagram::refuse(from, datagram.to, datagram.truncated) {
            return drop_it(reason);
        }
        if state.generation.is_offloaded() {
            return self.offload_datagram(token, from.clone());
        }
        let now = driver.now();
        let recv_buf = driver.recv_buf();
        let outcome = socket.session.answer(recv_buf, from, &mut state.context(pool, scratch, now));
        match outcome.reply {
            Reply::Nothing => {}
            Reply::InRecvBuf(range) => driver.reply_from_recv_buf(range),
            Reply::Owned(bytes) if outcome.delay.is_zero() => driver.reply(bytes),
            Reply::Owned(bytes) => {
                let due = driver.read_clock().after(outcome.delay);
                let kept = match driver.reply_to() {
                    Some(to) => socket.delayed.keep(due, to, bytes),
                    None => Err(bytes),
                };
                if kept.is_err() {
                    drop_it(DropReason::QueueFull);
                }
                match kept {
                    Ok(bytes) | Err(bytes) => pool.put(bytes),
                }
                timers.arm(token, &mut socket.deadline, socket.delayed.next());
            }
        }
        if outcome.is_amplified {
            state.log_amplified(&shared.events, from);
        }
        if let Some(fault) = outcome.fault {
            log_fault(fault);
        }
    }

    /// Sends the delayed answers that are due.
    pub(super) fn release_datagrams(&mut self, token: Token, now: Moment) {
        if let Some(Socket::Datagrams(socket)) = self.sockets.get_mut(token) {
            socket.deadline = Moment::NEVER;
        }
        while let Some(Socket::Datagrams(socket)) = self.sockets.get_mut(token)
            && let Some((to, bytes)) = socket.delayed.take_due(now)
        {
            let result = self.driver.send_to(token, &to, &bytes);
            self.answered(token, 1, result);
        }
        if let Some(Socket::Datagrams(socket)) = self.sockets.get_mut(token) {
            self.timers.arm(token, &mut socket.deadline, socket.delayed.next());
        }
        self.end_datagrams_if_done(token);
    }

    /// Closes a draining socket when it owes nothing any more.
    pub(super) fn end_datagrams_if_done(&mut self, token: Token) {
        if let Some(Socket::Datagrams(socket)) = self.sockets.get(token)
            && socket.ends
            && !socket.is_owing()
        {
            self.close_socket(token);
        }
    }

    pub(super) fn answered(&mut self, token: Token, answers: usize, result: io::Result<usize>) {
        let Some(Socket::Datagrams(socket)) = self.sockets.get(token) else { return };
        let Some(Some(state)) = self.listeners.get(socket.state as usize) else { return };
        let stats = &state.stats;
        match result {
            Ok(bytes) => {
                stats.messages_out.add(answers as u64);
                stats.bytes_out.add(bytes as u64);
            }
            Err(error) => {
                let full = error.kind() == io::ErrorKind::WouldBlock && state.listener.kind.is_unix();
                let reason = match error.raw_os_error() {
                    _ if full => DropReason::PeerFull,
                    Some(libc::EMSGSIZE) => DropReason::AnswerTooLong,
                    _ => DropReason::SendFailed,
                };
                stats.dropped(reason, answers as u64);
                let (why, text) =
                    (EventCause::Dropped(reason), format_args!("an answer could not be sent: {error}"));
                self.shared.events.emit_caused(
                    LogLevel::Debug,
                    EventKind::Dropped,
                    &*state.listener,
                    Some(why),
                    text,
                );
            }
        }
    }
}

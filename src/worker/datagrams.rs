//! Datagrams: admit, answer at once or later.

use std::io;
use std::sync::Arc;

use super::datagram_socket::LateDatagram;
use super::late::issuer;
use super::{ListenerState, Socket, Worker, log_transform_error};
use crate::bug;
use crate::chain::DATAGRAM;
use crate::connection::TransformFault;
use crate::context::Reply;
use crate::datagram::{self, AnswerTo, DelayedDatagram, Kernel};
use crate::driver::{Datagram, Driver, RecvBuf, Token};
use crate::event::{Event, EventCause, EventKind, LogLevel};
use crate::limits::UNIX_QUEUES_MAX;
use crate::listener::Sender;
use crate::peer::Peer;
use crate::proxy::Fault as HeaderFault;
use crate::stats::DropReason;
use crate::sys::{self, SendBuffer};
use crate::tap::{Recorded, Recorder, TapOutcome};
use crate::timer::Moment;
use crate::transform::library::Fault;

impl<D: Driver> Worker<D> {
    /// Datagrams came: see [`Driver::next_datagram`].
    pub(super) fn datagrams(&mut self, token: Token) {
        while let Some((datagram, found)) = self.answer_in_place(token) {
            let from = self.driver.sender();
            self.datagram(token, &from, datagram, found);
            self.driver.recycle_peer(from);
        }
    }

    /// The way of most datagrams: whoever may be answered, by a chain that works in place. Stops at any other, which is
    /// counted, and at one at which a transform fails.
    fn answer_in_place(&mut self, token: Token) -> Option<(Datagram, Found)> {
        let Worker { driver, pool, scratch, recorder, sockets, listeners, .. } = self;
        let Some(Socket::Datagrams(socket)) = sockets.get_mut(token) else { return None };
        let Some(Some(state)) = listeners.get(socket.state as usize) else {
            debug_assert!(false, "a socket has a listener");
            return None;
        };
        // The datagrams have arrived, so whoever opens a tap now does not expect them there.
        let is_recorded = recorder.is_on();
        let cx = state.context(pool, scratch, recorder, driver.now());
        let is_fast = state.listener.proxy.is_none() && socket.session.is_fast(&cx);
        let (mut messages, mut bytes) = (0, 0);
        let rest = loop {
            let Some((datagram, message)) = driver.next_datagram() else { break None };
            let len = message.len();
            messages += 1;
            bytes += len as u64;
            if !is_fast || !datagram::is_plain(&datagram) {
                break Some((datagram, Found::Nothing));
            }
            let guard = socket.guard.as_mut();
            let guard = guard.filter(|guard| !guard.is_idle(datagram.plain_port, datagram.hops));
            let (message, guarded) = match guard {
                None => (message, None),
                Some(guard) => {
                    let source = driver.source();
                    let RecvBuf { buffer, start } = driver.recv_buf();
                    let message = bug::part_mut(buffer, start..);
                    let refused =
                        source.and_then(|source| guard.refuse(&source, message, datagram.hops, cx.now));
                    if let Some(reason) = refused {
                        break Some((datagram, Found::Refused(reason)));
                    }
                    (message, source.map(|source| (guard, source)))
                }
            };
            if is_recorded {
                cx.recorder.keep(message);
            }
            let answered = socket.session.answer_in_place(message, &cx);
            if let (Ok(true), Some((guard, source))) = (&answered, guarded) {
                guard.answered(&source, message, cx.now);
            }
            if is_recorded {
                record_in_place(driver, &answered, cx.recorder, state);
            }
            match answered {
                Ok(true) => driver.reply_from_recv_buf(0..len),
                Ok(false) => {}
                Err(fault) => break Some((datagram, Found::Fault(fault))),
            }
        };
        state.stats.messages_in.add(messages);
        state.stats.bytes_in.add(bytes);
        rest
    }

    /// Any datagram: that is admitted or dropped, answered at once or later.
    fn datagram(&mut self, token: Token, from: &Peer, datagram: Datagram, found: Found) {
        let Worker { index, driver, pool, scratch, recorder, sockets, listeners, shared, timers, .. } = self;
        let Some(Socket::Datagrams(socket)) = sockets.get_mut(token) else { return };
        let Some(Some(state)) = listeners.get(socket.state as usize) else { return };
        let now = driver.now();
        let log_fault = |(stage, fault)| {
            let fault = TransformFault { generation: Arc::clone(&state.generation), stage, fault };
            log_transform_error(&shared.events, state, &fault, 0, from, now);
        };
        let refused = match found {
            Found::Fault(fault) => return log_fault(fault),
            Found::Refused(reason) => Some(reason),
            Found::Nothing => None,
        };
        let is_recorded = recorder.is_on();
        if is_recorded {
            let RecvBuf { buffer, start } = driver.recv_buf();
            recorder.keep(bug::part(buffer, start..));
        }
        let drop_it = |reason: DropReason, from: &Peer, fault: Option<HeaderFault>| {
            state.stats.dropped(reason, 1);
            let why = fault.map(|fault| format!(" ({fault})")).unwrap_or_default();
            shared.events.emit(&Event {
                level: LogLevel::Debug,
                kind: EventKind::Dropped,
                listener: &state.listener.url,
                listener_id: state.listener.id,
                connection: 0,
                peer: Some(from),
                cause: Some(EventCause::Dropped(reason)),
                text: &format_args!("dropped a datagram: {reason}{why}"),
            });
        };
        // Whoever answers is answered, which is the proxy where there is one; all the rest is about whom that has named.
        let (address, mut sender) = (from, None);
        let refused = refused.or_else(|| datagram::refuse(from, datagram.to, datagram.truncated));
        if let (None, Some(rules)) = (refused, &state.listener.proxy) {
            let RecvBuf { buffer, start } = driver.recv_buf();
            match rules.read(from, bug::part(buffer, start..), state.listener.message_bytes_max) {
                Ok(found) => sender = Some(found),
                Err(rejected) => {
                    if is_recorded {
                        state.record_datagram(recorder, now, from, TapOutcome::refused(rejected.reason), &[]);
                    }
                    return drop_it(rejected.reason, from, rejected.fault);
                }
            }
        }
        let (from, proxied, header_bytes) = match sender {
            Some(Sender { ref peer, proxied, header_bytes }) => (peer, Some(proxied), header_bytes),
            None => (from, None, 0),
        };
        if header_bytes > 0 && is_recorded {
            let RecvBuf { buffer, start } = driver.recv_buf();
            recorder.keep(bug::part(buffer, start + header_bytes..));
        }
        let refused = refused.or_else(|| {
            if let Some(unread) = &mut socket.unread {
                let is_over = unread.is_over(address, &Queues { driver, token });
                return is_over.then_some(DropReason::PeerFull);
            }
            if proxied.is_some() && !state.listener.serves(from) {
                return Some(DropReason::Denied);
            }
            let (Some(guard), Peer::Ip(source)) = (&mut socket.guard, from) else { return None };
            let RecvBuf { buffer, start } = driver.recv_buf();
            guard.refuse(source, bug::part(buffer, start + header_bytes..), datagram.hops, now)
        });
        if let Some(reason) = refused {
            if is_recorded {
                state.record_datagram(recorder, now, from, TapOutcome::refused(reason), &[]);
            }
            return drop_it(reason, from, None);
        }
        if state.generation.is_offloaded() {
            return self.offload_datagram(token, from.clone(), (proxied, header_bytes));
        }
        let RecvBuf { buffer, start } = driver.recv_buf();
        let recv_buf = RecvBuf { buffer, start: start + header_bytes };
        let mut cx = state.context(pool, scratch, recorder, now);
        cx.issuer = issuer(&shared.tickets, (*index, token), socket.late.len());
        let conversation = cx.limits.conversation(0, from, proxied.as_deref());
        let mut outcome = socket.session.answer(recv_buf, conversation, &mut cx);
        let has_room = outcome.delay.is_zero() || socket.delayed.has_room(outcome.reply_bytes());
        let is_later = outcome.later.is_some();
        if is_recorded && !is_later {
            let for_taps =
                if has_room { outcome.for_taps() } else { TapOutcome::Dropped(DropReason::QueueFull) };
            let recv_buf = driver.recv_buf();
            let answer = match &outcome.reply {
                _ if !has_room => &[],
                Reply::Nothing => &[],
                Reply::InRecvBuf(range) => bug::part(recv_buf.buffer, range.clone()),
                Reply::Owned(bytes) => bytes,
            };
            state.record_datagram(recorder, now, from, for_taps, answer);
        }
        if let Some(message) = outcome.later {
            match driver.reply_to() {
                Some(to) => {
                    let kept = is_recorded.then(|| recorder.kept());
                    let to = AnswerTo::new(to, from, proxied.is_some());
                    let late = LateDatagram { to, from: from.clone(), proxied, message, kept };
                    socket.late.insert(late.message.ticket(), late);
                }
                None => {
                    if is_recorded {
                        let outcome = TapOutcome::Dropped(DropReason::Undelivered);
                        state.record_datagram(recorder, now, from, outcome, &[]);
                    }
                    drop_it(DropReason::Undelivered, from, None);
                }
            }
            return;
        }
        if outcome.delay.is_zero() && socket.remembers() {
            match &outcome.reply {
                Reply::Nothing => {}
                Reply::InRecvBuf(range) => {
                    let recv_buf = driver.recv_buf();
                    socket.remember(from, address, bug::part(recv_buf.buffer, range.clone()), now);
                }
                Reply::Owned(bytes) => socket.remember(from, address, bytes, now),
            }
        }
        match std::mem::replace(&mut outcome.reply, Reply::Nothing) {
            Reply::Nothing => {}
            Reply::InRecvBuf(range) => driver.reply_from_recv_buf(range),
            Reply::Owned(bytes) if outcome.delay.is_zero() => {
                if outcome.copies > 0
                    && let Some(to) = driver.reply_to()
                {
                    let to = AnswerTo::new(to, from, proxied.is_some());
                    socket.delayed.keep_copies(driver.read_clock(), to, &bytes, outcome.copies);
                    timers.arm(token, &mut socket.deadline, socket.delayed.next());
                }
                driver.reply(bytes);
            }
            Reply::Owned(bytes) => {
                let (due, to) = (driver.read_clock().after(outcome.delay), driver.reply_to());
                let to = to.map(|to| AnswerTo::new(to, from, proxied.is_some()));
                if !to.is_some_and(|to| socket.delayed.keep(due, to, &bytes, outcome.copies)) {
                    drop_it(DropReason::QueueFull, from, None);
                }
                pool.put(bytes);
                timers.arm(token, &mut socket.deadline, socket.delayed.next());
            }
        }
        if outcome.is_amplified() {
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
            && let Some(DelayedDatagram { to, bytes, answers }) = socket.delayed.take_due(now)
        {
            socket.remember_late(&to, &bytes, now);
            let result = self.driver.send_to(token, &to.to, &bytes);
            self.answered(token, answers, result);
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
        let Some(Socket::Datagrams(socket)) = self.sockets.get_mut(token) else { return };
        if let Some(unread) = &mut socket.unread {
            // The copy of an answer is none, but was sent as well.
            unread.done(answers.max(1));
        }
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
                    _ if full && self.driver.send_buffer(token).is_some_and(SendBuffer::is_full) => {
                        DropReason::SocketFull
                    }
                    _ if full => DropReason::PeerFull,
                    Some(libc::EMSGSIZE) => DropReason::AnswerTooLong,
                    _ => DropReason::SendFailed,
                };
                stats.dropped(reason, answers as u64);
                let (why, text) = (
                    EventCause::Dropped(reason),
                    format_args!("an answer could not be sent: {reason} ({error})"),
                );
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

/// The kernel, for a unix datagram socket.
struct Queues<'a, D> {
    driver: &'a D,
    token: Token,
}

impl<D: Driver> Kernel for Queues<'_, D> {
    fn send_buffer(&self) -> Option<SendBuffer> {
        self.driver.send_buffer(self.token)
    }

    fn queues(&self, each: impl FnMut(Peer, bool)) {
        // Where the kernel does not tell, it is done without.
        let _ = sys::unix_queues(UNIX_QUEUES_MAX, each);
    }
}

/// What is known of a datagram that does not take the way of most.
enum Found {
    /// Nothing yet.
    Nothing,
    /// It is not to be answered.
    Refused(DropReason),
    /// A transform has failed at it, at this stage.
    Fault((usize, Fault)),
}

/// Records the datagram that a chain has just answered in place, or not.
#[cold]
fn record_in_place<D: Driver>(
    driver: &mut D,
    answered: &Result<bool, (usize, Fault)>,
    recorder: &mut Recorder,
    state: &ListenerState,
) {
    let (now, from) = (driver.now(), driver.sender());
    let RecvBuf { buffer, start } = driver.recv_buf();
    let (outcome, answer) = match answered {
        Ok(true) => (TapOutcome::Answered, bug::part(buffer, start..)),
        Ok(false) => (TapOutcome::Dropped(DropReason::ByTransform), &[][..]),
        Err(_) => (TapOutcome::Failed(DropReason::TransformFailed), &[][..]),
    };
    state.record_datagram(recorder, now, &from, outcome, answer);
    driver.recycle_peer(from);
}

impl ListenerState {
    /// Records the datagram that was kept last.
    pub(super) fn record_datagram(
        &self,
        recorder: &mut Recorder,
        time: Moment,
        peer: &Peer,
        outcome: TapOutcome,
        answer: &[u8],
    ) {
        let limits = &self.listener.limits;
        let recorded = Recorded {
            time,
            listener: limits.local.listener,
            connection: 0,
            peer,
            kind: limits.local.kind,
            flags: DATAGRAM,
            outcome,
        };
        recorder.record(&recorded, answer);
    }
}

//! Messages for transforms that may block. The whole connection goes along: it does no I/O, so it can work anywhere.
//! Meanwhile its socket is paused, and what happens to its send is noted.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::late::LateOutcome;
use super::mailbox::Command;
use super::offloaded::{DatagramResult, OffloadResult, Offloaded};
use super::seen::Seen;
use super::{ListenerState, Served, Shared, Socket, State, Worker, state_of, state_of_mut};
use crate::buffer::{self, Pool};
use crate::bug::{self, Bugs};
use crate::chain::{Generation, Scratch};
use crate::connection::Work;
use crate::context::{Context, Reply};
use crate::datagram::{AnswerTo, DatagramSession};
use crate::driver::{Close, Driver, RecvBuf, Token};
use crate::event::{Event, EventCause, EventKind, LogLevel};
use crate::limits::{OFFLOAD_LOOK, OFFLOADED_DATAGRAMS_MAX, TURN_SENDS};
use crate::listener::Listener;
use crate::offload::Refused;
use crate::peer::Peer;
use crate::proxy::Proxied;
use crate::stats::{Block, CloseReason, DropReason};
use crate::sys::Presence;
use crate::tap::{Recorded, Recorder, TapOutcome};
use crate::timer::Moment;

/// A context off the workers. What is recorded stays with the recorder.
fn with_context<R>(
    listener: &Listener,
    current: &Arc<Generation>,
    now: Moment,
    recorder: &mut Recorder,
    run: impl FnOnce(&mut Context<'_>) -> R,
) -> (R, Block, Option<Bugs>) {
    let stats = Block::default();
    let result = run(&mut Context {
        limits: &listener.limits,
        current,
        pool: &mut Pool::default(),
        scratch: &mut Scratch::default(),
        stats: &stats,
        recorder,
        now,
        sends_left: TURN_SENDS,
        may_block: true,
        issuer: None,
        is_draining: false,
    });
    (result, stats, bug::take())
}

impl<D: Driver> Worker<D> {
    /// Hands a connection to the threads that may be blocked.
    pub(super) fn offload(&mut self, token: Token, work: Work) {
        let expected = "the connection that its step offloads";
        let Some(place) = self.sockets.get_mut(token) else { return bug::found_aside(expected) };
        let Socket::Connection(Served { connection, .. }) = &*place else {
            return bug::found_aside(expected);
        };
        let offloaded = Offloaded {
            id: connection.id(),
            peer: connection.peer().clone(),
            proxied: connection.proxied().cloned(),
            listener: connection.listener(),
            owed: connection.owed(),
            unread_bytes: connection.unread_bytes(),
            fresh_bytes: if let Work::Receive(bytes) = &work { bytes.len() } else { 0 },
            is_sent: false,
            permit: None,
            share: 0,
            job: None,
            since: self.driver.now(),
            until: Moment::NEVER,
            armed: Moment::NEVER,
            seen: Seen::of(connection),
            asked: Vec::new(),
            is_listener_changed: false,
        };
        let Some(state) = state_of(&self.listeners, connection.listener()) else {
            return self.close_broken(token);
        };
        let Socket::Connection(served) = std::mem::replace(place, Socket::Offloaded(Box::new(offloaded)))
        else {
            return bug::found_aside(expected);
        };
        let Served { mut connection, mut armed, .. } = served;
        // Where its own transforms may not block, those of the chain may that it is to follow.
        let own = connection.generation();
        let share = if own.is_offloaded() { own.share() } else { state.generation.share() };
        let permit = connection.take_permit();
        self.driver.pause(token);
        connection.set_paused();
        self.timers.arm(token, &mut armed, Moment::NEVER);
        let (listener, current) = (Arc::clone(&state.listener), Arc::clone(&state.generation));
        let (shared, index, now) = (Arc::downgrade(&self.shared), self.index, self.driver.now());
        let mut recorder = self.recorder.for_job();
        let job = move || {
            let (step, stats, bugs) =
                with_context(&listener, &current, now, &mut recorder, |cx| connection.perform(work, cx));
            let records = recorder.into_collected();
            let result = OffloadResult { token, connection, step, current, stats, records, bugs };
            send_back(&shared, index, Command::OffloadResult(Box::new(result)));
        };
        let job = match self.shared.offload.run(share, Box::new(job)) {
            Ok(job) => Some(job),
            // Without a thread to be had, blocking is better than losing the message.
            Err(Refused::NoThread(job)) => {
                job();
                None
            }
            Err(Refused::Full(job)) => {
                self.drop_in_background(share, job);
                return self.abandon_for(
                    token,
                    CloseReason::Overloaded,
                    DropReason::Overloaded,
                    Close::Reset,
                );
            }
        };
        let look_at = self.driver.now().after(OFFLOAD_LOOK);
        let Some(Socket::Offloaded(offloaded)) = self.sockets.get_mut(token) else {
            return bug::found_aside("the connection that was just offloaded");
        };
        (offloaded.permit, offloaded.share, offloaded.job) = (permit, share, job);
        self.timers.arm(token, &mut offloaded.armed, look_at);
    }

    /// Some time has passed since a connection was offloaded: gives it up where its peer is gone, or its time is.
    pub(super) fn look_at_offloaded(&mut self, token: Token) {
        let now = self.driver.now();
        let presence = self.driver.presence(token);
        let Some(Socket::Offloaded(offloaded)) = self.sockets.get_mut(token) else { return };
        offloaded.armed = Moment::NEVER;
        let Some(state) = state_of(&self.listeners, offloaded.listener) else { return };
        if state.generation.share() == offloaded.share {
            offloaded.until = Moment::NEVER;
        } else if offloaded.until == Moment::NEVER {
            offloaded.until = now.after(state.listener.limits.swap_timeout);
        }
        let idle_timeout = state.listener.limits.idle_timeout;
        let is_over = |timeout: Duration| offloaded.since.after(timeout) <= now;
        let reason = match presence {
            Presence::Gone => Some(CloseReason::PeerReset),
            // Whoever waits for an answer is not idle; whoever has closed everything looks the same as who has ended one side.
            Presence::Ended if idle_timeout.is_some_and(is_over) => Some(CloseReason::IdleTimeout),
            _ if offloaded.until <= now => Some(CloseReason::ChainReplaced),
            _ => None,
        };
        match reason {
            Some(reason) => self.abandon(token, reason, Close::Gently),
            None => {
                self.timers.arm(token, &mut offloaded.armed, now.after(OFFLOAD_LOOK).min(offloaded.until))
            }
        }
    }

    pub(super) fn resume_offloaded(&mut self, result: OffloadResult) {
        let Some(place) = self.sockets.get_mut(result.token) else {
            return self.drop_in_background(result.connection.share(), result);
        };
        let Socket::Offloaded(offloaded) = place else {
            return bug::found_aside("a place that is kept for the connection");
        };
        self.timers.arm(result.token, &mut offloaded.armed, Moment::NEVER);
        let (listener, is_sent) = (offloaded.listener, offloaded.is_sent);
        let permit = offloaded.permit.take();
        let (asked, is_listener_changed) =
            (std::mem::take(&mut offloaded.asked), offloaded.is_listener_changed);
        let id = offloaded.id;
        let OffloadResult { token, mut connection, mut step, current, stats, records, bugs } = result;
        // Nothing was read meanwhile: the peer gets its time again.
        connection.put_permit(permit);
        connection.resumed(self.driver.now());
        let served = Served { connection, armed: Moment::NEVER, is_unfinished: false };
        *place = Socket::Connection(served);
        let state = state_of(&self.listeners, listener);
        let is_current = state.is_none_or(|state| Arc::ptr_eq(&state.generation, &current));
        if let Some(state) = state {
            state.stats.add_block(&stats);
        }
        self.recorder.record_collected(records);
        if let Some(bugs) = bugs {
            bug::put(bugs);
            return self.close_broken(token);
        }
        // Its delays began when it went.
        let passed = step.rare.as_mut().is_some_and(|rare| std::mem::take(&mut rare.has_delays));
        self.step(token, |connection, _, driver| {
            if passed {
                connection.schedule(driver.now().until(driver.read_clock()));
            }
            step
        });
        if is_sent {
            self.sent(token, Vec::new());
        }
        if !is_current {
            // A swap came meanwhile.
            self.step(token, |connection, cx, _| connection.swap(cx));
        }
        if self.state != State::Running {
            self.step(token, |connection, cx, _| connection.release(cx));
        } else if is_listener_changed
            // It may have been the last connection of a listener that was closed, and is over by now.
            && let Some(Some(state)) = self.listeners.get(listener as usize)
        {
            let is_paused = state.holds();
            self.step(token, |connection, cx, _| connection.hold(is_paused, cx));
        }
        for request in asked {
            self.request(token, id, request);
        }
    }

    /// Closes the socket of an offloaded connection. Its result will be discarded.
    pub(super) fn abandon(&mut self, token: Token, reason: CloseReason, how: Close) {
        self.abandon_for(token, reason, DropReason::Undelivered, how);
    }

    /// The same, with what becomes of its message.
    fn abandon_for(&mut self, token: Token, reason: CloseReason, dropped: DropReason, how: Close) {
        let unsent = self.driver.unsent(token);
        let Some(Socket::Offloaded(mut offloaded)) = self.sockets.remove(token) else {
            return bug::found_aside("an offloaded connection");
        };
        self.timers.arm(token, &mut offloaded.armed, Moment::NEVER);
        drop(offloaded.permit.take());
        if let Some(job) = offloaded.job.and_then(|job| self.shared.offload.cancel(offloaded.share, job)) {
            // No thread has begun with it.
            self.drop_in_background(offloaded.share, job);
        }
        // First: to a program whose peer has seen the end, it is closed.
        if self.shared.directory.is_kept() {
            self.shared.directory.remove(offloaded.id);
        }
        self.driver.close(token, how);
        self.shared.mailboxes[self.index].load.fetch_sub(1, Ordering::Relaxed);
        let place = offloaded.listener as usize;
        if let Some(state) = state_of_mut(&mut self.listeners, offloaded.listener) {
            state.connections -= 1;
            state.stats.closed(reason);
            offloaded.owed.count(unsent, offloaded.is_sent, &state.stats);
            state.stats.undelivered_bytes.add(offloaded.asked_bytes() as u64);
            let in_hand = offloaded.unread_bytes + offloaded.fresh_bytes;
            state.stats.bytes_in.add(offloaded.fresh_bytes as u64);
            state.stats.dropped_bytes.add(in_hand as u64);
            if in_hand > 0 {
                state.stats.messages_in.add(1);
                state.stats.dropped(dropped, 1);
                if self.recorder.is_on() {
                    // Its bytes are with the transform.
                    self.recorder.keep_length(in_hand);
                    let limits = &state.listener.limits;
                    let recorded = Recorded {
                        time: self.driver.now(),
                        listener: limits.local.listener,
                        connection: offloaded.id,
                        peer: &offloaded.peer,
                        kind: limits.local.kind,
                        flags: 0,
                        outcome: TapOutcome::Dropped(dropped),
                    };
                    self.recorder.record(&recorded, &[]);
                }
            }
            self.shared.events.emit(&Event {
                level: LogLevel::Debug,
                kind: EventKind::Closed,
                listener: &state.listener.url,
                listener_id: state.listener.id,
                connection: offloaded.id,
                peer: Some(&offloaded.peer),
                cause: Some(EventCause::Closed(reason)),
                text: &format_args!("closed: {reason}, while a transform had its message"),
            });
        }
        self.forget_listener_if_over(place);
    }

    /// Hands an admitted datagram to the threads that may be blocked, if there is room for it.
    /// `header_bytes`: what stands in front of the message.
    pub(super) fn offload_datagram(
        &mut self,
        token: Token,
        from: Peer,
        (proxied, header_bytes): (Option<Box<Proxied>>, usize),
    ) {
        let (to, now, is_recorded) = (self.driver.reply_to(), self.driver.now(), self.recorder.is_on());
        let to = to.map(|to| AnswerTo::new(to, &from, proxied.is_some()));
        let (Some(to), Some(Socket::Datagrams(socket))) = (to, self.sockets.get_mut(token)) else {
            return bug::found_aside("a datagram in the receive buffer, and its socket");
        };
        let Some(state) = state_of(&self.listeners, socket.state) else { return };
        let ListenerState { listener, generation, stats, .. } = state;
        let RecvBuf { buffer, start } = self.driver.recv_buf();
        let has_room = socket.offloaded < OFFLOADED_DATAGRAMS_MAX;
        let bytes = if has_room { buffer::try_copy(bug::part(buffer, start + header_bytes..)) } else { None };
        let Some(mut bytes) = bytes else {
            if is_recorded {
                // It was kept when it was admitted.
                let outcome = TapOutcome::Dropped(DropReason::QueueFull);
                state.record_datagram(&mut self.recorder, now, &from, outcome, &[]);
            }
            return stats.dropped(DropReason::QueueFull, 1);
        };
        // The transforms change the other.
        let message = is_recorded.then(|| socket.note_recorded(&from, self.recorder.kept()));
        socket.offloaded += 1;
        let share = generation.share();
        let (listener, generation) = (Arc::clone(listener), Arc::clone(generation));
        let (shared, index) = (Arc::downgrade(&self.shared), self.index);
        let mut recorder = self.recorder.for_job();
        let job = move || {
            let (outcome, stats, bugs) = with_context(&listener, &generation, now, &mut recorder, |cx| {
                let mut session = DatagramSession::default();
                let conversation = listener.limits.conversation(0, &from, proxied.as_deref());
                let mut outcome = session.answer(RecvBuf { buffer: &mut bytes, start: 0 }, conversation, cx);
                if let Reply::InRecvBuf(range) = outcome.reply {
                    // All of it where all of it is the answer, which is the case of an answer in place.
                    bytes.truncate(range.end);
                    bytes.drain(..range.start);
                    outcome.reply = Reply::Owned(std::mem::take(&mut bytes));
                }
                outcome
            });
            let came = now;
            let result = DatagramResult { token, to, from, generation, message, came, outcome, stats, bugs };
            send_back(&shared, index, Command::DatagramResult(Box::new(result)));
        };
        match self.shared.offload.run(share, Box::new(job)) {
            Ok(_) => {}
            Err(Refused::NoThread(job)) => job(),
            Err(Refused::Full(job)) => {
                self.drop_in_background(share, job);
                let Some(Socket::Datagrams(socket)) = self.sockets.get_mut(token) else { return };
                socket.offloaded -= 1;
                let recorded = message.and_then(|number| socket.take_recorded(number));
                let Some(state) = state_of(&self.listeners, socket.state) else { return };
                if let Some((from, message)) = recorded {
                    self.recorder.keep_again(&message);
                    let outcome = TapOutcome::Dropped(DropReason::Overloaded);
                    state.record_datagram(&mut self.recorder, now, &from, outcome, &[]);
                }
                state.stats.dropped(DropReason::Overloaded, 1);
            }
        }
    }

    pub(super) fn resume_datagram(&mut self, result: DatagramResult) {
        let DatagramResult { token, to, from, generation, message, came, mut outcome, stats, bugs } = result;
        let Some(Socket::Datagrams(socket)) = self.sockets.get_mut(token) else {
            // It was closed meanwhile.
            return self.drop_in_background(generation.share(), generation);
        };
        socket.offloaded -= 1;
        let kept = message.and_then(|number| socket.take_recorded(number)).map(|(_, kept)| kept);
        let Some(state) = state_of(&self.listeners, socket.state) else { return };
        if let Some(bugs) = bugs {
            bug::put(bugs);
            if std::mem::replace(&mut outcome.reply, Reply::Nothing) != Reply::Nothing {
                state.stats.dropped(DropReason::Undelivered, 1);
                outcome.dropped = Some(DropReason::Undelivered);
            }
        }
        state.stats.add_block(&stats);
        self.deliver_later(token, LateOutcome { to, from, generation, kept, came, outcome });
    }
}

/// Leaves a result with the worker it belongs to. One that has ended does not want it any more.
fn send_back<S>(shared: &Weak<Shared<S>>, worker: usize, command: Command<S>) {
    // The engine may be gone.
    let Some(shared) = shared.upgrade() else { return };
    let _ = shared.mailboxes[worker].push(command);
}

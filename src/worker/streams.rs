//! Streams and seqpacket connections: what happens to them goes in, what they want done is done, in one place.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{ListenerState, Served, Socket, State, Worker, state_of, state_of_mut};
use crate::bug;
use crate::connection::{Closing, Connection, Rare, Reading, Send, Step, Work, broken_by};
use crate::context::Context;
use crate::driver::{Close, Driver, Progress, Token};
use crate::event::{Event, EventCause, EventKind, LogLevel, PeerLine};
use crate::later::{Owner, TicketIssuer};
use crate::limits::TURN_CONTINUED;
use crate::timer::Moment;

/// What is left to do when all that a step wanted is done: it needs the whole worker.
enum Rest {
    Close(Closing),
    Identify,
    Offload(Work),
}

impl<D: Driver> Worker<D> {
    /// Lets something happen to a connection, and does what it wants then: the only place where answers of streams are
    /// handed to the driver.
    #[inline]
    pub(super) fn step(
        &mut self,
        token: Token,
        enter: impl FnOnce(&mut Connection, &mut Context<'_>, &mut D) -> Step,
    ) {
        let Worker {
            index,
            driver,
            pool,
            scratch,
            recorder,
            sockets,
            listeners,
            shared,
            submitted,
            turn,
            state: life,
            ..
        } = self;
        // It may have been closed earlier in this turn, or be offloaded.
        let Some(Socket::Connection(served)) = sockets.get_mut(token) else { return };
        let Some(Some(state)) = listeners.get(served.connection.listener() as usize) else {
            return self.close_orphan(token);
        };
        let mut cx = state.context(pool, scratch, recorder, driver.now());
        cx.is_draining = *life != State::Running;
        let connection = &mut served.connection;
        // Only functions ask for tickets.
        if !(connection.generation().is_fast() && cx.current.is_fast()) {
            cx.issuer = Some(TicketIssuer {
                tickets: &shared.tickets,
                owner: Owner { worker: *index, socket: token },
                waiting_bytes_max: cx.limits.high_water_bytes,
                order: None,
            });
        }
        if let Some(submitted_in) = connection.submitted_in() {
            if submitted_in == *turn && driver.report_sent(token) {
                state.await_submitted(connection, driver.unsent(token), &cx);
            } else {
                connection.end_submitted();
            }
        }
        let mut step = enter(connection, &mut cx, driver);
        let rest = loop {
            let Step { send, is_alone, rare } = step;
            if let Some(rare) = rare
                && let Some(rest) = apply_rare(shared, driver, token, connection, state, *rare)
            {
                break Some(rest);
            }
            let progress = match send {
                Send::Nothing => break None,
                Send::RecvBuf(range) if is_alone => driver.submit_from_recv_buf(token, range, cx.pool),
                Send::RecvBuf(range) => driver.send_from_recv_buf(token, range, cx.pool),
                Send::Owned(bytes) => driver.send(token, bytes),
            };
            step = match progress {
                Progress::Done(memory) => {
                    if memory.capacity() > 0 {
                        cx.pool.put(memory);
                    }
                    let next = if is_alone {
                        connection.sent_at_once(&cx);
                        None
                    } else {
                        cx.sends_left = cx.sends_left.saturating_sub(1);
                        connection.sent(&mut cx)
                    };
                    match next {
                        Some(step) => step,
                        None if connection.wants_deadline_before(served.armed, cx.limits) => break None,
                        None => {
                            #[cfg(debug_assertions)]
                            connection.check(cx.limits, cx.current);
                            return;
                        }
                    }
                }
                Progress::Submitted => {
                    if state.submit(connection.submitted(*turn)) {
                        submitted.push(connection.listener());
                    }
                    if connection.wants_deadline_before(served.armed, cx.limits) {
                        break None;
                    }
                    #[cfg(debug_assertions)]
                    connection.check(cx.limits, cx.current);
                    return;
                }
                Progress::Pending => connection.sending(driver.unsent(token), &mut cx),
                Progress::Failed(error) => connection.failed(error),
            };
        };
        let Some(rest) = rest else {
            return self.after_step(token);
        };
        match rest {
            Rest::Close(closing) => self.close_connection(token, closing),
            Rest::Identify => self.identify(token),
            Rest::Offload(work) => self.offload(token, work),
        }
    }

    /// The sends that were submitted in the last turn have left, all but a few, which are waited for from now on.
    #[inline(never)]
    pub(super) fn end_submitted(&mut self) {
        while let Some(token) = self.driver.next_unsent() {
            self.await_unsent(token);
        }
        for place in self.submitted.drain(..) {
            if let Some(Some(state)) = self.listeners.get(place as usize) {
                let (bytes, messages) = state.submitted.take();
                state.stats.bytes_out.add(bytes as u64);
                state.stats.messages_out.add(u64::from(messages));
            }
        }
        self.turn = self.turn.next();
    }

    #[cold]
    fn await_unsent(&mut self, token: Token) {
        // It may have been closed since.
        let Some(Socket::Connection(served)) = self.sockets.get_mut(token) else { return };
        let connection = &mut served.connection;
        let Some(state) = state_of(&self.listeners, connection.listener()) else { return };
        if connection.submitted_in().is_none() {
            return bug::found_aside("a send that was submitted");
        }
        let now = self.driver.now();
        let cx = state.context(&mut self.pool, &mut self.scratch, &mut self.recorder, now);
        state.await_submitted(connection, self.driver.unsent(token), &cx);
        self.step(token, |connection, cx, _| connection.go_on(cx));
    }

    /// Arms the deadline of a connection, and notes that it has more to do.
    #[inline(never)]
    fn after_step(&mut self, token: Token) {
        // A timeout may have closed or offloaded it.
        let Some(Socket::Connection(served)) = self.sockets.get_mut(token) else { return };
        if bug::is_tainted() {
            return self.close_broken(token);
        }
        let Served { connection, armed, is_unfinished } = served;
        let Some(state) = state_of(&self.listeners, connection.listener()) else {
            return self.close_broken(token);
        };
        let now = self.driver.now();
        let cx = state.context(&mut self.pool, &mut self.scratch, &mut self.recorder, now);
        if connection.has_monitor() {
            connection.note_progress(self.driver.unsent(token), cx.now);
        }
        // Deadlines mostly move away while a connection lives, so one that is armed is left alone until it fires: a message
        // costs no timer.
        // What is overdue already has its turn below, or in the next one.
        let deadline = connection.poll_timeout(cx.limits).max(cx.now.after(Duration::from_micros(1)));
        if deadline < *armed {
            self.timers.arm(token, armed, deadline);
        }
        if !*is_unfinished && connection.wants_turn(&cx) {
            *is_unfinished = true;
            self.unfinished.push_back(token);
        }
        #[cfg(debug_assertions)]
        connection.check(cx.limits, cx.current);
    }

    #[inline(always)]
    pub(super) fn received(&mut self, token: Token, truncated: bool) {
        if truncated {
            return self.truncated(token);
        }
        self.step(token, |connection, cx, driver| connection.received(driver.recv_buf(), cx));
    }

    #[inline(never)]
    fn truncated(&mut self, token: Token) {
        self.step(token, |connection, cx, driver| connection.truncated(driver.recv_buf(), cx));
    }

    #[inline(never)]
    pub(super) fn ended(&mut self, token: Token) {
        self.step(token, |connection, cx, _| connection.peer_ended(cx));
    }

    /// The driver has sent the rest of what it was given.
    #[inline(never)]
    pub(super) fn sent(&mut self, token: Token, memory: Vec<u8>) {
        self.pool.put(memory);
        if let Some(Socket::Offloaded(offloaded)) = self.sockets.get_mut(token) {
            offloaded.is_sent = true;
            return;
        }
        self.step(token, |connection, cx, _| {
            if !connection.is_sending() {
                bug::found("a send in flight");
            }
            // None: nothing waits, and there is nothing to do.
            connection.sent(cx).unwrap_or_default()
        });
    }

    /// Lets the connections go on that had more to do than their last turn allowed.
    pub(super) fn go_on(&mut self) {
        let mut left = self.unfinished.len().min(TURN_CONTINUED);
        while left > 0
            && let Some(token) = self.unfinished.pop_front()
        {
            left -= 1;
            // One that has ended, or is offloaded, leaves its place in the queue.
            if let Some(Socket::Connection(served)) = self.sockets.get_mut(token) {
                served.is_unfinished = false;
                self.step(token, |connection, cx, _| connection.go_on(cx));
            }
        }
    }

    #[inline(never)]
    pub(super) fn failed(&mut self, token: Token, error: io::Error) {
        match self.sockets.get_mut(token) {
            Some(Socket::Connection(_)) => self.step(token, |connection, _, _| connection.failed(error)),
            // Nobody is accepted there any more: whoever comes is to be refused, not kept waiting.
            Some(Socket::Listener { state, .. }) => {
                let state = *state;
                self.socket_failed(state, &error);
                self.close_socket(token);
            }
            Some(Socket::Datagrams(socket)) => {
                let state = socket.state;
                self.socket_failed(state, &error);
            }
            // Whatever comes back, nobody can have it.
            Some(Socket::Offloaded(_)) => self.abandon(token, broken_by(&error), Close::Gently),
            // It was closed earlier in this turn.
            None => {}
        }
    }

    fn socket_failed(&self, state: u32, error: &io::Error) {
        if let Some(state) = state_of(&self.listeners, state) {
            let why = EventCause::of(error);
            let now_us = self.driver.now().as_micros();
            let (level, more) = state.listener.lines().next(PeerLine::SocketFailed, LogLevel::Warn, now_us);
            let text = format_args!("{error}{more}");
            self.shared.events.emit_caused(level, EventKind::Dropped, &*state.listener, why, text);
        }
    }

    pub(super) fn expire_connection(&mut self, token: Token) {
        if let Some(Socket::Connection(served)) = self.sockets.get_mut(token) {
            served.armed = Moment::NEVER;
        }
        self.step(token, |connection, cx, driver| connection.timeout(driver.unsent(token), cx));
        // Whatever it was, the deadline is armed again.
        self.after_step(token);
    }

    #[inline(never)]
    pub(super) fn close_connection(&mut self, token: Token, closing: Closing) {
        let unsent = self.driver.unsent(token);
        let Some(Socket::Connection(mut served)) = self.sockets.remove(token) else {
            return bug::found_aside("the connection that its step closes");
        };
        let Closing { reason, how, error } = closing;
        let mut connection = served.connection;
        // First: to a program whose peer has seen the end, it is closed.
        if self.shared.directory.is_kept() {
            self.shared.directory.remove(connection.id());
        }
        self.driver.close(token, how);
        self.timers.arm(token, &mut served.armed, Moment::NEVER);
        self.shared.mailboxes[self.index].load.fetch_sub(1, Ordering::Relaxed);
        let place = connection.listener() as usize;
        if let Some(bugs) = bug::take() {
            self.report(bugs, Some(&connection));
        }
        let mut is_current = false;
        if let Some(state) = state_of_mut(&mut self.listeners, connection.listener()) {
            let now = self.driver.now();
            let mut cx = state.context(&mut self.pool, &mut self.scratch, &mut self.recorder, now);
            let undelivered = connection.close(unsent, &mut cx);
            state.stats.closed(reason);
            state.connections -= 1;
            is_current = std::sync::Arc::ptr_eq(connection.generation(), &state.generation) && !state.closed;
            let level = LogLevel::Debug;
            if self.shared.events.wants(level, EventKind::Closed) {
                let lost = Lost(undelivered, error.as_ref());
                self.shared.events.emit(&Event {
                    level,
                    kind: EventKind::Closed,
                    listener: &state.listener.url,
                    listener_id: state.listener.id,
                    connection: connection.id(),
                    peer: Some(connection.peer()),
                    cause: Some(EventCause::Closed(reason)),
                    text: &format_args!("closed: {reason}{lost}"),
                });
            }
        }
        // Its sessions are closed when it is dropped, and what it used last is destroyed: not here, where that could take
        // its time.
        if connection.generation().is_offloaded() || !is_current {
            self.drop_in_background(connection.generation().share(), connection);
        }
        self.forget_listener_if_over(place);
    }
}

impl ListenerState {
    /// Bytes and messages that will have been sent when the turn is over. Whether they are the turn's first.
    #[inline]
    fn submit(&self, (bytes, messages): (usize, u32)) -> bool {
        let before = self.submitted.get();
        self.submitted.set((before.0 + bytes, before.1 + messages));
        before == (0, 0)
    }

    /// A send that was submitted is to be waited for.
    #[cold]
    fn await_submitted(&self, connection: &mut Connection, unsent: usize, cx: &Context<'_>) {
        let (bytes, messages) = connection.await_submitted(unsent, cx.now);
        let before = self.submitted.get();
        self.submitted.set((before.0 - bytes, before.1 - messages));
    }
}

/// All that a step may want beside a send. What needs the whole worker is given back.
#[cold]
fn apply_rare<D: Driver>(
    shared: &super::Shared<D::Socket>,
    driver: &mut D,
    token: Token,
    connection: &mut Connection,
    state: &ListenerState,
    rare: Rare,
) -> Option<Rest> {
    let Rare { fault, refused, retired, reading, has_delays, shuts_down, mut close, is_identified, offload } =
        rare;
    if let Some(fault) = fault {
        let (id, peer) = (connection.id(), connection.peer());
        super::log_transform_error(&shared.events, state, &fault, id, peer, driver.now());
    }
    if let Some((reason, why)) = refused {
        super::log_refused(&shared.events, state, connection, reason, why, driver.now());
    }
    let share = retired.as_ref().map_or(0, |retired| retired.share());
    shared.drop_in_background(share, retired);
    match reading {
        Reading::AsBefore => {}
        Reading::Pause => driver.pause(token),
        Reading::Resume => driver.resume(token),
    }
    if has_delays {
        connection.schedule(driver.now().until(driver.read_clock()));
    }
    if shuts_down {
        if shared.directory.is_kept() {
            shared.directory.note_end(connection.id());
        }
        if let Err(error) = driver.shutdown_write(token) {
            close = Some(connection.closing_after(error));
        }
    }
    match (close, is_identified, offload) {
        (Some(closing), ..) => Some(Rest::Close(closing)),
        (None, true, _) => Some(Rest::Identify),
        (None, false, work) => work.map(Rest::Offload),
    }
}

/// What a closing connection could not deliver, and the error that ended it.
struct Lost<'a>(usize, Option<&'a io::Error>);

impl std::fmt::Display for Lost<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(error) = self.1 {
            write!(f, " ({error})")?;
        }
        if self.0 > 0 {
            write!(f, ", {} bytes not delivered", self.0)?;
        }
        Ok(())
    }
}

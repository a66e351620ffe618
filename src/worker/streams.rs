//! Streams and seqpacket connections: receive, answer, send on, close.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::offloading::Work;
use super::{Post, Socket, State, Worker, say_fault};
use crate::connection::{Answer, Connection, Context, End, Left, Phase, Reply};
use crate::driver::{Close, Driver, Progress, Token};
use crate::event::{Cause, Event, Kind, Level};
use crate::limits::{LINGER, LINGER_DRAINING};
use crate::listener::Listener;
use crate::peer::Peer;
use crate::stats::CloseReason;
use crate::timer::Moment;
use crate::transform::library::SessionPeer;

impl<D: Driver> Worker<D> {
    pub(super) fn received(&mut self, token: Token, truncated: bool) {
        let Some(Socket::Connection(connection)) = self.sockets.get_mut(token) else { return };
        let Some(Some(post)) = self.posts.get(connection.listener as usize) else { return };
        if connection.may_switch
            && !Arc::ptr_eq(connection.generation(), &post.generation)
            && !goes_away(connection, post)
        {
            let left = switch_generation(connection, post);
            self.shared.retire(left);
        }
        connection.last_received = self.driver.now();
        if goes_away(connection, post) && connection.phase == Phase::Open && !truncated {
            let lent = self.driver.recv_buf();
            let bytes = lent.buffer.get(lent.start..).unwrap_or_default().to_vec();
            return self.send_away(token, Work::Receive(bytes));
        }
        let mut cx = Context {
            terms: &post.listener.terms,
            pool: &mut self.pool,
            scratch: &mut self.scratch,
            stats: post.listener.stats_of(self.index),
        };
        let answer = if truncated {
            connection.truncated(&mut cx)
        } else {
            connection.received(self.driver.recv_buf(), &mut cx)
        };
        self.deliver(token, answer);
    }

    pub(super) fn greet(&mut self, token: Token) {
        let Some(Socket::Connection(connection)) = self.sockets.get_mut(token) else { return };
        let Some(Some(post)) = self.posts.get(connection.listener as usize) else { return };
        if connection.generation().is_offloaded() {
            return self.send_away(token, Work::Greet);
        }
        let peer = connection.peer.clone();
        let described = describe(connection.id, &peer, &post.listener);
        let mut cx = Context {
            terms: &post.listener.terms,
            pool: &mut self.pool,
            scratch: &mut self.scratch,
            stats: post.listener.stats_of(self.index),
        };
        let answer = connection.greet(&described, &mut cx);
        self.deliver(token, answer);
    }

    pub(super) fn ended(&mut self, token: Token) {
        let Some(Socket::Connection(connection)) = self.sockets.get_mut(token) else { return };
        let Some(Some(post)) = self.posts.get(connection.listener as usize) else { return };
        if connection.generation().is_offloaded() && connection.phase == Phase::Open {
            return self.send_away(token, Work::End);
        }
        let mut cx = Context {
            terms: &post.listener.terms,
            pool: &mut self.pool,
            scratch: &mut self.scratch,
            stats: post.listener.stats_of(self.index),
        };
        let answer = connection.ended(&mut cx);
        self.deliver(token, answer);
    }

    /// Sends an answer, or puts it behind those that wait, and begins the end if there is to be one.
    pub(super) fn deliver(&mut self, token: Token, answer: Answer) {
        let Some(Socket::Connection(connection)) = self.sockets.get_mut(token) else { return };
        let Some(Some(post)) = self.posts.get(connection.listener as usize) else { return };
        let terms = &post.listener.terms;
        if let Some(End { reset: true, .. }) = answer.end {
            return self.begin_end(token, answer.end);
        }
        let (progress, bytes) = match answer.bytes {
            Reply::Nothing => (None, 0),
            // Held back, or behind something that is.
            Reply::Owned(memory) if connection.is_holding() || !answer.pieces.is_empty() => {
                let now = self.driver.read_clock();
                connection.hold(memory, &answer.pieces, now, (terms, &mut self.pool));
                (None, 0)
            }
            Reply::InRecvBuf(range) if connection.is_holding() => {
                let lent = self.driver.recv_buf();
                let copy = self.pool.copy_of(lent.buffer.get(range).unwrap_or_default());
                let now = self.driver.read_clock();
                connection.hold(copy, &[], now, (terms, &mut self.pool));
                (None, 0)
            }
            Reply::InRecvBuf(range) if connection.can_send() => {
                let bytes = range.len();
                (Some(self.driver.send_from_recv_buf(token, range, &mut self.pool)), bytes)
            }
            Reply::InRecvBuf(range) => {
                let lent = self.driver.recv_buf();
                connection.queue(lent.buffer.get(range).unwrap_or_default(), terms, &mut self.pool);
                (None, 0)
            }
            Reply::Owned(memory) if connection.can_send() => {
                let bytes = memory.len();
                (Some(self.driver.send(token, memory)), bytes)
            }
            Reply::Owned(memory) => {
                connection.queue(&memory, terms, &mut self.pool);
                self.pool.put(memory);
                (None, 0)
            }
        };
        match progress {
            None => {}
            Some(Progress::Done(memory)) => {
                post.listener.stats_of(self.index).bytes_out.add(bytes as u64);
                self.pool.put(memory);
            }
            Some(Progress::Pending) => {
                connection.handed_over(bytes);
                connection.last_progress = self.driver.now();
                connection.unsent_then = self.driver.unsent(token);
            }
            Some(Progress::Failed(error)) => return self.failed(token, error),
        }
        if answer.end.is_some() {
            return self.begin_end(token, answer.end);
        }
        self.settle(token);
    }

    /// Sends the held answers that are due, each by itself as far as the peer takes them.
    pub(super) fn release(&mut self, token: Token, now: Moment) {
        while let Some(Socket::Connection(connection)) = self.sockets.get_mut(token)
            && let Some(bytes) = connection.release(now)
        {
            // A peer that waits for its answer is not silent: its time begins with the answer.
            connection.read_since = now;
            let Some(Some(post)) = self.posts.get(connection.listener as usize) else { return };
            if !connection.can_send() {
                connection.queue(&bytes, &post.listener.terms, &mut self.pool);
                self.pool.put(bytes);
                continue;
            }
            let count = bytes.len();
            match self.driver.send(token, bytes) {
                Progress::Done(memory) => {
                    post.listener.stats_of(self.index).bytes_out.add(count as u64);
                    self.pool.put(memory);
                }
                Progress::Pending => {
                    connection.handed_over(count);
                    connection.last_progress = now;
                    connection.unsent_then = self.driver.unsent(token);
                }
                Progress::Failed(error) => return self.failed(token, error),
            }
        }
    }

    pub(super) fn sent(&mut self, token: Token, bytes: usize, memory: Vec<u8>) {
        self.pool.put(memory);
        let Some(Socket::Connection(connection)) = self.sockets.get_mut(token) else {
            return self.note_sent(token, bytes);
        };
        let Some(Some(post)) = self.posts.get(connection.listener as usize) else { return };
        let stats = post.listener.stats_of(self.index);
        stats.bytes_out.add(bytes as u64);
        connection.last_progress = self.driver.now();
        let mut done = bytes;
        while let Some(next) = connection.sent(done) {
            done = next.len();
            match self.driver.send(token, next) {
                Progress::Done(memory) => {
                    stats.bytes_out.add(done as u64);
                    self.pool.put(memory);
                }
                Progress::Pending => {
                    connection.unsent_then = self.driver.unsent(token);
                    break;
                }
                Progress::Failed(error) => return self.failed(token, error),
            }
        }
        self.settle(token);
    }

    /// Lets a connection end once its answers are out; with a reset, at once.
    pub(super) fn begin_end(&mut self, token: Token, end: Option<End>) {
        let Some(End { reason, fault, reset }) = end else { return };
        let Some(Socket::Connection(connection)) = self.sockets.get_mut(token) else { return };
        if let Some((stage, fault)) = fault
            && let Some(Some(post)) = self.posts.get(connection.listener as usize)
        {
            say_fault(
                &self.shared.events,
                post,
                connection.generation(),
                stage,
                &fault,
                connection.id,
                &connection.peer,
            );
        }
        if reset {
            return self.close_connection(token, reason, Close::Reset, None);
        }
        if connection.phase == Phase::Open {
            connection.phase = Phase::Flushing(reason);
        }
        self.settle(token);
    }

    /// After each step of a connection: reading on or not, the next step of its end, its deadline.
    pub(super) fn settle(&mut self, token: Token) {
        let now = self.driver.now();
        let Some(Socket::Connection(connection)) = self.sockets.get_mut(token) else { return };
        let Some(Some(post)) = self.posts.get(connection.listener as usize) else { return };
        let terms = &post.listener.terms;
        match connection.phase {
            Phase::Open if connection.paused => {
                if connection.may_resume(terms) {
                    connection.paused = false;
                    connection.read_since = now;
                    self.driver.resume(token);
                }
            }
            Phase::Open => {
                if !connection.is_flushed() && connection.must_pause(terms) {
                    connection.paused = true;
                    self.driver.pause(token);
                }
            }
            Phase::Flushing(reason) | Phase::Lingering(reason) if connection.peer_ended => {
                if connection.is_flushed() {
                    return self.close_connection(token, reason, Close::Gently, None);
                }
            }
            Phase::Flushing(reason) => {
                if connection.is_flushed() {
                    // Closing now would answer what the peer still sends with a reset, and the reset would
                    // take our last answers with it: end our side, and read on until the peer ends too.
                    connection.phase = Phase::Lingering(reason);
                    let linger = if self.state == State::Running { LINGER } else { LINGER_DRAINING };
                    connection.linger_until = now.after(linger);
                    if let Err(error) = self.driver.shutdown_write(token) {
                        return self.failed(token, error);
                    }
                    connection.paused = false;
                    self.driver.resume(token);
                }
            }
            Phase::Lingering(_) => {
                if connection.paused {
                    connection.paused = false;
                    self.driver.resume(token);
                }
            }
        }
        // A peer whose bytes are left in the kernel, or that was told of the end, owes nothing.
        let is_unfinished = match connection.phase {
            Phase::Open => connection.is_unfinished(),
            Phase::Flushing(_) => !connection.can_send(),
            Phase::Lingering(_) => false,
        };
        if let Some(pace) = &mut connection.pace {
            pace.note(is_unfinished, self.driver.unsent(token), now);
        }
        // Deadlines only move away while a connection lives, so one that is armed is left alone until it
        // fires: a message costs no timer.
        let deadline = deadline_of(connection, &post.listener);
        if deadline < connection.deadline {
            let mut armed = connection.deadline;
            self.timers.arm(token, &mut armed, deadline);
            connection.deadline = armed;
        }
    }

    pub(super) fn failed(&mut self, token: Token, error: io::Error) {
        match self.sockets.get(token) {
            Some(Socket::Connection(connection)) => {
                let reason = match (connection.phase, error.kind()) {
                    (Phase::Lingering(reason), _) => reason,
                    (_, io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => CloseReason::PeerReset,
                    _ => CloseReason::SystemError,
                };
                self.close_connection(token, reason, Close::Gently, Some(error));
            }
            Some(Socket::Listener { post, .. } | Socket::Datagrams { post, .. }) => {
                if let Some(Some(post)) = self.posts.get(*post as usize) {
                    let why = Cause::of(&error);
                    self.shared.events.say_why(Level::Warn, Kind::Dropped, &*post.listener, why, error);
                }
            }
            Some(Socket::Away(_)) => self.note_failed(token, error),
            None => {}
        }
    }

    pub(super) fn close_connection(
        &mut self,
        token: Token,
        reason: CloseReason,
        how: Close,
        error: Option<io::Error>,
    ) {
        let Some(Socket::Connection(connection)) = self.sockets.get(token) else { return };
        let place = connection.listener as usize;
        let undelivered = connection.undelivered_bytes(self.driver.unsent(token));
        let Some(Socket::Connection(mut connection)) = self.sockets.remove(token) else { return };
        self.driver.close(token, how);
        // Free for whoever comes next, however long the rest of it is in use.
        drop(connection.seat.take());
        let mut armed = connection.deadline;
        self.timers.arm(token, &mut armed, Moment::NEVER);
        self.shared.mailboxes[self.index].load.fetch_sub(1, Ordering::Relaxed);
        if let Some(Some(post)) = self.posts.get_mut(place) {
            let stats = post.listener.stats_of(self.index);
            stats.closed(reason);
            let taken = connection.queued_bytes().saturating_sub(undelivered);
            stats.bytes_out.add(taken as u64);
            stats.undelivered_bytes.add(undelivered as u64);
            post.connections -= 1;
            let level = Level::Debug;
            if self.shared.events.wants(level, Kind::Closed) {
                let lost = Lost(undelivered, error.as_ref());
                self.shared.events.emit(&Event {
                    level,
                    kind: Kind::Closed,
                    listener: &post.listener.url,
                    listener_id: post.listener.id,
                    connection: connection.id,
                    peer: Some(&connection.peer),
                    cause: Some(Cause::Closed(reason)),
                    text: &format_args!("closed: {reason}{lost}"),
                });
            }
        }
        // Its sessions are closed when it is dropped, and what it used last is destroyed: not here, where that could
        // take its time.
        let is_current = self
            .posts
            .get(place)
            .and_then(Option::as_ref)
            .is_some_and(|post| Arc::ptr_eq(connection.generation(), &post.generation) && !post.closed);
        if connection.generation().is_offloaded() || !is_current {
            self.retire(connection);
        }
        self.leave_post(place);
    }

    pub(super) fn expire_connection(&mut self, token: Token, now: Moment) {
        let unsent = self.driver.unsent(token);
        let Some(Socket::Connection(connection)) = self.sockets.get_mut(token) else { return };
        let Some(Some(post)) = self.posts.get(connection.listener as usize) else { return };
        if !connection.can_send() && unsent != connection.unsent_then {
            connection.unsent_then = unsent;
            connection.last_progress = now;
        }
        let is_too_slow = connection.pace.as_mut().is_some_and(|pace| pace.is_too_slow(unsent, now));
        if !is_too_slow && deadline_of(connection, &post.listener) > now {
            return self.settle(token);
        }
        match connection.phase {
            Phase::Lingering(reason) => self.close_connection(token, reason, Close::Gently, None),
            _ if is_too_slow && !connection.can_send() => {
                self.close_connection(token, CloseReason::TooSlow, Close::Reset, None);
            }
            Phase::Open if is_too_slow => self.begin_end(token, Some(End::because(CloseReason::TooSlow))),
            _ if !connection.can_send()
                && connection.last_progress.after(post.listener.options.write_timeout) <= now =>
            {
                self.close_connection(token, CloseReason::WriteTimeout, Close::Reset, None);
            }
            Phase::Open if connection.swap_until <= now => {
                // What kept it may be over.
                connection.may_switch = true;
                if goes_away(connection, post) {
                    return self.send_away(token, Work::Leave);
                }
                let left = switch_generation(connection, post);
                self.shared.retire(left);
                if Arc::ptr_eq(connection.generation(), &post.generation) {
                    return self.settle(token);
                }
                self.begin_end(token, Some(End::because(CloseReason::ChainChanged)));
            }
            Phase::Open => self.begin_end(token, Some(End::because(CloseReason::IdleTimeout))),
            Phase::Flushing(_) => self.settle(token),
        }
    }
}

/// Lets a connection go on with its listener's current generation, with what its transforms remember. Where that
/// is not possible it stays with the one it has, for a while. What it leaves is to be retired.
pub(super) fn switch_generation(connection: &mut Connection, post: &Post) -> Option<Left> {
    let peer = connection.peer.clone();
    let described = describe(connection.id, &peer, &post.listener);
    connection.switch(&post.generation, &described)
}

/// Whether the next message, and a change of the chain before it, is for transforms that may block.
pub(super) fn goes_away(connection: &Connection, post: &Post) -> bool {
    connection.generation().is_offloaded() || (connection.may_switch && post.generation.is_offloaded())
}

/// A connection in the terms of its transforms.
pub(super) fn describe<'a>(id: u64, peer: &'a Peer, listener: &'a Listener) -> SessionPeer<'a> {
    SessionPeer { kind: listener.kind, id, local: &listener.url, peer, listener: &listener.url }
}

/// The next moment at which a connection wants to be looked at.
fn deadline_of(connection: &Connection, listener: &Listener) -> Moment {
    if let Phase::Lingering(_) = connection.phase {
        return connection.linger_until;
    }
    let mut deadline = connection.held_until();
    if let Some(pace) = &connection.pace {
        deadline = deadline.min(pace.until());
    }
    if connection.phase == Phase::Open {
        deadline = deadline.min(connection.swap_until);
    }
    if !connection.can_send() {
        deadline = deadline.min(connection.last_progress.after(listener.options.write_timeout));
    } else if connection.is_flushed()
        && !connection.paused
        && let (Phase::Open, Some(timeout)) = (connection.phase, listener.options.idle_timeout)
    {
        let silent_since = connection.last_received.max(connection.read_since);
        deadline = deadline.min(silent_since.after(timeout));
    }
    deadline
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

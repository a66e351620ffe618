//! One thread's loop: the path of the data.
//!
//! A worker is a value: whoever owns it calls [`Worker::turn`]. It takes what other threads have left in its
//! mailbox, waits for the driver, and sends each completion through the connection it belongs to:
//!
//! ```text
//! driver: Received ─> connection: frames ─> chain ─> answer ─> driver: send
//!                                                        └─> backlog ─> driver: Sent ─> send
//! ```

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use resay_plugin::abi;

use crate::buffer::Pool;
use crate::chain::{Generation, Scratch};
use crate::connection::{Answer, Connection, Context, End, Phase, Reply};
use crate::datagram;
use crate::driver::{Close, Completion, Driver, Progress, Token};
use crate::event::{Event, Events, Kind, Level};
use crate::limits::{ACCEPT_RETRY, LINGER};
use crate::listener::Listener;
use crate::net::{Peer, SocketKind};
use crate::slab::Slab;
use crate::stats::{CloseReason, DropReason};
use crate::sys::Destination;
use crate::timer::{Moment, Timers};
use crate::transform::library::{Fault, Session, SessionPeer};

/// What another thread asks of a worker.
#[derive(Debug)]
pub(crate) enum Command<S> {
    /// Serve this listener's socket.
    Listen { listener: Arc<Listener>, socket: S },
    /// Serve a connection that another worker accepted.
    Adopt(Arrival<S>),
    /// Stop listening; connections go on.
    CloseListener { id: u64 },
    /// Answer what has arrived, then end; what is not done by then is cut off.
    Drain { within: Duration },
}

/// A connection on its way to the worker that will serve it.
#[derive(Debug)]
pub(crate) struct Arrival<S> {
    listener: Arc<Listener>,
    socket: S,
    peer: Peer,
    id: u64,
}

/// Where other threads leave commands for a worker.
pub(crate) struct Mailbox<S> {
    queue: Mutex<Queue<S>>,
    wake: Box<dyn Fn() + Send + Sync>,
    /// Connections that the worker serves or is about to.
    load: AtomicUsize,
}

struct Queue<S> {
    commands: VecDeque<Command<S>>,
    /// The worker has ended and will not look again.
    closed: bool,
}

impl<S> Mailbox<S> {
    /// `wake` interrupts the driver's wait; any thread may call it.
    pub(crate) fn new(wake: Box<dyn Fn() + Send + Sync>) -> Mailbox<S> {
        let queue = Mutex::new(Queue { commands: VecDeque::new(), closed: false });
        Mailbox { queue, wake, load: AtomicUsize::new(0) }
    }

    /// Leaves a command; it comes back where the worker has ended.
    pub(crate) fn push(&self, command: Command<S>) -> Result<(), Command<S>> {
        let mut queue = self.lock();
        if queue.closed {
            return Err(command);
        }
        queue.commands.push_back(command);
        drop(queue);
        (self.wake)();
        Ok(())
    }

    /// Makes the worker take a turn.
    pub(crate) fn wake(&self) {
        (self.wake)();
    }

    fn take(&self) -> VecDeque<Command<S>> {
        std::mem::take(&mut self.lock().commands)
    }

    /// Ends the mailbox, unless something is in it.
    fn close(&self) -> bool {
        let mut queue = self.lock();
        queue.closed |= queue.commands.is_empty();
        queue.closed
    }

    fn lock(&self) -> MutexGuard<'_, Queue<S>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> std::fmt::Debug for Mailbox<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mailbox").field("load", &self.load).finish_non_exhaustive()
    }
}

/// What the workers of an engine share.
#[derive(Debug)]
pub(crate) struct Shared<S> {
    pub(crate) events: Arc<Events>,
    pub(crate) mailboxes: Vec<Mailbox<S>>,
    /// Everything is to end at once; looked at once a turn.
    pub(crate) stop: Arc<AtomicBool>,
    /// Changes with every swap of any chain; looked at once a turn.
    pub(crate) chain_epoch: AtomicUsize,
    /// The number of the last connection.
    pub(crate) last_connection: AtomicUsize,
}

/// One thread's share of an engine.
#[derive(Debug)]
pub(crate) struct Worker<D: Driver> {
    index: usize,
    driver: D,
    shared: Arc<Shared<D::Socket>>,
    sockets: Slab<Socket>,
    /// What this worker knows of each listener; `Connection::listener` is the place in here.
    posts: Vec<Option<Post>>,
    timers: Timers,
    pool: Pool,
    scratch: Scratch,
    chain_epoch: usize,
    state: State,
}

#[derive(Debug)]
enum Socket {
    Listener { post: u32, retry_at: Moment },
    Datagrams { post: u32, turn: datagram::Turn },
    Connection(Box<Connection>),
}

/// A listener, seen from one worker.
#[derive(Debug)]
struct Post {
    listener: Arc<Listener>,
    generation: Arc<Generation>,
    chain_number: u64,
    /// The listening socket, where it is with this worker.
    socket: Option<Token>,
    connections: u32,
    /// The listener is closed; the post goes with its last connection.
    closed: bool,
    /// Running out of descriptors is said once, until accept works again.
    accept_failing: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    Draining { until: Moment },
    Ended,
}

impl<D: Driver> Worker<D> {
    pub(crate) fn new(index: usize, driver: D, shared: Arc<Shared<D::Socket>>) -> Worker<D> {
        Worker {
            index,
            driver,
            shared,
            sockets: Slab::new(),
            posts: Vec::new(),
            timers: Timers::default(),
            pool: Pool::default(),
            scratch: Scratch::default(),
            chain_epoch: 0,
            state: State::Running,
        }
    }

    pub(crate) fn driver(&self) -> &D {
        &self.driver
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.state != State::Ended
    }

    /// Waits at most `timeout` and does what there is to do. Whether the worker is still alive.
    ///
    /// The error is that of the driver's wait (`Interrupted`: a signal came); nothing is lost by it.
    pub(crate) fn turn(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        self.take_commands();
        if self.state == State::Ended {
            return Ok(false);
        }
        let timeout = match (timeout, self.until_deadline()) {
            (Some(timeout), Some(deadline)) => Some(timeout.min(deadline)),
            (timeout, deadline) => timeout.or(deadline),
        };
        self.driver.wait(timeout)?;
        while let Some(completion) = self.driver.next() {
            self.complete(completion);
        }
        self.expire();
        self.end_if_drained();
        Ok(self.state != State::Ended)
    }

    /// How long until something is due without any event; `None`: nothing is.
    pub(crate) fn until_deadline(&self) -> Option<Duration> {
        let mut next = self.timers.next();
        if let State::Draining { until } = self.state {
            next = next.min(until);
        }
        (next != Moment::NEVER).then(|| self.driver.now().until(next))
    }

    fn complete(&mut self, completion: Completion<D::Socket>) {
        match completion {
            Completion::Received { token, truncated } => self.received(token, truncated),
            Completion::Sent { token, bytes, memory } => self.sent(token, bytes, memory),
            Completion::Datagram { token, from, to, truncated } => self.datagram(token, from, to, truncated),
            Completion::Answered { token, result } => self.answered(token, result),
            Completion::Accepted { token, socket, peer } => self.accepted(token, socket, peer),
            Completion::AcceptFailed { token, error } => self.accept_failed(token, error),
            Completion::Ended { token } => self.ended(token),
            Completion::Failed { token, error } => self.failed(token, error),
            Completion::Drained { token } => self.drained(token),
        }
    }

    // ---- Streams and seqpacket connections.

    fn received(&mut self, token: Token, truncated: bool) {
        let Some(Socket::Connection(connection)) = self.sockets.get_mut(token) else { return };
        let Some(Some(post)) = self.posts.get(connection.listener as usize) else { return };
        if !Arc::ptr_eq(connection.generation(), &post.generation) && connection.can_switch() {
            switch_generation(connection, post);
        }
        let mut cx = Context {
            terms: &post.listener.terms,
            pool: &mut self.pool,
            scratch: &mut self.scratch,
            stats: post.listener.stats_of(self.index),
        };
        connection.last_received = self.driver.now();
        let answer = if truncated {
            connection.truncated(&mut cx)
        } else {
            connection.received(self.driver.lent(), &mut cx)
        };
        self.deliver(token, answer);
    }

    fn ended(&mut self, token: Token) {
        let Some(Socket::Connection(connection)) = self.sockets.get_mut(token) else { return };
        let Some(Some(post)) = self.posts.get(connection.listener as usize) else { return };
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
    fn deliver(&mut self, token: Token, answer: Answer) {
        let Some(Socket::Connection(connection)) = self.sockets.get_mut(token) else { return };
        let Some(Some(post)) = self.posts.get(connection.listener as usize) else { return };
        let terms = &post.listener.terms;
        if let Some(End { reset: true, .. }) = answer.end {
            return self.begin_end(token, answer.end);
        }
        let (progress, bytes) = match answer.bytes {
            Reply::Nothing => (None, 0),
            Reply::Lent(range) if connection.is_flushed() => {
                let bytes = range.len();
                (Some(self.driver.send_lent(token, range, &mut self.pool)), bytes)
            }
            Reply::Lent(range) => {
                let lent = self.driver.lent();
                connection.queue(lent.buffer.get(range).unwrap_or_default(), terms, &mut self.pool);
                (None, 0)
            }
            Reply::Owned(memory) if connection.is_flushed() => {
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

    fn sent(&mut self, token: Token, bytes: usize, memory: Vec<u8>) {
        self.pool.put(memory);
        let Some(Socket::Connection(connection)) = self.sockets.get_mut(token) else { return };
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
    fn begin_end(&mut self, token: Token, end: Option<End>) {
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
    fn settle(&mut self, token: Token) {
        let now = self.driver.now();
        let Some(Socket::Connection(connection)) = self.sockets.get_mut(token) else { return };
        let Some(Some(post)) = self.posts.get(connection.listener as usize) else { return };
        let terms = &post.listener.terms;
        match connection.phase {
            Phase::Open if connection.paused => {
                if connection.may_resume(terms) {
                    connection.paused = false;
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
                    connection.linger_until = now.after(LINGER);
                    if let Err(error) = self.driver.finish(token) {
                        return self.failed(token, error);
                    }
                    connection.paused = false;
                    self.driver.resume(token);
                }
            }
            Phase::Lingering(_) => {}
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

    fn failed(&mut self, token: Token, error: io::Error) {
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
                    self.shared.events.say(Level::Warn, Kind::Dropped, &post.listener.url, error);
                }
            }
            None => {}
        }
    }

    fn close_connection(&mut self, token: Token, reason: CloseReason, how: Close, error: Option<io::Error>) {
        let Some(Socket::Connection(connection)) = self.sockets.get(token) else { return };
        let place = connection.listener as usize;
        let undelivered = connection.undelivered_bytes(self.driver.unsent(token));
        let Some(Socket::Connection(connection)) = self.sockets.remove(token) else { return };
        self.driver.close(token, how);
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
            if self.shared.events.wants(level) {
                let lost = Lost(undelivered, error.as_ref());
                self.shared.events.emit(&Event {
                    level,
                    kind: Kind::Closed,
                    listener: &post.listener.url,
                    connection: connection.id,
                    peer: Some(&connection.peer),
                    text: &format_args!("closed: {reason}{lost}"),
                });
            }
        }
        // Sessions are closed, in the order of their stages, when the connection is dropped here.
        drop(connection);
        self.leave_post(place);
    }

    // ---- Datagrams.

    fn datagram(&mut self, token: Token, from: Peer, to: Destination, truncated: bool) {
        let Some(Socket::Datagrams { post, turn }) = self.sockets.get_mut(token) else { return };
        let Some(Some(post)) = self.posts.get(*post as usize) else { return };
        let stats = post.listener.stats_of(self.index);
        let lent = self.driver.lent();
        stats.messages_in.add(1);
        stats.bytes_in.add((lent.buffer.len() - lent.start) as u64);
        let drop_it = |reason: DropReason| {
            stats.dropped(reason, 1);
            self.shared.events.emit(&Event {
                level: Level::Debug,
                kind: Kind::Dropped,
                listener: &post.listener.url,
                connection: 0,
                peer: Some(&from),
                text: &format_args!("dropped a datagram: {reason}"),
            });
        };
        if let Some(reason) = datagram::refuse(&from, to, truncated) {
            return drop_it(reason);
        }
        let peer = SessionPeer {
            kind: datagram::PEER_KIND,
            id: 0,
            local: &post.listener.url,
            peer: &from,
            listener: &post.listener.url,
        };
        let mut cx =
            Context { terms: &post.listener.terms, pool: &mut self.pool, scratch: &mut self.scratch, stats };
        let outcome = turn.answer(lent, &post.generation, &peer, &mut cx);
        match outcome.reply {
            Reply::Nothing => {}
            Reply::Lent(range) => self.driver.answer_lent(range),
            Reply::Owned(bytes) => self.driver.answer(bytes),
        }
        if let Some((stage, fault)) = outcome.fault {
            say_fault(&self.shared.events, post, &post.generation, stage, &fault, 0, &from);
        }
    }

    fn answered(&mut self, token: Token, result: io::Result<usize>) {
        let Some(Socket::Datagrams { post, .. }) = self.sockets.get(token) else { return };
        let Some(Some(post)) = self.posts.get(*post as usize) else { return };
        let stats = post.listener.stats_of(self.index);
        match result {
            Ok(bytes) => {
                stats.messages_out.add(1);
                stats.bytes_out.add(bytes as u64);
            }
            Err(error) => {
                let full = error.kind() == io::ErrorKind::WouldBlock && post.listener.kind.is_unix();
                stats.dropped(if full { DropReason::PeerFull } else { DropReason::SendFailed }, 1);
                let text = format_args!("an answer could not be sent: {error}");
                self.shared.events.say(Level::Debug, Kind::Dropped, &post.listener.url, text);
            }
        }
    }

    // ---- Accepting.

    fn accepted(&mut self, token: Token, socket: D::Socket, peer: Peer) {
        let Some(Socket::Listener { post, .. }) = self.sockets.get(token) else { return };
        let Some(Some(post)) = self.posts.get_mut(*post as usize) else { return };
        post.accept_failing = false;
        let listener = Arc::clone(&post.listener);
        let stats = listener.stats_of(self.index);
        if listener.open_connections() >= u64::from(listener.options.max_connections) {
            stats.rejected.add(1);
            let text = format_args!("rejected {peer}: max_connections={}", listener.options.max_connections);
            self.shared.events.say(Level::Info, Kind::Rejected, &listener.url, text);
            return;
        }
        stats.accepted.add(1);
        let id = self.shared.last_connection.fetch_add(1, Ordering::Relaxed) as u64 + 1;
        let arrival = Arrival { listener, socket, peer, id };
        let target = self.least_loaded();
        self.shared.mailboxes[target].load.fetch_add(1, Ordering::Relaxed);
        if target == self.index {
            return self.open(arrival);
        }
        if let Err(Command::Adopt(arrival)) = self.shared.mailboxes[target].push(Command::Adopt(arrival)) {
            // That worker has ended meanwhile.
            self.shared.mailboxes[target].load.fetch_sub(1, Ordering::Relaxed);
            self.shared.mailboxes[self.index].load.fetch_add(1, Ordering::Relaxed);
            self.open(arrival);
        }
    }

    /// The worker with the fewest connections; this one among equals, and while draining.
    fn least_loaded(&self) -> usize {
        if self.state != State::Running {
            return self.index;
        }
        let load = |index: usize| self.shared.mailboxes[index].load.load(Ordering::Relaxed);
        let others = 0..self.shared.mailboxes.len();
        others.min_by_key(|&index| (load(index), index != self.index)).unwrap_or(self.index)
    }

    fn open(&mut self, arrival: Arrival<D::Socket>) {
        let Arrival { listener, socket, peer, id } = arrival;
        let place = self.post_for(&listener);
        let Some(Some(post)) = self.posts.get_mut(place) else { return };
        let stats = listener.stats_of(self.index);
        let described = SessionPeer {
            kind: peer_kind(listener.kind),
            id,
            local: &listener.url,
            peer: &peer,
            listener: &listener.url,
        };
        let generation = Arc::clone(&post.generation);
        let opened = match Session::open(generation.stages(), &described) {
            Ok(session) => {
                let now = self.driver.now();
                let connection = Connection::new(id, place as u32, peer.clone(), generation, session, now);
                let token = self.sockets.insert(Socket::Connection(Box::new(connection)));
                match self.driver.connect(token, socket, listener.kind, listener.terms.read_bytes_max) {
                    Ok(()) => Ok(token),
                    Err(error) => {
                        self.sockets.remove(token);
                        Err((CloseReason::SystemError, error.to_string()))
                    }
                }
            }
            Err((stage, fault)) => {
                stats.transform_errors.add(1);
                say_fault(&self.shared.events, post, &generation, stage, &fault, id, &peer);
                Err((CloseReason::TransformFailed, fault.to_string()))
            }
        };
        match opened {
            Ok(token) => {
                post.connections += 1;
                self.shared.events.emit(&Event {
                    level: Level::Debug,
                    kind: Kind::Accepted,
                    listener: &listener.url,
                    connection: id,
                    peer: Some(&peer),
                    text: &"accepted",
                });
                if self.state != State::Running {
                    self.driver.drain(token);
                }
                self.settle(token);
            }
            Err((reason, text)) => {
                stats.closed(reason);
                self.shared.mailboxes[self.index].load.fetch_sub(1, Ordering::Relaxed);
                self.shared.events.emit(&Event {
                    level: Level::Debug,
                    kind: Kind::Closed,
                    listener: &listener.url,
                    connection: id,
                    peer: Some(&peer),
                    text: &format_args!("closed: {text}"),
                });
                self.leave_post(place);
            }
        }
    }

    fn accept_failed(&mut self, token: Token, error: io::Error) {
        let Some(Socket::Listener { post, retry_at }) = self.sockets.get_mut(token) else { return };
        let Some(Some(post)) = self.posts.get_mut(*post as usize) else { return };
        post.listener.stats_of(self.index).accept_errors.add(1);
        if concerns_one_connection(&error) {
            let text = format_args!("accept: {error}");
            return self.shared.events.say(Level::Debug, Kind::AcceptFailed, &post.listener.url, text);
        }
        // Descriptors or memory have run out, or something unknown is wrong: trying again at once would only
        // turn the worker in circles.
        if !std::mem::replace(&mut post.accept_failing, true) {
            let text = format_args!("accept: {error}; trying again every {ACCEPT_RETRY:?}");
            self.shared.events.say(Level::Warn, Kind::AcceptFailed, &post.listener.url, text);
        }
        self.driver.pause(token);
        self.timers.arm(token, retry_at, self.driver.now().after(ACCEPT_RETRY));
    }

    // ---- Time.

    fn expire(&mut self) {
        let now = self.driver.now();
        while let Some(token) = self.timers.pop(now) {
            match self.sockets.get_mut(token) {
                Some(Socket::Listener { retry_at, .. }) => {
                    *retry_at = Moment::NEVER;
                    self.driver.resume(token);
                }
                Some(Socket::Connection(connection)) => {
                    connection.deadline = Moment::NEVER;
                    self.expire_connection(token, now);
                }
                Some(Socket::Datagrams { .. }) | None => {}
            }
        }
        if let State::Draining { until } = self.state
            && until <= now
        {
            self.stop(CloseReason::Drained);
        }
    }

    fn expire_connection(&mut self, token: Token, now: Moment) {
        let unsent = self.driver.unsent(token);
        let Some(Socket::Connection(connection)) = self.sockets.get_mut(token) else { return };
        let Some(Some(post)) = self.posts.get(connection.listener as usize) else { return };
        if !connection.is_flushed() && unsent != connection.unsent_then {
            connection.unsent_then = unsent;
            connection.last_progress = now;
        }
        if deadline_of(connection, &post.listener) > now {
            return self.settle(token);
        }
        match connection.phase {
            Phase::Lingering(reason) => self.close_connection(token, reason, Close::Gently, None),
            _ if !connection.is_flushed()
                && connection.last_progress.after(post.listener.options.write_timeout) <= now =>
            {
                self.close_connection(token, CloseReason::WriteTimeout, Close::Reset, None);
            }
            Phase::Open => self.begin_end(token, Some(End::because(CloseReason::IdleTimeout))),
            Phase::Flushing(_) => self.settle(token),
        }
    }

    // ---- Commands, draining, the end.

    fn take_commands(&mut self) {
        for command in self.shared.mailboxes[self.index].take() {
            match command {
                Command::Listen { listener, socket } => self.listen(listener, socket),
                Command::Adopt(arrival) => self.open(arrival),
                Command::CloseListener { id } => self.close_listener(id),
                Command::Drain { within } => self.drain(within),
            }
        }
        if self.shared.stop.load(Ordering::Acquire) && self.state != State::Ended {
            self.stop(CloseReason::Stopped);
        }
        let epoch = self.shared.chain_epoch.load(Ordering::Acquire);
        if epoch != self.chain_epoch {
            self.chain_epoch = epoch;
            self.take_chains();
        }
        self.end_if_drained();
    }

    /// Looks for swapped chains. Connections whose transforms remember nothing go over now; the others when
    /// they can, or never.
    fn take_chains(&mut self) {
        let mut changed = false;
        for post in self.posts.iter_mut().flatten() {
            let number = post.listener.chain_number();
            if number != post.chain_number {
                post.chain_number = number;
                post.generation = post.listener.generation(self.index);
                changed = true;
            }
        }
        if !changed {
            return;
        }
        for token in self.sockets.tokens() {
            match self.sockets.get_mut(token) {
                Some(Socket::Connection(connection)) => {
                    if let Some(Some(post)) = self.posts.get(connection.listener as usize)
                        && !Arc::ptr_eq(connection.generation(), &post.generation)
                        && connection.can_switch()
                    {
                        switch_generation(connection, post);
                    }
                }
                Some(Socket::Datagrams { turn, .. }) => turn.close(),
                Some(Socket::Listener { .. }) | None => {}
            }
        }
    }

    fn listen(&mut self, listener: Arc<Listener>, socket: D::Socket) {
        let place = self.post_for(&listener);
        let post = place as u32;
        let is_datagram = listener.kind.is_datagram();
        let token = self.sockets.insert(if is_datagram {
            Socket::Datagrams { post, turn: datagram::Turn::default() }
        } else {
            Socket::Listener { post, retry_at: Moment::NEVER }
        });
        let result = if is_datagram {
            self.driver.datagrams(token, socket, listener.message_bytes_max, listener.destinations)
        } else {
            self.driver.listen(token, socket)
        };
        match result {
            Ok(()) => {
                if let Some(Some(post)) = self.posts.get_mut(place) {
                    post.socket = Some(token);
                }
                let text = "listening";
                self.shared.events.say(Level::Info, Kind::Listening, &listener.url, text);
                if self.state != State::Running {
                    self.driver.drain(token);
                }
            }
            Err(error) => {
                self.sockets.remove(token);
                let text = format_args!("cannot listen: {error}");
                self.shared.events.say(Level::Error, Kind::ListenerClosed, &listener.url, text);
                self.leave_post(place);
            }
        }
    }

    fn close_listener(&mut self, id: u64) {
        let place =
            self.posts.iter().position(|post| post.as_ref().is_some_and(|post| post.listener.id == id));
        let Some(place) = place else { return };
        if let Some(Some(post)) = self.posts.get_mut(place) {
            post.closed = true;
            if let Some(token) = post.socket {
                // What already waits to be accepted was promised to be served: the socket goes when it is empty.
                self.driver.resume(token);
                self.driver.drain(token);
            }
        }
        self.leave_post(place);
    }

    fn drain(&mut self, within: Duration) {
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

    fn drained(&mut self, token: Token) {
        match self.sockets.get(token) {
            Some(Socket::Listener { .. } | Socket::Datagrams { .. }) => self.close_socket(token),
            Some(Socket::Connection(_)) => self.begin_end(token, Some(End::because(CloseReason::Drained))),
            None => {}
        }
    }

    /// Closes a listening or datagram socket.
    fn close_socket(&mut self, token: Token) {
        let (place, retry_at) = match self.sockets.remove(token) {
            Some(Socket::Listener { post, retry_at }) => (post as usize, retry_at),
            Some(Socket::Datagrams { post, .. }) => (post as usize, Moment::NEVER),
            Some(Socket::Connection(_)) | None => return,
        };
        let mut armed = retry_at;
        self.timers.arm(token, &mut armed, Moment::NEVER);
        self.driver.close(token, Close::Gently);
        if let Some(Some(post)) = self.posts.get_mut(place) {
            post.socket = None;
            post.closed = true;
            post.listener.remove_file();
            self.shared.events.say(Level::Info, Kind::ListenerClosed, &post.listener.url, "closed");
        }
        self.leave_post(place);
    }

    /// Ends everything now.
    fn stop(&mut self, reason: CloseReason) {
        for token in self.sockets.tokens() {
            match self.sockets.get(token) {
                Some(Socket::Connection(connection)) => {
                    let reason = match connection.phase {
                        Phase::Lingering(reason) => reason,
                        _ => reason,
                    };
                    self.close_connection(token, reason, Close::Gently, None);
                }
                _ => self.close_socket(token),
            }
        }
        self.state = State::Draining { until: self.driver.now() };
        self.end_if_drained();
    }

    fn end_if_drained(&mut self) {
        if matches!(self.state, State::Draining { .. })
            && self.sockets.is_empty()
            && self.shared.mailboxes[self.index].close()
        {
            self.state = State::Ended;
            // Generations are destroyed with their last user; an ended worker uses none.
            self.posts.clear();
        }
    }

    // ---- Posts.

    fn post_for(&mut self, listener: &Arc<Listener>) -> usize {
        let known = |post: &Option<Post>| post.as_ref().is_some_and(|post| post.listener.id == listener.id);
        if let Some(place) = self.posts.iter().position(known) {
            return place;
        }
        let post = Post {
            chain_number: listener.chain_number(),
            generation: listener.generation(self.index),
            listener: Arc::clone(listener),
            socket: None,
            connections: 0,
            closed: false,
            accept_failing: false,
        };
        match self.posts.iter().position(Option::is_none) {
            Some(place) => {
                self.posts[place] = Some(post);
                place
            }
            None => {
                self.posts.push(Some(post));
                self.posts.len() - 1
            }
        }
    }

    /// Forgets a listener that is closed and has no connection left here.
    fn leave_post(&mut self, place: usize) {
        if let Some(post) = self.posts.get_mut(place)
            && post.as_ref().is_some_and(|post| post.closed && post.socket.is_none() && post.connections == 0)
        {
            *post = None;
        }
    }
}

/// Lets a connection go on with its listener's current generation. Where a transform refuses the conversation, the
/// connection stays with the one it has.
fn switch_generation(connection: &mut Connection, post: &Post) {
    let described = SessionPeer {
        kind: peer_kind(post.listener.kind),
        id: connection.id,
        local: &post.listener.url,
        peer: &connection.peer,
        listener: &post.listener.url,
    };
    if let Ok(session) = Session::open(post.generation.stages(), &described) {
        connection.switch(Arc::clone(&post.generation), session);
    }
}

/// The next moment at which a connection wants to be looked at.
fn deadline_of(connection: &Connection, listener: &Listener) -> Moment {
    if let Phase::Lingering(_) = connection.phase {
        return connection.linger_until;
    }
    let mut deadline = Moment::NEVER;
    if !connection.is_flushed() {
        deadline = connection.last_progress.after(listener.options.write_timeout);
    } else if let (Phase::Open, Some(timeout)) = (connection.phase, listener.options.idle_timeout) {
        deadline = connection.last_received.after(timeout);
    }
    deadline
}

/// Whether accept(2) reported the fate of one connection, so that the next one may be fine.
fn concerns_one_connection(error: &io::Error) -> bool {
    // The last group are errors of the network that Linux passes on from the new socket (accept(2)).
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNABORTED
                | libc::EINTR
                | libc::EPERM
                | libc::EPROTO
                | libc::ENETDOWN
                | libc::ENOPROTOOPT
                | libc::EHOSTDOWN
                | libc::ENONET
                | libc::EHOSTUNREACH
                | libc::EOPNOTSUPP
                | libc::ENETUNREACH
        )
    )
}

fn peer_kind(kind: SocketKind) -> u32 {
    match kind {
        SocketKind::Tcp | SocketKind::UnixStream => abi::RESAY_STREAM,
        SocketKind::Udp | SocketKind::UnixDatagram => abi::RESAY_DATAGRAM,
        SocketKind::UnixSeqpacket => abi::RESAY_SEQPACKET,
    }
}

fn say_fault(
    events: &Events,
    post: &Post,
    generation: &Generation,
    stage: usize,
    fault: &Fault,
    connection: u64,
    peer: &Peer,
) {
    events.emit(&Event {
        level: Level::Warn,
        kind: Kind::TransformFailed,
        listener: &post.listener.url,
        connection,
        peer: Some(peer),
        text: &format_args!("transform {}: {fault}", generation.stage_id(stage)),
    });
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

#[cfg(test)]
mod simulation;

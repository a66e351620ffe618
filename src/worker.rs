//! One thread's loop: the path of the data.
//!
//! A worker is a value: whoever owns it calls [`Worker::turn`]. It takes what other threads have left in its
//! mailbox, waits for the driver, and sends each completion through the connection it belongs to:
//!
//! ```text
//! driver: Received ─> connection: frames ─> chain ─> answer ─> driver: send
//!                                                        └─> backlog ─> driver: Sent ─> send
//! ```

mod accepting;
mod datagrams;
mod ending;
mod mailbox;
mod offloading;
mod spinning;
mod streams;

pub use mailbox::ConnectionInfo;
pub(crate) use mailbox::{Command, Mailbox};

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Duration;

use crate::buffer::Pool;
use crate::chain::{Generation, Scratch};
use crate::connection::Connection;
use crate::datagram;
use crate::driver::{Completion, Driver, Token};
use crate::event::{Cause, Event, Events, Kind, Level};
use crate::listener::Listener;
use crate::offload::Offload;
use crate::peer::Peer;
use crate::slab::Slab;
use crate::stats::{CloseReason, DropReason};
use crate::timer::{Moment, Timers};
use crate::transform::library::Fault;

/// What the workers of an engine share.
#[derive(Debug)]
pub(crate) struct Shared<S> {
    pub(crate) events: Arc<Events>,
    pub(crate) mailboxes: Vec<Mailbox<S>>,
    pub(crate) offload: Offload,
    /// How long a worker looks before it sleeps.
    pub(crate) spin: Duration,
    /// Everything is to end at once; looked at once a turn.
    pub(crate) stop: Arc<AtomicBool>,
    /// Changes with every swap of any chain; looked at once a turn.
    pub(crate) chain_epoch: AtomicUsize,
    /// The number of the last connection.
    pub(crate) last_connection: AtomicUsize,
}

impl<S> Shared<S> {
    /// See [`Worker::retire`].
    fn retire(&self, what: Option<impl Send + 'static>) {
        let Some(what) = what else { return };
        if let Err(job) = self.offload.run(Box::new(move || drop(what))) {
            // Without a thread to be had, here is better than never.
            job();
        }
    }
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
    spin: spinning::Spin,
    /// Why a listener could not be opened, until somebody asks.
    listen_error: Option<io::Error>,
}

#[derive(Debug)]
enum Socket {
    Listener {
        post: u32,
        retry_at: Moment,
    },
    Datagrams {
        post: u32,
        // Boxes, so that a connection's place is a small one.
        turn: Box<datagram::Turn>,
        held: Box<datagram::Held>,
        deadline: Moment,
        offloaded: usize,
        ends: bool,
    },
    Connection(Box<Connection>),
    /// A connection whose message is with a transform that may block.
    Away(Box<offloading::Away>),
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
    /// That `amplify` keeps answers back is said once.
    amplify_said: Cell<bool>,
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
            spin: spinning::Spin::new(shared.spin),
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
            listen_error: None,
        }
    }

    pub(crate) fn driver(&self) -> &D {
        &self.driver
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.state != State::Ended
    }

    /// Opens the listeners that wait in the mailbox, so that whoever starts the worker hears of a failure.
    pub(crate) fn open_listeners(&mut self) -> io::Result<()> {
        self.take_commands();
        self.listen_error.take().map_or(Ok(()), Err)
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
        self.wait(timeout)?;
        // After the wait, so that whoever has swapped a chain finds the new one in the next answer.
        self.look_for_chains();
        while let Some(completion) = self.driver.next() {
            self.complete(completion);
        }
        self.expire();
        self.end_if_drained();
        Ok(self.state != State::Ended)
    }

    /// How long until something is due without any event, as of the last turn; `None`: nothing is.
    pub(crate) fn until_deadline(&self) -> Option<Duration> {
        self.until_deadline_from(self.driver.now())
    }

    /// The same by a clock reading of now.
    pub(crate) fn until_deadline_from(&self, now: Moment) -> Option<Duration> {
        let mut next = self.timers.next();
        if let State::Draining { until } = self.state {
            next = next.min(until);
        }
        (next != Moment::NEVER).then(|| now.until(next))
    }

    fn complete(&mut self, completion: Completion<D::Socket>) {
        match completion {
            Completion::Received { token, truncated } => self.received(token, truncated),
            Completion::Sent { token, bytes, memory } => self.sent(token, bytes, memory),
            Completion::Datagram { token, from, to, truncated } => self.datagram(token, from, to, truncated),
            Completion::Answered { token, answers, result, memory } => {
                self.pool.put(memory);
                self.answered(token, answers, result);
            }
            Completion::Accepted { token, socket, peer } => self.accepted(token, socket, peer),
            Completion::AcceptFailed { token, error } => self.accept_failed(token, error),
            Completion::Ended { token } => self.ended(token),
            Completion::Failed { token, error } => self.failed(token, error),
            Completion::Drained { token } => self.drained(token),
        }
    }

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
                    self.release(token, now);
                    self.expire_connection(token, now);
                }
                Some(Socket::Datagrams { .. }) => self.release_datagrams(token, now),
                Some(Socket::Away(_)) | None => {}
            }
        }
        if let State::Draining { until } = self.state
            && until <= now
        {
            self.stop(CloseReason::CutOff);
        }
    }

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
            amplify_said: Cell::new(false),
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

    /// Drops something elsewhere: it may be the last user of transforms, and destroying those may take its time.
    fn retire(&self, what: impl Send + 'static) {
        self.shared.retire(Some(what));
    }

    /// Forgets a listener that is closed and has no connection left here.
    fn leave_post(&mut self, place: usize) {
        let is_over = |post: &Post| post.closed && post.socket.is_none() && post.connections == 0;
        if let Some(post) = self.posts.get_mut(place).and_then(|post| post.take_if(|post| is_over(post))) {
            self.retire(post);
        }
    }
}

impl Post {
    /// Whoever sees no answers should find out why.
    fn say_amplified(&self, events: &Events, from: &Peer) {
        if !self.amplify_said.replace(true) {
            let text = format_args!(
                "the answer to {from} is longer than its request and was not sent, nor will others like it be: anybody \
                 could have forged the source (amplify={})",
                self.listener.options.amplify
            );
            let why = Some(Cause::Dropped(DropReason::Amplified));
            events.say_why(Level::Warn, Kind::Dropped, &*self.listener, why, text);
        }
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
        listener_id: post.listener.id,
        connection,
        peer: Some(peer),
        cause: Some(if generation.is_function(stage) { Cause::Function } else { Cause::Table }),
        text: &format_args!("transform {}: {fault}", generation.stage_id(stage)),
    });
}

#[cfg(test)]
mod simulation;

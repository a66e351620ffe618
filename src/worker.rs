//! One thread's loop: the path of the data.
//!
//! A worker is a value: whoever owns it calls [`Worker::turn`]. It takes what other threads have left in its
//! mailbox, waits for the driver, and sends each completion through the connection it belongs to:
//!
//! ```text
//! driver: Received ─> connection: frames ─> chain ─> Step ─> worker: step ─> driver: send
//!                                    send queue ─> Step ─────────┘   └─< driver: Sent
//! ```

mod ask;
mod bugs;
mod commands;
mod connection_info;
mod datagram_socket;
mod datagrams;
mod directory;
mod drain;
mod host;
mod late;
mod listeners;
mod mailbox;
mod offload;
mod offloaded;
mod pulse;
mod revise;
mod seen;
mod spin;
mod streams;
mod swap;
mod turns;

pub(crate) use ask::{Answer, Ask, Question};
pub use connection_info::ConnectionInfo;
pub(crate) use directory::Directory;
pub(crate) use mailbox::{Command, Mailbox};
pub(crate) use pulse::{About, Pulse};
pub use turns::TurnTimes;

use datagram_socket::DatagramSocket;
use offloaded::Offloaded;
use spin::Spin;

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::buffer::Pool;
use crate::bug;
use crate::chain::{Generation, Scratch, ShareId};
use crate::channel::Sender;
use crate::connection::{Connection, TransformFault};
use crate::context::Context;
use crate::driver::{Completion, Driver, Token};
use crate::event::{Event, EventCause, EventKind, Events, LogLevel, PeerLine};
use crate::later::Tickets;
use crate::limits::{LATE, LATE_TURNS_MAX, TURN_SENDS, UNTIMED_TURNS};
use crate::listener::Listener;
use crate::net::guard::OwnAddresses;
use crate::offload::Offload;
use crate::peer::Peer;
use crate::slab::Slab;
use crate::stats::{Block, CloseReason, DropReason};
use crate::sys;
use crate::tap::{Recorder, Taps};
use crate::timer::{Moment, Timers, TurnNumber};

/// What the workers of an engine share.
#[derive(Debug)]
pub(crate) struct Shared<S> {
    pub(crate) events: Arc<Events>,
    pub(crate) taps: Arc<Taps>,
    pub(crate) mailboxes: Vec<Mailbox<S>>,
    /// What each worker lets others see.
    pub(crate) pulses: Vec<Arc<Pulse>>,
    /// How often something took too long.
    pub(crate) stuck: AtomicU64,
    pub(crate) offload: Offload,
    /// Messages whose answers come later, from elsewhere.
    pub(crate) tickets: Arc<Tickets>,
    /// How long a worker looks before it sleeps.
    pub(crate) spin: Duration,
    /// Everything is to end at once; looked at once a turn.
    pub(crate) stop: Arc<AtomicBool>,
    /// Changes with every swap of any chain, and with every tap that is opened or closed; looked at once a turn.
    pub(crate) chain_epoch: AtomicUsize,
    /// Where its connections are.
    pub(crate) directory: Directory,
    /// Where its UDP sockets are.
    pub(crate) own: Arc<OwnAddresses>,
}

impl<S> Shared<S> {
    /// A chain was swapped, or a tap opened or closed: every worker looks for that with its next turn.
    pub(crate) fn announce_change(&self) {
        self.chain_epoch.fetch_add(1, Ordering::Release);
        self.wake_all();
    }

    /// Has every worker take a turn.
    pub(crate) fn wake_all(&self) {
        self.mailboxes.iter().for_each(Mailbox::wake);
    }

    /// See [`Worker::drop_in_background`].
    fn drop_in_background(&self, share: ShareId, what: Option<impl Send + 'static>) {
        let Some(what) = what else { return };
        if let Err(job) = self.offload.destroy(share, Box::new(move || drop(what))) {
            // Without a thread to be had, here is better than never.
            job();
        }
    }
}

/// One thread's share of an engine.
#[derive(Debug)]
pub(crate) struct Worker<D: Driver> {
    index: usize,
    pulse: Arc<Pulse>,
    driver: D,
    shared: Arc<Shared<D::Socket>>,
    sockets: Slab<Socket>,
    /// What this worker knows of each listener; `Connection::listener` is the place in here.
    listeners: Vec<Option<ListenerState>>,
    /// Connections that have more to do than their last turn allowed; each at most once.
    unfinished: VecDeque<Token>,
    turn: TurnNumber,
    /// Turns until transforms are timed, and the turn itself.
    untimed_turns: u32,
    /// When the last turn began that is timed.
    timed_turn_ns: u64,
    /// Places of the listeners that have submitted sends in this turn.
    submitted: Vec<u32>,
    timers: Timers,
    /// Turns in a row that came too late for a deadline, and found something.
    late_turns: u32,
    pool: Pool,
    scratch: Scratch,
    recorder: Recorder,
    chain_epoch: usize,
    state: State,
    spin: Spin,
    /// Why a listener could not be opened, until somebody asks.
    listen_error: Option<io::Error>,
    /// Faults of its own that it has found.
    bugs: u64,
    /// It works on a thread of the host's that only asks something: what may run transforms is left for a turn.
    is_lent_to_host: bool,
}

#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "most sockets are connections, and a box would be a load for each message"
)]
enum Socket {
    Listener {
        /// Its place in `listeners`.
        state: u32,
        retry_at: Moment,
        /// It does not listen any more, and keeps its address.
        is_stopped: bool,
    },
    // Boxed, so that a connection's place is a small one.
    Datagrams(Box<DatagramSocket>),
    Connection(Served),
    /// A connection whose message is with a transform that may block.
    Offloaded(Box<Offloaded>),
}

#[derive(Debug)]
struct Served {
    connection: Connection,
    /// The deadline that is armed for it.
    armed: Moment,
    /// It is in `unfinished`.
    is_unfinished: bool,
}

/// A listener, seen from one worker.
#[derive(Debug)]
struct ListenerState {
    listener: Arc<Listener>,
    generation: Arc<Generation>,
    chain_number: u64,
    /// This worker's counters.
    stats: Arc<Block>,
    /// The listening socket, where it is with this worker.
    socket: Option<Token>,
    connections: u32,
    /// The listener is closed; its state goes with its last connection.
    closed: bool,
    /// Nobody is to come any more, for now.
    is_refusing: bool,
    /// Another edition has taken its place: only connections that began with it are left.
    is_superseded: bool,
    /// Who waits until nobody comes any more.
    waiters: Vec<Sender<Answer>>,
    /// Connections in a row that failed as they were accepted.
    accept_failures: u32,
    /// That answers are dropped for `max_amplification` is logged once.
    is_amplification_logged: Cell<bool>,
    /// Bytes and messages of the sends that were submitted in this turn: they count as sent when it is over.
    submitted: Cell<(usize, u32)>,
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
            spin: Spin::new(shared.spin),
            recorder: Recorder::new(&shared.taps),
            // A test may not want to see any.
            pulse: shared.pulses.get(index).cloned().unwrap_or_default(),
            index,
            driver,
            shared,
            sockets: Slab::new(),
            listeners: Vec::new(),
            unfinished: VecDeque::new(),
            turn: TurnNumber::FIRST,
            untimed_turns: UNTIMED_TURNS,
            timed_turn_ns: 0,
            submitted: Vec::new(),
            timers: Timers::default(),
            late_turns: 0,
            pool: Pool::default(),
            scratch: Scratch::default(),
            chain_epoch: 0,
            state: State::Running,
            listen_error: None,
            bugs: 0,
            is_lent_to_host: false,
        }
    }

    pub(crate) fn driver(&self) -> &D {
        &self.driver
    }

    pub(crate) fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }

    pub(crate) fn driver_mut(&mut self) -> &mut D {
        &mut self.driver
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.state != State::Ended
    }

    /// Whether somebody has called it since its last turn began. The wait of that turn may have taken the waking with it, so no
    /// event tells of it.
    pub(crate) fn is_called(&self) -> bool {
        let is_stopped = || self.is_alive() && self.shared.stop.load(Ordering::Acquire);
        self.shared.mailboxes[self.index].is_filled() || is_stopped()
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
        self.pulse.waits();
        self.spin.wait(&mut self.driver, timeout)?;
        self.pulse.works(self.driver.now());
        if !self.submitted.is_empty() {
            self.end_submitted();
        }
        // After the wait, so that whoever has swapped a chain finds the new one in the next answer.
        self.look_for_chains();
        self.untimed_turns -= 1;
        if self.untimed_turns == 0 {
            self.untimed_turns = UNTIMED_TURNS;
            self.timed_turn_ns = sys::monotonic_nanos();
            self.listeners.iter().flatten().for_each(|state| state.generation.time_next_calls());
        }
        let mut has_found = false;
        loop {
            while let Some(completion) = self.driver.next() {
                has_found = true;
                self.complete(completion);
            }
            if has_found || !self.driver.wait_again() {
                break;
            }
        }
        self.go_on();
        self.expire(has_found);
        self.scratch.trim();
        if let Some(bugs) = bug::take() {
            self.report(bugs, None);
        }
        self.end_if_drained();
        self.recorder.wake();
        // It was set back in this turn.
        if self.untimed_turns == UNTIMED_TURNS {
            self.pulse.note_turn(self.timed_turn_ns);
        }
        #[cfg(any(test, fuzzing))]
        self.check();
        Ok(self.state != State::Ended)
    }

    /// How long until something is due without any event, as of the last turn; `None`: nothing is.
    pub(crate) fn until_deadline(&self) -> Option<Duration> {
        self.until_deadline_from(self.driver.now())
    }

    /// The same by a clock reading of now.
    pub(crate) fn until_deadline_from(&self, now: Moment) -> Option<Duration> {
        if !self.unfinished.is_empty() {
            return Some(Duration::ZERO);
        }
        let mut next = self.timers.next();
        if let State::Draining { until } = self.state {
            next = next.min(until);
        }
        (next != Moment::NEVER).then(|| now.until(next))
    }

    #[inline(always)]
    fn complete(&mut self, completion: Completion<D::Socket>) {
        match completion {
            Completion::Received { token, truncated } => self.received(token, truncated),
            Completion::Sent { token, memory } => self.sent(token, memory),
            Completion::Datagrams { token } => self.datagrams(token),
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

    #[inline]
    fn expire(&mut self, has_found: bool) {
        let now = self.driver.now();
        if self.timers.next() <= now {
            self.expire_due(now, has_found);
        } else {
            self.late_turns = 0;
        }
        if let State::Draining { until } = self.state
            && until <= now
        {
            self.stop(CloseReason::CutOff);
        }
    }

    #[inline(never)]
    fn expire_due(&mut self, now: Moment, has_found: bool) {
        if self.is_late(now, has_found) {
            return;
        }
        while let Some(token) = self.timers.pop(now) {
            match self.sockets.get_mut(token) {
                Some(Socket::Listener { retry_at, is_stopped: false, .. }) => {
                    *retry_at = Moment::NEVER;
                    self.driver.resume(token);
                }
                Some(Socket::Connection(_)) => self.expire_connection(token),
                Some(Socket::Datagrams(_)) => self.release_datagrams(token, now),
                Some(Socket::Offloaded(_)) => self.look_at_offloaded(token),
                // What closes a socket disarms its deadline.
                Some(Socket::Listener { .. }) | None => {
                    bug::found_aside("a deadline of a socket that is here")
                }
            }
        }
    }

    /// Whether deadlines have passed that nobody could look at, and it is not yet known who has sent something meanwhile: the
    /// process was stopped, or a transform took long. A turn brings no more than so much, so it takes some until all have
    /// been heard.
    fn is_late(&mut self, now: Moment, has_found: bool) -> bool {
        let is_late = self.timers.next().after(LATE) < now;
        self.late_turns = if is_late && has_found { self.late_turns + 1 } else { 0 };
        (1..LATE_TURNS_MAX).contains(&self.late_turns)
    }

    /// The place of a listener's state, which is made where this worker has not heard of it.
    fn place_of(&mut self, listener: &Arc<Listener>) -> usize {
        if let Some(place) = self.place_with(listener.id) {
            // Somebody may come from a worker that has heard of another edition, later or earlier than this one.
            return self.revise_at(place as usize, listener);
        }
        let state = ListenerState::new(listener, self.index);
        self.put(state)
    }

    fn put(&mut self, state: ListenerState) -> usize {
        let place = self.listeners.iter().position(Option::is_none).unwrap_or_else(|| {
            self.listeners.push(None);
            self.listeners.len() - 1
        });
        self.pulse.note_listener(place, Some(&state.listener));
        self.listeners[place] = Some(state);
        place
    }

    /// Drops something elsewhere: it may be the last user of transforms, and destroying those may take its time. `share`: of
    /// the chain.
    fn drop_in_background(&self, share: ShareId, what: impl Send + 'static) {
        self.shared.drop_in_background(share, Some(what));
    }

    /// Forgets a listener that is closed and has no connection left here.
    fn forget_listener_if_over(&mut self, place: usize) {
        let is_over =
            |state: &ListenerState| state.closed && state.socket.is_none() && state.connections == 0;
        let over = self.listeners.get_mut(place).and_then(|state| state.take_if(|state| is_over(state)));
        let share = over.as_ref().map_or(0, |state| state.generation.share());
        if over.is_some() {
            self.pulse.note_listener(place, None);
        }
        self.shared.drop_in_background(share, over);
    }
}

impl ListenerState {
    /// Whether the host has stopped its reading. When it is closed nobody could let that go on.
    fn holds(&self) -> bool {
        self.listener.is_paused() && !self.closed
    }

    fn new(listener: &Arc<Listener>, worker: usize) -> ListenerState {
        ListenerState {
            chain_number: listener.chain_number(),
            generation: listener.generation(worker),
            stats: listener.stats_of(worker),
            listener: Arc::clone(listener),
            socket: None,
            connections: 0,
            closed: false,
            is_refusing: false,
            is_superseded: false,
            waiters: Vec::new(),
            accept_failures: 0,
            is_amplification_logged: Cell::new(false),
            submitted: Cell::default(),
        }
    }

    /// What a step of a connection or a datagram of this listener takes.
    #[inline]
    fn context<'a>(
        &'a self,
        pool: &'a mut Pool,
        scratch: &'a mut Scratch,
        recorder: &'a mut Recorder,
        now: Moment,
    ) -> Context<'a> {
        Context {
            limits: &self.listener.limits,
            current: &self.generation,
            pool,
            scratch,
            stats: &self.stats,
            recorder,
            now,
            sends_left: TURN_SENDS,
            may_block: false,
            issuer: None,
            is_draining: false,
        }
    }

    /// An operator who sees no answers should find out why.
    fn log_amplified(&self, events: &Events, from: &Peer) {
        if !self.is_amplification_logged.replace(true) {
            let text = format_args!(
                "an answer to {from} was dropped: it exceeds max_amplification ({} bytes for each byte of the request), \
                 and the source may be forged; further ones are only counted",
                self.listener.limits.amplification.times()
            );
            let why = Some(EventCause::Dropped(DropReason::Amplified));
            events.emit_caused(LogLevel::Warn, EventKind::Dropped, &*self.listener, why, text);
        }
    }
}

/// What this worker knows of the listener of a socket: it stays until its last socket and connection are closed.
fn state_of(listeners: &[Option<ListenerState>], place: u32) -> Option<&ListenerState> {
    let state = listeners.get(place as usize).and_then(Option::as_ref);
    if state.is_none() {
        bug::found_aside("the listener of an open socket");
    }
    state
}

/// The same, to be changed.
fn state_of_mut(listeners: &mut [Option<ListenerState>], place: u32) -> Option<&mut ListenerState> {
    let state = listeners.get_mut(place as usize).and_then(Option::as_mut);
    if state.is_none() {
        bug::found_aside("the listener of an open socket");
    }
    state
}

fn log_transform_error(
    events: &Events,
    state: &ListenerState,
    fault: &TransformFault,
    connection: u64,
    peer: &Peer,
    now: Moment,
) {
    let TransformFault { generation, stage, fault } = fault;
    let (level, more) =
        state.listener.lines().next(PeerLine::TransformFailed, LogLevel::Warn, now.as_micros());
    events.emit(&Event {
        level,
        kind: EventKind::TransformFailed,
        listener: &state.listener.url,
        listener_id: state.listener.id,
        connection,
        peer: Some(peer),
        cause: Some(if generation.is_function(*stage) { EventCause::Function } else { EventCause::Table }),
        text: &format_args!("transform {}: {fault}{more}", generation.stage_id(*stage)),
    });
}

/// A connection ends whose stream was never open.
#[cold]
fn log_refused(
    events: &Events,
    state: &ListenerState,
    connection: &Connection,
    reason: CloseReason,
    why: &str,
    now: Moment,
) {
    let line =
        if reason == CloseReason::LayerFailed { PeerLine::RefusedLayer } else { PeerLine::RefusedPreface };
    let (level, more) = state.listener.lines().next(line, LogLevel::Warn, now.as_micros());
    events.emit(&Event {
        level,
        kind: EventKind::Rejected,
        listener: &state.listener.url,
        listener_id: state.listener.id,
        connection: connection.id(),
        peer: Some(connection.peer()),
        cause: Some(EventCause::Closed(reason)),
        text: &format_args!("rejected: {why}{more}"),
    });
}

#[cfg(any(test, fuzzing))]
#[cfg_attr(fuzzing, allow(dead_code))]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "its own failures end it")]
pub(crate) mod simulation;

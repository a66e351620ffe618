//! Listeners: open and close them, accept, and hand connections to the worker that has the fewest.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::datagram_socket::DatagramSocket;
use super::late::record_given_up;
use super::mailbox::{Arrival, Command};
use super::{Answer, ListenerState, Served, Socket, State, Worker, state_of, state_of_mut};
use crate::bug;
use crate::channel::Sender;
use crate::connection::Connection;
use crate::driver::{Close, Driver, Token};
use crate::event::{Event, EventCause, EventKind, LogLevel, PeerLine};
use crate::limits::{ACCEPT_FAILURES_MAX, ACCEPT_RETRY};
use crate::listener::{Listener, next_number};
use crate::net::guard::{DatagramGuard, PeerKey, PeerPermit};
use crate::peer::Peer;
use crate::stats::{CloseReason, DropReason, RejectReason};
use crate::timer::Moment;
use crate::transform::library::Session;

impl<D: Driver> Worker<D> {
    pub(super) fn listen(&mut self, listener: Arc<Listener>, socket: D::Socket) {
        let place = self.place_of(&listener);
        let state = place as u32;
        let is_datagram = listener.kind.is_datagram();
        let token = self.sockets.insert(if is_datagram {
            let guard = listener
                .datagram_rules
                .as_ref()
                .map(|rules| DatagramGuard::new(rules, &self.shared.own, listener.udp_address()));
            Socket::Datagrams(Box::new(DatagramSocket::new(state, listener.kind, guard)))
        } else {
            Socket::Listener { state, retry_at: Moment::NEVER, is_stopped: false }
        });
        let result = if is_datagram {
            self.driver.add_datagram_socket(
                token,
                socket,
                listener.datagram_bytes_max(),
                listener.has_reports(),
            )
        } else {
            self.driver.add_listener(token, socket)
        };
        match result {
            Ok(()) => {
                if let Some(state) = state_of_mut(&mut self.listeners, state) {
                    state.socket = Some(token);
                }
                if let Some(address) = listener.udp_address() {
                    self.shared.own.enter(address);
                }
                if listener.opened() {
                    let text = if listener.is_refusing() { "listening again" } else { "listening" };
                    self.shared.events.emit_about(LogLevel::Info, EventKind::Listening, &*listener, text);
                }
                if self.state != State::Running {
                    self.driver.drain(token);
                } else if is_datagram && listener.is_paused() {
                    self.driver.pause(token);
                }
            }
            Err(error) => {
                self.sockets.remove(token);
                let text = format_args!("cannot listen: {error}");
                self.shared.events.emit_about(LogLevel::Error, EventKind::ListenerClosed, &*listener, text);
                self.listen_error = Some(error);
                self.forget_listener_if_over(place);
            }
        }
    }

    /// Closes a listener for good; `to` hears when nobody can come any more.
    pub(super) fn close_listener(&mut self, id: u64, to: Sender<Answer>) {
        // All workers are told; this one may not serve it, or not any more.
        let Some(place) = self.place_with(id) else { return };
        if let Some(state) = state_of_mut(&mut self.listeners, place) {
            state.closed = true;
            if state.listener.is_paused() {
                // Nobody could let its connections go on any more. In a turn: it may run transforms.
                _ = self.shared.mailboxes[self.index].push(Command::HoldListener { id });
            }
            if let Some(token) = state.socket {
                self.close_when_empty(token, place, to);
            }
        }
        self.forget_listener_if_over(place as usize);
    }

    /// What already waits to be accepted was promised to be served: the socket goes when it is empty.
    fn close_when_empty(&mut self, token: Token, place: u32, to: Sender<Answer>) {
        let (is_stopped, is_datagram) = match self.sockets.get(token) {
            Some(Socket::Listener { is_stopped, .. }) => (*is_stopped, false),
            _ => (false, true),
        };
        let is_empty = |worker: &mut Self| {
            !is_datagram && !worker.driver.accepts_by_itself(token) && worker.accept_all(token)
        };
        if is_stopped || is_empty(self) {
            return self.close_socket(token);
        }
        let Some(state) = state_of_mut(&mut self.listeners, place) else { return };
        if !is_datagram || !self.is_lent_to_host {
            state.waiters.push(to);
        } else if !state.listener.is_shared() {
            // No turn is to be had now: at least nothing more arrives, and the next one answers what has.
            _ = self.driver.refuse(token);
            state.listener.remove_file();
        }
        self.driver.resume(token);
        self.driver.drain(token);
    }

    /// Closes a listening or datagram socket.
    pub(super) fn close_socket(&mut self, token: Token) {
        while let Some((answers, result)) = self.driver.take_send_results(token) {
            self.answered(token, answers, result);
        }
        let (place, mut armed, owed) = match self.sockets.remove(token) {
            Some(Socket::Listener { state, retry_at, .. }) => (state, retry_at, 0),
            Some(Socket::Datagrams(socket)) => {
                let owed = socket.owed();
                if let Some(state) = state_of(&self.listeners, socket.state).filter(|_| owed > 0) {
                    record_given_up(&socket, state, self.driver.now(), &mut self.recorder);
                }
                let DatagramSocket { state, session, deadline, late, .. } = *socket;
                let share = state_of(&self.listeners, state).map_or(0, |state| state.generation.share());
                self.drop_in_background(share, (session, late));
                (state, deadline, owed)
            }
            Some(Socket::Connection(_) | Socket::Offloaded(_)) | None => {
                return bug::found_aside("a listening or a datagram socket");
            }
        };
        self.timers.arm(token, &mut armed, Moment::NEVER);
        // The file before the socket: while that is open the file's inode is in use, so no file of a successor can have
        // it, and be taken for ours.
        let is_running = self.state == State::Running;
        // One that refuses has its address for as long as it wants, where it cannot keep it then the name.
        let comes_back = |state: &ListenerState| state.is_refusing && !state.closed && is_running;
        if let Some(address) = state_of(&self.listeners, place).and_then(|state| state.listener.udp_address())
        {
            self.shared.own.remove(address);
        }
        let was_last = state_of(&self.listeners, place).is_some_and(|state| {
            if comes_back(state) { state.listener.rests() } else { state.listener.closed() }
        });
        self.driver.close(token, Close::Gently);
        if let Some(state) = state_of_mut(&mut self.listeners, place) {
            state.stats.dropped(DropReason::Undelivered, owed as u64);
            state.socket = None;
            state.waiters.clear();
            if comes_back(state) {
                return;
            }
            state.closed = true;
            if was_last {
                let text = format_args!("closed{}", state.listener.lines().take_rest());
                self.shared.events.emit_about(
                    LogLevel::Info,
                    EventKind::ListenerClosed,
                    &*state.listener,
                    text,
                );
            }
        }
        self.forget_listener_if_over(place as usize);
    }

    #[inline(never)]
    pub(super) fn accepted(&mut self, token: Token, socket: D::Socket, peer: Peer) {
        // The listener may have been closed earlier in this turn; the connection goes with its socket.
        let Some(Socket::Listener { state, .. }) = self.sockets.get(token) else { return };
        let Some(state) = state_of_mut(&mut self.listeners, *state) else { return };
        state.accept_failures = 0;
        let (listener, stats) = (Arc::clone(&state.listener), Arc::clone(&state.stats));
        let permit = match self.admit(&listener, &socket, &peer) {
            Ok(permit) => permit,
            Err(reason) => {
                stats.rejected(reason.reason());
                return self.log_rejected(&listener, &peer, &reason);
            }
        };
        stats.accepted.add(1);
        let arrival = Arrival { listener, socket, peer, id: next_number(), permit };
        let target = self.least_loaded();
        self.shared.mailboxes[target].load.fetch_add(1, Ordering::Relaxed);
        if target == self.index && !self.is_lent_to_host {
            return self.open(arrival);
        }
        if let Err(Command::Adopt(arrival)) = self.shared.mailboxes[target].push(Command::Adopt(arrival)) {
            // That worker has ended meanwhile.
            self.shared.mailboxes[target].load.fetch_sub(1, Ordering::Relaxed);
            self.shared.mailboxes[self.index].load.fetch_add(1, Ordering::Relaxed);
            self.open(arrival);
        }
    }

    /// Whether a connection may come in; else why not. Whose it is does not count yet where a preface will say that.
    fn admit(
        &self,
        listener: &Listener,
        socket: &D::Socket,
        peer: &Peer,
    ) -> Result<Option<Box<PeerPermit>>, Refusal> {
        let options = &listener.options;
        if listener.open_connections() >= u64::from(options.max_connections) {
            return Err(Refusal::Full(options.max_connections));
        }
        if listener.proxy.as_ref().is_some_and(|rules| !rules.trusts(peer)) {
            return Err(Refusal::NotFromProxy);
        }
        let is_asked = options.allow_uid.is_some() || listener.limiter.is_some();
        let user = if listener.kind.is_unix() && is_asked {
            Some(self.driver.peer_credentials(socket).map_err(Refusal::Unknown)?.user)
        } else {
            None
        };
        if let (Some(users), Some(user)) = (&options.allow_uid, user)
            && !users.contains(&user)
        {
            return Err(Refusal::User(user));
        }
        if listener.has_preface() {
            return Ok(None);
        }
        admit_peer(listener, peer, user)
    }

    /// A preface has said who the peer of a connection is.
    pub(super) fn identify(&mut self, token: Token) {
        let Some(Socket::Connection(Served { connection, .. })) = self.sockets.get(token) else {
            return bug::found_aside("the connection that was identified in this step");
        };
        let Some(state) = state_of(&self.listeners, connection.listener()) else {
            return self.close_broken(token);
        };
        let (listener, peer) = (&state.listener, connection.peer());
        let permit = match connection.proxied() {
            // The proxy itself looks whether we are here. It has been let in.
            Some(proxied) if proxied.is_local() => permit(listener, peer, self.driver.facts(token).user()),
            _ => admit_peer(listener, peer, None),
        };
        match permit {
            Ok(permit) => {
                let via = connection.proxied().and_then(|proxied| proxied.via());
                self.shared.events.emit(&Event {
                    level: LogLevel::Debug,
                    kind: EventKind::Identified,
                    listener: &listener.url,
                    listener_id: listener.id,
                    connection: connection.id(),
                    peer: Some(peer),
                    cause: None,
                    text: &Identified(via),
                });
                self.step(token, |connection, cx, _| connection.identified(permit, cx));
            }
            Err(reason) => {
                self.log_rejected(&state.listener, connection.peer(), &reason);
                self.step(token, |connection, _, _| connection.refused());
            }
        }
    }

    fn log_rejected(&self, listener: &Listener, peer: &Peer, reason: &Refusal) {
        let now_us = self.driver.now().as_micros();
        let (level, more) = listener.lines().next(reason.line(), reason.level(), now_us);
        let text = format_args!("rejected {peer}: {reason}{more}");
        self.shared.events.emit(&Event {
            level,
            kind: EventKind::Rejected,
            listener: &listener.url,
            listener_id: listener.id,
            connection: 0,
            peer: None,
            cause: Some(EventCause::Rejected(reason.reason())),
            text: &text,
        });
    }

    /// The worker with the fewest connections; this one among equals, and while draining.
    pub(super) fn least_loaded(&self) -> usize {
        if self.state != State::Running {
            return self.index;
        }
        let load = |index: usize| self.shared.mailboxes[index].load.load(Ordering::Relaxed);
        let others = 0..self.shared.mailboxes.len();
        others.min_by_key(|&index| (load(index), index != self.index)).unwrap_or(self.index)
    }

    pub(super) fn open(&mut self, arrival: Arrival<D::Socket>) {
        let Arrival { listener, socket, peer, id, permit } = arrival;
        let place = self.place_of(&listener);
        let Some(state) = state_of_mut(&mut self.listeners, place as u32) else { return };
        // It may have changed on the way.
        let listener = Arc::clone(&state.listener);
        let generation = Arc::clone(&state.generation);
        let opened = match Session::unopened(generation.stages()) {
            Ok(session) => {
                let limits = &listener.limits;
                let around = listener.around().map(Box::new);
                let mut connection = Connection::new(
                    id,
                    place as u32,
                    peer.clone(),
                    (generation, session),
                    (permit, around),
                    limits,
                    self.driver.now(),
                );
                if state.holds() && self.state == State::Running {
                    connection.begin_held();
                }
                let served = Served { connection, armed: Moment::NEVER, is_unfinished: false };
                let token = self.sockets.insert(Socket::Connection(served));
                if !listener.on_accept.is_empty() {
                    self.driver.configure(&socket, &listener.on_accept);
                }
                if self.shared.directory.is_kept() {
                    self.shared.directory.enter(id, self.index, token, &listener);
                }
                match self.driver.add_stream(token, socket, listener.kind, limits.read_bytes_max) {
                    Ok(()) => Ok(token),
                    Err(error) => {
                        self.sockets.remove(token);
                        self.shared.directory.remove(id);
                        Err((CloseReason::SystemError, error.to_string()))
                    }
                }
            }
            Err((_, fault)) => Err((CloseReason::TransformFailed, fault.to_string())),
        };
        let event = |cause: Option<EventCause>, text: &dyn fmt::Display| {
            self.shared.events.emit(&Event {
                level: LogLevel::Debug,
                kind: if cause.is_none() { EventKind::Accepted } else { EventKind::Closed },
                listener: &listener.url,
                listener_id: listener.id,
                connection: id,
                peer: Some(&peer),
                cause,
                text,
            });
        };
        match opened {
            Ok(token) => {
                state.connections += 1;
                event(None, &"accepted");
                if self.state != State::Running {
                    self.driver.drain(token);
                }
                self.step(token, |connection, cx, _| connection.accepted(cx));
            }
            Err((reason, text)) => {
                state.stats.closed(reason);
                self.shared.mailboxes[self.index].load.fetch_sub(1, Ordering::Relaxed);
                event(Some(EventCause::Closed(reason)), &format_args!("closed: {text}"));
                self.forget_listener_if_over(place);
            }
        }
    }

    #[inline(never)]
    pub(super) fn accept_failed(&mut self, token: Token, error: io::Error) {
        // It may have been closed earlier in this turn.
        let Some(Socket::Listener { state, retry_at, .. }) = self.sockets.get_mut(token) else { return };
        let Some(state) = state_of_mut(&mut self.listeners, *state) else { return };
        state.stats.accept_errors.add(1);
        let why = EventCause::of(&error);
        state.accept_failures = state.accept_failures.saturating_add(1);
        // Of one that fails for good the next will be no better, whatever the error.
        if concerns_one_connection(&error) && state.accept_failures < ACCEPT_FAILURES_MAX {
            let text = format_args!("accept: {error}");
            return self.shared.events.emit_caused(
                LogLevel::Debug,
                EventKind::AcceptFailed,
                &*state.listener,
                why,
                text,
            );
        }
        // Descriptors or memory have run out, or something unknown is wrong: trying again at once would only
        // turn the worker in circles.
        let now_us = self.driver.now().as_micros();
        let (level, more) = state.listener.lines().next(PeerLine::AcceptFailed, LogLevel::Warn, now_us);
        let text = format_args!("accept: {error}; trying again every {ACCEPT_RETRY:?}{more}");
        self.shared.events.emit_caused(level, EventKind::AcceptFailed, &*state.listener, why, text);
        self.driver.pause(token);
        self.timers.arm(token, retry_at, self.driver.now().after(ACCEPT_RETRY));
    }
}

/// A peer's part of `max_per_peer`, if its network is served.
fn admit_peer(
    listener: &Listener,
    peer: &Peer,
    user: Option<u32>,
) -> Result<Option<Box<PeerPermit>>, Refusal> {
    if listener.serves(peer) { permit(listener, peer, user) } else { Err(Refusal::Denied) }
}

/// A peer's part of `max_per_peer`, where there is one and the peer is of a kind that is counted.
fn permit(listener: &Listener, peer: &Peer, user: Option<u32>) -> Result<Option<Box<PeerPermit>>, Refusal> {
    let (Some(limiter), Some(key)) = (&listener.limiter, PeerKey::of(peer, user)) else { return Ok(None) };
    match limiter.take(key) {
        Some(permit) => Ok(Some(permit)),
        None => Err(Refusal::TooMany(listener.options.max_per_peer.unwrap_or_default())),
    }
}

/// A peer is known, and who has named it.
struct Identified<'a>(Option<&'a Peer>);

impl fmt::Display for Identified<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("identified")?;
        self.0.map_or(Ok(()), |via| write!(f, " by {via}"))
    }
}

/// Why a connection was turned away.
#[derive(Debug)]
enum Refusal {
    Full(u32),
    User(u32),
    Unknown(io::Error),
    TooMany(u32),
    Denied,
    NotFromProxy,
}

impl Refusal {
    fn reason(&self) -> RejectReason {
        match self {
            Refusal::Full(_) => RejectReason::MaxConnections,
            Refusal::User(_) => RejectReason::AllowUid,
            Refusal::Unknown(_) => RejectReason::UnknownUser,
            Refusal::TooMany(_) => RejectReason::MaxPerPeer,
            Refusal::Denied => RejectReason::Denied,
            Refusal::NotFromProxy => RejectReason::NotFromProxy,
        }
    }

    /// Rules that are there to keep strangers out are no reason for a warning when they do; a limit that is reached is, and
    /// whoever is no proxy may be one that was forgotten.
    fn level(&self) -> LogLevel {
        match self {
            Refusal::User(_) | Refusal::Denied => LogLevel::Info,
            Refusal::Full(_) | Refusal::TooMany(_) | Refusal::Unknown(_) | Refusal::NotFromProxy => {
                LogLevel::Warn
            }
        }
    }

    fn line(&self) -> PeerLine {
        match self {
            Refusal::Full(_) => PeerLine::RejectedFull,
            Refusal::User(_) => PeerLine::RejectedUser,
            Refusal::Unknown(_) => PeerLine::RejectedUnknown,
            Refusal::TooMany(_) => PeerLine::RejectedPeer,
            Refusal::Denied => PeerLine::RejectedDenied,
            Refusal::NotFromProxy => PeerLine::RejectedProxy,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Full(most) => write!(f, "max_connections={most}"),
            Refusal::User(user) => write!(f, "user {user} is not in allow_uid"),
            Refusal::Unknown(error) => write!(f, "the system does not say whose it is: {error}"),
            Refusal::TooMany(most) => write!(f, "max_per_peer={most}"),
            Refusal::Denied => write!(f, "its network is not in allow, or is in deny"),
            Refusal::NotFromProxy => write!(f, "it is no proxy of proxy_from"),
        }
    }
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

//! The driver that an engine uses: epoll, and beside it a ring where the kernel has one and the engine wants it.
//!
//! ```text
//!   worker ──> Hybrid ──┬──> Epoll   every socket that is not the ring's
//!                       └──> Uring   what the policy gives it; its wait covers epoll's descriptor as well
//! ```
//!
//! The hybrid owns both and the policy; neither driver knows of the other. A socket is with exactly one of them, and the
//! ring is asked first whether it is its own. Without a ring every call is epoll's, at the cost of one branch.
//!
//! **Waiting.** While the ring serves nothing it is not entered: epoll waits. Else the ring waits, with a poll on epoll's
//! descriptor among its requests, and epoll is asked for its events only when that poll, or what epoll itself left over,
//! says that there are any. Completions of epoll come first in a turn, then the ring's.
//!
//! **Memory.** A burst leaves memory behind that the ring touched. About once a second while there are turns the ring is asked to
//! give back what the last second has not needed, and as long as there is something of the kind a wait is no longer than
//! that; then the engine sleeps for good.
//!
//! **The policy** ([`Share`]) is what `docs/decisions/04-io-uring.md` measured:
//! - `All`: the ring serves what it can. Epoll has streams whose reads, and messages whose lengths, do not suit the ring's
//!   buffers, and listeners and datagram sockets that are being drained.
//! - `Many`: up to `epoll_streams_max` streams of a worker are epoll's, as long as the ring has nothing else, and the
//!   listeners with them. With one stream more, a datagram socket or a seqpacket connection, all of them migrate to the ring,
//!   with what has arrived in them. Once the ring has nobody left, the listeners migrate back with the next connection. A
//!   stream that floods is released by the ring, with what is left of its send, and stays with epoll, which moves much with
//!   less. Where all do, the ring has nobody left and is not entered any more.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use super::epoll::Epoll;
use super::uring::{Released, ReleasedKind, Uring};
use super::{Close, Completion, Datagram, Driver, Facts, Progress, RecvBuf, Token, facts_of};
use crate::buffer::Pool;
use crate::peer::{Credentials, Peer, SocketKind};
use crate::sys::epoll::Waker;
use crate::sys::{self, Descriptors, Holder, OnAccept, Presence, ReplyTo, SendBuffer};
use crate::timer::Moment;

/// What io_uring serves; the rest is epoll's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Share {
    /// All that it can.
    All,
    /// Everything, as long as there is anything that it serves better: datagram sockets, seqpacket connections, or more
    /// streams than this.
    Many { epoll_streams_max: usize },
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Hybrid {
    epoll: Epoll,
    ring: Option<Box<Ring>>,
    /// What has the addresses of datagram sockets that refuse.
    holders: Vec<(Token, Holder)>,
}

/// A driver, and what wakes it from another thread.
pub(crate) type Opened = (Hybrid, Arc<Waker>);

/// A ring and what decides about its sockets.
#[derive(Debug)]
struct Ring {
    uring: Uring,
    share: Share,
    /// Streams on epoll: at most `epoll_streams_max`.
    epoll_streams: Vec<(Token, SocketKind, usize)>,
    /// All listeners. They are where connections will be: with the ring while it has anything else.
    listeners: Vec<Token>,
    /// Epoll may have events that its descriptor does not announce any more.
    has_epoll_events: bool,
    /// Epoll has completions in this turn.
    has_epoll_turn: bool,
    /// Whose receive buffer the last completion was about.
    recv_buf_is_epolls: bool,
    /// Sockets that could not migrate. `None`: there is nothing to be drained any more.
    failed: Vec<(Token, Option<io::Error>)>,
    /// When the ring is next asked to give memory back.
    trim_at: Moment,
}

/// How long memory that a burst has needed is kept for the next one.
const TRIM_AFTER: Duration = Duration::from_secs(1);

impl Hybrid {
    /// Epoll alone.
    pub(crate) fn epoll() -> io::Result<Opened> {
        let (epoll, waker) = Epoll::new()?;
        Ok((Hybrid { epoll, ring: None, holders: Vec::new() }, waker))
    }

    /// Epoll with a ring for its share.
    pub(crate) fn uring(share: Share) -> io::Result<Opened> {
        let (epoll, waker) = Epoll::new()?;
        let ring = Ring {
            uring: Uring::new(share != Share::All, epoll.descriptors())?,
            share,
            epoll_streams: Vec::new(),
            listeners: Vec::new(),
            has_epoll_events: false,
            has_epoll_turn: false,
            recv_buf_is_epolls: true,
            failed: Vec::new(),
            trim_at: Moment::from_micros(0),
        };
        Ok((Hybrid { epoll, ring: Some(Box::new(ring)), holders: Vec::new() }, waker))
    }

    /// Why io_uring cannot be used here, if it cannot.
    pub(crate) fn probe_uring() -> io::Result<()> {
        Uring::probe()
    }

    /// The descriptor of epoll: readable when `wait` would find something. It knows nothing of a ring.
    pub(crate) fn poll_fd(&self) -> RawFd {
        self.epoll.poll_fd()
    }

    /// The same for a foreign loop, which [`set_timer`](Hybrid::set_timer) wakes too.
    pub(crate) fn foreign_poll_fd(&mut self) -> io::Result<RawFd> {
        self.epoll.foreign_poll_fd()
    }

    /// Whether there is such a loop.
    pub(crate) fn has_foreign_loop(&self) -> bool {
        self.epoll.has_foreign_loop()
    }

    /// When that loop is to be woken at the latest; `NEVER`: not for a deadline.
    pub(crate) fn set_timer(&mut self, due: Moment, now: Moment) {
        self.epoll.set_timer(due, now);
    }

    /// What wakes it.
    pub(crate) fn waker_fd(&self) -> RawFd {
        self.epoll.waker_fd()
    }

    /// The sockets that the driver has, for a child of fork(2).
    pub(crate) fn descriptors(&self) -> &Arc<Descriptors> {
        self.epoll.descriptors()
    }

    /// Whether the next turn has work without waiting.
    pub(crate) fn has_leftovers(&self) -> bool {
        self.epoll.has_leftovers()
            || self.ring.as_ref().is_some_and(|ring| ring.has_epoll_events || ring.has_leftovers())
    }

    /// The ring of a driver that has one.
    #[cfg(test)]
    pub(super) fn ring(&mut self) -> Option<&mut Uring> {
        self.ring.as_mut().map(|ring| &mut ring.uring)
    }

    /// How many streams are on epoll, and how many listeners there are.
    #[cfg(test)]
    pub(super) fn epoll_streams_and_listeners(&self) -> Option<(usize, usize)> {
        self.ring.as_ref().map(|ring| (ring.epoll_streams.len(), ring.listeners.len()))
    }

    fn socket(&self, token: Token) -> Option<BorrowedFd<'_>> {
        let of_ring = self.ring.as_ref().and_then(|ring| ring.uring.socket(token));
        of_ring.or_else(|| self.epoll.socket(token))
    }

    /// A datagram socket has its address by itself again, or none any more.
    fn drop_holder(&mut self, token: Token) {
        let Some(place) = self.holders.iter().position(|(held, _)| *held == token) else { return };
        let (_, holder) = self.holders.swap_remove(place);
        self.descriptors().remove(holder.as_raw_fd());
    }

    /// The ring, if it serves this socket.
    #[inline]
    fn ring_of(&mut self, token: Token) -> Option<&mut Uring> {
        self.ring.as_mut().map(|ring| &mut ring.uring).filter(|uring| uring.serves(token))
    }

    /// The ring, if the last completion shows its receive buffer.
    #[inline]
    fn ring_of_recv_buf(&mut self) -> Option<&mut Uring> {
        self.ring.as_mut().filter(|ring| !ring.recv_buf_is_epolls).map(|ring| &mut ring.uring)
    }
}

impl Ring {
    fn has_leftovers(&self) -> bool {
        self.uring.has_leftovers() || !self.failed.is_empty()
    }

    #[inline(never)]
    fn wait(&mut self, epoll: &mut Epoll, timeout: Option<Duration>) -> io::Result<()> {
        let is_bloated = self.uring.is_bloated();
        let timeout = match timeout {
            Some(timeout) => Some(if is_bloated { timeout.min(TRIM_AFTER) } else { timeout }),
            None => is_bloated.then_some(TRIM_AFTER),
        };
        let result = self.wait_for_both(epoll, timeout);
        let now = epoll.now();
        if now >= self.trim_at {
            self.uring.trim();
            self.trim_at = now.after(TRIM_AFTER);
        }
        result
    }

    fn wait_for_both(&mut self, epoll: &mut Epoll, timeout: Option<Duration>) -> io::Result<()> {
        let has_leftovers = self.has_epoll_events || self.has_leftovers() || epoll.has_leftovers();
        let timeout = if has_leftovers { Some(Duration::ZERO) } else { timeout };
        if self.uring.is_idle() {
            // Whatever happens, happens to epoll.
            self.uring.rest();
            return self.wait_epoll(epoll, timeout);
        }
        let result = self.uring.wait(timeout, epoll.poll_fd());
        if self.uring.take_seen() || self.has_epoll_events || epoll.has_leftovers() {
            self.wait_epoll(epoll, Some(Duration::ZERO))?;
        } else {
            epoll.set_now();
        }
        result
    }

    fn wait_epoll(&mut self, epoll: &mut Epoll, timeout: Option<Duration>) -> io::Result<()> {
        self.has_epoll_turn = true;
        let result = epoll.wait(timeout);
        // The ring tells each edge once: what did not fit is to be fetched without being told.
        self.has_epoll_events = result.is_err() || epoll.has_more_events();
        result
    }

    #[inline(never)]
    fn next(&mut self, epoll: &mut Epoll) -> Option<Completion<OwnedFd>> {
        if self.has_epoll_turn {
            if let Some(completion) = epoll.next() {
                self.recv_buf_is_epolls = true;
                return Some(completion);
            }
            self.has_epoll_turn = false;
        }
        self.recv_buf_is_epolls = false;
        let completion = self.uring.next();
        while let Some(released) = self.uring.take_released() {
            // At once: whatever the worker does with it next, it does with epoll's.
            self.migrate_to_epoll(epoll, released);
        }
        if completion.is_some() {
            return completion;
        }
        Some(match self.failed.pop()? {
            (token, Some(error)) => Completion::Failed { token, error },
            (token, None) => Completion::Drained { token },
        })
    }

    /// Whether streams, and with them listeners, are epoll's.
    fn is_for_few(&self) -> bool {
        match self.share {
            Share::All => false,
            Share::Many { epoll_streams_max } => {
                self.uring.users() == 0 && self.epoll_streams.len() < epoll_streams_max
            }
        }
    }

    /// Gives the ring what was epoll's while the ring had nobody.
    fn migrate_to_ring(&mut self, epoll: &mut Epoll) {
        for (token, kind, read_bytes_max) in std::mem::take(&mut self.epoll_streams) {
            if let Some(socket) = epoll.hand_over(token)
                && let Err(error) = self.uring.add_stream(token, socket, kind, read_bytes_max)
            {
                self.failed.push((token, Some(error)));
            }
        }
        for token in &self.listeners {
            if !self.uring.stop_release(*token)
                && let Some(socket) = epoll.hand_over(*token)
                && let Err(error) = self.uring.add_listener(*token, socket)
            {
                self.failed.push((*token, Some(error)));
            }
        }
    }

    /// Gives the listeners to epoll: whom they bring will be there too.
    fn migrate_listeners_to_epoll(&mut self) {
        for token in &self.listeners {
            self.uring.begin_release(*token);
        }
    }

    /// Gives epoll what the ring has released.
    fn migrate_to_epoll(&mut self, epoll: &mut Epoll, released: Released) {
        let Released { token, socket, kind, is_draining, read_bytes_max, outgoing } = released;
        let result = match kind {
            ReleasedKind::Listener => epoll.add_listener(token, socket),
            ReleasedKind::Stream(kind) => epoll.add_stream(token, socket, kind, read_bytes_max),
            ReleasedKind::Datagrams { reports } => {
                epoll.add_datagram_socket(token, socket, read_bytes_max, reports)
            }
        };
        let result = match (result, outgoing) {
            (Ok(()), Some(outgoing)) => epoll.go_on_sending(token, outgoing),
            (Err(error), Some(outgoing)) => {
                epoll.lose(token, outgoing.rest().len());
                Err(error)
            }
            (result, None) => result,
        };
        match result {
            Ok(()) if is_draining => epoll.drain(token),
            Ok(()) => {}
            Err(error) => {
                // The last is told first.
                self.failed.extend(is_draining.then_some((token, None)));
                self.failed.push((token, Some(error)));
            }
        }
    }

    fn add_stream(
        &mut self,
        epoll: &mut Epoll,
        token: Token,
        socket: OwnedFd,
        kind: SocketKind,
        read_bytes_max: usize,
    ) -> io::Result<()> {
        if !self.uring.can_serve(kind, read_bytes_max) {
            return epoll.add_stream(token, socket, kind, read_bytes_max);
        }
        if kind != SocketKind::UnixSeqpacket && self.is_for_few() {
            self.migrate_listeners_to_epoll();
            epoll.add_stream(token, socket, kind, read_bytes_max)?;
            self.epoll_streams.push((token, kind, read_bytes_max));
            return Ok(());
        }
        self.migrate_to_ring(epoll);
        self.uring.add_stream(token, socket, kind, read_bytes_max)
    }

    fn close(&mut self, epoll: &mut Epoll, token: Token, how: Close) {
        self.listeners.retain(|other| *other != token);
        self.failed.retain(|(other, _)| *other != token);
        if self.uring.serves(token) {
            self.uring.close(token, how);
        } else {
            self.epoll_streams.retain(|(other, ..)| *other != token);
            epoll.close(token, how);
        }
    }
}

/// Calls the ring if it serves the socket, and else epoll.
macro_rules! of {
    ($hybrid:ident, $token:ident, $driver:ident => $call:expr) => {
        match $hybrid.ring_of($token) {
            Some($driver) => $call,
            None => {
                let $driver = &mut $hybrid.epoll;
                $call
            }
        }
    };
}

impl Driver for Hybrid {
    type Socket = OwnedFd;

    #[inline]
    fn now(&self) -> Moment {
        self.epoll.now()
    }

    fn read_clock(&self) -> Moment {
        self.epoll.read_clock()
    }

    #[inline]
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        match &mut self.ring {
            None => self.epoll.wait(timeout),
            Some(ring) => ring.wait(&mut self.epoll, timeout),
        }
    }

    fn has_found(&self) -> bool {
        match &self.ring {
            None => self.epoll.has_found(),
            Some(ring) => ring.uring.has_found() || (ring.has_epoll_turn && self.epoll.has_found()),
        }
    }

    #[inline(always)]
    fn next(&mut self) -> Option<Completion<OwnedFd>> {
        match &mut self.ring {
            None => self.epoll.next(),
            Some(ring) => ring.next(&mut self.epoll),
        }
    }

    fn wait_again(&mut self) -> bool {
        // With a ring the next turn asks.
        self.ring.is_none() && self.epoll.wait_again()
    }

    fn add_listener(&mut self, token: Token, socket: OwnedFd) -> io::Result<()> {
        let Some(ring) = &mut self.ring else { return self.epoll.add_listener(token, socket) };
        ring.listeners.push(token);
        if ring.uring.users() == 0 && ring.share != Share::All {
            return self.epoll.add_listener(token, socket);
        }
        ring.uring.add_listener(token, socket)
    }

    fn peer_credentials(&self, socket: &OwnedFd) -> io::Result<Credentials> {
        sys::peer_credentials(socket.as_fd())
    }

    fn facts(&self, token: Token) -> Facts {
        self.socket(token).map_or_else(Facts::default, facts_of)
    }

    fn presence(&self, token: Token) -> Presence {
        self.socket(token).map_or(Presence::Here, sys::presence)
    }

    fn send_buffer(&self, token: Token) -> Option<SendBuffer> {
        self.socket(token).and_then(sys::send_buffer)
    }

    fn copy_socket(&self, token: Token) -> io::Result<OwnedFd> {
        self.socket(token).ok_or(io::ErrorKind::NotConnected)?.try_clone_to_owned()
    }

    fn accept_waiting(&mut self, token: Token) -> Option<io::Result<(OwnedFd, Peer)>> {
        if self.accepts_by_itself(token) { None } else { self.epoll.accept_waiting(token) }
    }

    fn refuse(&mut self, token: Token) -> io::Result<()> {
        let socket = self.socket(token).ok_or(io::ErrorKind::NotConnected)?;
        if let Some(holder) = sys::refuse(socket)? {
            self.descriptors().add(holder.as_raw_fd());
            self.holders.push((token, holder));
        }
        // A listener was drained and is not the ring's any more. What it hears of from now on is nothing that waits.
        if self.epoll.is_listener(token) {
            self.epoll.pause(token);
        }
        Ok(())
    }

    fn stop_refusing(&mut self, token: Token, waiting_max: i32) -> io::Result<()> {
        sys::stop_refusing(self.socket(token).ok_or(io::ErrorKind::NotConnected)?, waiting_max)?;
        self.drop_holder(token);
        if self.epoll.is_listener(token) {
            self.epoll.resume(token);
        }
        Ok(())
    }

    fn accepts_by_itself(&self, token: Token) -> bool {
        self.ring.as_ref().is_some_and(|ring| ring.uring.serves(token))
    }

    fn configure(&self, socket: &OwnedFd, settings: &OnAccept) {
        settings.apply(socket.as_fd());
    }

    fn add_stream(
        &mut self,
        token: Token,
        socket: OwnedFd,
        kind: SocketKind,
        read_bytes_max: usize,
    ) -> io::Result<()> {
        match &mut self.ring {
            None => self.epoll.add_stream(token, socket, kind, read_bytes_max),
            Some(ring) => ring.add_stream(&mut self.epoll, token, socket, kind, read_bytes_max),
        }
    }

    fn add_datagram_socket(
        &mut self,
        token: Token,
        socket: OwnedFd,
        message_bytes_max: usize,
        reports: bool,
    ) -> io::Result<()> {
        match &mut self.ring {
            Some(ring) if ring.uring.can_serve_datagrams(message_bytes_max) => {
                ring.migrate_to_ring(&mut self.epoll);
                ring.uring.add_datagram_socket(token, socket, message_bytes_max, reports)
            }
            _ => self.epoll.add_datagram_socket(token, socket, message_bytes_max, reports),
        }
    }

    #[inline(always)]
    fn next_datagram(&mut self) -> Option<(Datagram, &mut [u8])> {
        match &mut self.ring {
            Some(ring) if !ring.recv_buf_is_epolls => ring.uring.next_datagram(),
            _ => self.epoll.next_datagram(),
        }
    }

    #[inline(always)]
    fn recv_buf(&mut self) -> RecvBuf<'_> {
        match &mut self.ring {
            Some(ring) if !ring.recv_buf_is_epolls => ring.uring.recv_buf(),
            _ => self.epoll.recv_buf(),
        }
    }

    #[inline(always)]
    fn send_from_recv_buf(&mut self, token: Token, range: Range<usize>, pool: &mut Pool) -> Progress {
        match self.ring_of_recv_buf() {
            Some(uring) => uring.send_from_recv_buf(token, range, pool),
            None => self.epoll.send_from_recv_buf(token, range, pool),
        }
    }

    #[inline(always)]
    fn submit_from_recv_buf(&mut self, token: Token, range: Range<usize>, pool: &mut Pool) -> Progress {
        match self.ring_of_recv_buf() {
            Some(uring) => uring.submit_from_recv_buf(token, range, pool),
            None => self.epoll.send_from_recv_buf(token, range, pool),
        }
    }

    #[inline]
    fn next_unsent(&mut self) -> Option<Token> {
        self.ring.as_mut()?.uring.next_unsent()
    }

    fn report_sent(&mut self, token: Token) -> bool {
        self.ring_of(token).is_some_and(|uring| uring.report_sent(token))
    }

    fn send(&mut self, token: Token, bytes: Vec<u8>) -> Progress {
        of!(self, token, driver => driver.send(token, bytes))
    }

    #[inline]
    fn unsent(&self, token: Token) -> usize {
        match &self.ring {
            Some(ring) if ring.uring.serves(token) => ring.uring.unsent(token),
            _ => self.epoll.unsent(token),
        }
    }

    #[inline(always)]
    fn reply_from_recv_buf(&mut self, range: Range<usize>) {
        match self.ring_of_recv_buf() {
            Some(uring) => uring.reply_from_recv_buf(range),
            None => self.epoll.reply_from_recv_buf(range),
        }
    }

    fn reply(&mut self, bytes: Vec<u8>) {
        match self.ring_of_recv_buf() {
            Some(uring) => uring.reply(bytes),
            None => self.epoll.reply(bytes),
        }
    }

    fn reply_to(&mut self) -> Option<ReplyTo> {
        match self.ring_of_recv_buf() {
            Some(uring) => uring.reply_to(),
            None => self.epoll.reply_to(),
        }
    }

    fn send_to(&mut self, token: Token, to: &ReplyTo, bytes: &[u8]) -> io::Result<usize> {
        of!(self, token, driver => driver.send_to(token, to, bytes))
    }

    fn take_send_results(&mut self, token: Token) -> Option<(usize, io::Result<usize>)> {
        // Epoll has told of all in the turn in which they left.
        self.ring_of(token)?.take_send_results(token)
    }

    fn sender(&mut self) -> Peer {
        match self.ring_of_recv_buf() {
            Some(uring) => uring.sender(),
            None => self.epoll.sender(),
        }
    }

    fn recycle_peer(&mut self, peer: Peer) {
        match self.ring_of_recv_buf() {
            Some(uring) => uring.recycle_peer(peer),
            None => self.epoll.recycle_peer(peer),
        }
    }

    fn pause(&mut self, token: Token) {
        of!(self, token, driver => driver.pause(token));
    }

    fn resume(&mut self, token: Token) {
        of!(self, token, driver => driver.resume(token));
    }

    fn drain(&mut self, token: Token) {
        of!(self, token, driver => driver.drain(token));
    }

    fn shutdown_write(&mut self, token: Token) -> io::Result<()> {
        of!(self, token, driver => driver.shutdown_write(token))
    }

    fn wait_closed(&mut self) {
        if let Some(ring) = &mut self.ring {
            ring.uring.wait_closed();
        }
    }

    fn close(&mut self, token: Token, how: Close) {
        self.drop_holder(token);
        match &mut self.ring {
            None => self.epoll.close(token, how),
            Some(ring) => ring.close(&mut self.epoll, token, how),
        }
    }
}

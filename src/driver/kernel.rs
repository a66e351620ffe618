//! The driver that an engine uses: one type, whichever kernel interface it stands for.

use std::io;
use std::ops::Range;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use mio::Waker;

use super::epoll::Epoll;
use super::uring::Uring;
use super::{Close, Completion, Driver, Progress, RecvBuf, Share, Token};
use crate::buffer::Pool;
use crate::peer::{Peer, SocketKind};
use crate::sys::{Descriptors, ReplyTo};
use crate::timer::Moment;

/// A driver over a real kernel.
#[derive(Debug)]
pub(crate) enum Kernel {
    Epoll(Box<Epoll>),
    Uring(Box<Uring>),
}

/// A driver, and what wakes it from another thread.
pub(crate) type Opened = (Kernel, Arc<Waker>);

/// Evaluates an expression with whichever driver there is.
macro_rules! either {
    ($kernel:expr, $driver:ident => $call:expr) => {
        match $kernel {
            Kernel::Epoll($driver) => $call,
            Kernel::Uring($driver) => $call,
        }
    };
}

impl Kernel {
    /// Readiness, and what wakes it from another thread.
    pub(crate) fn epoll() -> io::Result<Opened> {
        let (epoll, waker) = Epoll::new()?;
        Ok((Kernel::Epoll(Box::new(epoll)), waker))
    }

    /// The descriptor that a foreign loop may watch: readable when `wait` would find something. Where there is none,
    /// that of the sockets that are watched for readiness.
    pub(crate) fn poll_fd(&self) -> RawFd {
        either!(self, driver => driver.poll_fd())
    }

    /// The sockets that the driver has, for a child of fork(2).
    pub(crate) fn descriptors(&self) -> &Arc<Descriptors> {
        either!(self, driver => driver.descriptors())
    }

    /// Whether the next turn has work without waiting.
    pub(crate) fn has_leftovers(&self) -> bool {
        either!(self, driver => driver.has_leftovers())
    }
}

/// io_uring.
impl Kernel {
    /// io_uring for its share, and what wakes it from another thread.
    pub(crate) fn uring(share: Share) -> io::Result<Opened> {
        let (uring, waker) = Uring::new(share)?;
        Ok((Kernel::Uring(Box::new(uring)), waker))
    }

    /// Why io_uring cannot be used here, if it cannot.
    pub(crate) fn probe_uring() -> Result<(), String> {
        Uring::probe()
    }
}

impl Driver for Kernel {
    type Socket = OwnedFd;

    fn now(&self) -> Moment {
        either!(self, driver => driver.now())
    }

    fn read_clock(&self) -> Moment {
        either!(self, driver => driver.read_clock())
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        either!(self, driver => driver.wait(timeout))
    }

    fn has_found(&self) -> bool {
        either!(self, driver => driver.has_found())
    }

    fn next(&mut self) -> Option<Completion<OwnedFd>> {
        either!(self, driver => driver.next())
    }

    fn add_listener(&mut self, token: Token, socket: OwnedFd) -> io::Result<()> {
        either!(self, driver => driver.add_listener(token, socket))
    }

    fn peer_user(&self, socket: &OwnedFd) -> io::Result<u32> {
        either!(self, driver => driver.peer_user(socket))
    }

    fn add_stream(
        &mut self,
        token: Token,
        socket: OwnedFd,
        kind: SocketKind,
        read_bytes_max: usize,
    ) -> io::Result<()> {
        either!(self, driver => driver.add_stream(token, socket, kind, read_bytes_max))
    }

    fn add_datagram_socket(
        &mut self,
        token: Token,
        socket: OwnedFd,
        message_bytes_max: usize,
        destinations: bool,
    ) -> io::Result<()> {
        either!(self, driver => driver.add_datagram_socket(token, socket, message_bytes_max, destinations))
    }

    fn recv_buf(&mut self) -> RecvBuf<'_> {
        either!(self, driver => driver.recv_buf())
    }

    fn send_from_recv_buf(&mut self, token: Token, range: Range<usize>, pool: &mut Pool) -> Progress {
        either!(self, driver => driver.send_from_recv_buf(token, range, pool))
    }

    fn send(&mut self, token: Token, bytes: Vec<u8>) -> Progress {
        either!(self, driver => driver.send(token, bytes))
    }

    fn unsent(&self, token: Token) -> usize {
        either!(self, driver => driver.unsent(token))
    }

    fn reply_from_recv_buf(&mut self, range: Range<usize>) {
        either!(self, driver => driver.reply_from_recv_buf(range));
    }

    fn reply(&mut self, bytes: Vec<u8>) {
        either!(self, driver => driver.reply(bytes));
    }

    fn reply_to(&mut self) -> Option<ReplyTo> {
        either!(self, driver => driver.reply_to())
    }

    fn send_to(&mut self, token: Token, to: &ReplyTo, bytes: &[u8]) -> io::Result<usize> {
        either!(self, driver => driver.send_to(token, to, bytes))
    }

    fn take_send_results(&mut self, token: Token) -> Option<(usize, io::Result<usize>)> {
        either!(self, driver => driver.take_send_results(token))
    }

    fn recycle_peer(&mut self, peer: Peer) {
        either!(self, driver => driver.recycle_peer(peer));
    }

    fn pause(&mut self, token: Token) {
        either!(self, driver => driver.pause(token));
    }

    fn resume(&mut self, token: Token) {
        either!(self, driver => driver.resume(token));
    }

    fn drain(&mut self, token: Token) {
        either!(self, driver => driver.drain(token));
    }

    fn shutdown_write(&mut self, token: Token) -> io::Result<()> {
        either!(self, driver => driver.shutdown_write(token))
    }

    fn wait_closed(&mut self) {
        either!(self, driver => driver.wait_closed());
    }

    fn close(&mut self, token: Token, how: Close) {
        either!(self, driver => driver.close(token, how));
    }
}

//! The driver that an engine uses: one type, whichever kernel interface it stands for.

use std::io;
use std::ops::Range;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use mio::Waker;

use super::ready::Ready;
#[cfg(target_os = "linux")]
use super::uring::Uring;
use super::{Close, Completion, Driver, Lent, Progress, Share, Token};
use crate::buffer::Pool;
use crate::peer::{Peer, SocketKind};
use crate::sys::{Descriptors, Envelope};
use crate::timer::Moment;

/// A driver over a real kernel.
#[derive(Debug)]
pub(crate) enum Kernel {
    Ready(Box<Ready>),
    #[cfg(target_os = "linux")]
    Uring(Box<Uring>),
}

/// A driver, and what wakes it from another thread.
pub(crate) type Opened = (Kernel, Arc<Waker>);

/// Evaluates an expression with whichever driver there is.
macro_rules! either {
    ($kernel:expr, $driver:ident => $call:expr) => {
        match $kernel {
            Kernel::Ready($driver) => $call,
            #[cfg(target_os = "linux")]
            Kernel::Uring($driver) => $call,
        }
    };
}

impl Kernel {
    /// Readiness, and what wakes it from another thread.
    pub(crate) fn ready() -> io::Result<Opened> {
        let (ready, waker) = Ready::new()?;
        Ok((Kernel::Ready(Box::new(ready)), waker))
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
#[cfg(target_os = "linux")]
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

#[cfg(not(target_os = "linux"))]
impl Kernel {
    pub(crate) fn uring(_: Share) -> io::Result<Opened> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn probe_uring() -> Result<(), String> {
        Err("only Linux has it".into())
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

    fn listen(&mut self, token: Token, socket: OwnedFd) -> io::Result<()> {
        either!(self, driver => driver.listen(token, socket))
    }

    fn peer_user(&self, socket: &OwnedFd) -> io::Result<u32> {
        either!(self, driver => driver.peer_user(socket))
    }

    fn connect(
        &mut self,
        token: Token,
        socket: OwnedFd,
        kind: SocketKind,
        read_bytes_max: usize,
    ) -> io::Result<()> {
        either!(self, driver => driver.connect(token, socket, kind, read_bytes_max))
    }

    fn datagrams(
        &mut self,
        token: Token,
        socket: OwnedFd,
        message_bytes_max: usize,
        destinations: bool,
    ) -> io::Result<()> {
        either!(self, driver => driver.datagrams(token, socket, message_bytes_max, destinations))
    }

    fn lent(&mut self) -> Lent<'_> {
        either!(self, driver => driver.lent())
    }

    fn send_lent(&mut self, token: Token, range: Range<usize>, pool: &mut Pool) -> Progress {
        either!(self, driver => driver.send_lent(token, range, pool))
    }

    fn send(&mut self, token: Token, bytes: Vec<u8>) -> Progress {
        either!(self, driver => driver.send(token, bytes))
    }

    fn unsent(&self, token: Token) -> usize {
        either!(self, driver => driver.unsent(token))
    }

    fn answer_lent(&mut self, range: Range<usize>) {
        either!(self, driver => driver.answer_lent(range));
    }

    fn answer(&mut self, bytes: Vec<u8>) {
        either!(self, driver => driver.answer(bytes));
    }

    fn envelope(&mut self) -> Option<Envelope> {
        either!(self, driver => driver.envelope())
    }

    fn post(&mut self, token: Token, to: &Envelope, bytes: &[u8]) -> io::Result<usize> {
        either!(self, driver => driver.post(token, to, bytes))
    }

    fn settle(&mut self, token: Token) -> Option<(usize, io::Result<usize>)> {
        either!(self, driver => driver.settle(token))
    }

    fn put_back(&mut self, peer: Peer) {
        either!(self, driver => driver.put_back(peer));
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

    fn finish(&mut self, token: Token) -> io::Result<()> {
        either!(self, driver => driver.finish(token))
    }

    fn let_go(&mut self) {
        either!(self, driver => driver.let_go());
    }

    fn close(&mut self, token: Token, how: Close) {
        either!(self, driver => driver.close(token, how));
    }
}

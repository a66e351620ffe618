//! What is known of one socket.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use crate::buffer::Outgoing;
use crate::driver::flags::Flags;
use crate::driver::{Completion, Token};
use crate::sys;
use crate::sys::epoll::{ERR, HUP, IN, OUT, PRI, RDHUP};

pub(super) const READABLE: u16 = 1;
pub(super) const WRITABLE: u16 = 1 << 1;
pub(super) const PAUSED: u16 = 1 << 2;
/// In the queue.
pub(super) const QUEUED: u16 = 1 << 3;
/// A short read proves nothing now: the peer has hung up, or there is something in the stream at which a read
/// stops (urgent bytes; a descriptor that was sent along). Read on until the kernel says that there is no more.
pub(super) const READ_TO_END: u16 = 1 << 4;
/// The kernel will bring nothing more.
pub(super) const ENDED: u16 = 1 << 5;
pub(super) const DRAINING: u16 = 1 << 6;
/// Registered for writability.
pub(super) const AWAITS_WRITE: u16 = 1 << 7;
/// A datagram socket that reports where each was sent to, ...
pub(super) const REPORTS: u16 = 1 << 8;
/// ... or that may bring many datagrams of one sender as one.
pub(super) const COALESCED: u16 = 1 << 9;
/// A send failed; `outgoing` is what the kernel did not take.
pub(super) const BROKEN: u16 = 1 << 10;

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) socket: OwnedFd,
    /// The token's.
    pub(super) version: u32,
    pub(super) read_bytes_max: u32,
    pub(super) flags: Flags,
    pub(super) role: Role,
    /// Connections or records in a row, for a listener or a seqpacket connection.
    pub(super) burst: u8,
    pub(super) outgoing: Option<Box<Outgoing>>,
}

/// What an idle connection costs here.
const _: () = assert!(size_of::<Option<Slot>>() == 24);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Listener,
    Stream,
    /// A unix stream to which descriptors may be sent along, at which a read stops.
    UnixStream,
    Seqpacket,
    Datagram,
}

impl Slot {
    pub(super) fn new(socket: OwnedFd, version: u32, role: Role, read_bytes_max: u32) -> Slot {
        let flags = Flags::of(WRITABLE);
        Slot { socket, version, read_bytes_max, flags, role, burst: 0, outgoing: None }
    }

    /// Notes what an event says.
    #[inline]
    pub(super) fn note(&mut self, events: u32) {
        if events == IN {
            self.flags.set(READABLE);
        } else {
            self.note_rare(events);
        }
    }

    #[cold]
    fn note_rare(&mut self, events: u32) {
        if events & (IN | PRI | RDHUP | HUP | ERR) != 0 {
            self.flags.set(READABLE);
        }
        if events & (OUT | HUP | ERR) != 0 {
            self.flags.set(WRITABLE);
        }
        if events & (PRI | RDHUP | HUP | ERR) != 0 {
            self.flags.set(READ_TO_END);
        }
    }

    #[inline]
    pub(super) fn may_read(&self) -> bool {
        self.flags.has(READABLE) && !self.flags.has_any(PAUSED | ENDED)
    }

    /// The peer has ended its side.
    #[cold]
    pub(super) fn end(&mut self, token: Token) -> Completion<OwnedFd> {
        self.flags.set(ENDED);
        self.flags.clear(READABLE);
        Completion::Ended { token }
    }

    /// A read brought nothing: there was nothing, or the connection is broken.
    #[cold]
    #[inline(never)]
    pub(super) fn fail(&mut self, token: Token, error: io::Error) -> Option<Completion<OwnedFd>> {
        self.flags.clear(READABLE);
        if error.kind() == io::ErrorKind::WouldBlock {
            self.flags.clear(READ_TO_END);
            self.burst = 0;
            return self.take_drained(token);
        }
        self.flags.set(ENDED);
        Some(Completion::Failed { token, error })
    }

    /// A send failed. What the kernel did not take of it stays, to be counted.
    #[cold]
    pub(super) fn fail_send(&mut self, outgoing: Box<Outgoing>) {
        self.flags.set(BROKEN | ENDED);
        self.outgoing = Some(outgoing);
    }

    pub(super) fn take_drained(&mut self, token: Token) -> Option<Completion<OwnedFd>> {
        self.flags.take(DRAINING).then_some(Completion::Drained { token })
    }

    /// Writes on; whether all of it is gone. `WouldBlock` is no error: the rest waits for the next edge.
    pub(super) fn flush(&mut self, outgoing: &mut Outgoing) -> io::Result<bool> {
        loop {
            match retry(|| sys::send(self.socket.as_fd(), outgoing.rest())) {
                Ok(sent) => outgoing.advance(sent),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.flags.clear(WRITABLE);
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
            if outgoing.is_done() {
                return Ok(true);
            }
        }
    }
}

/// Repeats a call that a signal interrupted.
#[inline]
pub(super) fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

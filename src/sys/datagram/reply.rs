//! Answers to datagrams: what goes back, and to whom.

use std::io;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::control::{self, Sending};
use super::name::header_over;
use crate::sys::call::syscall;
use crate::sys::names::{name_of, peer_of};

/// What goes back to the sender of a slot's datagram.
#[derive(Debug)]
pub(crate) enum Reply {
    /// This part of the slot itself.
    InPlace(Range<usize>),
    Bytes(Vec<u8>),
}

/// Where an answer goes and from which address of ours, for one that leaves after its batch is gone.
#[derive(Clone, Copy)]
pub(crate) struct ReplyTo {
    pub(super) name: libc::sockaddr_storage,
    pub(super) name_len: usize,
    pub(super) control: Sending,
}

impl ReplyTo {
    /// Back to where a datagram came from: the name and the control messages that came with it. The latter are aligned
    /// as they are.
    pub(crate) fn back(name: &[u8], control: &[u8]) -> ReplyTo {
        let (name, name_len) = name_of(name);
        ReplyTo { name, name_len, control: control::back_to(&header_over(control)) }
    }

    /// Whom it goes to.
    pub(crate) fn peer(&self) -> crate::peer::Peer {
        peer_of(&self.name, self.name_len)
    }

    /// What is sent are several datagrams of so many bytes each; the last may be shorter.
    pub(crate) fn cut_into(&mut self, segment_bytes: u16) {
        self.control.cut_into(segment_bytes);
    }

    /// A header for sendmsg(2) of one part. It points to both, for as long as neither moves.
    pub(crate) fn header(&mut self, part: &mut libc::iovec) -> libc::msghdr {
        // SAFETY: msghdr is plain data for which all zero is valid.
        let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
        header.msg_name = (&raw mut self.name).cast();
        header.msg_namelen = self.name_len as libc::socklen_t;
        header.msg_iov = part;
        header.msg_iovlen = 1;
        self.control.attach(&mut header);
        header
    }

    /// sendmsg(2) of one datagram.
    pub(crate) fn send(&self, fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
        let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let mut reply_to = *self;
        let message = reply_to.header(&mut part);
        // SAFETY: the header points to memory of this call; sendmsg writes to none of it.
        let n = syscall!(unsafe {
            libc::sendmsg(fd.as_raw_fd(), &message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
        })?;
        Ok(n as usize)
    }
}

impl std::fmt::Debug for ReplyTo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ReplyTo({})", peer_of(&self.name, self.name_len))
    }
}

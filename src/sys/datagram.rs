//! Datagrams in batches: recvmmsg(2) into slots that stay put, sendmmsg(2) of the answers out of them.
//!
//! A batch receives, the caller looks at each slot and says what goes back, [`Batch::send`] sends all of it.
//! The peer's name and the address that a datagram was sent to stay in the slot as the kernel wrote them, so
//! an answer leaves from that very address (`IP_PKTINFO`, ip(7); `IPV6_PKTINFO`, RFC 3542).
//!
//! Where the kernel can, one slot brings many datagrams of one sender (`UDP_GRO`, udp(7)), and answers of the same
//! lengths go back as one (`UDP_SEGMENT`): that is what makes bursts of small datagrams cheap.

mod batch;
mod control;

pub(crate) use batch::{Batch, Received};

use std::io;
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};

use self::control::Sending;
use super::{peer_of, syscall};

/// Where a datagram was sent to, as far as the kernel says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Destination {
    /// The socket is bound to one address, or is a unix socket.
    Bound,
    /// This address of ours.
    Unicast(IpAddr),
    /// A broadcast or multicast address.
    Group,
}

/// What goes back to the sender of a slot's datagram.
#[derive(Debug)]
pub(crate) enum Reply {
    /// This part of the slot itself.
    InPlace(Range<usize>),
    Bytes(Vec<u8>),
}

/// Where an answer goes and from which address of ours, for one that leaves after its batch is gone.
#[derive(Clone, Copy)]
pub(crate) struct Envelope {
    name: libc::sockaddr_storage,
    name_len: usize,
    control: Sending,
}

impl Envelope {
    /// sendmsg(2) of one datagram.
    pub(crate) fn send(&self, fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
        let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let mut control = self.control;
        // SAFETY: msghdr is plain data for which all zero is valid.
        let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
        message.msg_name = (&raw const self.name).cast_mut().cast();
        message.msg_namelen = self.name_len as libc::socklen_t;
        message.msg_iov = &mut part;
        message.msg_iovlen = 1;
        control.attach(&mut message);
        // SAFETY: the header points to memory of this call and of `self`; sendmsg writes to none of it.
        let n = syscall!(unsafe {
            libc::sendmsg(fd.as_raw_fd(), &message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
        })?;
        Ok(n as usize)
    }
}

impl std::fmt::Debug for Envelope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Envelope({})", peer_of(&self.name, self.name_len))
    }
}

/// Asks for many datagrams of one sender as one; whether this kernel and this socket do that.
#[cfg(target_os = "linux")]
pub(crate) fn receive_coalesced(fd: BorrowedFd<'_>) -> bool {
    super::set_int(fd, libc::SOL_UDP, libc::UDP_GRO, 1).is_ok()
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn receive_coalesced(_: BorrowedFd<'_>) -> bool {
    false
}

//! Datagrams in batches: recvmmsg(2) into slots that stay put, sendmmsg(2) of the answers out of them.
//!
//! A batch receives, the caller walks what came and says what goes back, [`Batch::send`] sends all of it.
//! The peer's name and the address that a datagram was sent to stay in the slot as the kernel wrote them, so
//! an answer leaves from that very address (`IP_PKTINFO`, ip(7); `IPV6_PKTINFO`, RFC 3542).
//!
//! Where the kernel can, one slot brings many datagrams of one sender (`UDP_GRO`, udp(7)), and answers of the same
//! lengths go back as one (`UDP_SEGMENT`): that is what makes bursts of small datagrams cheap.

mod batch;
mod control;

pub(crate) use batch::{Batch, Received, run};

use std::io;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};

use self::control::Sending;
use super::{peer_of, read_peer, syscall};
use crate::peer::Peer;

/// Where a datagram was sent to, as far as the kernel says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LocalAddr {
    /// The socket is bound to one address, or is a unix socket.
    Bound,
    /// An address of ours.
    Unicast,
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
pub(crate) struct ReplyTo {
    name: libc::sockaddr_storage,
    name_len: usize,
    control: Sending,
}

impl ReplyTo {
    /// Back to where a datagram came from: the name and the control messages that came with it. The latter are aligned
    /// as they are.
    pub(crate) fn back(name: &[u8], control: &[u8]) -> ReplyTo {
        let (name, name_len) = name_of(name);
        ReplyTo { name, name_len, control: control::back_to(&header_over(control)) }
    }

    /// Whom it goes to.
    #[cfg(test)]
    pub(crate) fn peer(&self) -> Peer {
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

/// Reads who sent a datagram from the name that came with it.
pub(crate) fn read_sender(peer: &mut Peer, name: &[u8]) {
    let (name, len) = name_of(name);
    read_peer(peer, &name, len);
}

/// Whether a datagram comes from an IP address and a port that can be answered, as far as the first bytes of its name tell.
/// Of others a closer look does.
#[inline]
pub(crate) fn is_plain_source(name: &[u8]) -> bool {
    // As sockaddr_in and sockaddr_in6 begin: family, port; address, or flow and address (ip(7), ipv6(7)).
    let Some([family_0, family_1, port_0, port_1, v4, _, _, _, v6]) = name.first_chunk() else {
        return false;
    };
    let is_usual = match i32::from(libc::sa_family_t::from_ne_bytes([*family_0, *family_1])) {
        // Neither "this network", nor multicast and what is above.
        libc::AF_INET => (1..224).contains(v4),
        // Neither unspecified nor IPv4-mapped, nor multicast.
        libc::AF_INET6 => (1..255).contains(v6),
        _ => false,
    };
    is_usual && (*port_0 | *port_1) != 0
}

/// Where a datagram was sent to, and how long each is where several came as one; 0: it is one. From its control messages,
/// aligned as they are.
pub(crate) fn read_control(control: &[u8]) -> (LocalAddr, usize) {
    control::read(&header_over(control))
}

/// Bytes that the kernel may put in front of a datagram where it comes with its name and control messages.
pub(crate) const NAME_BYTES: usize = size_of::<libc::sockaddr_storage>();
pub(crate) const CONTROL_BYTES: usize = control::CONTROL_BYTES;

/// A name as the kernel wrote it. For a path that fills all of `sun_path` it counts the NUL that has no room there, and
/// takes no name of that length back (unix(7), BUGS).
fn name_of(bytes: &[u8]) -> (libc::sockaddr_storage, usize) {
    // SAFETY: sockaddr_storage is plain data for which all zero is valid.
    let mut name: libc::sockaddr_storage = unsafe { MaybeUninit::zeroed().assume_init() };
    let len = bytes.len().min(NAME_BYTES);
    // SAFETY: both have `len` bytes, and they do not overlap: one is ours.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), (&raw mut name).cast::<u8>(), len) };
    let is_unix = i32::from(name.ss_family) == libc::AF_UNIX;
    (name, if is_unix { len.min(size_of::<libc::sockaddr_un>()) } else { len })
}

/// A header as recvmsg(2) would have filled it with these control messages.
fn header_over(control: &[u8]) -> libc::msghdr {
    // SAFETY: msghdr is plain data for which all zero is valid.
    let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    header.msg_control = control.as_ptr().cast_mut().cast();
    header.msg_controllen = control.len() as _;
    header
}

/// Asks for many datagrams of one sender as one; whether this kernel and this socket do that.
pub(crate) fn receive_coalesced(fd: BorrowedFd<'_>) -> bool {
    super::set_int(fd, libc::SOL_UDP, libc::UDP_GRO, 1).is_ok()
}

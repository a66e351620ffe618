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
mod name;
mod reply;

pub(crate) use batch::{Batch, Received, run};
pub(crate) use control::{CONTROL_BYTES, ControlInfo, LocalAddr};
pub(crate) use name::{NAME_BYTES, plain_port};
pub(crate) use reply::{Reply, ReplyTo};

use std::os::fd::BorrowedFd;

use self::name::header_over;
use super::options::set_int;

/// What the control messages of a datagram say. They are aligned as they are.
pub(crate) fn read_control(control: &[u8]) -> ControlInfo {
    control::read(&header_over(control))
}

/// Asks for many datagrams of one sender as one; whether this kernel and this socket do that.
pub(crate) fn receive_coalesced(fd: BorrowedFd<'_>) -> bool {
    set_int(fd, libc::SOL_UDP, libc::UDP_GRO, 1).is_ok()
}

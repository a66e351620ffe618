//! UDP in runs: datagrams of one size that go to the kernel as one, and come from it as one (udp(7): `UDP_SEGMENT`,
//! `UDP_GRO`).

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::cmsg_space;
use nix::sys::socket::sockopt::{UdpGroSegment, UdpGsoSegment};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt};
use rustix::io::Errno;

/// A connected UDP socket whose datagrams go and come in runs: those that may be in flight are sent as one, when all of the
/// last have come back. That a message waits for the others of its run is in its latency.
#[derive(Debug)]
pub struct Runs {
    socket: OwnedFd,
    /// Where the kernel says how long the datagrams of a run are.
    control: Vec<u8>,
}

/// Datagrams that one run may have (`UDP_MAX_SEGMENTS` of the kernel), and their bytes: what a datagram may have.
pub(crate) const RUN_MAX: usize = 64;
pub(crate) const RUN_BYTES_MAX: usize = 65_507;

impl Runs {
    /// `message_bytes`: how long each message is.
    pub fn new(socket: OwnedFd, message_bytes: usize) -> io::Result<Runs> {
        let segment = i32::try_from(message_bytes).map_err(io::Error::other)?;
        setsockopt(&socket, UdpGsoSegment, &segment)?;
        setsockopt(&socket, UdpGroSegment, &true)?;
        Ok(Runs { socket, control: cmsg_space!(i32) })
    }

    /// What has come: the bytes of a run, and how long each datagram in it is but the last, which may be shorter.
    pub(crate) fn recv(&mut self, buffer: &mut [u8]) -> Result<(usize, usize), Errno> {
        let mut pieces = [IoSliceMut::new(buffer)];
        let (fd, flags) = (self.socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
        let failed = |error: nix::Error| Errno::from_raw_os_error(error as i32);
        let message = recvmsg::<()>(fd, &mut pieces, Some(&mut self.control), flags).map_err(failed)?;
        let mut segment_bytes = message.bytes;
        for control in message.cmsgs().map_err(failed)? {
            if let ControlMessageOwned::UdpGroSegments(bytes) = control {
                segment_bytes = usize::try_from(bytes).unwrap_or(segment_bytes);
            }
        }
        Ok((message.bytes, segment_bytes))
    }
}

impl AsFd for Runs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

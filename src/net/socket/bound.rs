//! A bound socket, however it came to be.

use std::os::fd::OwnedFd;

use socket2::SockAddr;

use crate::net::unix_file::SocketFile;
use crate::options::Options;
use crate::peer::SocketKind;

/// A socket that is bound, and listens if its kind does.
#[derive(Debug)]
pub(crate) struct Bound {
    /// Removed when this is dropped, if it is still ours; before the socket, which keeps its inode from being used again.
    pub(crate) file: Option<SocketFile>,
    pub(crate) socket: OwnedFd,
    pub(crate) kind: SocketKind,
    /// The URL with the real port, without options.
    pub(crate) url: String,
    /// The address is a loopback address: datagrams from outside do not arrive.
    pub(crate) is_loopback: bool,
    /// The socket reports where each datagram was sent to.
    pub(crate) destinations: bool,
    /// [`siblings`](super::siblings) of it can be opened.
    pub(crate) can_multiply: bool,
    pub(crate) options: Options,
}

pub(super) fn is_loopback(local: &SockAddr) -> bool {
    local.as_socket().is_some_and(|address| address.ip().to_canonical().is_loopback())
}

//! A bound socket, however it came to be.

use std::os::fd::OwnedFd;

use socket2::{SockAddr, SockRef};

use super::options::waiting_max;
use crate::error::{Error, Result};
use crate::net::unix_file::SocketFile;
use crate::options::Options;
use crate::peer::{Peer, SocketKind};
use crate::sys::{self, Handover, OnAccept};

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
    /// More sockets of the same address that were handed over, for other workers.
    pub(crate) more: Vec<OwnedFd>,
    /// [`siblings`](super::siblings) of it can be opened.
    pub(crate) can_multiply: bool,
    /// Somebody else has opened it, and may have it too.
    pub(crate) is_adopted: bool,
    pub(crate) options: Options,
    /// What its connections are told as they are accepted.
    pub(crate) on_accept: OnAccept,
    /// Somebody else has opened it, and it is not ours before [`complete`](Bound::complete).
    pub(crate) handover: Option<Handed>,
}

/// What is left to do of a handover, once nothing else can fail any more.
#[derive(Debug)]
pub(crate) struct Handed {
    pub(super) handover: Handover,
    /// It is bound and does not listen.
    pub(super) listens_later: bool,
}

impl Bound {
    /// Takes over a socket that somebody else has opened: from now on it does not go back as it was. To be called last,
    /// since nobody can undo it.
    pub(crate) fn complete(&mut self) -> Result<()> {
        let Some(Handed { handover, listens_later }) = self.handover.take() else { return Ok(()) };
        let failed = |what: &str| Error::system(format!("{what} {}", self.url));
        if self.kind == SocketKind::UnixDatagram {
            sys::keep_queued(handover.fd().map_err(failed("adopt"))?)
                .map_err(failed("look into the queue of"))?;
        }
        if listens_later {
            let socket = handover.fd().map_err(failed("adopt"))?;
            SockRef::from(&socket).listen(waiting_max(&self.options)).map_err(failed("listen on"))?;
        }
        handover.close_on_exec().map_err(failed("set FD_CLOEXEC of"))?;
        self.socket = handover.keep().map_err(failed("adopt"))?;
        Ok(())
    }
}

impl Bound {
    /// The address that the socket is bound to.
    pub(crate) fn local(&self) -> Peer {
        let Ok(local) = SockRef::from(&self.socket).local_addr() else { return Peer::Unnamed };
        let path = || local.as_pathname().map(|path| Peer::Path(path.to_owned()));
        let name = || local.as_abstract_namespace().map(|name| Peer::Abstract(name.to_owned()));
        local.as_socket().map(Peer::Ip).or_else(path).or_else(name).unwrap_or(Peer::Unnamed)
    }
}

pub(super) fn is_loopback(local: &SockAddr) -> bool {
    local.as_socket().is_some_and(|address| address.ip().to_canonical().is_loopback())
}

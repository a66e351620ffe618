//! Sockets that somebody else opened: the host, or the service manager.
//!
//! What such a socket has from before is not trusted: options that would keep Resay from answering, or change how a
//! connection ends, are set to what a new socket has. All else is its owner's and stays. Looking comes first, then what can
//! be put back, and what cannot, with [`Bound::complete`], last: after a failure the socket is as it was.

use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};

use socket2::{SockAddr, SockRef};

use super::bound::{Bound, Handed, is_loopback};
use super::ip::{canonical, refuse_group};
use super::options::{asked_for, destinations, neutral, on_accept};
use crate::error::{Error, Result};
use crate::net::address::{Address, Listen, UnixKind, UnixName};
use crate::options::Options;
use crate::peer::SocketKind;
use crate::sys::{self, Handover};

/// Takes over a socket that was opened by somebody else, whatever kind it is. Errors call it `number`: its own, or that of what it
/// is a copy of.
pub(crate) fn adopt(socket: OwnedFd, number: RawFd, options: &Options) -> Result<Bound> {
    adopt_handed(Handover::new(socket, false), number, options)
}

/// The same by number. After a failure the number is its owner's, and open.
pub(super) fn adopt_number(number: RawFd, listen: &Listen) -> Result<Bound> {
    let socket = sys::adopt(number).map_err(Error::system(format!("adopt fd:{number}")))?;
    adopt_as_asked(socket, number, listen)
}

/// The same of one that a service manager has passed.
pub(super) fn adopt_passed(number: RawFd, listen: &Listen) -> Result<Bound> {
    let socket = sys::adopt_passed(number).map_err(Error::system(format!("adopt fd:{number}")))?;
    adopt_as_asked(socket, number, listen)
}

fn adopt_as_asked(socket: OwnedFd, number: RawFd, listen: &Listen) -> Result<Bound> {
    let bound = adopt_handed(Handover::new(socket, true), number, &listen.options)?;
    listen.check_kind(bound.kind)?;
    Ok(bound)
}

fn adopt_handed(mut handover: Handover, number: RawFd, options: &Options) -> Result<Bound> {
    let theirs = handover.fd().map_err(Error::system("adopt"))?;
    let name = format!("fd:{number}");
    let failed = |what: &'static str| Error::system(format!("{what} {name}"));
    let found = Found::look(&SockRef::from(&theirs)).map_err(failed("adopt"))?;
    let Found { kind, local, is_v6, listens } = &found;
    let kind = *kind;
    // Until the handover is completed, so that whatever becomes of this leaves the original alone.
    let socket = theirs.try_clone_to_owned().map_err(failed("adopt"))?;

    handover.set_nonblocking().map_err(failed("set O_NONBLOCK of"))?;
    if kind == SocketKind::Tcp {
        handover.end_linger().map_err(failed("set SO_LINGER of"))?;
    }
    let has_destinations = kind == SocketKind::Udp && is_unspecified(local);
    let mut settings = neutral(kind);
    settings.extend(asked_for(kind, options));
    if has_destinations {
        settings.extend(destinations(*is_v6));
    }
    for setting in settings {
        handover.set(setting).map_err(failed("set options of"))?;
    }
    Ok(Bound {
        socket,
        kind,
        url: found.address().map_or(name, |address| address.to_string()),
        is_loopback: is_loopback(local),
        destinations: has_destinations,
        more: Vec::new(),
        can_multiply: false,
        is_adopted: true,
        options: options.clone(),
        on_accept: on_accept(kind, options, true),
        handover: Some(Handed { handover, listens_later: kind.is_connected() && !listens }),
        file: None,
    })
}

/// What a socket is that somebody else has opened.
pub(super) struct Found {
    pub(super) kind: SocketKind,
    pub(super) local: SockAddr,
    pub(super) is_v6: bool,
    listens: bool,
}

impl Found {
    /// Looks, and changes nothing.
    pub(super) fn look(socket: &SockRef<'_>) -> io::Result<Found> {
        let wrong = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, why);
        let int = |option| sys::get_int(socket.as_fd(), libc::SOL_SOCKET, option);
        let (domain, socket_type, protocol) =
            (int(libc::SO_DOMAIN)?, int(libc::SO_TYPE)?, int(libc::SO_PROTOCOL)?);
        let kind = match (domain, socket_type, protocol) {
            // Multipath TCP, as Go and systemd open it, takes what TCP does.
            (libc::AF_INET | libc::AF_INET6, libc::SOCK_STREAM, libc::IPPROTO_TCP | libc::IPPROTO_MPTCP) => {
                SocketKind::Tcp
            }
            (libc::AF_INET | libc::AF_INET6, libc::SOCK_DGRAM, libc::IPPROTO_UDP) => SocketKind::Udp,
            (libc::AF_UNIX, libc::SOCK_STREAM, _) => SocketKind::UnixStream,
            (libc::AF_UNIX, libc::SOCK_DGRAM, _) => SocketKind::UnixDatagram,
            (libc::AF_UNIX, libc::SOCK_SEQPACKET, _) => SocketKind::UnixSeqpacket,
            _ => return Err(wrong("it is no TCP, UDP or unix socket")),
        };
        if socket.peer_addr().is_ok() {
            return Err(wrong("it is connected; expected a listening or bound socket"));
        }
        let local = socket.local_addr()?;
        let is_bound = match local.as_socket() {
            Some(address) => address.port() != 0,
            None => !local.is_unnamed(),
        };
        if !is_bound {
            return Err(wrong("it is not bound to an address, so nobody can reach it (bind(2))"));
        }
        if kind == SocketKind::Udp
            && let Some(address) = local.as_socket()
        {
            refuse_group(&address)?;
        }
        let listens = kind.is_connected() && int(libc::SO_ACCEPTCONN)? != 0;
        Ok(Found { kind, local, is_v6: domain == libc::AF_INET6, listens })
    }

    /// Where it can be reached.
    fn address(&self) -> Option<Address> {
        if let Some(address) = self.local.as_socket() {
            let endpoint = canonical(address).into();
            return Some(match self.kind {
                SocketKind::Udp => Address::Udp(endpoint),
                _ => Address::Tcp(endpoint),
            });
        }
        let kind = match self.kind {
            SocketKind::UnixDatagram => UnixKind::Datagram,
            SocketKind::UnixSeqpacket => UnixKind::Seqpacket,
            _ => UnixKind::Stream,
        };
        let name = match (self.local.as_pathname(), self.local.as_abstract_namespace()) {
            (Some(path), _) => UnixName::Path(path.to_owned()),
            (None, Some(name)) => UnixName::Abstract(name.to_owned()),
            (None, None) => return None,
        };
        Some(Address::Unix { kind, name })
    }
}

fn is_unspecified(local: &SockAddr) -> bool {
    local.as_socket().is_some_and(|address| address.ip().is_unspecified())
}

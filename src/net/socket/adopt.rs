//! Sockets that somebody else opened: the host, or the service manager.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use resay_plugin::environment;
use socket2::SockRef;

use super::bound::{Bound, is_loopback};
use super::options::{backlog, configure, report_destinations};
use crate::error::{Error, Result};
use crate::net::address::{Address, UnixKind, UnixName};
use crate::options::Options;
use crate::peer::SocketKind;
use crate::sys;

/// Takes over a socket that was opened by somebody else, whatever kind it is.
pub(crate) fn adopt(socket: OwnedFd, options: &Options) -> Result<Bound> {
    let name = format!("fd:{}", socket.as_raw_fd());
    let failed = |what: &'static str| Error::system(format!("{what} {name}"));
    let wrong = |why: &'static str| {
        Error::system(format!("adopt {name}"))(io::Error::new(io::ErrorKind::InvalidInput, why))
    };
    let fd = socket.as_fd();
    let int = |option| sys::get_int(fd, libc::SOL_SOCKET, option);
    let domain = int(libc::SO_DOMAIN).map_err(failed("adopt"))?;
    let kind = match (domain, int(libc::SO_TYPE).map_err(failed("adopt"))?) {
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_STREAM) => SocketKind::Tcp,
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_DGRAM) => SocketKind::Udp,
        (libc::AF_UNIX, libc::SOCK_STREAM) => SocketKind::UnixStream,
        (libc::AF_UNIX, libc::SOCK_DGRAM) => SocketKind::UnixDatagram,
        (libc::AF_UNIX, libc::SOCK_SEQPACKET) => SocketKind::UnixSeqpacket,
        _ => return Err(wrong("it is no TCP, UDP or unix socket")),
    };
    let reference = SockRef::from(&socket);
    if reference.peer_addr().is_ok() {
        return Err(wrong("it is connected; expected a listening or bound socket"));
    }
    reference.set_nonblocking(true).map_err(failed("set O_NONBLOCK of"))?;
    reference.set_cloexec(true).map_err(failed("set FD_CLOEXEC of"))?;
    if domain == libc::AF_UNIX {
        sys::refuse_descriptors(&socket).map_err(failed("set SO_PASSRIGHTS of"))?;
    }
    if kind == SocketKind::Tcp {
        // Connections inherit it, and closing one would then wait for its peer.
        reference.set_linger(None).map_err(failed("set SO_LINGER of"))?;
    }
    if kind == SocketKind::UnixDatagram {
        sys::keep_queued(fd).map_err(failed("look into the queue of"))?;
    }
    configure(fd, kind, options).map_err(failed("set options of"))?;
    let local = reference.local_addr().map_err(failed("read the address of"))?;
    if kind.is_connected() && int(libc::SO_ACCEPTCONN).map_err(failed("adopt"))? == 0 {
        let unbound = match local.as_socket() {
            Some(address) => address.port() == 0,
            None => local.is_unnamed(),
        };
        if unbound {
            return Err(wrong("it is not bound"));
        }
        reference.listen(backlog(options)).map_err(failed("listen on"))?;
    }
    let mut destinations = false;
    if kind == SocketKind::Udp && local.as_socket().is_some_and(|address| address.ip().is_unspecified()) {
        report_destinations(fd, domain == libc::AF_INET6).map_err(failed("set IP_PKTINFO of"))?;
        destinations = true;
    }
    let address = match (kind, local.as_socket()) {
        (SocketKind::Tcp, Some(address)) => Some(Address::Tcp(address.into())),
        (SocketKind::Udp, Some(address)) => Some(Address::Udp(address.into())),
        _ => {
            let unix = match kind {
                SocketKind::UnixDatagram => UnixKind::Datagram,
                SocketKind::UnixSeqpacket => UnixKind::Seqpacket,
                _ => UnixKind::Stream,
            };
            let name = match (local.as_pathname(), local.as_abstract_namespace()) {
                (Some(path), _) => Some(UnixName::Path(path.to_owned())),
                (None, Some(name)) => Some(UnixName::Abstract(name.to_owned())),
                (None, None) => None,
            };
            name.map(|name| Address::Unix { kind: unix, name })
        }
    };
    let url = address.map_or(name, |address| address.to_string());
    Ok(Bound {
        socket,
        kind,
        url,
        is_loopback: is_loopback(&local),
        destinations,
        can_multiply: false,
        options: options.clone(),
        file: None,
    })
}

/// The descriptors that the service manager passed under this name, or all of them (sd_listen_fds(3)).
pub(super) fn passed_by_systemd(name: Option<&str>) -> Result<Vec<i32>> {
    const FIRST: i32 = 3;
    let variable =
        |name| environment::variable(name).and_then(|value| value.into_string().ok()).unwrap_or_default();
    let wrong = |why: String| {
        Error::system("read the sockets passed by the service manager")(io::Error::new(
            io::ErrorKind::NotFound,
            why,
        ))
    };
    if variable("LISTEN_PID").parse() != Ok(std::process::id()) {
        return Err(wrong("LISTEN_PID does not name this process".into()));
    }
    let count: i32 = variable("LISTEN_FDS").parse().unwrap_or(0);
    let names = variable("LISTEN_FDNAMES");
    let mut names = names.split(':');
    let found: Vec<i32> = (FIRST..FIRST.saturating_add(count))
        .map(|fd| (fd, names.next().unwrap_or("unknown")))
        .filter(|(_, passed)| name.is_none_or(|name| name == *passed))
        .map(|(fd, _)| fd)
        .collect();
    if found.is_empty() {
        return Err(wrong(match name {
            Some(name) => format!("none is called {name:?}"),
            None => "there are none".into(),
        }));
    }
    Ok(found)
}

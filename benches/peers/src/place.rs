//! Where a server listens.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use crate::procfs;
use crate::workload::Kind;

/// An address, or the path of a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Internet(SocketAddr),
    Path(PathBuf),
}

impl Place {
    /// One that is free.
    pub(crate) fn choose(kind: Kind, scratch: &Path) -> io::Result<Place> {
        let any = (Ipv4Addr::LOCALHOST, 0);
        match kind {
            Kind::Tcp => Ok(Place::Internet(TcpListener::bind(any)?.local_addr()?)),
            Kind::Udp => Ok(Place::Internet(UdpSocket::bind(any)?.local_addr()?)),
            Kind::Unix => Ok(Place::Path(scratch.join("socket"))),
        }
    }

    /// The port, or the path.
    pub(crate) fn argument(&self) -> String {
        match self {
            Place::Internet(address) => address.port().to_string(),
            Place::Path(path) => path.display().to_string(),
        }
    }

    /// Its name for Resay's own clients.
    pub(crate) fn url(&self, kind: Kind) -> String {
        match self {
            Place::Internet(address) => format!("{kind}://{address}"),
            Place::Path(path) => format!("unix:{}", path.display()),
        }
    }

    /// Whether somebody listens there.
    pub(crate) fn is_served(&self, kind: Kind) -> bool {
        match (self, kind) {
            (Place::Internet(address), Kind::Udp) => procfs::is_bound_to_udp(address.port()).unwrap_or(false),
            (Place::Internet(address), _) => TcpStream::connect(address).is_ok(),
            (Place::Path(path), _) => UnixStream::connect(path).is_ok(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Internet(address) => address.fmt(f),
            Place::Path(path) => path.display().fmt(f),
        }
    }
}

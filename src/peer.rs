//! Who is on the other side, and over what kind of socket.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use resay_plugin::abi;

/// What kind of socket a listener or a client has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SocketKind {
    /// TCP over IPv4 or IPv6.
    Tcp,
    /// UDP over IPv4 or IPv6.
    Udp,
    /// AF_UNIX, `SOCK_STREAM`.
    UnixStream,
    /// AF_UNIX, `SOCK_DGRAM`.
    UnixDatagram,
    /// AF_UNIX, `SOCK_SEQPACKET`: connections that keep record boundaries.
    UnixSeqpacket,
}

impl SocketKind {
    /// Whether peers connect (TCP, unix stream and seqpacket) or just send.
    pub fn is_connected(self) -> bool {
        !self.is_datagram()
    }

    /// Whether each message is a datagram.
    pub fn is_datagram(self) -> bool {
        matches!(self, SocketKind::Udp | SocketKind::UnixDatagram)
    }

    /// Whether the socket is of the family AF_UNIX.
    pub fn is_unix(self) -> bool {
        matches!(self, SocketKind::UnixStream | SocketKind::UnixDatagram | SocketKind::UnixSeqpacket)
    }

    /// The scheme of its URLs.
    pub fn scheme(self) -> &'static str {
        match self {
            SocketKind::Tcp => "tcp",
            SocketKind::Udp => "udp",
            SocketKind::UnixStream => "unix",
            SocketKind::UnixDatagram => "unix-dgram",
            SocketKind::UnixSeqpacket => "unix-seqpacket",
        }
    }

    /// What its messages are like, as plugins and C know it: `RESAY_STREAM`, `RESAY_DATAGRAM` or `RESAY_SEQPACKET`.
    pub fn number(self) -> u32 {
        match self {
            SocketKind::Tcp | SocketKind::UnixStream => abi::RESAY_STREAM,
            SocketKind::Udp | SocketKind::UnixDatagram => abi::RESAY_DATAGRAM,
            SocketKind::UnixSeqpacket => abi::RESAY_SEQPACKET,
        }
    }
}

/// The other side's address, as accept(2) or recvmsg(2) gives it. IPv4-mapped IPv6 addresses are IPv4 here.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peer {
    /// A TCP or UDP peer.
    Ip(SocketAddr),
    /// A unix peer that is bound to a file.
    Path(PathBuf),
    /// A unix peer that is bound to an abstract name.
    Abstract(Vec<u8>),
    /// A unix peer without a name, as most clients are.
    Unnamed,
}

/// Whose process a unix peer is, as it was when it connected (`SO_PEERCRED`, unix(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// The process; 0 where it is not seen from here.
    pub process: i32,
    /// The effective user.
    pub user: u32,
    /// The effective group.
    pub group: u32,
}

impl Peer {
    /// The address as a URL, such as `tcp://127.0.0.1:4000`; `None` for one without a name. `kind`: of our socket; a proxy may
    /// name a peer of another family.
    pub fn url(&self, kind: SocketKind) -> Option<String> {
        let scheme = match (self, kind) {
            (Peer::Ip(_), SocketKind::UnixStream | SocketKind::UnixSeqpacket) => "tcp",
            (Peer::Ip(_), SocketKind::UnixDatagram) => "udp",
            (Peer::Path(_) | Peer::Abstract(_), SocketKind::Tcp) => "unix",
            (Peer::Path(_) | Peer::Abstract(_), SocketKind::Udp) => "unix-dgram",
            _ => kind.scheme(),
        };
        match self {
            Peer::Ip(address) => Some(format!("{scheme}://{address}")),
            Peer::Path(path) => Some(format!("{scheme}:{}", path.display())),
            Peer::Abstract(name) => Some(format!("{scheme}:@{}", name.escape_ascii())),
            Peer::Unnamed => None,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Ip(address) => address.fmt(f),
            Peer::Path(path) => write!(f, "unix:{}", path.display()),
            Peer::Abstract(name) => write!(f, "unix:@{}", name.escape_ascii()),
            Peer::Unnamed => f.write_str("unix:"),
        }
    }
}

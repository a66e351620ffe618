//! Transports: every kind of socket, and its addresses.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use socket2::{Domain, SockAddr, Type};

use super::isolation::skipped;

/// Every kind of socket that the engine serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp4,
    Tcp6,
    UnixStream,
    UnixAbstract,
    Seqpacket,
    Udp4,
    Udp6,
    UnixDatagram,
}

impl Transport {
    const EACH: [Transport; 8] = [
        Transport::Tcp4,
        Transport::Tcp6,
        Transport::UnixStream,
        Transport::UnixAbstract,
        Transport::Seqpacket,
        Transport::Udp4,
        Transport::Udp6,
        Transport::UnixDatagram,
    ];

    /// All that this machine has.
    pub(crate) fn all() -> Vec<Transport> {
        let six = has_ipv6();
        if !six {
            skipped("IPv6: this machine has no [::1]");
        }
        let here = |transport: &Transport| six || !matches!(transport, Transport::Tcp6 | Transport::Udp6);
        Transport::EACH.into_iter().filter(here).collect()
    }

    /// Those that carry a stream of bytes.
    pub(crate) fn streams() -> Vec<Transport> {
        Transport::all().into_iter().filter(|transport| transport.is_stream()).collect()
    }

    /// Those with connections.
    pub(crate) fn connected() -> Vec<Transport> {
        Transport::all().into_iter().filter(|transport| transport.is_connected()).collect()
    }

    /// Those without.
    pub(crate) fn datagrams() -> Vec<Transport> {
        Transport::all().into_iter().filter(|transport| !transport.is_connected()).collect()
    }

    pub(crate) fn is_stream(self) -> bool {
        self.is_connected() && self != Transport::Seqpacket
    }

    pub(crate) fn is_connected(self) -> bool {
        !matches!(self, Transport::Udp4 | Transport::Udp6 | Transport::UnixDatagram)
    }

    /// An address of this kind that nobody else has.
    pub(crate) fn url(self, directory: &Path) -> String {
        let file = |scheme: &str, name: &str| format!("{scheme}:{}", directory.join(name).display());
        match self {
            Transport::Tcp4 => "tcp://127.0.0.1:0".into(),
            Transport::Tcp6 => "tcp://[::1]:0".into(),
            Transport::Udp4 => "udp://127.0.0.1:0".into(),
            Transport::Udp6 => "udp://[::1]:0".into(),
            Transport::UnixStream => file("unix", "stream.sock"),
            Transport::UnixAbstract => format!("unix:@{}", abstract_name()),
            Transport::Seqpacket => file("unix-seqpacket", "records.sock"),
            Transport::UnixDatagram => file("unix-dgram", "datagrams.sock"),
        }
    }
}

pub(crate) fn has_ipv6() -> bool {
    std::net::TcpListener::bind("[::1]:0").is_ok()
}

/// An abstract name that nobody else has.
pub(crate) fn abstract_name() -> String {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    format!("resay-test-{}-{count}", std::process::id())
}

/// The socket address, domain and type behind a listener's URL.
pub(crate) fn address_of(url: &str) -> (Domain, Type, SockAddr) {
    let url = url.split('?').next().unwrap();
    let (scheme, rest) = url.split_once(':').unwrap();
    let socket_type = match scheme {
        "tcp" | "unix" => Type::STREAM,
        "udp" | "unix-dgram" => Type::DGRAM,
        "unix-seqpacket" => Type::SEQPACKET,
        _ => panic!("{url}"),
    };
    if let Some(endpoint) = rest.strip_prefix("//") {
        let endpoint =
            if endpoint.starts_with(':') { format!("127.0.0.1{endpoint}") } else { endpoint.into() };
        let address: SocketAddr = endpoint.parse().unwrap();
        return (Domain::for_address(address), socket_type, address.into());
    }
    let path = rest.strip_prefix('@').map_or_else(|| rest.to_owned(), |name| format!("\0{name}"));
    (Domain::UNIX, socket_type, SockAddr::unix(path).unwrap())
}

/// The port of a `tcp://` or `udp://` URL.
pub(crate) fn port_of(url: &str) -> u16 {
    url.rsplit_once(':').unwrap().1.parse().unwrap()
}

/// The address of a unix socket's file.
pub(crate) fn file_address(path: &Path) -> SockAddr {
    SockAddr::unix(OsStr::from_bytes(path.as_os_str().as_bytes())).unwrap()
}

/// A path as text.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

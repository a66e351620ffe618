//! The grammar of addresses: `tcp://127.0.0.1:8888?frame=lines`, `unix:/run/e.sock`, `unix:@name`, `fd:3`,
//! `tls://127.0.0.1:8443?cert=/etc/echo.pem&key=/etc/echo.key`.
//!
//! Pure: nothing is resolved, opened or bound here.

mod escape;
mod parse;

pub use escape::Pair;

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use self::escape::{is_unreserved, write_escaped};
use crate::error::{Error, SpecError};
use crate::options::{AddressKind, Key, Options};
use crate::peer::SocketKind;

/// One listener as it is asked for: where, and how it behaves there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// Where to listen.
    pub address: Address,
    /// The defaults with the URL's own options over them. Those that mean nothing for this kind of address
    /// keep their defaults and are to be ignored.
    pub options: Options,
    /// The URL, and what it says of options.
    pub(crate) written: Written,
}

/// What a URL says, to tell later what of it is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Written {
    url: String,
    pairs: Vec<Pair>,
}

impl Written {
    /// An error about the chain of the listener, by its place in the URL if the chain stands there.
    pub(crate) fn place(&self, error: Error) -> Error {
        let Some(pair) = self.pairs.iter().find(|pair| pair.key == "chain") else { return error };
        error.with_place(|place| {
            let end = pair.value_at(place.at + place.length);
            place.at = pair.value_at(place.at);
            place.length = end.saturating_sub(place.at).max(1);
            self.url.clone_into(&mut place.text);
        })
    }
}

/// Where a socket listens, or where it is to be found.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// `tcp://HOST:PORT`
    Tcp(Endpoint),
    /// `udp://HOST:PORT`
    Udp(Endpoint),
    /// `unix:PATH`, `unix:@NAME` and their `unix-dgram` and `unix-seqpacket` kin.
    Unix {
        /// Stream, datagram or seqpacket.
        kind: UnixKind,
        /// The file, or the abstract name.
        name: UnixName,
    },
    /// `tls://HOST:PORT`, `unix+tls:PATH`: a stream with TLS around it. Its address is one of `tcp` or `unix`.
    Tls(Box<Address>),
    /// `fd:N`: an open descriptor, never negative.
    Fd(i32),
    /// `systemd:NAME`, or `systemd:` for all that the service manager passed.
    Systemd(Option<String>),
}

impl Listen {
    /// Finds options that mean nothing for the socket that was handed over. Of other addresses this shows when they are read.
    pub(crate) fn check_kind(&self, kind: SocketKind) -> Result<(), SpecError> {
        for pair in &self.written.pairs {
            if let Some(key) = Key::find(&pair.key)
                && !key.applies_to(AddressKind::from(kind))
            {
                return Err(SpecError::new(
                    "address",
                    &self.written.url,
                    pair.key_at(0),
                    means_nothing(key, kind.scheme()),
                ));
            }
        }
        Ok(())
    }

    /// Finds what cannot be served, as far as it shows without a socket: a header of a proxy that anybody could write, a frame
    /// that is longer than any message.
    pub fn check(&self) -> Result<(), SpecError> {
        if matches!(self.address.socket_kind(), Some(SocketKind::Tcp | SocketKind::UnixStream))
            && let Some(reason) = self.options.frame_fault()
        {
            let text = format!("frame={}", self.options.frame);
            return Err(SpecError::new("option", &text, "frame=fixed:".len(), reason));
        }
        let (Some(kind), Some(is_local)) = (self.address.socket_kind(), self.address.is_local()) else {
            return Ok(());
        };
        let versions = self.options.get("proxy").unwrap_or_default();
        let fault = |reason| SpecError::new("option", &format!("proxy={versions}"), 0, reason);
        self.options.proxy_fault(kind, is_local).map_or(Ok(()), |reason| Err(fault(reason)))
    }
}

impl Address {
    /// Whether nobody but those on this host reaches it; `None`: that shows when the address is bound.
    fn is_local(&self) -> Option<bool> {
        match self {
            Address::Tcp(endpoint) | Address::Udp(endpoint) => match &endpoint.host {
                Host::Any => Some(false),
                Host::V4(address) => Some(address.is_loopback()),
                Host::V6(address, _) => Some(address.to_canonical().is_loopback()),
                Host::Name(_) => None,
            },
            Address::Unix { .. } => Some(true),
            Address::Tls(stream) => stream.is_local(),
            Address::Fd(_) | Address::Systemd(_) => None,
        }
    }

    /// The kind of socket, as far as the options differ.
    pub fn kind(&self) -> AddressKind {
        self.socket_kind().map_or(AddressKind::Inherited, AddressKind::from)
    }

    /// The kind of socket; `None`: one is handed over, and only the system can tell.
    pub fn socket_kind(&self) -> Option<SocketKind> {
        match self {
            Address::Tcp(_) => Some(SocketKind::Tcp),
            Address::Udp(_) => Some(SocketKind::Udp),
            Address::Unix { kind, .. } => Some(kind.socket_kind()),
            Address::Tls(stream) => stream.socket_kind(),
            Address::Fd(_) | Address::Systemd(_) => None,
        }
    }

    /// Where the bytes go: of `tls` and `unix+tls` the address of the stream, else the address itself.
    pub fn stream(&self) -> &Address {
        match self {
            Address::Tls(stream) => stream,
            address => address,
        }
    }

    /// Why an option that exists means nothing here; `None`: it means something, or there is no such option.
    pub fn refuses(&self, key: &str) -> Option<String> {
        let key = Key::find(key)?;
        let (name, kind) = (key.name, self.kind());
        if !key.applies_to(kind) {
            let socket = if kind == AddressKind::Inherited { "a socket handed over" } else { self.scheme() };
            return Some(means_nothing(key, socket));
        }
        match (name, self) {
            ("v6only", Address::Tcp(endpoint) | Address::Udp(endpoint))
                if matches!(endpoint.host, Host::V4(_)) =>
            {
                Some("v6only means nothing for an IPv4 address".to_owned())
            }
            (_, Address::Tls(stream)) => stream.refuses(name),
            ("mode", Address::Unix { name: UnixName::Abstract(_), .. }) => {
                Some("an abstract name is no file, so it has no mode: any local user may connect".to_owned())
            }
            _ => None,
        }
    }

    fn scheme(&self) -> &'static str {
        match (self, self.socket_kind()) {
            (Address::Tls(_), Some(SocketKind::Tcp)) => "tls",
            (Address::Tls(_), _) => "unix+tls",
            (_, Some(kind)) => kind.scheme(),
            (Address::Fd(_), None) => "fd",
            _ => "systemd",
        }
    }
}

fn means_nothing(key: &Key, socket: &str) -> String {
    let kinds: Vec<String> = key.applies.iter().map(AddressKind::to_string).collect();
    format!("{} means nothing for {socket}; it is for {}", key.name, kinds.join(", "))
}

/// The canonical URL, which reads as the same address.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(endpoint) | Address::Udp(endpoint) => write!(f, "{}://{endpoint}", self.scheme()),
            Address::Unix { name, .. } => write!(f, "{}:{name}", self.scheme()),
            Address::Tls(stream) => match &**stream {
                Address::Tcp(endpoint) => write!(f, "tls://{endpoint}"),
                Address::Unix { name, .. } => write!(f, "unix+tls:{name}"),
                other => other.fmt(f),
            },
            Address::Fd(descriptor) => write!(f, "fd:{descriptor}"),
            Address::Systemd(name) => {
                f.write_str("systemd:")?;
                write_escaped(f, name.as_deref().unwrap_or_default().as_bytes())
            }
        }
    }
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// The host.
    pub host: Host,
    /// The port; 0 lets the system choose.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Endpoint {
        let host = match address {
            SocketAddr::V4(address) => Host::V4(*address.ip()),
            SocketAddr::V6(address) => {
                Host::V6(*address.ip(), NonZeroU32::new(address.scope_id()).map(Zone::Index))
            }
        };
        Endpoint { host, port: address.port() }
    }
}

/// The host of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// Nothing before the colon: all addresses, IPv4 and IPv6.
    Any,
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 address and, where it is one of a link, its zone.
    V6(Ipv6Addr, Option<Zone>),
    /// A name, to be resolved.
    Name(String),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Any => Ok(()),
            Host::V4(address) => address.fmt(f),
            Host::V6(address, None) => write!(f, "[{address}]"),
            Host::V6(address, Some(zone)) => write!(f, "[{address}%25{zone}]"),
            Host::Name(name) => f.write_str(name),
        }
    }
}

/// The zone of an IPv6 address (RFC 4007): the network interface that its link is at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Zone {
    /// Its number.
    Index(NonZeroU32),
    /// Its name, 1 to 15 bytes of printable ASCII, not only digits. Which number it has is asked as the address is used.
    Name(String),
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Zone::Index(index) => index.fmt(f),
            Zone::Name(name) => name.bytes().try_for_each(|byte| {
                if is_unreserved(byte) {
                    fmt::Write::write_char(f, byte.into())
                } else {
                    write!(f, "%{byte:02X}")
                }
            }),
        }
    }
}

/// The three kinds of unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UnixKind {
    /// `unix`
    Stream,
    /// `unix-dgram`
    Datagram,
    /// `unix-seqpacket`
    Seqpacket,
}

impl UnixKind {
    /// The same among all kinds of socket.
    pub fn socket_kind(self) -> SocketKind {
        match self {
            UnixKind::Stream => SocketKind::UnixStream,
            UnixKind::Datagram => SocketKind::UnixDatagram,
            UnixKind::Seqpacket => SocketKind::UnixSeqpacket,
        }
    }
}

/// What a unix socket is called.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum UnixName {
    /// A file: 1 to 107 bytes, none of them NUL.
    Path(PathBuf),
    /// A Linux abstract name, without the NUL before it: 1 to 107 bytes of any value.
    Abstract(Vec<u8>),
}

/// What follows `unix:` in a URL.
impl fmt::Display for UnixName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UnixName::Abstract(name) => {
                f.write_str("@")?;
                write_escaped(f, name)
            }
            UnixName::Path(path) => match path.as_os_str().as_bytes() {
                // An @ at the start would make the name abstract.
                [b'@', rest @ ..] => {
                    f.write_str("%40")?;
                    write_escaped(f, rest)
                }
                // Two slashes at the start would be read as a URL's empty authority: give it one.
                path @ [b'/', b'/', ..] => {
                    f.write_str("//")?;
                    write_escaped(f, path)
                }
                path => write_escaped(f, path),
            },
        }
    }
}

#[cfg(test)]
mod tests;

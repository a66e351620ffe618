//! Where metrics are served: `127.0.0.1:9464`, `:9464`, `unix:/run/resay/metrics`.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use resay::net::address::{Address, Endpoint, Host, Listen, UnixKind, UnixName, Zone};
use resay::net::unix_file::SocketFile;
use resay::{Options, SpecError};
use rustix::net::{AddressFamily, SocketFlags, SocketType, listen, socket_with};

/// Clients that may wait to be accepted.
const BACKLOG: i32 = 64;

/// An address of metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Tcp(Endpoint),
    /// With the permissions of the file; `None`: what the umask leaves.
    Unix(PathBuf, Option<u32>),
}

impl FromStr for Place {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Place, SpecError> {
        let wrong = |why: &str| SpecError::new("metrics address", text, 0, why);
        if text.starts_with("unix:") {
            let listen = Listen::parse(text, &Options::default())?;
            return match listen.address {
                Address::Unix { kind: UnixKind::Stream, name: UnixName::Path(path) } => {
                    Ok(Place::Unix(path, listen.options.mode))
                }
                _ => Err(wrong("metrics have no abstract name, which any local user could ask")),
            };
        }
        match Listen::parse(&format!("tcp://{text}"), &Options::default()) {
            Ok(Listen { address: Address::Tcp(endpoint), .. }) if !text.contains('?') => {
                Ok(Place::Tcp(endpoint))
            }
            _ => Err(wrong("HOST:PORT is expected, for example 127.0.0.1:9464, or unix:PATH")),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Tcp(endpoint) => endpoint.fmt(f),
            Place::Unix(path, mode) => {
                let name = UnixName::Path(path.clone());
                Address::Unix { kind: UnixKind::Stream, name }.fmt(f)?;
                mode.map_or(Ok(()), |mode| write!(f, "?mode={mode:04o}"))
            }
        }
    }
}

/// A socket that listens.
#[derive(Debug)]
pub(super) struct Opened {
    // Before the socket, which keeps it from being mistaken for another.
    pub(super) file: Option<SocketFile>,
    pub(super) socket: OwnedFd,
    /// Where it is, with the real port, as a client would write it.
    pub(super) url: String,
    /// The same among addresses of listeners.
    pub(super) address: Address,
    /// Only this machine reaches it over IP, and so does whatever a browser on it runs.
    pub(super) is_loopback: bool,
}

impl Place {
    /// What a listener there would have.
    pub(super) fn address(&self) -> Address {
        match self {
            Place::Tcp(endpoint) => Address::Tcp(endpoint.clone()),
            Place::Unix(path, _) => {
                // Another process may have another working directory.
                let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
                Address::Unix { kind: UnixKind::Stream, name: UnixName::Path(path) }
            }
        }
    }

    /// The file of its socket, where it has one.
    pub(crate) fn file(&self) -> Option<&Path> {
        match self {
            Place::Tcp(_) => None,
            Place::Unix(path, _) => Some(path),
        }
    }

    pub(super) fn open(&self) -> io::Result<Opened> {
        match self {
            Place::Unix(path, mode) => {
                let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags(), None)?;
                let file = Some(SocketFile::bind(&socket, path, *mode)?);
                listen(&socket, BACKLOG)?;
                let url = Place::Unix(path.clone(), None).to_string();
                Ok(Opened { file, socket, url, address: self.address(), is_loopback: false })
            }
            Place::Tcp(endpoint) => {
                let listener = TcpListener::bind(&*addresses(endpoint)?)?;
                listener.set_nonblocking(true)?;
                let local = listener.local_addr()?;
                let url = format!("http://{local}/metrics");
                Ok(Opened {
                    file: None,
                    socket: listener.into(),
                    url,
                    address: Address::Tcp(local.into()),
                    is_loopback: local.ip().is_loopback(),
                })
            }
        }
    }
}

pub(super) fn flags() -> SocketFlags {
    SocketFlags::CLOEXEC | SocketFlags::NONBLOCK
}

/// All that are worth trying, the first one first.
fn addresses(endpoint: &Endpoint) -> io::Result<Vec<SocketAddr>> {
    let port = endpoint.port;
    let name = match &endpoint.host {
        // One of all addresses also takes IPv4; a machine without IPv6 has the other.
        Host::Any => {
            return Ok(vec![(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()]);
        }
        Host::V4(address) => return Ok(vec![(*address, port).into()]),
        Host::V6(address, None) => return Ok(vec![(*address, port).into()]),
        Host::V6(address, Some(Zone::Index(index))) => format!("{address}%{index}"),
        Host::V6(address, Some(Zone::Name(zone))) => format!("{address}%{zone}"),
        Host::Name(name) => name.clone(),
    };
    Ok((name.as_str(), port).to_socket_addrs()?.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_and_written() {
        for text in [
            "127.0.0.1:9464",
            ":9464",
            "[::1]:0",
            "localhost:9464",
            "unix:/run/resay/metrics",
            "unix:/run/resay/metrics?mode=0660",
        ] {
            assert_eq!(text.parse::<Place>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for text in [
            "",
            "9464",
            "127.0.0.1",
            "127.0.0.1:99999",
            "127.0.0.1:1?mode=0600",
            "tcp://:1",
            "unix:@name",
            "unix:",
            "unix-dgram:/x",
        ] {
            assert!(text.parse::<Place>().is_err(), "{text:?}");
        }
    }
}

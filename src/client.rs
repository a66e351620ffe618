//! A small blocking client for every kind of socket that the engine serves.

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv6Addr, Shutdown};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::error::{Error, Result};
use crate::net::address::{Address, UnixKind, UnixName};
use crate::net::socket::resolve;
use crate::peer::SocketKind;

/// One connected socket. Datagram sockets are connected too, so answers of others are not received.
#[derive(Debug)]
pub struct Client {
    socket: Socket,
    kind: SocketKind,
    url: String,
}

impl Client {
    /// Connects, at most for `timeout`. A host name's addresses are tried one after another; a URL without a
    /// host means this machine.
    pub fn open(url: &str, timeout: Option<Duration>) -> Result<Client> {
        let address: Address = url.parse()?;
        let failed = |what: &'static str| Error::system(format!("{what} {url}"));
        let unsuitable = || {
            let reason = "a descriptor has no address to connect to";
            failed("connect to")(io::Error::new(io::ErrorKind::InvalidInput, reason))
        };
        match &address {
            Address::Tcp(endpoint) | Address::Udp(endpoint) => {
                let (kind, socket_type) = match &address {
                    Address::Tcp(_) => (SocketKind::Tcp, Type::STREAM),
                    _ => (SocketKind::Udp, Type::DGRAM),
                };
                let here = IpAddr::V6(Ipv6Addr::LOCALHOST);
                let mut addresses = resolve(endpoint, here).map_err(failed("resolve"))?;
                if endpoint.host == crate::net::address::Host::Any {
                    addresses.push((IpAddr::from([127, 0, 0, 1]), endpoint.port).into());
                }
                let mut last = io::Error::from(io::ErrorKind::NotFound);
                for to in addresses {
                    match connect(Domain::for_address(to), socket_type, &SockAddr::from(to), timeout) {
                        Ok(socket) => return Client::new(socket, kind, url),
                        Err(error) => last = error,
                    }
                }
                Err(failed("connect to")(last))
            }
            Address::Unix { kind, name } => {
                let (kind, socket_type) = match kind {
                    UnixKind::Stream => (SocketKind::UnixStream, Type::STREAM),
                    UnixKind::Datagram => (SocketKind::UnixDatagram, Type::DGRAM),
                    UnixKind::Seqpacket => (SocketKind::UnixSeqpacket, Type::SEQPACKET),
                };
                let path = match name {
                    UnixName::Path(path) => path.as_os_str().as_bytes().to_vec(),
                    UnixName::Abstract(name) => [&[0], name.as_slice()].concat(),
                };
                let to = SockAddr::unix(std::ffi::OsStr::from_bytes(&path)).map_err(failed("connect to"))?;
                let socket =
                    connect(Domain::UNIX, socket_type, &to, timeout).map_err(failed("connect to"))?;
                Client::new(socket, kind, url)
            }
            Address::Fd(_) | Address::Systemd(_) => Err(unsuitable()),
        }
    }

    fn new(socket: Socket, kind: SocketKind, url: &str) -> Result<Client> {
        if kind == SocketKind::Tcp {
            socket.set_tcp_nodelay(true).map_err(Error::system(format!("set TCP_NODELAY of {url}")))?;
        }
        Ok(Client { socket, kind, url: url.to_owned() })
    }

    /// The kind of the socket.
    pub fn kind(&self) -> SocketKind {
        self.kind
    }

    /// The URL that was connected to.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Sends all of `data`; on a datagram or seqpacket socket as one message, an empty one too.
    pub fn send(&self, data: &[u8], timeout: Option<Duration>) -> Result<()> {
        let failed = |error| self.failed("send to", error, timeout);
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let mut rest = data;
        loop {
            let left = remaining(deadline).map_err(failed)?;
            self.socket.set_write_timeout(left).map_err(failed)?;
            match self.socket.send_with_flags(rest, libc::MSG_NOSIGNAL) {
                Ok(sent) => rest = rest.get(sent..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    /// Receives what there is, at most `buffer.len()` bytes: of a stream what has arrived, else one message, of
    /// which what does not fit is lost. 0 is the end of a stream, and an empty datagram.
    pub fn recv(&self, buffer: &mut [u8], timeout: Option<Duration>) -> Result<usize> {
        let failed = |error| self.failed("receive from", error, timeout);
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        loop {
            let left = remaining(deadline).map_err(failed)?;
            self.socket.set_read_timeout(left).map_err(failed)?;
            match io::Read::read(&mut &self.socket, buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result.map_err(failed),
            }
        }
    }

    /// Whether the server has ended or broken the connection, as far as is known without waiting. What has been
    /// received and not been read yet counts as alive.
    pub fn is_gone(&self) -> bool {
        if self.kind.is_datagram() {
            return false;
        }
        let mut one = [MaybeUninit::uninit()];
        match self.socket.recv_with_flags(&mut one, libc::MSG_PEEK | libc::MSG_DONTWAIT) {
            Ok(count) => count == 0 && self.kind != SocketKind::UnixSeqpacket,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    /// Ends the sending side; answers can still be received.
    pub fn shutdown(&self) -> Result<()> {
        self.socket.shutdown(Shutdown::Write).map_err(Error::system(format!("shut down {}", self.url)))
    }

    fn failed(&self, what: &'static str, error: io::Error, limit: Option<Duration>) -> Error {
        match (error.kind(), limit) {
            (io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut, Some(limit)) => {
                Error::Timeout { what: if what == "send to" { "send" } else { "receive" }, limit }
            }
            _ => Error::system(format!("{what} {}", self.url))(error),
        }
    }
}

/// The socket itself, connected and blocking, for whoever waits for many at once.
impl From<Client> for OwnedFd {
    fn from(client: Client) -> OwnedFd {
        client.socket.into()
    }
}

/// What is left until the deadline. A socket takes no timeout of zero, which would mean none.
fn remaining(deadline: Option<Instant>) -> io::Result<Option<Duration>> {
    match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
        Some(Duration::ZERO) => Err(io::ErrorKind::TimedOut.into()),
        left => Ok(left),
    }
}

fn connect(
    domain: Domain,
    socket_type: Type,
    to: &SockAddr,
    timeout: Option<Duration>,
) -> io::Result<Socket> {
    let socket = Socket::new(domain, socket_type.cloexec(), None)?;
    if domain == Domain::UNIX && socket_type == Type::DGRAM {
        // Without a name of its own it could not be answered; the system chooses an abstract one (unix(7)).
        socket.bind(&SockAddr::unix("")?)?;
    }
    match timeout {
        // A unix connect waits for a place in the server's queue, for as long as a send would (unix(7)).
        Some(timeout) if domain == Domain::UNIX => {
            socket.set_write_timeout(Some(timeout))?;
            socket.connect(to).map_err(|error| match error.kind() {
                io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
                _ => error,
            })?;
        }
        Some(timeout) => socket.connect_timeout(to, timeout)?,
        None => socket.connect(to)?,
    }
    Ok(socket)
}

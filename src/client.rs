//! A small blocking client for every kind of socket that the engine serves.

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv6Addr, Shutdown};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::error::{Error, Result};
use crate::net::address::{Address, UnixKind, UnixName};
use crate::net::socket::resolve;
use crate::peer::SocketKind;
use crate::sys::{self, Record};

/// One connected socket. Datagram sockets are connected too, so answers of others are not received.
#[derive(Debug)]
pub struct Client {
    socket: Socket,
    kind: SocketKind,
    url: String,
    is_interruptible: bool,
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
        if kind == SocketKind::UnixSeqpacket {
            let failed = Error::system(format!("set SO_PASSCRED of {url}"));
            sys::tell_empty_records(socket.as_fd()).map_err(failed)?;
        }
        Ok(Client { socket, kind, url: url.to_owned(), is_interruptible: false })
    }

    /// The kind of the socket.
    pub fn kind(&self) -> SocketKind {
        self.kind
    }

    /// The URL that was connected to.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Sends all of `data`; on a datagram or seqpacket socket as one message, an empty one too. A timeout of zero
    /// sends what can be sent without waiting.
    pub fn send(&self, data: &[u8], timeout: Option<Duration>) -> Result<()> {
        let failed = |error| self.failed("send to", error, timeout);
        let mut wait = Wait::new(timeout);
        let mut rest = data;
        loop {
            let left = wait.left().map_err(failed)?;
            self.socket.set_write_timeout(left).map_err(failed)?;
            let dont_wait = if left.is_none() && timeout.is_some() { libc::MSG_DONTWAIT } else { 0 };
            match self.socket.send_with_flags(rest, libc::MSG_NOSIGNAL | dont_wait) {
                Ok(sent) => rest = rest.get(sent..).unwrap_or_default(),
                // With a part of it on its way there is no telling the caller where to go on.
                Err(error)
                    if self.is_retried(&error) || is_interrupted(&error) && rest.len() < data.len() => {}
                Err(error) => return Err(failed(error)),
            }
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    /// Receives what there is, at most `buffer.len()` bytes: of a stream what has arrived, else one message, of
    /// which what does not fit is lost. 0 is the end of a stream, and an empty datagram. A timeout of zero takes
    /// what is there.
    pub fn recv(&self, buffer: &mut [u8], timeout: Option<Duration>) -> Result<usize> {
        self.receive(buffer, timeout).map(|received| match received {
            Received::Bytes(len) => len,
            Received::Cut => buffer.len(),
            Received::End => 0,
        })
    }

    /// The same, told apart.
    pub fn receive(&self, buffer: &mut [u8], timeout: Option<Duration>) -> Result<Received> {
        let failed = |error| self.failed("receive from", error, timeout);
        let mut wait = Wait::new(timeout);
        let fd = self.socket.as_fd();
        loop {
            let received = match self.kind {
                SocketKind::Tcp | SocketKind::UnixStream if buffer.is_empty() => Ok(Received::Bytes(0)),
                SocketKind::Tcp | SocketKind::UnixStream => sys::recv(fd, buffer).map(|len| match len {
                    0 => Received::End,
                    len => Received::Bytes(len),
                }),
                SocketKind::Udp | SocketKind::UnixDatagram => {
                    sys::recv_datagram(fd, buffer).map(whole_or_cut)
                }
                SocketKind::UnixSeqpacket => sys::recv_record(fd, buffer).map(|record| match record {
                    Record::End => Received::End,
                    Record::Data { len, truncated } => whole_or_cut((len, truncated)),
                }),
            };
            match received {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if self.is_retried(&error) => continue,
                result => return result.map_err(failed),
            }
            let left = wait.left().map_err(failed)?;
            if left.is_none() && timeout.is_some() {
                return Err(failed(io::ErrorKind::TimedOut.into()));
            }
            match sys::wait_readable(fd, left) {
                Err(error) if !self.is_retried(&error) => return Err(failed(error)),
                _ => {}
            }
        }
    }

    /// Whether a signal that comes while a call waits ends that call, with an error of the kind `Interrupted`, after
    /// which it can be made again. Otherwise, as at first, it goes on waiting. A `send` of which a part has left goes on
    /// in any case.
    pub fn set_interruptible(&mut self, is_interruptible: bool) {
        self.is_interruptible = is_interruptible;
    }

    fn is_retried(&self, error: &io::Error) -> bool {
        is_interrupted(error) && !self.is_interruptible
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

/// What came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// So many bytes: what had arrived of a stream, or one whole message, which may be empty.
    Bytes(usize),
    /// A message that was longer than the buffer, which is full; the rest is lost.
    Cut,
    /// The server has ended the connection.
    End,
}

fn whole_or_cut((len, is_cut): (usize, bool)) -> Received {
    if is_cut { Received::Cut } else { Received::Bytes(len) }
}

fn is_interrupted(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Interrupted
}

/// A deadline, and whether it has been looked at.
struct Wait {
    deadline: Option<Instant>,
    is_first: bool,
}

impl Wait {
    fn new(timeout: Option<Duration>) -> Wait {
        Wait { deadline: timeout.map(|timeout| Instant::now() + timeout), is_first: true }
    }

    /// What is left of the time. The first time, no time left is `None`: try once without waiting.
    fn left(&mut self) -> io::Result<Option<Duration>> {
        let is_first = std::mem::replace(&mut self.is_first, false);
        match self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
            Some(Duration::ZERO) if is_first => Ok(None),
            Some(Duration::ZERO) => Err(io::ErrorKind::TimedOut.into()),
            left => Ok(left),
        }
    }
}

fn connect(
    domain: Domain,
    socket_type: Type,
    to: &SockAddr,
    timeout: Option<Duration>,
) -> io::Result<Socket> {
    let socket = Socket::new(domain, socket_type.cloexec(), None)?;
    if domain == Domain::UNIX {
        sys::refuse_descriptors(&socket)?;
    }
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

//! A small blocking client for every kind of socket that the engine serves.

use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket};

use crate::error::{Error, Result};
use crate::lock::lock;
use crate::net::address::{Address, UnixName};
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
    /// Of UDP to a name with several addresses, until one of them has answered.
    untried: Option<Mutex<Untried>>,
}

/// Where else an answer may come from. Connecting a UDP socket asks nobody, so that nobody is there is known only
/// after something was sent.
#[derive(Debug)]
struct Untried {
    addresses: VecDeque<SocketAddr>,
    /// The last message, which is sent again to the next address.
    message: Option<Vec<u8>>,
}

impl Client {
    /// Connects, at most for `timeout`. A host name's addresses are tried one after another, those of UDP while nobody
    /// has answered and the system says that nobody is there; a URL without a host means this machine.
    pub fn open(url: &str, timeout: Option<Duration>) -> Result<Client> {
        let address: Address = url.parse()?;
        let failed = |what: &'static str| Error::system(format!("{what} {url}"));
        let unsuitable =
            |reason: &'static str| failed("connect to")(io::Error::new(io::ErrorKind::InvalidInput, reason));
        let kind =
            address.socket_kind().ok_or_else(|| unsuitable("a descriptor has no address to connect to"))?;
        match &address {
            Address::Tcp(endpoint) | Address::Udp(endpoint) => {
                let here = IpAddr::V6(Ipv6Addr::LOCALHOST);
                let mut addresses = resolve(endpoint, here).map_err(failed("resolve"))?;
                if endpoint.host == crate::net::address::Host::Any {
                    addresses.push((IpAddr::from([127, 0, 0, 1]), endpoint.port).into());
                }
                let is_mixed = kind == SocketKind::Udp && !same_family(&addresses);
                let mut last = io::Error::from(io::ErrorKind::NotFound);
                let mut addresses = VecDeque::from(addresses);
                while let Some(to) = addresses.pop_front() {
                    // A socket that is to be connected anew speaks IPv4 and IPv6.
                    let to = if is_mixed { mapped(to) } else { to };
                    match connect(Domain::for_address(to), kind, &SockAddr::from(to), timeout) {
                        Ok(socket) => {
                            let mut client = Client::new(socket, kind, url)?;
                            if kind == SocketKind::Udp && !addresses.is_empty() {
                                client.untried = Some(Mutex::new(Untried { addresses, message: None }));
                            }
                            return Ok(client);
                        }
                        Err(error) => last = error,
                    }
                }
                Err(failed("connect to")(last))
            }
            Address::Unix { name, .. } => {
                let path = match name {
                    UnixName::Path(path) => path.as_os_str().as_bytes().to_vec(),
                    UnixName::Abstract(name) => [&[0], name.as_slice()].concat(),
                };
                let to = SockAddr::unix(std::ffi::OsStr::from_bytes(&path)).map_err(failed("connect to"))?;
                let socket = connect(Domain::UNIX, kind, &to, timeout).map_err(failed("connect to"))?;
                Client::new(socket, kind, url)
            }
            Address::Tls(_) => Err(unsuitable("this client speaks no TLS")),
            Address::Fd(_) | Address::Systemd(_) => {
                Err(unsuitable("a descriptor has no address to connect to"))
            }
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
        Ok(Client { socket, kind, url: url.to_owned(), is_interruptible: false, untried: None })
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
            self.socket.set_write_timeout(left.filter(|left| !left.is_zero())).map_err(failed)?;
            let dont_wait = if left == Some(Duration::ZERO) { libc::MSG_DONTWAIT } else { 0 };
            match self.socket.send_with_flags(rest, libc::MSG_NOSIGNAL | dont_wait) {
                Ok(sent) => {
                    self.remember(data);
                    rest = rest.get(sent..).unwrap_or_default();
                }
                // With a part of it on its way there is no telling the caller where to go on.
                Err(error)
                    if self.is_retried(&error) || is_interrupted(&error) && rest.len() < data.len() => {}
                Err(error) if self.moves_on(&error) => {}
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
                Err(error) if self.is_retried(&error) || self.moves_on(&error) => continue,
                result => {
                    if result.is_ok() {
                        self.forget_untried();
                    }
                    return result.map_err(failed);
                }
            }
            let left = wait.left().map_err(failed)?;
            if left == Some(Duration::ZERO) {
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

    /// Keeps what was sent, for the next address.
    fn remember(&self, data: &[u8]) {
        if let Some(untried) = &self.untried {
            let mut untried = lock(untried);
            untried.message = (!untried.addresses.is_empty()).then(|| data.to_vec());
        }
    }

    /// Somebody has answered: no other address is tried any more.
    fn forget_untried(&self) {
        if let Some(untried) = &self.untried {
            *lock(untried) = Untried { addresses: VecDeque::new(), message: None };
        }
    }

    /// Whether the socket has another address now, because nobody is at the last one.
    fn moves_on(&self, error: &io::Error) -> bool {
        let Some(untried) =
            self.untried.as_ref().filter(|_| error.kind() == io::ErrorKind::ConnectionRefused)
        else {
            return false;
        };
        let mut untried = lock(untried);
        let is_ipv6 = self.socket.local_addr().is_ok_and(|local| local.is_ipv6());
        while let Some(to) = untried.addresses.pop_front() {
            let to = if is_ipv6 { mapped(to) } else { to };
            // Its own address belongs to the way to the last one.
            let connected = sys::disconnect(self.socket.as_fd())
                .and_then(|()| self.socket.connect(&to.into()))
                .and_then(|()| refuse_itself(&self.socket));
            let sent = |()| match &untried.message {
                Some(message) => self.socket.send_with_flags(message, libc::MSG_NOSIGNAL).map(drop),
                None => Ok(()),
            };
            if connected.and_then(sent).is_ok() {
                return true;
            }
        }
        false
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

/// The socket, which stays the client's.
impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
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

fn same_family(addresses: &[SocketAddr]) -> bool {
    addresses.iter().all(SocketAddr::is_ipv4) || addresses.iter().all(SocketAddr::is_ipv6)
}

/// The address as a socket of IPv6 has it (RFC 4291, 2.5.5.2).
fn mapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
        v6 => v6,
    }
}

/// Where nobody listens on a port that the system gives to clients, it may give that very port to this one, which is
/// then connected with itself (RFC 9293, 3.5) and would take its own bytes for answers: nobody is there.
fn refuse_itself(socket: &Socket) -> io::Result<()> {
    if socket.local_addr()? != socket.peer_addr()? {
        return Ok(());
    }
    // Reset, not ended: a server that starts now is to find the port free.
    let _ = socket.set_linger(Some(Duration::ZERO));
    Err(io::Error::from_raw_os_error(libc::ECONNREFUSED))
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
        // Further away than a clock reaches is for ever.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        Wait { deadline, is_first: true }
    }

    /// What is left of the time. The first time that may be nothing: try once without waiting.
    fn left(&mut self) -> io::Result<Option<Duration>> {
        let is_first = std::mem::replace(&mut self.is_first, false);
        match self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
            Some(Duration::ZERO) if !is_first => Err(io::ErrorKind::TimedOut.into()),
            left => Ok(left),
        }
    }
}

fn connect(domain: Domain, kind: SocketKind, to: &SockAddr, timeout: Option<Duration>) -> io::Result<Socket> {
    let socket = Socket::new(domain, sys::type_of(kind).cloexec(), None)?;
    if domain == Domain::IPV6 && kind == SocketKind::Udp {
        socket.set_only_v6(false)?;
    }
    if domain == Domain::UNIX {
        sys::refuse_descriptors(&socket)?;
    }
    if kind == SocketKind::UnixDatagram {
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
    refuse_itself(&socket)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    /// A port that the system gives to those who connect, and that nobody has: connecting takes those of the parity
    /// with which the range begins, binding the others first.
    fn free_port() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port() & !1
    }

    #[test]
    fn a_client_is_never_its_own_server() {
        // More often than there are ports to be given.
        for scheme in ["tcp", "udp"] {
            let url = format!("{scheme}://127.0.0.1:{}", free_port());
            for _ in 0..40_000 {
                match Client::open(&url, None) {
                    Ok(client) => {
                        let (local, peer) = (client.socket.local_addr(), client.socket.peer_addr());
                        assert_ne!(local.unwrap(), peer.unwrap(), "{url}");
                    }
                    Err(error) => assert_eq!(error.os_error(), Some(libc::ECONNREFUSED), "{error}"),
                }
            }
        }
    }

    #[test]
    fn a_datagram_finds_the_address_that_answers() {
        const PATIENCE: Option<Duration> = Some(Duration::from_secs(30));
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        // [::1] first, where nobody is, or where this machine has no such address.
        let url = format!("udp://:{}", server.local_addr().unwrap().port());
        let mut buffer = [0; 16];
        for (first, second) in [(true, false), (false, true), (true, true)] {
            let client = Client::open(&url, PATIENCE).unwrap();
            client.send(b"one", PATIENCE).unwrap();
            if first {
                // The client looks for an answer before there is one.
                let timeout = client.recv(&mut buffer, Some(Duration::ZERO)).unwrap_err();
                assert!(matches!(timeout, Error::Timeout { .. }), "{timeout}");
            }
            if second {
                client.send(b"two", PATIENCE).unwrap();
            }
            for message in [Some(&b"one"[..]), second.then_some(&b"two"[..])].into_iter().flatten() {
                let (len, from) = server.recv_from(&mut buffer).unwrap();
                assert_eq!(&buffer[..len], message);
                server.send_to(message, from).unwrap();
                assert_eq!(client.recv(&mut buffer, PATIENCE).unwrap(), message.len());
            }
        }
        drop(server);
        let client = Client::open(&url, PATIENCE).unwrap();
        client.send(b"x", PATIENCE).unwrap();
        let refused = client.recv(&mut buffer, PATIENCE).unwrap_err();
        assert_eq!(refused.os_error(), Some(libc::ECONNREFUSED), "{refused}");
    }
}

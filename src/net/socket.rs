//! Sockets that listen: bind, options, and what is read back of them. Nothing here accepts or receives.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::Instant;

use socket2::{Domain, SockAddr, SockRef, Socket, TcpKeepalive, Type};

use super::address::{Address, Endpoint, Host, Listen, UnixKind, UnixName};
use super::unix_file::SocketFile;
use crate::error::{Error, Result};
use crate::limits::{BIND_AGAIN, BIND_PATIENCE};
use crate::options::{Keepalive, Options};
use crate::peer::SocketKind;
use crate::sys;

/// A socket that is bound, and listens if its kind does.
#[derive(Debug)]
pub(crate) struct Bound {
    /// Removed when this is dropped, if it is still ours; before the socket, which keeps its inode from being used again.
    pub(crate) file: Option<SocketFile>,
    pub(crate) socket: OwnedFd,
    pub(crate) kind: SocketKind,
    /// The URL with the real port, without options.
    pub(crate) url: String,
    /// The address is a loopback address: datagrams from outside do not arrive.
    pub(crate) is_loopback: bool,
    /// The socket reports where each datagram was sent to.
    pub(crate) destinations: bool,
    /// [`siblings`] of it can be opened.
    pub(crate) can_multiply: bool,
    pub(crate) options: Options,
}

/// Binds what one URL asks for: one socket, or all that the service manager passed.
///
/// An address that is in use is tried again for [`BIND_PATIENCE`]: when a process is killed, what io_uring holds for it
/// lives on until the kernel has taken that apart, a little after the process is gone.
pub(crate) fn bind(listen: &Listen) -> Result<Vec<Bound>> {
    let options = &listen.options;
    match &listen.address {
        Address::Tcp(endpoint) => patiently(|| bind_ip(listen, endpoint, SocketKind::Tcp)),
        Address::Udp(endpoint) => patiently(|| bind_ip(listen, endpoint, SocketKind::Udp)),
        Address::Unix { kind, name } => patiently(|| bind_unix(listen, *kind, name)),
        Address::Fd(fd) => {
            let socket = sys::adopt(*fd).map_err(Error::system(format!("adopt {}", listen.address)))?;
            adopt(socket, options).map(|bound| vec![bound])
        }
        Address::Systemd(name) => passed_by_systemd(name.as_deref())?
            .into_iter()
            .map(|fd| {
                let socket = sys::adopt(fd).map_err(Error::system(format!("adopt fd:{fd}")))?;
                adopt(socket, options)
            })
            .collect(),
    }
}

fn patiently(mut bind: impl FnMut() -> Result<Bound>) -> Result<Vec<Bound>> {
    let until = Instant::now() + BIND_PATIENCE;
    loop {
        match bind() {
            Err(Error::System { source, .. })
                if source.kind() == io::ErrorKind::AddrInUse && Instant::now() < until =>
            {
                std::thread::sleep(BIND_AGAIN);
            }
            result => return result.map(|bound| vec![bound]),
        }
    }
}

/// The addresses that a host means; for `Any`, what to listen on.
pub(crate) fn resolve(endpoint: &Endpoint, any: IpAddr) -> io::Result<Vec<SocketAddr>> {
    match &endpoint.host {
        Host::Any => Ok(vec![SocketAddr::new(any, endpoint.port)]),
        Host::V4(ip) => Ok(vec![SocketAddr::new(IpAddr::V4(*ip), endpoint.port)]),
        Host::V6(ip, scope) => Ok(vec![SocketAddr::V6(SocketAddrV6::new(*ip, endpoint.port, 0, *scope))]),
        Host::Name(name) => {
            let found: Vec<_> = (name.as_str(), endpoint.port).to_socket_addrs()?.collect();
            if found.is_empty() {
                return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
            }
            Ok(found)
        }
    }
}

fn bind_ip(listen: &Listen, endpoint: &Endpoint, kind: SocketKind) -> Result<Bound> {
    let failed = |what: &'static str| Error::system(format!("{what} {}", listen.address));
    let is_any = endpoint.host == Host::Any;
    let addresses = resolve(endpoint, IpAddr::V6(Ipv6Addr::UNSPECIFIED)).map_err(failed("resolve"))?;
    let mut address = *addresses.first().ok_or(Error::State("no address"))?;
    let socket_type = if kind == SocketKind::Tcp { Type::STREAM } else { Type::DGRAM };
    let open = |address: &SocketAddr| {
        Socket::new(Domain::for_address(*address), socket_type.nonblocking().cloexec(), None)
    };
    let socket = match open(&address) {
        // A machine without IPv6: all addresses are then those of IPv4.
        Err(error) if is_any && error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
            address = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), endpoint.port);
            open(&address)
        }
        result => result,
    }
    .map_err(failed("open a socket for"))?;
    if address.is_ipv6() {
        // `[::]` is IPv6 alone, so that it can stand beside `0.0.0.0`; no host at all is both.
        let v6only = listen.options.v6only.unwrap_or(!is_any);
        socket.set_only_v6(v6only).map_err(failed("set v6only of"))?;
    }
    if kind == SocketKind::Tcp {
        // Connections that still wait for their last segments must not keep a restarted server out. On UDP the
        // same option would let somebody else take our datagrams.
        socket.set_reuse_address(true).map_err(failed("set SO_REUSEADDR of"))?;
    }
    configure(socket.as_fd(), kind, &listen.options).map_err(failed("set options of"))?;
    let mut destinations = false;
    if kind == SocketKind::Udp && address.ip().is_unspecified() {
        report_destinations(socket.as_fd(), address.is_ipv6()).map_err(failed("set IP_PKTINFO of"))?;
        destinations = true;
    }
    socket.bind(&SockAddr::from(address)).map_err(failed("bind"))?;
    if kind == SocketKind::Tcp {
        socket.listen(backlog(&listen.options)).map_err(failed("listen on"))?;
    }
    let local = socket.local_addr().map_err(failed("read the address of"))?;
    let mut endpoint = Endpoint::from(local.as_socket().unwrap_or(address));
    if is_any && address.is_ipv6() {
        endpoint.host = Host::Any;
    }
    let url = match kind {
        SocketKind::Tcp => Address::Tcp(endpoint),
        _ => Address::Udp(endpoint),
    }
    .to_string();
    Ok(Bound {
        socket: socket.into(),
        kind,
        url,
        is_loopback: is_loopback(&local),
        destinations,
        can_multiply: kind == SocketKind::Udp,
        options: listen.options.clone(),
        file: None,
    })
}

/// More sockets on the address of a UDP socket that [`bind`] has bound, so that every worker can have one: the kernel
/// then deals senders out among them, each always to the same one (`SO_REUSEPORT`, socket(7)). Processes of the same
/// user, and nobody else, could join in from then on.
pub(crate) fn siblings(
    first: BorrowedFd<'_>,
    options: &Options,
    destinations: bool,
    count: usize,
) -> io::Result<Vec<OwnedFd>> {
    let reference = SockRef::from(&first);
    let address = reference.local_addr()?;
    let is_v6 = address.is_ipv6();
    reference.set_reuse_port(true)?;
    let open = || {
        let socket = Socket::new(reference.domain()?, Type::DGRAM.nonblocking().cloexec(), None)?;
        if is_v6 {
            socket.set_only_v6(reference.only_v6()?)?;
        }
        configure(socket.as_fd(), SocketKind::Udp, options)?;
        if destinations {
            report_destinations(socket.as_fd(), is_v6)?;
        }
        socket.set_reuse_port(true)?;
        socket.bind(&address)?;
        Ok(socket.into())
    };
    let opened: io::Result<_> = (0..count).map(|_| open()).collect();
    if opened.is_err() {
        // Alone then, and nobody else beside it.
        reference.set_reuse_port(false)?;
    }
    opened
}

fn backlog(options: &Options) -> i32 {
    i32::try_from(options.backlog).unwrap_or(i32::MAX)
}

/// Options that a listening socket passes on to the connections it accepts (socket(7), tcp(7)), so that they cost
/// no call a connection.
fn configure(socket: BorrowedFd<'_>, kind: SocketKind, options: &Options) -> io::Result<()> {
    let reference = SockRef::from(&socket);
    if let Some(bytes) = options.rcvbuf_bytes {
        reference.set_recv_buffer_size(bytes as usize)?;
    }
    if let Some(bytes) = options.sndbuf_bytes {
        reference.set_send_buffer_size(bytes as usize)?;
    }
    if kind == SocketKind::Tcp {
        reference.set_tcp_nodelay(options.nodelay)?;
        match options.keepalive {
            Keepalive::Off => {}
            Keepalive::On => reference.set_keepalive(true)?,
            Keepalive::After(idle) => {
                reference.set_tcp_keepalive(&TcpKeepalive::new().with_time(idle))?;
            }
        }
        // An echo owes urgent bytes too (RFC 6093): they stay in the stream.
        reference.set_out_of_band_inline(true)?;
    }
    Ok(())
}

fn report_destinations(socket: BorrowedFd<'_>, v6: bool) -> io::Result<()> {
    if v6 {
        sys::set_int(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
    }
    // On a dual-stack socket this one tells broadcasts from the rest for IPv4 packets.
    sys::set_int(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)
}

fn bind_unix(listen: &Listen, kind: UnixKind, name: &UnixName) -> Result<Bound> {
    let failed = |what: &'static str| Error::system(format!("{what} {}", listen.address));
    let (kind, socket_type) = match kind {
        UnixKind::Stream => (SocketKind::UnixStream, Type::STREAM),
        UnixKind::Datagram => (SocketKind::UnixDatagram, Type::DGRAM),
        UnixKind::Seqpacket => (SocketKind::UnixSeqpacket, Type::SEQPACKET),
    };
    let options = &listen.options;
    let socket = Socket::new(Domain::UNIX, socket_type.nonblocking().cloexec(), None)
        .map_err(failed("open a socket for"))?;
    sys::refuse_descriptors(&socket).map_err(failed("set SO_PASSRIGHTS of"))?;
    configure(socket.as_fd(), kind, options).map_err(failed("set options of"))?;
    let listening = |socket: &Socket| match kind {
        SocketKind::UnixDatagram => Ok(()),
        _ => socket.listen(backlog(options)),
    };
    let mut file = None;
    match name {
        UnixName::Abstract(name) => {
            let mut path = vec![0];
            path.extend_from_slice(name);
            let address = SockAddr::unix(OsStr::from_bytes(&path)).map_err(failed("bind"))?;
            socket.bind(&address).map_err(failed("bind"))?;
            listening(&socket).map_err(failed("listen on"))?;
        }
        UnixName::Path(path) => {
            file = Some(SocketFile::bind(&socket, path, options.mode).map_err(failed("bind"))?);
            listening(&socket).map_err(failed("listen on"))?;
        }
    }
    let url = listen.address.to_string();
    Ok(Bound {
        socket: socket.into(),
        kind,
        url,
        is_loopback: false,
        destinations: false,
        can_multiply: false,
        options: options.clone(),
        file,
    })
}

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

fn is_loopback(local: &SockAddr) -> bool {
    local.as_socket().is_some_and(|address| address.ip().to_canonical().is_loopback())
}

/// The descriptors that the service manager passed under this name, or all of them (sd_listen_fds(3)).
fn passed_by_systemd(name: Option<&str>) -> Result<Vec<i32>> {
    const FIRST: i32 = 3;
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
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

/// What the kernel made of the options: `getsockopt` of the listening socket.
pub(crate) fn effective(
    socket: BorrowedFd<'_>,
    kind: SocketKind,
    options: &Options,
) -> Vec<(String, String)> {
    let reference = SockRef::from(&socket);
    let mut found = Vec::new();
    let mut report = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            found.push((key.to_owned(), value));
        }
    };
    let flag = |value: io::Result<bool>| value.ok().map(|on| u8::from(on).to_string());
    report("rcvbuf", reference.recv_buffer_size().ok().map(|bytes| bytes.to_string()));
    report("sndbuf", reference.send_buffer_size().ok().map(|bytes| bytes.to_string()));
    if kind == SocketKind::Tcp {
        report("nodelay", flag(reference.tcp_nodelay()));
        report("keepalive", flag(reference.keepalive()));
    }
    if matches!(kind, SocketKind::Tcp | SocketKind::Udp) {
        report("v6only", flag(reference.only_v6()));
    }
    if kind.is_connected() {
        report("backlog", Some(effective_backlog(options).to_string()));
    }
    found
}

/// The kernel clamps the backlog (listen(2)).
fn effective_backlog(options: &Options) -> u32 {
    let limit = fs::read_to_string("/proc/sys/net/core/somaxconn");
    match limit.map(|text| text.trim().parse()) {
        Ok(Ok(limit)) => options.backlog.min(limit),
        _ => options.backlog,
    }
}

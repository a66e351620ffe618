//! Sockets on IP addresses.

use std::ffi::CString;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use super::bound::{Bound, is_loopback};
use super::options::{asked_for, configure, destinations as reporting, on_accept, waiting_max};
use crate::error::{Error, Result};
use crate::net::address::{Address, Endpoint, Host, Listen, Zone};
use crate::options::Options;
use crate::peer::SocketKind;
use crate::sys;

pub(super) fn bind(listen: &Listen, asked: &Endpoint, kind: SocketKind) -> Result<Bound> {
    let failed = |what: &'static str| Error::system(format!("{what} {}", listen.address));
    let is_any = asked.host == Host::Any;
    let addresses = candidates(asked).map_err(failed("resolve"))?;
    let address = *addresses.first().ok_or(Error::State("no address"))?;
    let socket = Socket::new(Domain::for_address(address), sys::type_of(kind).nonblocking().cloexec(), None)
        .map_err(failed("open a socket for"))?;
    if is_kept_out(listen, asked, &address) {
        let why = "v6only=1 keeps an IPv4-mapped address out";
        return Err(failed("bind")(io::Error::new(io::ErrorKind::InvalidInput, why)));
    }
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
    configure(socket.as_fd(), &asked_for(kind, &listen.options)).map_err(failed("set options of"))?;
    let mut destinations = false;
    if kind == SocketKind::Udp && address.ip().is_unspecified() {
        configure(socket.as_fd(), &reporting(address.is_ipv6())).map_err(failed("set IP_PKTINFO of"))?;
        destinations = true;
    }
    socket.bind(&SockAddr::from(address)).map_err(failed("bind"))?;
    if kind == SocketKind::Udp {
        refuse_group(&address).map_err(failed("bind"))?;
    }
    let socket = if address.port() == 0 {
        name_port(&socket, kind, &listen.options, destinations).map_err(failed("bind"))?
    } else {
        socket
    };
    if kind == SocketKind::Tcp {
        socket.listen(waiting_max(&listen.options)).map_err(failed("listen on"))?;
    }
    let local = socket.local_addr().map_err(failed("read the address of"))?;
    Ok(Bound {
        socket: socket.into(),
        kind,
        url: url_of(listen, asked, local.as_socket().unwrap_or(address)),
        is_loopback: is_loopback(&local),
        destinations,
        more: Vec::new(),
        can_multiply: kind == SocketKind::Udp,
        is_adopted: false,
        options: listen.options.clone(),
        on_accept: on_accept(kind, &listen.options, false),
        handover: None,
        file: None,
    })
}

/// The addresses that a listener may be bound to: the first one, unless another process has bound it to another one.
pub(super) fn candidates(asked: &Endpoint) -> io::Result<Vec<SocketAddr>> {
    let any = if asked.host != Host::Any || has_ipv6() {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    } else {
        // All addresses are then those of IPv4.
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    };
    resolve(asked, any)
}

/// Any other error than this one comes again when the socket itself is opened.
fn has_ipv6() -> bool {
    let opened = Socket::new(Domain::IPV6, Type::DGRAM.cloexec(), None);
    !opened.is_err_and(|error| error.raw_os_error() == Some(libc::EAFNOSUPPORT))
}

/// Whether an IPv4 address is written as IPv6 where only IPv6 is wanted.
pub(super) fn is_kept_out(listen: &Listen, asked: &Endpoint, address: &SocketAddr) -> bool {
    matches!(asked.host, Host::V6(..)) && address.is_ipv4() && listen.options.v6only == Some(true)
}

/// What a listener's socket that is bound to `local` is called.
pub(super) fn url_of(listen: &Listen, asked: &Endpoint, local: SocketAddr) -> String {
    let local = canonical(local);
    let mut endpoint = Endpoint::from(local);
    match &asked.host {
        Host::Any if local.is_ipv6() => endpoint.host = Host::Any,
        // By name, as it was asked for.
        Host::V6(ip, Some(Zone::Name(_))) if local.ip() == *ip => endpoint.host = asked.host.clone(),
        _ => {}
    }
    match &listen.address {
        Address::Tls(_) => Address::Tls(Box::new(Address::Tcp(endpoint))),
        Address::Udp(_) => Address::Udp(endpoint),
        _ => Address::Tcp(endpoint),
    }
    .to_string()
}

/// The same for a port that the kernel has chosen, bound by its number: a socket loses one that it has not asked for when it
/// stops listening.
fn name_port(chosen: &Socket, kind: SocketKind, options: &Options, destinations: bool) -> io::Result<Socket> {
    let address = chosen.local_addr()?;
    let socket = open_beside(chosen.as_fd(), kind, options, destinations)?;
    // At no moment has nobody the port. Listening sockets share one among those that do not listen yet, datagram sockets
    // among those of one user, here for this moment.
    if kind == SocketKind::Tcp {
        socket.set_reuse_address(true)?;
        socket.bind(&address)?;
    } else {
        chosen.set_reuse_port(true)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address)?;
        socket.set_reuse_port(false)?;
    }
    Ok(socket)
}

/// Fails for an address that means many hosts: what is sent there is not to be answered, since one forged request would bring
/// an answer of each of them.
pub(super) fn refuse_group(address: &SocketAddr) -> io::Result<()> {
    if !sys::is_group(address.ip())? {
        return Ok(());
    }
    let why = "it is a broadcast or multicast address, and what is sent to a group is not answered";
    Err(io::Error::new(io::ErrorKind::InvalidInput, why))
}

/// A socket like another one, not bound yet.
fn open_beside(
    other: BorrowedFd<'_>,
    kind: SocketKind,
    options: &Options,
    destinations: bool,
) -> io::Result<Socket> {
    let other = SockRef::from(&other);
    let domain = other.domain()?;
    let socket = Socket::new(domain, other.r#type()?.nonblocking().cloexec(), None)?;
    let is_v6 = domain == Domain::IPV6;
    if is_v6 {
        socket.set_only_v6(other.only_v6()?)?;
    }
    configure(socket.as_fd(), &asked_for(kind, options))?;
    if destinations {
        configure(socket.as_fd(), &reporting(is_v6))?;
    }
    Ok(socket)
}

/// The addresses that a host means; for `Any`, what to listen on.
pub(crate) fn resolve(endpoint: &Endpoint, any: IpAddr) -> io::Result<Vec<SocketAddr>> {
    match &endpoint.host {
        Host::Any => Ok(vec![SocketAddr::new(any, endpoint.port)]),
        Host::V4(ip) => Ok(vec![SocketAddr::new(IpAddr::V4(*ip), endpoint.port)]),
        Host::V6(ip, zone) => {
            let scope = zone.as_ref().map(scope_of).transpose()?.unwrap_or(0);
            Ok(vec![canonical(SocketAddr::V6(SocketAddrV6::new(*ip, endpoint.port, 0, scope)))])
        }
        Host::Name(name) => {
            let found: Vec<_> = (name.as_str(), endpoint.port).to_socket_addrs()?.map(canonical).collect();
            if found.is_empty() {
                return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
            }
            Ok(found)
        }
    }
}

/// An address with IPv4-mapped IPv6 as what it is: IPv4, for all rules.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, address.port()),
        IpAddr::V6(_) => address,
    }
}

/// The number of the interface that a zone means.
fn scope_of(zone: &Zone) -> io::Result<u32> {
    let name = match zone {
        Zone::Index(index) => return Ok(index.get()),
        Zone::Name(name) => name,
    };
    let text = CString::new(name.as_str())?;
    sys::interface_index(&text).map_err(|error| {
        let no_such = matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENXIO));
        let why = if no_such { "there is no such network interface".to_owned() } else { error.to_string() };
        io::Error::new(error.kind(), format!("interface {name:?}: {why}"))
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
    reference.set_reuse_port(true)?;
    let open = || {
        let socket = open_beside(first, SocketKind::Udp, options, destinations)?;
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

//! Sockets that keep their address and refuse whoever comes to it, and take peers again later.
//!
//! - **TCP**: shutdown(2) of a listening socket makes it one that is bound and does not listen; whoever connects is reset.
//!   Without `SO_REUSEADDR` nobody else can bind its port meanwhile. listen(2) turns it back.
//! - **UDP**: a socket that is connected receives from its peer alone, and is connected to itself: for a datagram of anybody
//!   else there is no socket, and the kernel answers with ICMP "port unreachable". Connecting narrows a wildcard address to
//!   the one that the socket is connected to; a second socket, the [`Holder`], has the whole of it meanwhile. It is bound to
//!   an interface that there is not, so nothing reaches it.
//! - Either may lose its port on the way where the kernel has chosen it, and keeps one that it was bound to by its number.
//! - **Unix**: after shutdown(2) nobody can connect to it, and that is for good: whoever wants peers again opens another.
//!   What already waits to be accepted can still be.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use super::options::set_int;
use super::sockets::disconnect;

/// No interface has this number: they count from 1.
const NO_INTERFACE: i32 = i32::MAX;

/// What has the address of a refusing datagram socket.
pub(crate) type Holder = OwnedFd;

/// Begins to refuse. For TCP nothing may wait to be accepted: it would be reset.
pub(crate) fn refuse(socket: BorrowedFd<'_>) -> io::Result<Option<Holder>> {
    let reference = SockRef::from(&socket);
    if reference.domain()? == Domain::UNIX {
        return reference.shutdown(Shutdown::Read).map(|()| None);
    }
    if reference.r#type()? == Type::DGRAM {
        return refuse_datagrams(&reference);
    }
    reference.shutdown(Shutdown::Read)?;
    reference.set_reuse_address(false)?;
    Ok(None)
}

/// Takes peers again. What [`refuse`] gave may be dropped then.
pub(crate) fn stop_refusing(socket: BorrowedFd<'_>, waiting_max: i32) -> io::Result<()> {
    let reference = SockRef::from(&socket);
    if reference.r#type()? == Type::DGRAM {
        return disconnect(socket);
    }
    reference.set_reuse_address(true)?;
    reference.listen(waiting_max)
}

fn refuse_datagrams(socket: &SockRef<'_>) -> io::Result<Option<Holder>> {
    let address = socket.local_addr()?;
    let itself = itself(&address)?;
    let is_any = address.as_socket().is_some_and(|address| address.ip().is_unspecified());
    if !is_any {
        return socket.connect(&itself).map(|()| None);
    }
    let holder = Socket::new(socket.domain()?, Type::DGRAM.nonblocking().cloexec(), None)?;
    if address.is_ipv6() {
        holder.set_only_v6(socket.only_v6()?)?;
    }
    set_int(holder.as_fd(), libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX, NO_INTERFACE)?;
    // Two sockets on one address: only for this moment, unless the workers share it anyway.
    let was_shared = socket.reuse_port()?;
    holder.set_reuse_port(true)?;
    socket.set_reuse_port(true)?;
    let refused = holder.bind(&address).and_then(|()| socket.connect(&itself));
    socket.set_reuse_port(was_shared)?;
    holder.set_reuse_port(was_shared)?;
    refused.map(|()| Some(holder.into()))
}

/// Where a socket on this address sends to itself.
fn itself(address: &SockAddr) -> io::Result<SockAddr> {
    let address = address.as_socket().ok_or(io::ErrorKind::InvalidInput)?;
    let mut itself = address;
    if address.ip().is_unspecified() {
        itself.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    Ok(itself.into())
}

//! Sockets that come and go: accepted, handed over, disconnected.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::call::syscall;
use super::names::peer_of;
use super::rights::without_descriptors;
use super::waiting::wait_readable;
use crate::peer::{Peer, SocketKind};

/// accept4(2): the new connection, non-blocking and close-on-exec, and its peer's name.
///
/// Whether the call waits is not its own affair but the description's, which others may share and change: a parent, a
/// child, another server. So it is looked at each time, and only a listener that has a connection is asked for one: what
/// remains is somebody who changes it between the two calls and takes that very connection.
pub(crate) fn accept(fd: BorrowedFd<'_>) -> io::Result<(OwnedFd, Peer)> {
    if !wait_readable(fd, Some(Duration::ZERO))? {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    keep_nonblocking(fd)?;
    let mut name = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let mut len = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    // SAFETY: `name` has room for `len` bytes; the call writes at most that and says how much.
    let accepted = syscall!(unsafe {
        libc::accept4(
            fd.as_raw_fd(),
            name.as_mut_ptr().cast(),
            &mut len,
            libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC,
        )
    })?;
    // SAFETY: a descriptor that accept4 just made and that nobody else knows.
    let socket = unsafe { OwnedFd::from_raw_fd(accepted) };
    // SAFETY: sockaddr_storage is plain data and was zeroed.
    let name = unsafe { name.assume_init() };
    let is_unix = i32::from(name.ss_family) == libc::AF_UNIX;
    let socket = if is_unix { without_descriptors(socket)? } else { socket };
    Ok((socket, peer_of(&name, len as usize)))
}

fn keep_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    let flags = status_flags(fd)?;
    if flags & libc::O_NONBLOCK == 0 {
        set_status_flags(fd, flags | libc::O_NONBLOCK)?;
    }
    Ok(())
}

/// connect(2) to AF_UNSPEC: a datagram socket is connected to nobody any more, and has no address of its own.
pub(crate) fn disconnect(fd: BorrowedFd<'_>) -> io::Result<()> {
    let nobody = libc::sockaddr { sa_family: libc::AF_UNSPEC as libc::sa_family_t, sa_data: [0; 14] };
    let len = size_of::<libc::sockaddr>() as libc::socklen_t;
    // SAFETY: one sockaddr of that length, which lives during the call.
    syscall!(unsafe { libc::connect(fd.as_raw_fd(), &nobody, len) }).map(drop)
}

/// The numbers that were handed over, and the sockets that they meant then.
static ADOPTED: Mutex<Vec<(RawFd, u64)>> = Mutex::new(Vec::new());

/// A descriptor that this process was handed as a number, for example by its parent. It must be open, and a
/// socket can be handed over once: a second owner would close what belongs to the first.
pub(crate) fn adopt(fd: RawFd) -> io::Result<OwnedFd> {
    let socket = inode(fd)?;
    let mut adopted = ADOPTED.lock().unwrap_or_else(PoisonError::into_inner);
    if adopted.contains(&(fd, socket)) {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "it was handed over already"));
    }
    adopted.retain(|(known, _)| *known != fd);
    adopted.push((fd, socket));
    // SAFETY: the descriptor is open, and the caller hands it over; that it does so once was just seen.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// One that a service manager has passed, which does so once: where the one that had this number was closed since, the number may
/// mean anything.
pub(crate) fn adopt_passed(fd: RawFd) -> io::Result<OwnedFd> {
    let now = inode(fd).ok();
    let adopted = ADOPTED.lock().unwrap_or_else(PoisonError::into_inner);
    if adopted.iter().any(|(known, socket)| *known == fd && Some(*socket) != now) {
        let why = "the listener that had this socket of the service manager was closed, and the socket with it: only a restart \
                   of the service brings it back";
        return Err(io::Error::new(io::ErrorKind::NotFound, why));
    }
    drop(adopted);
    adopt(fd)
}

/// Lets exec(3) close a descriptor that a service manager has passed, unless it was [adopted](adopt_passed) before. Fails where
/// the number is not open.
pub(crate) fn claim_passed(fd: RawFd) -> io::Result<()> {
    let adopted = ADOPTED.lock().unwrap_or_else(PoisonError::into_inner);
    if adopted.iter().any(|(known, _)| *known == fd) { Ok(()) } else { close_on_exec(fd) }
}

/// The number of the socket that a descriptor means.
fn inode(fd: RawFd) -> io::Result<u64> {
    let mut status = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: `status` has room for one stat; where the descriptor is not open the call fails with EBADF.
    syscall!(unsafe { libc::fstat(fd, status.as_mut_ptr()) })?;
    // SAFETY: plain data, zeroed and then filled.
    Ok(unsafe { status.assume_init() }.st_ino)
}

/// Hands a number back to whoever handed it over: it stays open, and may be handed over again.
pub(super) fn give_back(socket: OwnedFd) {
    let fd = socket.into_raw_fd();
    ADOPTED.lock().unwrap_or_else(PoisonError::into_inner).retain(|(known, _)| *known != fd);
}

/// Lets exec(3) close a descriptor that this process has inherited. Fails where the number is not open.
pub(crate) fn close_on_exec(fd: RawFd) -> io::Result<()> {
    // SAFETY: takes no pointer, and changes nothing but the flag of that number.
    syscall!(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) }).map(drop)
}

/// The status flags of a description (`F_GETFL`).
pub(super) fn status_flags(fd: BorrowedFd<'_>) -> io::Result<i32> {
    // SAFETY: takes no pointer.
    syscall!(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })
}

/// Sets them (`F_SETFL`).
pub(super) fn set_status_flags(fd: BorrowedFd<'_>, flags: i32) -> io::Result<()> {
    // SAFETY: takes no pointer.
    syscall!(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags) }).map(drop)
}

/// The type of the sockets of a kind (socket(2)).
pub(crate) fn type_of(kind: SocketKind) -> Type {
    match kind {
        SocketKind::Tcp | SocketKind::UnixStream => Type::STREAM,
        SocketKind::Udp | SocketKind::UnixDatagram => Type::DGRAM,
        SocketKind::UnixSeqpacket => Type::SEQPACKET,
    }
}

/// Whether an address means many hosts. The broadcast addresses of networks only the kernel knows: it lets nobody connect to
/// one who has not asked to broadcast (connect(2)). Nothing is sent.
#[cold]
pub(crate) fn is_group(ip: IpAddr) -> io::Result<bool> {
    let ip = match ip.to_canonical() {
        IpAddr::V6(ip) => return Ok(ip.is_multicast()),
        IpAddr::V4(ip) if ip.is_multicast() || ip.is_broadcast() => return Ok(true),
        IpAddr::V4(ip) => ip,
    };
    let socket = Socket::new(Domain::IPV4, Type::DGRAM.cloexec(), None)?;
    let asked = socket.connect(&SocketAddr::from((ip, DISCARD_PORT)).into());
    Ok(asked.is_err_and(|error| error.raw_os_error() == Some(libc::EACCES)))
}

/// Any but 0 would do.
const DISCARD_PORT: u16 = 9;

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;
    use std::thread;

    #[test]
    fn what_was_accepted_never_waits_and_is_closed_by_exec() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, _) = accept(listener.as_fd()).unwrap();
        assert_ne!(status_flags(socket.as_fd()).unwrap() & libc::O_NONBLOCK, 0);
        // SAFETY: takes no pointer.
        let flags = unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_GETFD) };
        assert_eq!(flags, libc::FD_CLOEXEC);
    }

    /// Somebody who shares a listener makes its calls wait, again and again: one that finds nobody does not wait all the same.
    #[test]
    fn an_accept_that_finds_nobody_never_waits() {
        const TRIES: usize = 50_000;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (over, (sender, tries)) = (AtomicBool::new(false), mpsc::channel());
        thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    listener.set_nonblocking(false).unwrap();
                }
            });
            scope.spawn(|| {
                let found = (0..TRIES).find_map(|_| accept(listener.as_fd()).ok());
                sender.send(found.is_none()).unwrap();
            });
            let found_nobody = tries.recv_timeout(Duration::from_secs(60)).or_else(|_| {
                // Lets go of one that waits.
                let _other = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                tries.recv()
            });
            over.store(true, Ordering::Relaxed);
            assert!(found_nobody.unwrap(), "an accept has waited for somebody");
        });
    }
}

//! Sockets that come and go: accepted, handed over, disconnected.

use std::collections::BTreeMap;
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

use super::call::syscall;
use super::names::peer_of;
use super::rights::without_descriptors;
use crate::peer::Peer;

/// accept4(2): the new connection, non-blocking and close-on-exec, and its peer's name.
///
/// Whether the call waits is not its own affair but the description's, which others may share and change: a parent, a
/// child, another server. So it is looked at each time. What remains is somebody who changes it between the two calls.
pub(crate) fn accept(fd: BorrowedFd<'_>) -> io::Result<(OwnedFd, Peer)> {
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
    // SAFETY: takes no pointer.
    let flags = syscall!(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    if flags & libc::O_NONBLOCK == 0 {
        // SAFETY: as above.
        syscall!(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) })?;
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

/// A descriptor that this process was handed as a number, for example by its parent. It must be open, and a
/// socket can be handed over once: a second owner would close what belongs to the first.
pub(crate) fn adopt(fd: RawFd) -> io::Result<OwnedFd> {
    /// The numbers that were handed over, and the sockets that they meant then.
    static ADOPTED: Mutex<BTreeMap<RawFd, u64>> = Mutex::new(BTreeMap::new());

    let mut status = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: `status` has room for one stat; where the descriptor is not open the call fails with EBADF.
    syscall!(unsafe { libc::fstat(fd, status.as_mut_ptr()) })?;
    // SAFETY: plain data, zeroed and then filled.
    let socket = unsafe { status.assume_init() }.st_ino;
    let mut adopted = ADOPTED.lock().unwrap_or_else(PoisonError::into_inner);
    if adopted.insert(fd, socket) == Some(socket) {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "it was handed over already"));
    }
    // SAFETY: the descriptor is open, and the caller hands it over; that it does so once was just seen.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

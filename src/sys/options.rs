//! Options of sockets: setsockopt(2), getsockopt(2).

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, BorrowedFd};

use super::call::syscall;
use crate::peer::Credentials;

/// Makes the kernel tell an empty record from the end of a seqpacket connection.
///
/// With `SO_PASSCRED` every record carries credentials; since no control buffer is passed, the kernel says
/// that it cut them off (`MSG_CTRUNC`) for each record and not for the end, which is no record (unix(7)).
pub(crate) fn tell_empty_records(fd: BorrowedFd<'_>) -> io::Result<()> {
    set_int(fd, libc::SOL_SOCKET, libc::SO_PASSCRED, 1)
}

/// Leaves urgent bytes (`MSG_OOB`) where they are in the stream; an echo owes them too.
pub(crate) fn keep_urgent_inline(fd: BorrowedFd<'_>) -> io::Result<()> {
    set_int(fd, libc::SOL_SOCKET, libc::SO_OOBINLINE, 1)
}

/// setsockopt(2) with an `int`.
pub(crate) fn set_int(fd: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: the pointer and the size are those of one int.
    syscall!(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    })?;
    Ok(())
}

/// Whether answers that unix peers have not read fill a socket's send buffer, so that it takes no more for anybody: that, and
/// not the queue of one peer, is then why it would block (`sock_alloc_send_pskb`).
pub(crate) fn is_send_buffer_full(fd: BorrowedFd<'_>) -> bool {
    let mut used: libc::c_int = 0;
    // SAFETY: SIOCOUTQ, which has the number of TIOCOUTQ, writes one int (unix(7)).
    let result = syscall!(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCOUTQ, &raw mut used) });
    result.is_ok() && get_int(fd, libc::SOL_SOCKET, libc::SO_SNDBUF).is_ok_and(|size| used >= size)
}

/// getsockopt(2) of an `int`.
pub(crate) fn get_int(fd: BorrowedFd<'_>, level: i32, name: i32) -> io::Result<i32> {
    let mut value: i32 = 0;
    let mut len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the pointer and the size are those of one int.
    syscall!(unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, (&raw mut value).cast(), &mut len) })?;
    Ok(value)
}

/// Whose process has connected a unix socket (`SO_PEERCRED`, unix(7)).
pub(crate) fn peer_credentials(fd: BorrowedFd<'_>) -> io::Result<Credentials> {
    let mut credentials = MaybeUninit::<libc::ucred>::zeroed();
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the pointer and the size are those of one ucred.
    syscall!(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            credentials.as_mut_ptr().cast(),
            &mut len,
        )
    })?;
    // SAFETY: plain data, zeroed and then filled.
    let libc::ucred { pid, uid, gid } = unsafe { credentials.assume_init() };
    Ok(Credentials { process: pid, user: uid, group: gid })
}

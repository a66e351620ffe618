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

/// How much of the send buffer of a unix socket is used by what peers have not read. Once that is all, it takes no more for
/// anybody: that, and not the queue of one peer, is then why it would block (`sock_alloc_send_pskb`).
pub(crate) fn send_buffer(fd: BorrowedFd<'_>) -> Option<SendBuffer> {
    let mut used: libc::c_int = 0;
    // SAFETY: SIOCOUTQ, which has the number of TIOCOUTQ, writes one int (unix(7)).
    syscall!(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCOUTQ, &raw mut used) }).ok()?;
    let size = get_int(fd, libc::SOL_SOCKET, libc::SO_SNDBUF).ok()?;
    Some(SendBuffer { used: used.try_into().ok()?, size: size.try_into().ok()? })
}

/// The send buffer of a unix socket, in bytes as the kernel charges them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SendBuffer {
    pub(crate) used: usize,
    pub(crate) size: usize,
}

impl SendBuffer {
    /// Whether it takes nothing more.
    pub(crate) fn is_full(self) -> bool {
        self.used >= self.size
    }
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

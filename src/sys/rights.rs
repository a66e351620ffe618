//! Descriptors that others send along (`SCM_RIGHTS`, unix(7)), which are never wanted.
//!
//! One that is thrown away is closed by whoever throws it away, and that may take long: a TCP socket with `SO_LINGER` and
//! bytes that nobody takes waits for as long as its owner likes. So none is let into a queue that a worker reads. What is
//! in one already, from before a socket was handed over, is thrown away by a thread of its own.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::call::syscall;
use super::options::{get_int, set_int};
use super::threads::start_detached;

/// asm-generic/socket.h; Linux 6.16. Architectures with numbers of their own are not served by that.
pub(crate) const SO_PASSRIGHTS: i32 = 83;
/// linux/socket.h: the sender's process, as a descriptor.
const SCM_PIDFD: i32 = 4;
/// Descriptors that one message carries at most (unix(7)).
const DESCRIPTORS_MAX: usize = 253;
/// More than any datagram: net.core.wmem_max is far below where nobody has raised it.
const DATAGRAM_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How often a queue is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Lets nobody send descriptors to this unix socket from now on; who tries gets EPERM. Connections made later inherit it.
/// Older kernels have no such thing.
pub(crate) fn refuse_descriptors(socket: impl AsFd) -> io::Result<()> {
    if cfg!(any(target_arch = "sparc", target_arch = "sparc64")) {
        return Ok(());
    }
    match set_int(socket.as_fd(), libc::SOL_SOCKET, SO_PASSRIGHTS, 0) {
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(()),
        result => result,
    }
}

/// Whether nobody can send descriptors to this unix socket any more.
pub(crate) fn refuses_descriptors(socket: BorrowedFd<'_>) -> bool {
    matches!(get_int(socket, libc::SOL_SOCKET, SO_PASSRIGHTS), Ok(0))
}

/// A connection that was just accepted from a unix listener, if no descriptor waits in it. Some may where it was made
/// before the listener refused them; it counts as aborted then.
pub(crate) fn without_descriptors(socket: OwnedFd) -> io::Result<OwnedFd> {
    if !matches!(get_int(socket.as_fd(), libc::SOL_SOCKET, SO_PASSRIGHTS), Ok(1)) {
        return Ok(socket);
    }
    refuse_descriptors(&socket)?;
    if queued(socket.as_raw_fd()) == 0 {
        return Ok(socket);
    }
    discard(vec![socket]);
    Err(io::Error::from_raw_os_error(libc::ECONNABORTED))
}

/// Takes copies of the descriptors that wait in the queue of a unix datagram socket, until their messages have been read
/// or the socket is closed: neither is then the last to close them.
pub(crate) fn keep_queued(socket: BorrowedFd<'_>) -> io::Result<()> {
    let count = if refuses_descriptors(socket) { queued(socket.as_raw_fd()) } else { 0 };
    if count == 0 {
        return Ok(());
    }
    let copies = peek_all(socket, count)?;
    let (fd, inode) = (socket.as_raw_fd(), inode_of(socket.as_raw_fd()));
    let keep = move || {
        while queued(fd) > 0 && inode_of(fd) == inode {
            thread::sleep(LOOK_AGAIN);
        }
        discard(copies);
    };
    start_detached("discard", keep)
}

/// Closes descriptors on a thread, one after another, however long it takes.
fn discard(descriptors: Vec<OwnedFd>) {
    /// What is to be closed; `None`: there is no thread that does.
    static WAITING: Mutex<Option<VecDeque<OwnedFd>>> = Mutex::new(None);

    let waiting = || WAITING.lock().unwrap_or_else(PoisonError::into_inner);
    match &mut *waiting() {
        Some(queue) => return queue.extend(descriptors),
        none => *none = Some(descriptors.into()),
    }
    let close_all = move || {
        loop {
            let next = {
                let mut waiting = waiting();
                let next = waiting.as_mut().and_then(VecDeque::pop_front);
                if next.is_none() {
                    *waiting = None;
                }
                next
            };
            match next {
                Some(descriptor) => drop(descriptor),
                None => return,
            }
        }
    };
    if start_detached("discard", close_all).is_err() {
        // Left open: better than to wait here.
        mem::forget(waiting().take());
    }
}

/// How many descriptors wait in the queue of a unix socket (`scm_fds`, Linux 5.7).
fn queued(socket: RawFd) -> usize {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{socket}")).unwrap_or_default();
    let count = text.lines().find_map(|line| line.strip_prefix("scm_fds:"));
    count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

/// Which socket a number means.
fn inode_of(socket: RawFd) -> Option<std::path::PathBuf> {
    fs::read_link(format!("/proc/self/fd/{socket}")).ok()
}

/// Copies of all descriptors in the queue of a datagram socket, which stays as it is.
fn peek_all(socket: BorrowedFd<'_>, count: usize) -> io::Result<Vec<OwnedFd>> {
    let mut copies = Vec::new();
    // A peek takes up where the one before has ended (socket(7)).
    set_int(socket, libc::SOL_SOCKET, libc::SO_PEEK_OFF, 0)?;
    let mut bytes = vec![0; DATAGRAM_BYTES_MAX];
    let result = loop {
        if copies.len() >= count {
            break Ok(());
        }
        match peek(socket, &mut bytes, &mut copies) {
            Ok(true) => {}
            Ok(false) => break Err(io::Error::other("there is no room for the descriptors that wait in it")),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break Err(error),
        }
    };
    set_int(socket, libc::SOL_SOCKET, libc::SO_PEEK_OFF, -1)?;
    result.map(|()| copies)
}

/// recvmsg(2) that leaves the message where it is; whether there was room for its descriptors.
fn peek(socket: BorrowedFd<'_>, bytes: &mut [u8], copies: &mut Vec<OwnedFd>) -> io::Result<bool> {
    // Aligned for cmsghdr, with room for what else whoever opened the socket has asked for.
    let mut control = [0_u64; 256 + DESCRIPTORS_MAX.div_ceil(2)];
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: msghdr is plain data for which all zero is valid.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = &mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the header points to memory of this call, and says how much there is.
    syscall!(unsafe { libc::recvmsg(socket.as_raw_fd(), &mut message, flags) })?;
    // SAFETY: the kernel has filled the control buffer and said how far; each step stays within that.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(&message) };
    while !header.is_null() {
        // SAFETY: not null, so it is a header in the control buffer.
        let (level, kind, len) =
            unsafe { ((*header).cmsg_level, (*header).cmsg_type, (*header).cmsg_len as usize) };
        if level == libc::SOL_SOCKET && matches!(kind, libc::SCM_RIGHTS | SCM_PIDFD) {
            // SAFETY: takes no pointer.
            let head = unsafe { libc::CMSG_LEN(0) } as usize;
            for index in 0..len.saturating_sub(head) / size_of::<RawFd>() {
                // SAFETY: the length of the message says that this one is there.
                let fd = unsafe { libc::CMSG_DATA(header).cast::<RawFd>().add(index).read_unaligned() };
                // SAFETY: a descriptor that the kernel has just made for us.
                copies.push(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
        // SAFETY: as above.
        header = unsafe { libc::CMSG_NXTHDR(&message, header) };
    }
    Ok(message.msg_flags & libc::MSG_CTRUNC == 0)
}

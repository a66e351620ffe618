//! Waiting for one descriptor, and one to be woken by.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

use super::call::{syscall, wide};

/// ppoll(2) for reading, at most `timeout` (`None`: for ever): whether there is something. `Interrupted`: a signal came.
pub(crate) fn wait_readable(fd: BorrowedFd<'_>, timeout: Option<Duration>) -> io::Result<bool> {
    let mut watched = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let time = timeout.map(|timeout| libc::timespec {
        tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    });
    let time = time.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: one pollfd, a timespec or NULL, and no signal mask; all live during the call.
    Ok(syscall!(unsafe { libc::ppoll(&mut watched, 1, time, ptr::null()) })? > 0)
}

/// Whether somebody is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    Here,
    /// It has ended its side, and may still read.
    Ended,
    /// The connection is broken: nothing can be sent any more.
    Gone,
}

/// Looks with poll(2), without waiting.
pub(crate) fn presence(fd: BorrowedFd<'_>) -> Presence {
    let mut watched = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLRDHUP, revents: 0 };
    // SAFETY: one pollfd that lives during the call, which does not wait.
    let found = unsafe { libc::poll(&mut watched, 1, 0) };
    match watched.revents {
        _ if found <= 0 => Presence::Here,
        events if events & (libc::POLLERR | libc::POLLHUP) != 0 => Presence::Gone,
        _ => Presence::Ended,
    }
}

/// eventfd(2): non-blocking, closed by exec.
pub(crate) fn event_fd() -> io::Result<OwnedFd> {
    // SAFETY: takes no pointer.
    let fd = syscall!(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
    // SAFETY: a descriptor that eventfd just made and that nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes an eventfd readable.
pub(crate) fn signal(fd: BorrowedFd<'_>) {
    let one = 1_u64;
    // SAFETY: eight readable bytes. It fails only where the counter is full, and then it is readable anyway; an
    // eventfd raises no SIGPIPE. Not write(2) of the C library, where a thread could be cancelled (pthreads(7)).
    unsafe { libc::syscall(libc::SYS_write, wide(fd.as_raw_fd()), &raw const one, size_of::<u64>()) };
}

/// Makes an eventfd no longer readable.
pub(crate) fn clear(fd: BorrowedFd<'_>) {
    let mut count = 0_u64;
    // SAFETY: eight writable bytes. It fails only where the counter is 0 already.
    unsafe { libc::read(fd.as_raw_fd(), (&raw mut count).cast(), size_of::<u64>()) };
}

//! epoll(7), with an index in each event.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::syscall::syscall;

/// An epoll instance whose events carry an index.
#[derive(Debug)]
pub(crate) struct Epoll {
    fd: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Epoll {
    /// `events_max`: how many one wait may bring.
    pub(crate) fn new(events_max: usize) -> io::Result<Epoll> {
        let raw = syscall!(epoll_create1(libc::EPOLL_CLOEXEC))?;
        // SAFETY: epoll_create1 has just given this descriptor to us alone.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        Ok(Epoll { fd, events: Vec::with_capacity(events_max) })
    }

    /// Watches a descriptor until it is closed: an event each wait while it is readable (level-triggered).
    pub(crate) fn add(&self, fd: &impl AsRawFd, index: usize) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: index as u64 };
        syscall!(epoll_ctl(self.fd.as_raw_fd(), libc::EPOLL_CTL_ADD, fd.as_raw_fd(), &mut event))?;
        Ok(())
    }

    /// Waits, at most `timeout_ms` (-1: for ever), and gives how many events there are.
    pub(crate) fn wait(&mut self, timeout_ms: i32) -> io::Result<usize> {
        self.events.clear();
        let room = self.events.capacity() as i32;
        let count =
            match syscall!(epoll_wait(self.fd.as_raw_fd(), self.events.as_mut_ptr(), room, timeout_ms)) {
                Ok(count) => count as usize,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                Err(error) => return Err(error),
            };
        // SAFETY: the kernel has filled so many, which is no more than the capacity that it was told.
        unsafe { self.events.set_len(count) };
        Ok(count)
    }

    /// The index that the event of the last wait carries.
    pub(crate) fn index(&self, event: usize) -> usize {
        self.events.get(event).map_or(usize::MAX, |event| event.u64 as usize)
    }
}

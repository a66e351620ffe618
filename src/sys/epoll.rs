//! epoll(7), and what interrupts a wait from another thread.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

use super::call::{syscall, wide};
use super::timer::Timer;
use super::waiting::{event_fd, signal};

pub(crate) const IN: u32 = libc::EPOLLIN as u32;
pub(crate) const OUT: u32 = libc::EPOLLOUT as u32;
pub(crate) const PRI: u32 = libc::EPOLLPRI as u32;
pub(crate) const RDHUP: u32 = libc::EPOLLRDHUP as u32;
pub(crate) const HUP: u32 = libc::EPOLLHUP as u32;
pub(crate) const ERR: u32 = libc::EPOLLERR as u32;

/// What the kernel's own `sigset_t` takes, where no mask is given too.
const KERNEL_SIGSET_BYTES: usize = 8;

/// The name under which an instance watches its [`Waker`].
const WAKER: u64 = u64::MAX;
/// The same of a timer.
const TIMER: u64 = u64::MAX - 1;

/// An epoll instance and room for what one wait brings. Everything is watched edge-triggered.
pub(crate) struct EpollFd {
    epoll: OwnedFd,
    ready: Vec<libc::epoll_event>,
    count: usize,
}

/// Interrupts the wait of an [`EpollFd`], or keeps the next one from waiting.
#[derive(Debug)]
pub(crate) struct Waker(OwnedFd);

impl EpollFd {
    /// One wait brings at most `events_max`.
    pub(crate) fn new(events_max: usize) -> io::Result<EpollFd> {
        // SAFETY: takes no pointer.
        let fd = syscall!(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: a descriptor that epoll_create1 just made and that nobody else knows.
        let epoll = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(EpollFd { epoll, ready: vec![libc::epoll_event { events: 0, u64: 0 }; events_max], count: 0 })
    }

    /// What interrupts its waits. It must live as long as the instance does; an event of it bears no name that
    /// [`watch`](Self::watch) was given, since `u64::MAX` is its own.
    pub(crate) fn waker(&self) -> io::Result<Waker> {
        let waker = Waker(event_fd()?);
        // The edge of each write is an event (eventfd(2)): it needs no reading.
        self.control(libc::EPOLL_CTL_ADD, waker.0.as_fd(), WAKER, IN)?;
        Ok(waker)
    }

    /// A timer that wakes whoever watches the instance, and its waits; like the waker it needs no reading, and its name is
    /// `u64::MAX - 1`.
    pub(crate) fn timer(&self) -> io::Result<Timer> {
        let timer = Timer::new()?;
        self.control(libc::EPOLL_CTL_ADD, timer.as_fd(), TIMER, IN)?;
        Ok(timer)
    }

    pub(crate) fn watch(&self, fd: BorrowedFd<'_>, name: u64, events: u32) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, name, events)
    }

    /// Watches for something else from now on. What is there already is an edge.
    pub(crate) fn watch_again(&self, fd: BorrowedFd<'_>, name: u64, events: u32) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, name, events)
    }

    pub(crate) fn unwatch(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, 0)
    }

    fn control(&self, operation: i32, fd: BorrowedFd<'_>, name: u64, events: u32) -> io::Result<()> {
        let mut event = libc::epoll_event { events: events | libc::EPOLLET as u32, u64: name };
        // SAFETY: one epoll_event, which the kernel reads during the call.
        syscall!(unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), operation, fd.as_raw_fd(), &mut event) })?;
        Ok(())
    }

    /// epoll_wait(2): how many events there are.
    #[inline]
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        let timeout = match timeout {
            Some(timeout) if timeout.is_zero() => 0,
            Some(timeout) => {
                // Not early: what is due then would not be yet.
                let part = u64::from(timeout.subsec_nanos().div_ceil(1_000_000));
                i32::try_from(timeout.as_secs().saturating_mul(1000).saturating_add(part)).unwrap_or(i32::MAX)
            }
            None => -1,
        };
        self.count = 0;
        let room = self.ready.len() as i32;
        let (fd, no_mask) = (self.epoll.as_raw_fd(), ptr::null::<libc::sigset_t>());
        // SAFETY: room for so many events, of which the call fills as many as it says; no mask is given.
        let count = syscall!(unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait,
                wide(fd),
                self.ready.as_mut_ptr(),
                wide(room),
                wide(timeout),
                no_mask,
                KERNEL_SIGSET_BYTES,
            )
        })?;
        self.count = count as usize;
        Ok(self.count)
    }

    /// An event of the last wait: its name and what there is.
    #[inline]
    pub(crate) fn event(&self, place: usize) -> Option<(u64, u32)> {
        if place >= self.count {
            return None;
        }
        let event = *self.ready.get(place)?;
        Some((event.u64, event.events))
    }
}

impl AsRawFd for EpollFd {
    fn as_raw_fd(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }
}

impl std::fmt::Debug for EpollFd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EpollFd({:?}, {} events)", self.epoll, self.count)
    }
}

impl Waker {
    /// Safe to call from any thread, and from a signal handler (write(2)).
    pub(crate) fn wake(&self) {
        signal(self.0.as_fd());
    }
}

impl AsRawFd for Waker {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

//! A descriptor that becomes readable at a moment of the clock.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use super::call::syscall;

/// timerfd_create(2) on the monotonic clock: non-blocking, closed by exec.
#[derive(Debug)]
pub(crate) struct Timer(OwnedFd);

impl Timer {
    pub(crate) fn new() -> io::Result<Timer> {
        let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
        // SAFETY: takes no pointer.
        let fd = syscall!(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, flags) })?;
        // SAFETY: a descriptor that timerfd_create just made and that nobody else knows.
        Ok(Timer(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Readable from this moment on, in microseconds of the clock (at once, where that is past), and not before. `None`: never.
    pub(crate) fn set(&self, micros: Option<u64>) {
        // All zero is never (timerfd_settime(2)); the clock is past 1 µs.
        let micros = micros.map_or(0, |micros| micros.max(1));
        let time = libc::itimerspec {
            it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: libc::timespec {
                tv_sec: libc::time_t::try_from(micros / 1_000_000).unwrap_or(libc::time_t::MAX),
                tv_nsec: (micros % 1_000_000 * 1000) as _,
            },
        };
        // SAFETY: one itimerspec, which the kernel reads; the old one is not asked for. With a time of which all parts are in
        // range it cannot fail.
        unsafe { libc::timerfd_settime(self.0.as_raw_fd(), libc::TFD_TIMER_ABSTIME, &time, ptr::null_mut()) };
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sys::{monotonic_micros, wait_readable};

    #[test]
    fn it_is_readable_from_its_moment_on_until_it_is_set_again() {
        let timer = Timer::new().unwrap();
        let is_readable = |within| wait_readable(timer.as_fd(), Some(Duration::from_millis(within))).unwrap();
        assert!(!is_readable(0));
        let until = monotonic_micros() + 20_000;
        timer.set(Some(until));
        assert!(is_readable(60_000) && monotonic_micros() >= until);
        assert!(is_readable(0), "it was not read");
        timer.set(None);
        assert!(!is_readable(0));
        timer.set(Some(0));
        assert!(is_readable(60_000));
    }
}

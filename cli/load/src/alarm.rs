//! A timer that an event loop can wait for, finer than the milliseconds of epoll_wait(2).

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// timerfd_create(2).
#[derive(Debug)]
pub(crate) struct Alarm(OwnedFd);

impl Alarm {
    /// `None`: the system has none.
    pub(crate) fn new() -> Option<Alarm> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        timerfd_create(TimerfdClockId::Monotonic, flags).ok().map(Alarm)
    }

    /// Rings in so many nanoseconds, and not when it was to ring before.
    pub(crate) fn set(&self, ns: u64) {
        let ns = ns.max(1);
        let value = Timespec { tv_sec: (ns / 1_000_000_000) as i64, tv_nsec: (ns % 1_000_000_000) as _ };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        // It fails for a time that is none, which this is not.
        let _ = timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once);
    }
}

impl AsRawFd for Alarm {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

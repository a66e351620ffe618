//! DOOR: the few system calls that the standard library does not give: epoll, affinity, another process's clock.
//! Every unsafe line of this package is here.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Turns -1 into an error, once.
macro_rules! syscall {
    ($call:ident($($argument:expr),* $(,)?)) => {{
        // SAFETY: the caller of this macro passes what the manual page of the call asks for, and owns it.
        let result = unsafe { libc::$call($($argument),*) };
        if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
    }};
}

/// An epoll instance whose events carry an index.
#[derive(Debug)]
pub(crate) struct Epoll {
    fd: OwnedFd,
    events: Vec<libc::epoll_event>,
}

/// How a descriptor is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watch {
    /// Readable, reported again and again (level-triggered).
    Read,
    /// Readable or writable, level-triggered.
    ReadWrite,
    /// Readable or writable, each change once (edge-triggered).
    Edges,
}

impl Watch {
    fn bits(self) -> u32 {
        let bits = match self {
            Watch::Read => libc::EPOLLIN,
            Watch::ReadWrite => libc::EPOLLIN | libc::EPOLLOUT,
            Watch::Edges => libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLET,
        };
        bits as u32
    }
}

impl Epoll {
    /// `events_max`: how many one wait may bring.
    pub(crate) fn new(events_max: usize) -> io::Result<Epoll> {
        let raw = syscall!(epoll_create1(libc::EPOLL_CLOEXEC))?;
        // SAFETY: epoll_create1 has just given this descriptor to us alone.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        Ok(Epoll { fd, events: Vec::with_capacity(events_max) })
    }

    pub(crate) fn add(&self, fd: &impl AsRawFd, index: usize, watch: Watch) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd.as_raw_fd(), index, watch)
    }

    pub(crate) fn change(&self, fd: &impl AsRawFd, index: usize, watch: Watch) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd.as_raw_fd(), index, watch)
    }

    fn control(&self, operation: i32, fd: RawFd, index: usize, watch: Watch) -> io::Result<()> {
        let mut event = libc::epoll_event { events: watch.bits(), u64: index as u64 };
        syscall!(epoll_ctl(self.fd.as_raw_fd(), operation, fd, &mut event))?;
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

/// Keeps the calling thread, and what it starts from now on, on one core.
pub(crate) fn pin(core: usize) -> io::Result<()> {
    // SAFETY: cpu_set_t is an array of integers, for which zero is a value.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    if core >= 8 * size_of::<libc::cpu_set_t>() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("there is no core {core}")));
    }
    // SAFETY: CPU_SET writes within the set for a core below its size in bits, which was checked.
    unsafe { libc::CPU_SET(core, &mut set) };
    syscall!(sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set))?;
    Ok(())
}

/// The processor time that a process has used, all its threads together, user and system, in nanoseconds.
pub(crate) fn cpu_time_ns(pid: u32) -> io::Result<u64> {
    let mut clock = 0;
    // Unlike the others this call gives the error itself.
    // SAFETY: clock is ours to write to.
    let error = unsafe { libc::clock_getcpuclockid(pid as libc::pid_t, &mut clock) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    syscall!(clock_gettime(clock, &mut time))?;
    Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// As many descriptors as the system lets us have: a thousand connections need more than the usual soft limit.
pub(crate) fn raise_descriptor_limit() -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    syscall!(getrlimit(libc::RLIMIT_NOFILE, &mut limit))?;
    limit.rlim_cur = limit.rlim_max;
    syscall!(setrlimit(libc::RLIMIT_NOFILE, &limit))?;
    Ok(())
}

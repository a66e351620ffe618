//! The clock, the user and the signals of this process.

use std::mem::MaybeUninit;

/// The monotonic clock, in microseconds from a point of its own.
#[inline]
pub(crate) fn monotonic_micros() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes to `now`, and cannot fail with a clock that every Linux has (clock_gettime(2)).
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1000
}

/// The effective user of this process.
pub(crate) fn effective_user() -> u32 {
    // SAFETY: geteuid has no arguments and cannot fail.
    unsafe { libc::geteuid() }
}

/// Blocks every signal in the calling thread: signals belong to the host's threads (pthread_sigmask(3)). Those that a
/// thread brings upon itself stay open, for the host may have a handler that tells of crashes; blocked, they would
/// kill the process without it.
pub(crate) fn block_signals() {
    const FAULTS: [i32; 7] =
        [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT, libc::SIGTRAP, libc::SIGSYS];
    // SAFETY: sigset_t is plain data that sigfillset initialises; the old mask is not asked for. None of the calls
    // can fail with these arguments.
    unsafe {
        let mut blocked = MaybeUninit::<libc::sigset_t>::zeroed();
        libc::sigfillset(blocked.as_mut_ptr());
        for signal in FAULTS {
            libc::sigdelset(blocked.as_mut_ptr(), signal);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, blocked.as_ptr(), std::ptr::null_mut());
    }
}

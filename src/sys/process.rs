//! The clock and the user of this process.

/// The monotonic clock, in microseconds from a point of its own.
#[inline]
pub(crate) fn monotonic_micros() -> u64 {
    let now = monotonic();
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1000
}

/// The same in nanoseconds.
pub(crate) fn monotonic_nanos() -> u64 {
    let now = monotonic();
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[inline]
fn monotonic() -> libc::timespec {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes to `now`, and cannot fail with a clock that every Linux has (clock_gettime(2)).
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now
}

/// The effective user of this process.
pub(crate) fn effective_user() -> u32 {
    // SAFETY: geteuid has no arguments and cannot fail.
    unsafe { libc::geteuid() }
}

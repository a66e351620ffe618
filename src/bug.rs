//! Arms that cannot be reached, and what becomes of one that is: a fault of Resay itself, never an empty answer or
//! silence.
//!
//! A debug build ends there. A release build notes the fault for the worker whose thread this is, which emits it as an
//! event of level error with its place and counts it. Where a connection was in hand it is closed with a reset: what it
//! would be answered with cannot be trusted. None of this costs more than the branch that leads here.
//!
//! Memory that runs out for something large takes the same way out of the worker's hands.

use std::cell::Cell;
use std::fmt;
use std::panic::Location;
use std::slice::SliceIndex;
use std::sync::atomic::{AtomicBool, Ordering};

/// Faults of one thread that nobody has taken yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bugs {
    /// What was expected by the first of them, and where.
    expected: &'static str,
    place: &'static Location<'static>,
    pub(crate) count: u64,
}

impl fmt::Display for Bugs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Bugs { expected, place, .. } = self;
        write!(f, "internal error at {}:{}: expected {expected}", place.file(), place.line())
    }
}

/// Whether any thread has ever found one: while none has, looking costs one load.
static IS_ANY: AtomicBool = AtomicBool::new(false);

thread_local! {
    static FOUND: Cell<Option<Bugs>> = const { Cell::new(None) };
    /// What this thread has in hand is not to be trusted.
    static IS_TAINTED: Cell<bool> = const { Cell::new(false) };
}

/// What was `expected` does not hold, and what is in hand must not be answered. The caller goes on with whatever does
/// no harm.
#[cold]
#[inline(never)]
#[track_caller]
pub(crate) fn found(expected: &'static str) {
    debug_assert!(false, "expected {expected}");
    note(expected, true, Location::caller());
}

/// The same where no answer is in hand, or the caller closes the connection itself.
#[cold]
#[inline(never)]
#[track_caller]
pub(crate) fn found_aside(expected: &'static str) {
    debug_assert!(false, "expected {expected}");
    note(expected, false, Location::caller());
}

#[cold]
fn note(expected: &'static str, taints: bool, place: &'static Location<'static>) {
    put(Bugs { expected, place, count: 1 });
    IS_TAINTED.set(IS_TAINTED.get() || taints);
}

/// Notes what another thread has found on a worker's behalf.
#[cold]
pub(crate) fn put(bugs: Bugs) {
    IS_ANY.store(true, Ordering::Relaxed);
    let sum = FOUND.get().map_or(bugs, |before| Bugs { count: before.count + bugs.count, ..before });
    FOUND.set(Some(sum));
}

/// There is no memory for something that a host, a peer or an option has made large: what is in hand must not be answered, for
/// it is not whole. No fault of Resay's, so there is nothing to be told but that its connection is closed.
#[cold]
#[inline(never)]
pub(crate) fn out_of_memory() {
    IS_ANY.store(true, Ordering::Relaxed);
    IS_TAINTED.set(true);
}

/// Takes what this thread has found, if anything.
#[inline]
pub(crate) fn take() -> Option<Bugs> {
    if !IS_ANY.load(Ordering::Relaxed) {
        return None;
    }
    IS_TAINTED.set(false);
    FOUND.take()
}

/// Whether what this thread has in hand is not to be answered.
#[inline]
pub(crate) fn is_tainted() -> bool {
    IS_ANY.load(Ordering::Relaxed) && IS_TAINTED.get()
}

/// What is in hand has been given up.
#[cold]
pub(crate) fn give_up() {
    IS_TAINTED.set(false);
}

/// A part of a slice that is known to have it.
#[inline]
#[track_caller]
pub(crate) fn part<T, I: SliceIndex<[T], Output = [T]>>(slice: &[T], range: I) -> &[T] {
    match slice.get(range) {
        Some(part) => part,
        None => {
            found("a range within its bytes");
            &[]
        }
    }
}

/// The same, to be changed.
#[inline]
#[track_caller]
pub(crate) fn part_mut<T, I: SliceIndex<[T], Output = [T]>>(slice: &mut [T], range: I) -> &mut [T] {
    match slice.get_mut(range) {
        Some(part) => part,
        None => {
            found("a range within its bytes");
            &mut []
        }
    }
}

/// What a release build does, for tests of debug builds.
#[cfg(test)]
#[track_caller]
pub(crate) fn found_in_release(expected: &'static str) {
    note(expected, true, Location::caller());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_noted_with_its_place_and_taken_once() {
        assert!(!is_tainted() && take().is_none());
        let line = line!() + 1;
        found_in_release("nothing of the kind");
        found_in_release("the second is only counted");
        assert!(is_tainted());
        let bugs = take().unwrap();
        assert_eq!(bugs.count, 2);
        let text = format!("internal error at {}:{line}: expected nothing of the kind", file!());
        assert_eq!(bugs.to_string(), text);
        assert!(!is_tainted() && take().is_none());
    }

    #[test]
    #[cfg_attr(debug_assertions, should_panic(expected = "expected a range within its bytes"))]
    fn a_wrong_range_ends_a_debug_build() {
        assert_eq!(part(&[1, 2, 3], 1..), [2, 3]);
        assert_eq!(part_mut(&mut [1, 2, 3], 2..4), []);
        assert!(is_tainted() && take().is_some());
    }
}

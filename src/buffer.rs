//! Buffers that come back: what a peer does not take at once waits in one of these.
//!
//! Their sizes are for hosts, peers and options to choose, up to gigabytes. Where there is no memory of that size the process goes on:
//! what is in hand is marked as not to be answered (see [`bug::out_of_memory`]), and its connection is closed.

use crate::bug;
use crate::limits::{POOL_BUFFER_BYTES_MAX, POOL_BYTES_MAX};

/// Bytes on their way out; the first `start` of them have left already.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    bytes: Vec<u8>,
    start: usize,
}

impl Outgoing {
    pub(crate) fn new(bytes: Vec<u8>) -> Outgoing {
        Outgoing { bytes, start: 0 }
    }

    /// What has not left yet.
    pub(crate) fn rest(&self) -> &[u8] {
        bug::part(&self.bytes, self.start..)
    }

    /// The kernel took `count` bytes of [`rest`](Self::rest).
    pub(crate) fn advance(&mut self, count: usize) {
        self.start += count;
        if self.start > self.bytes.len() {
            bug::found_aside("a kernel that takes no more than it is given");
            self.start = self.bytes.len();
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.start == self.bytes.len()
    }

    /// The memory, for the pool.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Appends bytes, if there is memory for them.
#[inline]
#[must_use]
pub(crate) fn try_append(to: &mut Vec<u8>, bytes: &[u8]) -> bool {
    #[cfg(test)]
    if to.capacity() - to.len() < bytes.len() && is_scarce() {
        return false;
    }
    // Where there is no memory to grow in good time there may be for what is needed now.
    if to.try_reserve(bytes.len()).is_err() && to.try_reserve_exact(bytes.len()).is_err() {
        return false;
    }
    to.extend_from_slice(bytes);
    true
}

/// Appends bytes; without memory for them, what is in hand is given up.
#[inline]
pub(crate) fn append(to: &mut Vec<u8>, bytes: &[u8]) {
    if !try_append(to, bytes) {
        bug::out_of_memory();
    }
}

/// A copy, if there is memory for it.
pub(crate) fn try_copy(bytes: &[u8]) -> Option<Vec<u8>> {
    #[cfg(test)]
    if is_scarce() {
        return None;
    }
    let mut copy = Vec::new();
    copy.try_reserve_exact(bytes.len()).ok()?;
    copy.extend_from_slice(bytes);
    Some(copy)
}

/// Memory that comes back, sorted by size, so that a steady load allocates nothing and nobody gets much more than was
/// asked for: what is kept in a pooled vector costs at most twice its bytes.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    /// Free vectors whose capacity is at least 2^(CLASS_FIRST + index) bytes, and less than the next power.
    classes: [Vec<Vec<u8>>; CLASSES],
    /// The capacity of all of them.
    bytes: usize,
}

/// The smallest capacity that is worth keeping is 2^6 bytes.
const CLASS_FIRST: u32 = 6;
/// Up to and with [`POOL_BUFFER_BYTES_MAX`].
const CLASSES: usize = (POOL_BUFFER_BYTES_MAX.ilog2() - CLASS_FIRST + 1) as usize;

impl Pool {
    /// An empty vector with room for at least `capacity` bytes, or without any where there is no memory.
    pub(crate) fn take(&mut self, capacity: usize) -> Vec<u8> {
        let rounded = capacity.max(1 << CLASS_FIRST).next_power_of_two();
        let class = (rounded.ilog2() - CLASS_FIRST) as usize;
        // What is larger than the largest class is not kept.
        let Some(free) = self.classes.get_mut(class) else { return with_room(capacity) };
        match free.pop() {
            Some(bytes) => {
                self.bytes -= bytes.capacity();
                bytes
            }
            None => with_room(rounded),
        }
    }

    /// A vector with a copy of `bytes`; without memory for it, what is in hand is given up.
    pub(crate) fn copy_of(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut copy = self.take(bytes.len());
        append(&mut copy, bytes);
        copy
    }

    /// The same; `None`: there is no memory.
    pub(crate) fn try_copy_of(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut copy = self.take(bytes.len());
        try_append(&mut copy, bytes).then_some(copy)
    }

    /// Appends to a vector that may be moved into larger memory for that.
    pub(crate) fn append(&mut self, to: &mut Vec<u8>, bytes: &[u8]) {
        let needed = to.len() + bytes.len();
        // What is larger than the pool's grows where it is: its pages move, and not its bytes.
        if to.capacity() < needed && needed <= POOL_BUFFER_BYTES_MAX {
            let mut larger = self.take(needed);
            if larger.capacity() > to.capacity() {
                larger.extend_from_slice(to);
                self.put(std::mem::replace(to, larger));
            }
        }
        append(to, bytes);
    }

    /// Keeps the memory for later, within [`POOL_BYTES_MAX`].
    pub(crate) fn put(&mut self, mut bytes: Vec<u8>) {
        let capacity = bytes.capacity();
        if capacity < 1 << CLASS_FIRST || self.bytes + capacity > POOL_BYTES_MAX {
            return;
        }
        if let Some(free) = self.classes.get_mut((capacity.ilog2() - CLASS_FIRST) as usize) {
            bytes.clear();
            self.bytes += capacity;
            free.push(bytes);
        }
    }
}

/// Room for so many bytes, or none.
fn with_room(capacity: usize) -> Vec<u8> {
    #[cfg(test)]
    if is_scarce() {
        return Vec::new();
    }
    let mut bytes = Vec::new();
    // Whoever fills it finds out.
    let _ = bytes.try_reserve_exact(capacity);
    bytes
}

/// How many more allocations find memory before one does not; negative: all do. See `torture.rs`.
#[cfg(test)]
pub(crate) static SHORTAGE: std::sync::atomic::AtomicI64 = std::sync::atomic::AtomicI64::new(i64::MIN);

/// Whether there is no memory this time, for an engine under test.
#[cfg(test)]
fn is_scarce() -> bool {
    use std::sync::atomic::Ordering;
    SHORTAGE.load(Ordering::Relaxed) >= 0
        && std::thread::current().name().is_some_and(|name| name.starts_with("tortured"))
        && SHORTAGE.fetch_sub(1, Ordering::SeqCst) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_not_there_is_an_answer() {
        let mut pool = Pool::default();
        assert_eq!(pool.take(usize::MAX / 4).capacity(), 0);
        assert!(!bug::is_tainted());
        append(&mut Vec::new(), b"there");
        assert!(!bug::is_tainted());
        bug::out_of_memory();
        assert!(bug::is_tainted());
        assert!(bug::take().is_none(), "no fault of our own");
        assert!(!bug::is_tainted());
    }

    #[test]
    fn a_pool_gives_at_most_twice_what_was_asked_for() {
        let mut pool = Pool::default();
        for capacity in [100_000, 300, 64, 70_000, 4096, 1] {
            pool.put(Vec::with_capacity(capacity));
        }
        for asked in [1, 64, 65, 300, 5000, 100_000] {
            let given = pool.take(asked).capacity();
            assert!((asked..=(2 * asked).max(64)).contains(&given), "{asked}: {given}");
        }
    }

    #[test]
    fn a_pool_gives_back_what_it_got_and_keeps_a_bounded_amount() {
        let mut pool = Pool::default();
        let mut first = pool.take(1000);
        first.extend_from_slice(b"from before");
        let place = first.as_ptr();
        pool.put(first);
        let again = pool.take(900);
        assert_eq!((again.as_ptr(), again.len()), (place, 0));
        for _ in 0..2 * POOL_BYTES_MAX / POOL_BUFFER_BYTES_MAX {
            pool.put(Vec::with_capacity(POOL_BUFFER_BYTES_MAX));
        }
        pool.put(Vec::with_capacity(2 * POOL_BUFFER_BYTES_MAX));
        assert!(pool.bytes <= POOL_BYTES_MAX);
        assert_eq!(pool.bytes, pool.classes.iter().flatten().map(Vec::capacity).sum::<usize>());
    }
}

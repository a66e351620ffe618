//! Buffers that come back: what a peer does not take at once waits in one of these.

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
    /// An empty vector with room for at least `capacity` bytes.
    pub(crate) fn take(&mut self, capacity: usize) -> Vec<u8> {
        let rounded = capacity.max(1 << CLASS_FIRST).next_power_of_two();
        let class = (rounded.ilog2() - CLASS_FIRST) as usize;
        // What is larger than the largest class is not kept.
        let Some(free) = self.classes.get_mut(class) else { return Vec::with_capacity(capacity) };
        match free.pop() {
            Some(bytes) => {
                self.bytes -= bytes.capacity();
                bytes
            }
            None => Vec::with_capacity(rounded),
        }
    }

    /// A vector with a copy of `bytes`.
    pub(crate) fn copy_of(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut copy = self.take(bytes.len());
        copy.extend_from_slice(bytes);
        copy
    }

    /// Appends to a vector that may be moved into larger memory for that.
    pub(crate) fn append(&mut self, to: &mut Vec<u8>, bytes: &[u8]) {
        if to.capacity() - to.len() < bytes.len() {
            let mut larger = self.take(to.len() + bytes.len());
            larger.extend_from_slice(to);
            self.put(std::mem::replace(to, larger));
        }
        to.extend_from_slice(bytes);
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

#[cfg(test)]
mod tests {
    use super::*;

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

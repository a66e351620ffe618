//! Buffers that come back: what a peer does not take at once waits in one of these.

use crate::limits::{POOL_BUFFER_BYTES_MAX, POOL_BUFFERS_MAX};

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
        self.bytes.get(self.start..).unwrap_or_default()
    }

    /// The kernel took `count` bytes of [`rest`](Self::rest).
    pub(crate) fn advance(&mut self, count: usize) {
        self.start = (self.start + count).min(self.bytes.len());
    }

    pub(crate) fn is_done(&self) -> bool {
        self.start == self.bytes.len()
    }

    /// The memory, for the pool.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Empty vectors with capacity, so that a steady load allocates nothing.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    free: Vec<Vec<u8>>,
}

impl Pool {
    /// An empty vector with room for at least `capacity` bytes.
    pub(crate) fn take(&mut self, capacity: usize) -> Vec<u8> {
        let mut bytes = self.free.pop().unwrap_or_default();
        bytes.reserve(capacity);
        bytes
    }

    /// A vector with a copy of `bytes`.
    pub(crate) fn copy_of(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut copy = self.take(bytes.len());
        copy.extend_from_slice(bytes);
        copy
    }

    /// Keeps the memory for later, within bounds.
    pub(crate) fn put(&mut self, mut bytes: Vec<u8>) {
        let capacity = bytes.capacity();
        if capacity > 0 && capacity <= POOL_BUFFER_BYTES_MAX && self.free.len() < POOL_BUFFERS_MAX {
            bytes.clear();
            self.free.push(bytes);
        }
    }
}

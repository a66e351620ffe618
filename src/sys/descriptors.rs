//! Which descriptors are an engine's, so that a child of fork(2) can close its copies of them.
//!
//! Such a child has one thread. What the others were doing when it was made is left half done for ever: nothing that they
//! change may be looked at, except atomics. Hence a set of numbers made of them.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

const BITS: usize = 64;
/// A chunk has this many numbers.
const CHUNK: usize = 8 * 1024;
/// Descriptors above `CHUNK * CHUNKS` are not noted: fs.nr_open is 2^20 where nobody has raised it.
const CHUNKS: usize = 128;

type Chunk = [AtomicU64; CHUNK / BITS];

/// A set of descriptors. Adding and removing is for one thread at a time, looking for everyone.
pub(crate) struct Descriptors {
    chunks: [OnceLock<Box<Chunk>>; CHUNKS],
}

impl Default for Descriptors {
    fn default() -> Descriptors {
        Descriptors { chunks: [const { OnceLock::new() }; CHUNKS] }
    }
}

impl Descriptors {
    /// Notes one that is open.
    pub(crate) fn add(&self, fd: RawFd) {
        let Some((chunk, word, bit)) = place(fd) else { return };
        let Some(chunk) = self.chunks.get(chunk) else { return };
        let chunk = chunk.get_or_init(|| Box::new([const { AtomicU64::new(0) }; CHUNK / BITS]));
        if let Some(word) = chunk.get(word) {
            word.fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// Forgets one that is about to be closed.
    pub(crate) fn remove(&self, fd: RawFd) {
        let Some((chunk, word, bit)) = place(fd) else { return };
        if let Some(word) = self.chunks.get(chunk).and_then(OnceLock::get).and_then(|chunk| chunk.get(word)) {
            word.fetch_and(!bit, Ordering::Relaxed);
        }
    }

    /// Closes a socket that is not served after all. Whoever had it before may have noted it.
    pub(crate) fn close<T>(&self, socket: OwnedFd, why: io::Error) -> io::Result<T> {
        self.remove(socket.as_raw_fd());
        Err(why)
    }

    /// All of them, in order.
    pub(crate) fn list(&self) -> Vec<RawFd> {
        let mut found = Vec::new();
        for (chunk, words) in self.chunks.iter().enumerate() {
            let Some(words) = words.get() else { continue };
            for (word, bits) in words.iter().enumerate() {
                let bits = bits.load(Ordering::Relaxed);
                let numbers = (0..BITS).filter(|bit| bits & (1 << bit) != 0);
                found.extend(numbers.map(|bit| (chunk * CHUNK + word * BITS + bit) as RawFd));
            }
        }
        found
    }
}

fn place(fd: RawFd) -> Option<(usize, usize, u64)> {
    let number = usize::try_from(fd).ok()?;
    Some((number / CHUNK, number % CHUNK / BITS, 1 << (number % BITS)))
}

/// close(2) of a child's copy. What it was a copy of stays open in the parent.
pub(crate) fn close_copy(fd: RawFd) {
    // SAFETY: the caller leaves what thinks that it owns this number to itself for ever; a number that is not open is
    // an error that changes nothing.
    unsafe { libc::close(fd) };
}

impl std::fmt::Debug for Descriptors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.list()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_listed_until_it_is_removed() {
        let (here, there) = std::os::unix::net::UnixStream::pair().unwrap();
        let (here, there) = (OwnedFd::from(here), OwnedFd::from(there));
        let set = Descriptors::default();
        set.add(here.as_raw_fd());
        set.add(there.as_raw_fd());
        let mut expected = vec![here.as_raw_fd(), there.as_raw_fd()];
        expected.sort_unstable();
        assert_eq!(set.list(), expected);
        set.remove(here.as_raw_fd());
        assert_eq!(set.list(), [there.as_raw_fd()]);
    }
}

//! Memory whose size a host, a peer or an option chooses.

use std::alloc::{self, Layout};
use std::sync::atomic::AtomicU64;

/// So many zero bytes, which the system only maps as they are used; `None`: there is not so much memory.
pub(crate) fn zeroed(bytes: usize) -> Option<Vec<u8>> {
    zeroed_of(bytes)
}

/// The same in words.
pub(crate) fn zeroed_words(words: usize) -> Option<Vec<AtomicU64>> {
    zeroed_of(words)
}

/// What may be all zeros, and takes room.
trait Zero {}

impl Zero for u8 {}
impl Zero for AtomicU64 {}

fn zeroed_of<T: Zero>(count: usize) -> Option<Vec<T>> {
    if count == 0 {
        return Some(Vec::new());
    }
    let layout = Layout::array::<T>(count).ok()?;
    // SAFETY: the size is not zero.
    let memory = unsafe { alloc::alloc_zeroed(layout) };
    if memory.is_null() {
        return None;
    }
    // SAFETY: allocated just now, with the layout of so many, all of which are initialised: zeros are one of each.
    Some(unsafe { Vec::from_raw_parts(memory.cast(), count, count) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_zeroed_or_not_there() {
        assert_eq!(zeroed(3), Some(vec![0; 3]));
        assert_eq!(zeroed(0), Some(Vec::new()));
        assert_eq!(zeroed(usize::MAX), None);
        assert_eq!(zeroed(isize::MAX as usize), None);
        assert_eq!(zeroed_words(2).unwrap().into_iter().map(AtomicU64::into_inner).sum::<u64>(), 0);
        assert!(zeroed_words(usize::MAX).is_none() && zeroed_words(isize::MAX as usize / 8).is_none());
    }
}

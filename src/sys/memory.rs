//! Memory whose size a host, a peer or an option chooses.

use std::alloc::{self, Layout};

/// So many zeros, which the system only maps as they are used; `None`: there is not so much memory.
pub(crate) fn zeroed(bytes: usize) -> Option<Vec<u8>> {
    if bytes == 0 {
        return Some(Vec::new());
    }
    let layout = Layout::array::<u8>(bytes).ok()?;
    // SAFETY: the size is not zero.
    let memory = unsafe { alloc::alloc_zeroed(layout) };
    if memory.is_null() {
        return None;
    }
    // SAFETY: allocated just now, with the layout of so many bytes, all of which are initialised.
    Some(unsafe { Vec::from_raw_parts(memory, bytes, bytes) })
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
    }
}

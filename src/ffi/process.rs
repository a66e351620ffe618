//! The process that made an object of the host's, and whether this is still that one.

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use super::error::{Failure, RESAY_E_FORKED};

/// The process that made an object which lives for itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Process(u32);

impl Process {
    pub(super) fn this() -> Process {
        Process(number())
    }

    /// Whether this is a child of it.
    pub(super) fn is_other(self) -> bool {
        self.0 != number()
    }

    pub(super) fn refuse_other(self, what: &str) -> Result<(), Failure> {
        if self.is_other() {
            let message = format!("{what} belongs to the parent of this process");
            return Err(Failure::new(RESAY_E_FORKED, message));
        }
        Ok(())
    }
}

/// A page that the kernel fills with zeros in a child of fork(2); null: not asked for yet; `UNSUPPORTED`'s address: there is none.
static PAGE: AtomicPtr<AtomicU32> = AtomicPtr::new(ptr::null_mut());
static UNSUPPORTED: AtomicU32 = AtomicU32::new(0);
/// The number of the process that has last looked; a child has a copy.
static LATEST: AtomicU32 = AtomicU32::new(0);

/// A number that this process has neither in common with the one that it was forked from, nor with any before that. Without a
/// system call: C code asks for it with each call. It may be called in a signal handler.
#[inline]
fn number() -> u32 {
    let page = PAGE.load(Ordering::Acquire);
    if !page.is_null() && page != ptr::from_ref(&UNSUPPORTED).cast_mut() {
        // SAFETY: `map_page` made it, aligned and zeroed, and nobody unmaps it.
        let known = unsafe { &*page }.load(Ordering::Relaxed);
        if known != 0 {
            return known;
        }
    }
    number_anew()
}

#[cold]
fn number_anew() -> u32 {
    let mut page = PAGE.load(Ordering::Acquire);
    if page.is_null() {
        let made = map_page().unwrap_or(ptr::from_ref(&UNSUPPORTED).cast_mut());
        // Of two threads one is late; its page stays, unused.
        page = match PAGE.compare_exchange(ptr::null_mut(), made, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => made,
            Err(first) => first,
        };
    }
    if page == ptr::from_ref(&UNSUPPORTED).cast_mut() {
        return std::process::id();
    }
    // SAFETY: as above.
    let known = unsafe { &*page };
    let next = LATEST.fetch_add(1, Ordering::Relaxed).wrapping_add(1).max(1);
    match known.compare_exchange(0, next, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => next,
        Err(other) => other,
    }
}

/// mmap(2) and madvise(2); MADV_WIPEONFORK came with Linux 4.14.
fn map_page() -> Option<*mut AtomicU32> {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping of at least the size of a number, at a place that the kernel chooses.
    let page = unsafe { libc::mmap(ptr::null_mut(), size_of::<AtomicU32>(), protection, flags, -1, 0) };
    if page == libc::MAP_FAILED {
        return None;
    }
    // SAFETY: the mapping of just now, which nobody else knows.
    let is_wiped = unsafe { libc::madvise(page, size_of::<AtomicU32>(), libc::MADV_WIPEONFORK) } == 0;
    if !is_wiped {
        // SAFETY: the same.
        unsafe { libc::munmap(page, size_of::<AtomicU32>()) };
        return None;
    }
    Some(page.cast())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_has_a_number_of_its_own_and_so_has_its_child() {
        let own = number();
        assert_eq!(number(), own);
        let child = in_child(|| {
            let child = number();
            let is_new = child != own && number() == child;
            let of_child = in_child(|| {
                let grandchild = number();
                i32::from(grandchild != own && grandchild != child)
            });
            i32::from(is_new && of_child == 1)
        });
        assert_eq!(child, 1);
        assert_eq!(number(), own);
    }

    /// The exit status of a child that runs this, which must not allocate or lock.
    fn in_child(body: impl FnOnce() -> i32) -> i32 {
        let mut status = 0;
        // SAFETY: the child only calls what is async-signal-safe, and ends without running anybody's destructors.
        unsafe {
            let child = libc::fork();
            if child == 0 {
                libc::_exit(body());
            }
            assert_eq!(libc::waitpid(child, &mut status, 0), child);
        }
        libc::WEXITSTATUS(status)
    }
}

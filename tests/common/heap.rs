//! An allocator that counts, for the tests that say `#[global_allocator]`: what a process holds on its heap is exact,
//! where its pages also tell of arenas, stacks and the order in which threads ran.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Allocations of all threads that are not the test's own.
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
/// Bytes that were allocated and not freed, of all threads. Memory goes from thread to thread, so there is one figure.
static LIVE_BYTES: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Whether this thread is the test's own: the peers', whose allocations are nobody's business.
    static IS_PEER: Cell<bool> = const { Cell::new(false) };
}

/// The system's allocator, and the figures.
pub(crate) struct Counting;

/// Leaves the allocations of this thread out of [`allocations`].
pub(crate) fn leave_out_this_thread() {
    IS_PEER.set(true);
}

/// How often something was allocated or grown.
pub(crate) fn allocations() -> usize {
    ALLOCATIONS.load(Ordering::Relaxed)
}

/// Bytes on the heap.
pub(crate) fn live_bytes() -> u64 {
    LIVE_BYTES.load(Ordering::Relaxed) as u64
}

fn count(more: usize, less: usize) {
    LIVE_BYTES.fetch_add(more, Ordering::Relaxed);
    LIVE_BYTES.fetch_sub(less, Ordering::Relaxed);
    // A thread that ends has no thread-locals any more, and serves nobody.
    if more > 0 && IS_PEER.try_with(|is_peer| !is_peer.get()).unwrap_or(false) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: everything is the system allocator's doing; counting touches no memory that it gives.
unsafe impl GlobalAlloc for Counting {
    /// # Safety
    /// What the trait asks for.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    /// # Safety
    /// What the trait asks for.
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, layout.size());
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    /// # Safety
    /// What the trait asks for.
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size, layout.size());
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

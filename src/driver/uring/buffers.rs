//! Memory that the kernel chooses from when it receives: a ring of buffers, shared with it.
//!
//! ```text
//!   free (a stack) --publish--> ring --kernel takes--> in the driver's hands --give_back--> free
//! ```
//!
//! Only as many buffers as recent turns have needed are in the ring, and the one that came back last goes in first:
//! a calm engine touches a few hundred kilobytes of the mapping, and those stay in the caches.
//!
//! A burst touches more, up to all of the mapping where short reads have raised the number and long ones follow.
//! [`trim`](Buffers::trim) gives the pages of every buffer back to the kernel that nobody uses, also of those that are in the
//! ring: with `DEFER_TASKRUN` the kernel fills buffers during our calls of io_uring_enter(2) only, so between them a buffer in
//! the ring has nothing in it, and an address that is touched again is a page of zeros.

use std::io;
use std::ops::Range;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

use crate::limits::{
    RING_BUFFER_BYTES, RING_BUFFERS_AT_FIRST, RING_BUFFERS_MAX, RING_HEADROOM_BYTES, RING_KEPT_MAX,
    RING_MESSAGE_BUFFER_BYTES, RING_MESSAGE_BUFFERS_MAX, RING_TOUCHED_BYTES,
};
use crate::slab::Token;

/// What the buffers of a group are like. `headroom_bytes` make the distance from one to the next no power of two, so that
/// their beginnings do not share cache sets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group {
    /// What the kernel calls it.
    pub(super) id: u16,
    buffers_max: usize,
    headroom_bytes: usize,
    buffer_bytes: usize,
}

impl Group {
    /// Bytes of streams.
    pub(super) const STREAMS: Group = Group {
        id: 0,
        buffers_max: RING_BUFFERS_MAX,
        headroom_bytes: RING_HEADROOM_BYTES,
        buffer_bytes: RING_BUFFER_BYTES,
    };
    /// Datagrams and records, with their heads.
    pub(super) const MESSAGES: Group = Group {
        id: 1,
        buffers_max: RING_MESSAGE_BUFFERS_MAX,
        headroom_bytes: RING_HEADROOM_BYTES,
        buffer_bytes: RING_MESSAGE_BUFFER_BYTES,
    };

    fn stride(self) -> usize {
        self.headroom_bytes + self.buffer_bytes
    }
}

/// So many buffers keep their pages, whatever happens.
const TOUCHED_KEPT: usize = 2 * RING_BUFFERS_AT_FIRST;
/// What is given back goes in pieces of this; where pages are larger, the kernel refuses, and nothing is given back.
const PAGE_BYTES: usize = 4096;

/// Anonymous pages of our own, zero at first.
#[derive(Debug)]
struct Pages {
    start: NonNull<u8>,
    len: usize,
}

impl Pages {
    fn new(len: usize) -> io::Result<Pages> {
        // SAFETY: a new anonymous mapping, at an address that the kernel chooses.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        // SAFETY: the mapping that was just made. A child of a fork has no business in it, and sharing it would make
        // our next write go to a copy that the kernel does not know. Huge pages would fill it with the first short reads.
        unsafe {
            libc::madvise(start.as_ptr().cast(), len, libc::MADV_DONTFORK);
            libc::madvise(start.as_ptr().cast(), len, libc::MADV_NOHUGEPAGE);
        }
        Ok(Pages { start, len })
    }

    /// Gives back the pages that lie within `range` as a whole.
    fn give_back(&mut self, range: Range<usize>) {
        let (start, end) =
            (range.start.next_multiple_of(PAGE_BYTES), range.end.min(self.len) / PAGE_BYTES * PAGE_BYTES);
        if start < end {
            // SAFETY: within the mapping; what is there is read by nobody (the caller says so) and is zero afterwards.
            unsafe { libc::madvise(self.start.as_ptr().add(start).cast(), end - start, libc::MADV_DONTNEED) };
        }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the whole mapping, which nobody uses any more: the ring went before it (see `Uring`).
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// One group of a ring's buffers.
#[derive(Debug)]
pub(super) struct Buffers {
    group: Group,
    ring: Pages,
    memory: Pages,
    /// Entries ever published, modulo 2^16.
    tail: u16,
    in_ring: usize,
    /// How many are to be in the ring.
    target: usize,
    free: Vec<u16>,
    /// Buffers from here on have never been used.
    fresh: usize,
    /// The most bytes that one has got lately.
    largest: usize,
    /// Sockets whose receive found none.
    waiting: Vec<Token>,
    /// How many are with peers that do not read as fast as we send.
    kept: usize,
    /// Those that are in the driver's hands, and those that were since their pages were given back.
    in_hand: Ids,
    touched: Ids,
    /// How many there are of each, and the most of the former since [`trim`](Buffers::trim) was last asked.
    in_hand_count: usize,
    touched_count: usize,
    peak: usize,
    /// The most bytes that one of `touched` has got.
    touched_len: usize,
}

/// A set of buffers.
#[derive(Debug)]
struct Ids([u64; RING_BUFFERS_MAX / 64]);

impl Ids {
    #[inline]
    fn place(id: u16) -> (usize, u64) {
        (usize::from(id) / 64 % (RING_BUFFERS_MAX / 64), 1 << (id % 64))
    }

    #[inline]
    fn has(&self, id: u16) -> bool {
        let (word, bit) = Ids::place(id);
        self.0[word] & bit != 0
    }

    /// Whether it is new.
    #[inline]
    fn add(&mut self, id: u16) -> bool {
        let (word, bit) = Ids::place(id);
        let is_new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        is_new
    }

    #[inline]
    fn remove(&mut self, id: u16) {
        let (word, bit) = Ids::place(id);
        self.0[word] &= !bit;
    }
}

// SAFETY: the mappings belong to this value alone (and to the kernel, which does not care about threads).
unsafe impl Send for Buffers {}

impl Buffers {
    pub(super) fn new(group: Group) -> io::Result<Buffers> {
        Ok(Buffers {
            group,
            ring: Pages::new(group.buffers_max * size_of::<BufRingEntry>())?,
            memory: Pages::new(group.buffers_max * group.stride())?,
            tail: 0,
            in_ring: 0,
            target: RING_BUFFERS_AT_FIRST,
            free: Vec::new(),
            fresh: 0,
            largest: 0,
            waiting: Vec::new(),
            kept: 0,
            in_hand: Ids([0; RING_BUFFERS_MAX / 64]),
            touched: Ids([0; RING_BUFFERS_MAX / 64]),
            in_hand_count: 0,
            touched_count: 0,
            peak: 0,
            touched_len: 0,
        })
    }

    /// Tells the kernel of the ring of buffers.
    pub(super) fn register(&mut self, ring: &IoUring) -> io::Result<()> {
        let address = self.ring.start.as_ptr() as u64;
        // SAFETY: page-aligned memory for so many entries, which lives longer than the ring (see `Uring`).
        unsafe {
            ring.submitter().register_buf_ring_with_flags(
                address,
                self.group.buffers_max as u16,
                self.group.id,
                0,
            )?;
        }
        self.publish();
        Ok(())
    }

    /// Puts buffers into the ring, up to what is to be there.
    fn publish(&mut self) {
        if self.in_ring >= self.target {
            return;
        }
        // A few large ones or many small ones: a receive that finds none waits for the next turn.
        let Group { headroom_bytes, buffers_max, buffer_bytes, .. } = self.group;
        let most =
            (RING_TOUCHED_BYTES / (self.largest + headroom_bytes)).clamp(RING_BUFFERS_AT_FIRST, buffers_max);
        self.largest -= self.largest / 16;
        while self.in_ring < self.target {
            let id = match self.free.pop() {
                Some(id) => id,
                // Those that are kept are nobody else's loss.
                None if self.fresh < (most + self.kept).min(buffers_max) => {
                    self.fresh += 1;
                    (self.fresh - 1) as u16
                }
                None => break,
            };
            let place = usize::from(self.tail) % buffers_max;
            let address = self.start_of(id).as_ptr() as u64 + headroom_bytes as u64;
            // SAFETY: an entry within the ring, which was zeroed, and which the kernel does not read before the tail
            // has passed it. The tail itself lies in a field of the first entry that is not written here.
            let entry = unsafe { &mut *self.ring.start.cast::<BufRingEntry>().as_ptr().add(place) };
            entry.set_addr(address);
            entry.set_len(buffer_bytes as u32);
            entry.set_bid(id);
            self.tail = self.tail.wrapping_add(1);
            self.in_ring += 1;
        }
        // SAFETY: the first entry of a ring; the tail is an aligned u16 in it that the kernel only reads.
        let tail = unsafe { &*BufRingEntry::tail(self.ring.start.cast().as_ptr()).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }

    /// The kernel has put `len` bytes into one.
    #[inline]
    pub(super) fn taken(&mut self, id: u16, len: usize) {
        self.largest = self.largest.max(len);
        self.in_ring = self.in_ring.saturating_sub(1);
        self.in_hand.add(id);
        self.in_hand_count += 1;
        self.peak = self.peak.max(self.in_hand_count);
        self.touched_count += usize::from(self.touched.add(id));
        self.touched_len = self.touched_len.max(len);
    }

    /// Whether a burst may have touched so much more than is needed that [`trim`](Buffers::trim) should be asked even if nothing
    /// happens any more.
    pub(super) fn is_bloated(&self) -> bool {
        let idle = self.touched_count.saturating_sub(4 * self.in_hand_count);
        idle > TOUCHED_KEPT && idle * (self.touched_len + PAGE_BYTES) > RING_TOUCHED_BYTES
    }

    /// To be asked now and then, between two calls that enter the ring: gives back the pages of all that nobody uses, if many
    /// more were touched than were needed at once since it was last asked.
    pub(super) fn trim(&mut self) {
        let needed = (4 * self.peak).max(TOUCHED_KEPT);
        self.peak = self.in_hand_count;
        if self.touched_count <= needed {
            return;
        }
        self.target = self.target.min(needed.next_power_of_two());
        // In runs, mostly one.
        let stride = self.group.stride();
        let mut start = 0;
        for id in 0..=self.fresh {
            let is_in_use = id == self.fresh || self.in_hand.has(id as u16);
            if is_in_use {
                self.memory.give_back(start * stride..id * stride);
                start = id + 1;
            }
        }
        self.touched = Ids(self.in_hand.0);
        self.touched_count = self.in_hand_count;
        self.touched_len = 0;
    }

    /// A socket's receive found none (ENOBUFS).
    pub(super) fn note_enobufs(&mut self, token: Token) {
        self.waiting.push(token);
    }

    /// Puts buffers into the ring, more than before where there were none, and gives the sockets that may try again.
    pub(super) fn refill(&mut self) -> Vec<Token> {
        if !self.waiting.is_empty() {
            self.target = (self.target * 2).min(self.group.buffers_max);
        }
        self.publish();
        if self.in_ring == 0 { Vec::new() } else { std::mem::take(&mut self.waiting) }
    }

    /// A buffer that the kernel filled is not needed any more.
    pub(super) fn give_back(&mut self, id: u16) {
        debug_assert!(self.in_hand.has(id), "given back twice");
        self.in_hand.remove(id);
        self.in_hand_count = self.in_hand_count.saturating_sub(1);
        self.free.push(id);
    }

    /// Whether one more may stay out of the ring for as long as its bytes wait for a peer: a few may, which spares those
    /// who move much a copy; for many who do not read there would soon be none left to receive into.
    pub(super) fn keep(&mut self) -> bool {
        let may = self.kept < RING_KEPT_MAX;
        self.kept += usize::from(may);
        may
    }

    /// Gives back one that was kept, or was not.
    pub(super) fn release(&mut self, id: u16, was_kept: bool) {
        self.kept -= usize::from(was_kept);
        self.give_back(id);
    }

    /// How many the driver could put into the ring or has in it.
    #[cfg(test)]
    pub(super) fn available(&self) -> usize {
        self.in_ring + self.free.len() + (self.group.buffers_max - self.fresh)
    }

    /// How much of them is in memory (mincore(2)).
    #[cfg(test)]
    pub(super) fn resident_bytes(&self) -> usize {
        let mut pages = vec![0_u8; self.memory.len.div_ceil(PAGE_BYTES)];
        // SAFETY: the whole mapping, and a byte for each of its pages.
        let result =
            unsafe { libc::mincore(self.memory.start.as_ptr().cast(), self.memory.len, pages.as_mut_ptr()) };
        assert_eq!(result, 0);
        pages.iter().filter(|page| **page & 1 != 0).count() * PAGE_BYTES
    }

    fn start_of(&self, id: u16) -> NonNull<u8> {
        // A power of two: see `limits.rs`.
        let place = usize::from(id) & (self.group.buffers_max - 1);
        // SAFETY: within the mapping, which has room for so many.
        unsafe { self.memory.start.add(place * self.group.stride()) }
    }

    /// Headroom, and `len` bytes that the kernel put there. Only for a buffer that the kernel has filled and that was
    /// not given back.
    pub(super) fn bytes(&mut self, id: u16, len: usize) -> &mut [u8] {
        let Group { headroom_bytes, buffer_bytes, .. } = self.group;
        debug_assert!(len <= buffer_bytes, "more than fits");
        let len = headroom_bytes + len.min(buffer_bytes);
        // SAFETY: within the mapping, initialised (zero or received); the kernel writes to buffers in the ring only,
        // and this one is not; the borrow of `self` keeps every other slice away.
        unsafe { std::slice::from_raw_parts_mut(self.start_of(id).as_ptr(), len) }
    }
}

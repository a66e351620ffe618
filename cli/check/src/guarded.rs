//! Memory for the other side, between pages that nobody may touch. A step too far is a fault, and the fault says
//! which memory it was: see [`locate`].
//!
//! ```text
//!   | no access | data ..................................... | no access |
//!               ^ at(0, len)                       end(len) ^
//! ```

use crate::shared::Fault;
use std::ptr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Whose memory it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum Region {
    Input = 1,
    Output,
    Session,
    /// A struct of the host's.
    Struct,
    /// Room for an error's text.
    Text,
    /// The data of map() while it must not write.
    Observed,
}

impl Region {
    pub(crate) const ALL: [Region; 6] =
        [Region::Input, Region::Output, Region::Session, Region::Struct, Region::Text, Region::Observed];
}

/// How many guarded memories can be told apart at once.
const SLOTS: usize = 256;

/// Where guarded memories are, for the signal handler.
struct Slot {
    region: AtomicU64,
    data: AtomicUsize,
    bytes: AtomicUsize,
    guard: AtomicUsize,
}

static TABLE: [Slot; SLOTS] = [const {
    Slot {
        region: AtomicU64::new(0),
        data: AtomicUsize::new(0),
        bytes: AtomicUsize::new(0),
        guard: AtomicUsize::new(0),
    }
}; SLOTS];

/// Pages of ours, with [`GUARD_BYTES`] of forbidden ones on either side.
#[derive(Debug)]
pub(crate) struct GuardedMemory {
    mapping: *mut u8,
    mapped: usize,
    data: *mut u8,
    bytes: usize,
    slot: Option<usize>,
}

/// More than a step too far: a stride of a loop that lost its end.
const GUARD_BYTES: usize = 64 * 1024;
const PAGE_BYTES: usize = 64 * 1024; // a multiple of every page size in use

impl GuardedMemory {
    /// At least `bytes` of memory, zeroed; pages cost nothing until they are touched.
    pub(crate) fn new(region: Region, bytes: usize) -> GuardedMemory {
        let bytes = bytes.max(1).next_multiple_of(PAGE_BYTES);
        let mapped = bytes + 2 * GUARD_BYTES;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANON | libc::MAP_NORESERVE;
        // SAFETY: a new mapping, which is nobody else's.
        let mapping = unsafe { libc::mmap(ptr::null_mut(), mapped, libc::PROT_NONE, flags, -1, 0) };
        assert!(mapping != libc::MAP_FAILED, "no memory: {}", std::io::Error::last_os_error());
        let mapping = mapping.cast::<u8>();
        // SAFETY: within the mapping.
        let data = unsafe { mapping.add(GUARD_BYTES) };
        // SAFETY: pages of the mapping.
        let code = unsafe { libc::mprotect(data.cast(), bytes, libc::PROT_READ | libc::PROT_WRITE) };
        assert!(code == 0, "no memory: {}", std::io::Error::last_os_error());
        let free = |slot: &Slot| {
            slot.region.compare_exchange(0, region as u64, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        };
        let slot = TABLE.iter().position(free);
        if let Some(slot) = slot {
            TABLE[slot].data.store(data as usize, Ordering::Relaxed);
            TABLE[slot].bytes.store(bytes, Ordering::Relaxed);
            TABLE[slot].guard.store(GUARD_BYTES, Ordering::Relaxed);
        }
        GuardedMemory { mapping, mapped, data, bytes, slot }
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes
    }

    /// Where `len` bytes begin that end right before pages without access.
    pub(crate) fn end(&self, len: usize) -> *mut u8 {
        assert!(len <= self.bytes, "a guarded memory of {} bytes has no {len}", self.bytes);
        // SAFETY: within the data.
        unsafe { self.data.add(self.bytes - len) }
    }

    /// Where `len` bytes begin that are `offset` bytes into the memory.
    pub(crate) fn at(&self, offset: usize, len: usize) -> *mut u8 {
        assert!(
            offset + len <= self.bytes,
            "a guarded memory of {} bytes has no {offset} + {len}",
            self.bytes
        );
        // SAFETY: within the data.
        unsafe { self.data.add(offset) }
    }

    /// Lets the memory be read only, or written again.
    pub(crate) fn protect(&self, read_only: bool) {
        let access = if read_only { libc::PROT_READ } else { libc::PROT_READ | libc::PROT_WRITE };
        // SAFETY: pages of ours; no reference into them is held over this call.
        let code = unsafe { libc::mprotect(self.data.cast(), self.bytes, access) };
        assert!(code == 0, "{}", std::io::Error::last_os_error());
    }

    /// What faults in here are called from now on.
    pub(crate) fn call(&self, region: Region) {
        if let Some(slot) = self.slot {
            TABLE[slot].region.store(region as u64, Ordering::Relaxed);
        }
    }
}

impl Drop for GuardedMemory {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            TABLE[slot].data.store(0, Ordering::Relaxed);
            TABLE[slot].region.store(0, Ordering::Relaxed);
        }
        // SAFETY: mapped with this length; nothing of ours points into it any more.
        unsafe { libc::munmap(self.mapping.cast(), self.mapped) };
    }
}

/// Which memory an address belongs to. Safe in a signal handler.
pub(crate) fn locate(address: usize) -> Option<Fault> {
    TABLE.iter().find_map(|slot| {
        let region = slot.region.load(Ordering::Relaxed);
        let data = slot.data.load(Ordering::Relaxed);
        let bytes = slot.bytes.load(Ordering::Relaxed);
        let guard = slot.guard.load(Ordering::Relaxed);
        if region == 0 || data == 0 || address < data - guard || address >= data + bytes + guard {
            return None;
        }
        let (side, distance) = if address < data {
            (1, data - address)
        } else if address < data + bytes {
            (2, address - data)
        } else {
            (3, address - data - bytes)
        };
        Some(Fault { region, side, distance: distance as u64, access: 0 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_named() {
        let memory = GuardedMemory::new(Region::Session, 100);
        let end = memory.end(0) as usize;
        let side = |address| locate(address).map(|fault| (fault.region, fault.side, fault.distance));
        assert_eq!(side(end), Some((3, 3, 0)));
        assert_eq!(side(memory.at(0, 1) as usize - 1), Some((3, 1, 1)));
        assert_eq!(side(memory.at(5, 1) as usize), Some((3, 2, 5)));
        memory.call(Region::Input);
        assert_eq!(side(end + 7), Some((1, 3, 7)));
        drop(memory);
        assert_eq!(locate(end), None);
    }
}

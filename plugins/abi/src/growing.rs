//! Structs of the ABI whose size may differ in another minor version.

use crate::abi;
use core::mem::{MaybeUninit, size_of};

/// A struct of the ABI that grows by appending fields.
///
/// # Safety
/// It is `repr(C)`, begins with `struct_size: u32`, and a value of it whose bytes are all zero is valid.
pub unsafe trait Growing: Sized {}

// SAFETY: struct_size first; integers, raw pointers and optional functions may be zero.
unsafe impl Growing for abi::resay_io {}
// SAFETY: as above.
unsafe impl Growing for abi::resay_peer {}
// SAFETY: as above.
unsafe impl Growing for abi::resay_host {}
// SAFETY: as above.
unsafe impl Growing for abi::resay_transform {}
// SAFETY: as above.
unsafe impl Growing for abi::resay_select {}
// SAFETY: as above.
unsafe impl Growing for abi::resay_session_state {}
// SAFETY: as above.
unsafe impl Growing for abi::resay_filter {}
// SAFETY: as above.
unsafe impl Growing for abi::resay_filter_out {}
// SAFETY: as above.
unsafe impl Growing for abi::resay_library {}
// SAFETY: as above.
unsafe impl Growing for abi::resay_thread_check {}

/// Copies a struct of the other side to this side's size: fields that the other side does not know are zero, fields that
/// this side does not know are omitted. `struct_size` keeps the value of the other side.
///
/// # Safety
/// `theirs` points to a `T` of at least `struct_size` bytes, and of at least four.
pub unsafe fn read<T: Growing>(theirs: *const T) -> T {
    let mut ours = MaybeUninit::<T>::zeroed();
    // SAFETY: both have at least `size` bytes; zeroed bytes and theirs make a valid T by the trait.
    unsafe {
        let size = size_of::<T>().min(theirs.cast::<u32>().read() as usize);
        core::ptr::copy_nonoverlapping(theirs.cast::<u8>(), ours.as_mut_ptr().cast::<u8>(), size);
        ours.assume_init()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;

    #[test]
    fn what_is_missing_is_zero() {
        let size = offset_of!(abi::resay_peer, peer);
        let peer = abi::resay_peer {
            struct_size: size as u32,
            kind: abi::RESAY_STREAM,
            id: 7,
            local: c"here".as_ptr(),
            peer: c"behind the end".as_ptr(),
            listener: c"behind the end".as_ptr(),
            via: core::ptr::null(),
            facts: core::ptr::null(),
        };
        // SAFETY: size is less than what there is.
        let read = unsafe { read(&peer) };
        assert_eq!((read.struct_size as usize, read.kind, read.id), (size, abi::RESAY_STREAM, 7));
        assert!(!read.local.is_null());
        assert!(read.peer.is_null() && read.listener.is_null());
    }

    #[test]
    fn what_is_more_is_left_out() {
        #[repr(C)]
        struct Longer(abi::resay_peer, u64);
        let mut longer = Longer(
            abi::resay_peer {
                struct_size: size_of::<Longer>() as u32,
                kind: abi::RESAY_DATAGRAM,
                id: 0,
                local: core::ptr::null(),
                peer: core::ptr::null(),
                listener: c"last".as_ptr(),
                via: core::ptr::null(),
                facts: core::ptr::null(),
            },
            1,
        );
        longer.1 += 1;
        // SAFETY: as long as it says.
        let read = unsafe { read((&raw const longer).cast::<abi::resay_peer>()) };
        assert_eq!(read.kind, abi::RESAY_DATAGRAM);
        assert!(!read.listener.is_null());
    }
}

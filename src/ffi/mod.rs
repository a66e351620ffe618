//! Unsafe boundary: callers. The C API, in C's own names; `include/resay.h` is generated from the files of this module,
//! in the order in which `build.rs` names them, and their comments are the header's: plain words, no Rust links.
//!
//! This module uses only the crate's public names, and nothing in the crate uses it. Every function has the same structure:
//! check the pointers, convert C's values to Rust's, call the crate, convert the result back. A panic stops here.
//!
//! | file | content |
//! |---|---|
//! | `error.rs` | codes, `resay_error`, and the wrapper of every call |
//! | `engine.rs` | an engine behind a pointer: which calls are allowed now; options |
//! | `listener.rs` | listeners |
//! | `callback.rs` | functions of the host: what they may do, and their output |
//! | `transform.rs` | plugins, tables, callbacks, chains |
//! | `run.rs` | the three ways to run; stop, drain, join |
//! | `observe.rs` | statistics, the log |
//! | `event.rs` | the queue of events |
//! | `client.rs` | the blocking client |
#![allow(non_camel_case_types)]
// Public to the linker, through `no_mangle`, and not to other Rust code.
#![allow(unreachable_pub)]
// The C documentation names the errors and the conditions; `# Safety` sections would go into the header.
#![allow(clippy::missing_safety_doc)]
// [*] and [1] are no links.
#![allow(rustdoc::broken_intra_doc_links)]

mod callback;
mod client;
mod engine;
mod error;
mod event;
mod listener;
mod observe;
mod run;
mod transform;

use std::ffi::{CStr, c_char};
use std::ptr;
use std::time::Duration;

use error::{Failure, RESAY_E_ARG, RESAY_E_FULL};

/// The version of this interface. It changes only when existing programs would break. The SONAME,
/// libresay.so.1, contains it.
pub const RESAY_ABI: u32 = 1u32;

/// Reads a string of the caller.
///
/// # Safety
/// `text` is NULL or ended by NUL, and lives during the call.
unsafe fn text_of<'a>(text: *const c_char, what: &str) -> Result<&'a str, Failure> {
    if text.is_null() {
        return Err(Failure::null(what));
    }
    // SAFETY: the caller's.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map_err(|_| Failure::new(RESAY_E_ARG, format!("{what} is not UTF-8")))
}

/// Copies `text` and a NUL into the caller's buffer, and writes the size needed to `need`.
///
/// # Safety
/// `buf` is NULL or has `cap` bytes; `need` is NULL or the caller's own.
unsafe fn give_text(text: &str, buf: *mut c_char, cap: usize, need: *mut usize) -> Result<(), Failure> {
    // SAFETY: NULL or the caller's own.
    if let Some(need) = unsafe { need.as_mut() } {
        *need = text.len() + 1;
    }
    if cap <= text.len() {
        return Err(Failure::new(
            RESAY_E_FULL,
            format!("the buffer is too small: {} bytes are needed", text.len() + 1),
        ));
    }
    if buf.is_null() {
        return Err(Failure::null("buf"));
    }
    // SAFETY: the buffer has `cap` bytes, which is more than the text.
    unsafe {
        ptr::copy_nonoverlapping(text.as_ptr().cast(), buf, text.len());
        buf.add(text.len()).write(0);
    }
    Ok(())
}

/// Copies `text`, cut at a character and ended by NUL.
fn fill(place: &mut [c_char], text: &str) {
    let mut len = text.len().min(place.len().saturating_sub(1));
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    for (to, from) in place.iter_mut().zip(text.as_bytes().iter().take(len).chain([&0])) {
        *to = *from as c_char;
    }
}

/// Largest plausible `struct_size`; a larger value is an uninitialised field.
const STRUCT_BYTES_MAX: usize = 64 * 1024;

/// Fills a struct of the caller, who knows `struct_size` bytes of it. Fields that the caller does not know are omitted; fields
/// that only the caller knows become zero. The first field, the size, stays.
///
/// # Safety
/// `T` is `repr(C)` without padding, its first field is a u32, and `to` is NULL or points to a u32 that is the size of
/// what is there, all of it writable.
unsafe fn give_struct<T>(to: *mut T, from: &T, what: &str) -> Result<(), Failure> {
    const SIZE_BYTES: usize = size_of::<u32>();
    if to.is_null() {
        return Err(Failure::null(what));
    }
    // SAFETY: the caller's.
    let theirs = unsafe { to.cast::<u32>().read() } as usize;
    if !(2 * SIZE_BYTES..=STRUCT_BYTES_MAX).contains(&theirs) {
        let message = format!("{what}->struct_size is {theirs}: set it to sizeof *{what}");
        return Err(Failure::new(RESAY_E_ARG, message));
    }
    let known = theirs.min(size_of::<T>());
    let (to, from) = (to.cast::<u8>(), ptr::from_ref(from).cast::<u8>());
    // SAFETY: both have the bytes that are copied, and the caller's has those that are zeroed.
    unsafe {
        ptr::copy_nonoverlapping(from.add(SIZE_BYTES), to.add(SIZE_BYTES), known - SIZE_BYTES);
        ptr::write_bytes(to.add(known), 0, theirs - known);
    }
    Ok(())
}

/// A timeout in milliseconds; negative: none.
fn timeout_of(milliseconds: i32) -> Option<Duration> {
    u64::try_from(milliseconds).ok().map(Duration::from_millis)
}

/// For ever, as far as a condition variable can count.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(C)]
    #[derive(Debug, PartialEq, Eq, Clone, Copy)]
    struct Sample {
        struct_size: u32,
        first: u32,
        second: u64,
        third: u64,
    }

    #[test]
    fn structs_of_other_sizes_are_filled_as_far_as_both_know_them() {
        let ours = Sample { struct_size: 0, first: 1, second: 2, third: 3 };
        let give = |size: u32| {
            let mut theirs = [Sample { struct_size: size, first: 9, second: 9, third: 9 }; 2];
            // SAFETY: there is room for two.
            let given = unsafe { give_struct(theirs.as_mut_ptr(), &ours, "it") };
            given.map(|()| theirs).map_err(|failure| failure.code)
        };
        let untouched = |size| Sample { struct_size: size, first: 9, second: 9, third: 9 };
        let [first, second] = give(24).unwrap();
        assert_eq!((first, second), (Sample { struct_size: 24, ..ours }, untouched(24)));
        let [first, second] = give(16).unwrap();
        assert_eq!(first, Sample { struct_size: 16, third: 9, ..ours });
        assert_eq!(second, untouched(16));
        let [first, second] = give(40).unwrap();
        assert_eq!(first, Sample { struct_size: 40, ..ours });
        assert_eq!(second, Sample { struct_size: 0, first: 0, second: 0, third: 9 });
        assert_eq!(give(0), Err(RESAY_E_ARG));
        assert_eq!(give(7), Err(RESAY_E_ARG));
        assert_eq!(give(u32::MAX), Err(RESAY_E_ARG));
    }

    #[test]
    fn texts_are_cut_at_a_character() {
        let mut place = [1 as c_char; 4];
        fill(&mut place, "abä");
        assert_eq!(place.map(|byte| byte as u8), [b'a', b'b', 0, 1]);
        fill(&mut place, "abcdef");
        assert_eq!(place.map(|byte| byte as u8), *b"abc\0");
    }
}

//! Memory of the caller: texts and structs, read and filled.

use std::ffi::{CStr, c_char, c_void};
use std::mem::MaybeUninit;
use std::ptr;
use std::slice;

use super::error::{Failure, RESAY_E_ARG, RESAY_E_FULL};

/// Reads a string of the caller.
///
/// # Safety
/// `text` is NULL or ended by NUL, and lives during the call.
pub(super) unsafe fn text_of<'a>(text: *const c_char, what: &str) -> Result<&'a str, Failure> {
    if text.is_null() {
        return Err(Failure::null(what));
    }
    // SAFETY: the caller's.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map_err(|_| Failure::new(RESAY_E_ARG, format!("{what} is not UTF-8")))
}

/// A length of which there can be memory at `pointer`.
pub(super) fn length_of(len: usize, pointer: *const c_void, what: &str) -> Result<usize, Failure> {
    if len > isize::MAX as usize {
        return Err(Failure::new(RESAY_E_ARG, format!("{what} cannot have {len} bytes")));
    }
    if len > 0 && pointer.is_null() {
        return Err(Failure::null(what));
    }
    Ok(len)
}

/// Bytes of the caller.
///
/// # Safety
/// `data` is NULL or has `len` bytes, which stay as they are during the call.
pub(super) unsafe fn bytes_of<'a>(data: *const c_void, len: usize, what: &str) -> Result<&'a [u8], Failure> {
    Ok(match length_of(len, data, what)? {
        0 => &[],
        // SAFETY: the caller's.
        len => unsafe { slice::from_raw_parts(data.cast(), len) },
    })
}

/// Where the caller wants what a call makes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Out<T>(*mut T);

/// Makes a place empty, so that it is NULL, or 0, after every failure: to be called before anything can fail.
///
/// # Safety
/// `out` is NULL or the caller's own, and can be written to during the call.
pub(super) unsafe fn cleared<T: Default>(out: *mut T) -> Out<T> {
    Out(out).give(T::default());
    Out(out)
}

impl<T> Out<T> {
    /// Refuses NULL: nobody would know what was made.
    pub(super) fn or_refuse(self) -> Result<Out<T>, Failure> {
        if self.0.is_null() { Err(Failure::null("out")) } else { Ok(self) }
    }

    /// Gives what was made, if the caller wants to know.
    pub(super) fn give(self, made: T) {
        if !self.0.is_null() {
            // SAFETY: the caller's own pointer, as `cleared` was promised.
            unsafe { self.0.write(made) }
        }
    }
}

/// Copies `text` and a NUL into the caller's buffer, and writes the size needed to `need`.
///
/// # Safety
/// `buf` is NULL or has `cap` bytes; `need` is NULL or the caller's own.
pub(super) unsafe fn give_text(
    text: &str,
    buf: *mut c_char,
    cap: usize,
    need: *mut usize,
) -> Result<(), Failure> {
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

/// Largest plausible `struct_size`; a larger value is an uninitialised field.
pub(super) const STRUCT_BYTES_MAX: usize = 64 * 1024;

/// Fills a struct of the caller, who knows `struct_size` bytes of it. Fields that the caller does not know are omitted; fields
/// that only the caller knows become zero. The first field, the size, stays.
///
/// # Safety
/// `T` is `repr(C)` without padding, its first field is a u32, and `to` is NULL or points to a u32 that is the size of
/// what is there, all of it writable.
pub(super) unsafe fn give_struct<T>(to: *mut T, from: &T, what: &str) -> Result<(), Failure> {
    const SIZE_BYTES: usize = size_of::<u32>();
    if to.is_null() {
        return Err(Failure::null(what));
    }
    // SAFETY: the caller's.
    let theirs = unsafe { to.cast::<u32>().read() } as usize;
    if !(STRUCT_BYTES_MIN..=STRUCT_BYTES_MAX).contains(&theirs) {
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

/// The fields that the first version of most structs begins with: the size, and one more.
pub(super) const STRUCT_BYTES_MIN: usize = 2 * size_of::<u32>();

/// Reads a struct of the caller, who knows `struct_size` bytes of it, at least `bytes_min`; fields that the caller does not
/// know are 0. What only the caller knows must be 0.
///
/// # Safety
/// `T` is `repr(C)`, its first field is a u32, zeros and what a caller may say are values of it, and `from` is NULL or points
/// to a u32 that is the size of what is there.
pub(super) unsafe fn take_struct<T: Copy>(
    from: *const T,
    bytes_min: usize,
    what: &str,
) -> Result<T, Failure> {
    if from.is_null() {
        return Err(Failure::null(what));
    }
    // SAFETY: the caller's.
    let theirs = unsafe { from.cast::<u32>().read() } as usize;
    if !(bytes_min..=STRUCT_BYTES_MAX).contains(&theirs) {
        let message = format!("{what}->struct_size is {theirs}: set it to sizeof *{what}");
        return Err(Failure::new(RESAY_E_ARG, message));
    }
    let known = theirs.min(size_of::<T>());
    let mut taken = MaybeUninit::<T>::zeroed();
    // SAFETY: both have the bytes that are copied.
    unsafe { ptr::copy_nonoverlapping(from.cast::<u8>(), taken.as_mut_ptr().cast::<u8>(), known) };
    // SAFETY: the caller has as many bytes as the size says.
    let unknown = (known..theirs).any(|place| unsafe { from.cast::<u8>().add(place).read() } != 0);
    if unknown {
        let message = format!("{what} has fields that this version of the library does not know");
        return Err(Failure::new(RESAY_E_ARG, message));
    }
    // SAFETY: what the caller says, and zeros.
    Ok(unsafe { taken.assume_init() })
}

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
    fn structs_of_other_sizes_are_read_as_far_as_both_know_them() {
        let read = |size: u32, rest: u64| {
            let theirs = [
                Sample { struct_size: size, first: 1, second: 2, third: 3 },
                Sample { struct_size: 0, first: 0, second: rest, third: 0 },
            ];
            // SAFETY: there are two.
            unsafe { take_struct(theirs.as_ptr(), STRUCT_BYTES_MIN, "it") }.map_err(|failure| failure.code)
        };
        assert_eq!(read(24, 0), Ok(Sample { struct_size: 24, first: 1, second: 2, third: 3 }));
        assert_eq!(read(16, 0), Ok(Sample { struct_size: 16, first: 1, second: 2, third: 0 }));
        assert_eq!(read(40, 0), Ok(Sample { struct_size: 40, first: 1, second: 2, third: 3 }));
        assert_eq!(read(40, 1), Err(RESAY_E_ARG));
        assert_eq!(read(7, 0), Err(RESAY_E_ARG));
        assert_eq!(read(u32::MAX, 0), Err(RESAY_E_ARG));
    }
}

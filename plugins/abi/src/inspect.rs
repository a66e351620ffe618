//! The first look at what a plugin returns: whether its pointers can be followed, whether sizes and counts are possible,
//! and whether a table says something that a host can do. The engine and `resay plugin check` both look through this,
//! so that what one refuses the other does.

use crate::abi::{self, resay_library, resay_option, resay_transform};
use crate::growing::{self, Growing};
use core::ffi::{CStr, c_char};
use core::mem::align_of;
use core::slice;

/// Sessions are small; more is a mistake in the table.
pub const SESSION_BYTES_MAX: u32 = 1024 * 1024;
/// The largest alignment of a session.
pub const SESSION_ALIGN_MAX: u32 = 4096;
/// The largest struct, of whatever revision.
const STRUCT_BYTES_MAX: u32 = 64 * 1024;
/// The most transforms of a library, and the most options of a transform.
const COUNT_MAX: u32 = 4096;

/// The needs that this revision of the header defines.
const NEEDS_KNOWN: u32 = abi::RESAY_NEED_MESSAGES | abi::RESAY_NEED_OFFLOAD;

/// Reads a struct that grows, of at least this many bytes.
///
/// # Safety
/// `raw` is NULL, or not aligned, or points to a `T` of at least `struct_size` bytes, and of at least four.
pub unsafe fn read<T: Growing>(name: &str, raw: *const T, bytes_min: usize) -> Result<T, String> {
    if raw.is_null() {
        return Err(format!("the {name} is NULL"));
    }
    if !raw.is_aligned() {
        return Err(format!("the {name} is not at a multiple of {} bytes", align_of::<T>()));
    }
    // SAFETY: aligned, and at least four bytes.
    let bytes = unsafe { raw.cast::<u32>().read() };
    if (bytes as usize) < bytes_min {
        return Err(format!("struct_size {bytes} is too small for a {name}"));
    }
    if bytes > STRUCT_BYTES_MAX {
        return Err(format!("struct_size {bytes} is too large for a {name}"));
    }
    // SAFETY: the caller's.
    Ok(unsafe { growing::read(raw) })
}

/// The tables of a library, not looked at themselves.
///
/// # Safety
/// `library` was read from a library that stays loaded; its list has the length that it says, if that is possible.
pub unsafe fn tables(library: &resay_library) -> Result<&'static [*const resay_transform], String> {
    if library.n == 0 || library.transforms.is_null() {
        return Err("offers no transform".to_owned());
    }
    // SAFETY: the caller's.
    unsafe { list("transforms", library.transforms, library.n) }
}

/// The options of a transform.
///
/// # Safety
/// As for [`tables`], of a table.
pub unsafe fn options(transform: &resay_transform) -> Result<&'static [resay_option], String> {
    if transform.n_options == 0 {
        return Ok(&[]);
    }
    if transform.options.is_null() {
        return Err(format!("options is NULL, n_options is {}", transform.n_options));
    }
    // SAFETY: the caller's.
    unsafe { list("options", transform.options, transform.n_options) }
}

/// # Safety
/// `first` is not NULL; the list has `count` items, if that is possible, and stays.
unsafe fn list<T>(name: &str, first: *const T, count: u32) -> Result<&'static [T], String> {
    if count > COUNT_MAX {
        return Err(format!("says that it has {count} {name}; at most {COUNT_MAX} are possible"));
    }
    if !first.is_aligned() {
        return Err(format!("the list of {name} is not at a multiple of {} bytes", align_of::<T>()));
    }
    // SAFETY: aligned; the rest is the caller's.
    Ok(unsafe { slice::from_raw_parts(first, count as usize) })
}

/// Reads a table of at least this many bytes: its fields and its id.
///
/// # Safety
/// As for [`read`]; its strings are NULL or end with NUL, and all of it stays as it is.
pub unsafe fn transform(
    raw: *const resay_transform,
    bytes_min: usize,
) -> Result<(resay_transform, &'static str), String> {
    // SAFETY: the caller's.
    let fields = unsafe { read("resay_transform", raw, bytes_min) }?;
    // SAFETY: the caller's.
    let id = unsafe { text(fields.id) }.ok_or("the id is missing or not UTF-8")?;
    if !is_name(id) {
        return Err(format!("the id {id:?} is not a name ([a-z0-9][a-z0-9._-]*)"));
    }
    let unknown = fields.needs & !NEEDS_KNOWN;
    if unknown != 0 {
        return Err(format!("{id}: needs what this engine does not know (bits {unknown:#x})"));
    }
    if fields.map.is_none() && fields.process.is_none() {
        return Err(format!("{id}: has neither map nor process"));
    }
    if fields.threading > abi::RESAY_SERIAL {
        return Err(format!("{id}: unknown threading {}", fields.threading));
    }
    let align = fields.session_align;
    if align != 0 && !(align.is_power_of_two() && align <= SESSION_ALIGN_MAX) {
        return Err(format!("{id}: session_align {align} is not a power of two up to {SESSION_ALIGN_MAX}"));
    }
    if fields.session_size > SESSION_BYTES_MAX {
        return Err(format!("{id}: session_size {} is over {SESSION_BYTES_MAX}", fields.session_size));
    }
    // SAFETY: the caller's.
    unsafe { options(&fields) }.map_err(|what| format!("{id}: {what}"))?;
    Ok((fields, id))
}

/// Whether a chain can name it: `[a-z0-9][a-z0-9._-]*`.
pub fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    let first = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    bytes.next().is_some_and(first) && bytes.all(|b| first(b) || matches!(b, b'.' | b'_' | b'-'))
}

/// # Safety
/// `pointer` is NULL or a string that ends with NUL and stays.
unsafe fn text(pointer: *const c_char) -> Option<&'static str> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: the caller's.
    unsafe { CStr::from_ptr(pointer) }.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::size_of;
    use core::ptr;

    fn library(n: u32, transforms: *const *const resay_transform) -> resay_library {
        let struct_size = size_of::<resay_library>() as u32;
        resay_library { struct_size, abi_minor: 0, flags: 0, n, transforms, shutdown: None }
    }

    #[test]
    fn impossible_counts_and_pointers_are_not_followed() {
        let table: *const resay_transform = ptr::null();
        // SAFETY: what cannot be read is refused before it is; the last list has one item.
        unsafe {
            let refused = |library| tables(&library).unwrap_err();
            assert!(refused(library(0, &table)).contains("no transform"));
            assert!(refused(library(1, ptr::null())).contains("no transform"));
            assert!(refused(library(0x7fff_ffff, &table)).contains("2147483647 transforms"));
            assert!(refused(library(1, ptr::without_provenance(9))).contains("multiple of 8"));
            assert_eq!(tables(&library(1, &raw const table)).unwrap().len(), 1);
        }
    }

    #[test]
    fn impossible_tables_are_not_read() {
        let read = |raw| {
            // SAFETY: NULL, not aligned, or four bytes whose size is refused.
            unsafe { read::<resay_transform>("table", raw, 16) }.map(drop).unwrap_err()
        };
        assert!(read(ptr::null()).contains("is NULL"));
        assert!(read(ptr::without_provenance(9)).contains("multiple of 8"));
        for (size, what) in [(12_u64, "too small"), (1 << 30, "too large")] {
            assert!(read(ptr::from_ref(&size).cast()).contains(what), "{size}");
        }
    }
}

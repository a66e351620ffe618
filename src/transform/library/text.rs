//! Words of the other side.

use std::ffi::{CStr, c_char};

use resay_plugin::abi::resay_text;

const ERROR_TEXT_BYTES: usize = 512;

/// A buffer for the other side's words.
pub(super) struct ErrorText {
    bytes: [u8; ERROR_TEXT_BYTES],
}

impl ErrorText {
    pub(super) fn new() -> ErrorText {
        ErrorText { bytes: [0; ERROR_TEXT_BYTES] }
    }

    /// One byte less than there is: an end is always there.
    pub(super) fn as_abi(&mut self) -> resay_text {
        resay_text { buf: self.bytes.as_mut_ptr().cast(), cap: ERROR_TEXT_BYTES - 1 }
    }

    pub(super) fn or(&self, otherwise: &str) -> String {
        match CStr::from_bytes_until_nul(&self.bytes) {
            Ok(text) if !text.is_empty() => text.to_string_lossy().into_owned(),
            _ => otherwise.to_owned(),
        }
    }
}

/// A C string of the other side. NULL and what is not UTF-8 are `None`.
///
/// # Safety
/// `pointer` is NULL or NUL-terminated and lives for `'a`.
pub(super) unsafe fn text<'a>(pointer: *const c_char) -> Option<&'a str> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: the caller's.
    unsafe { CStr::from_ptr(pointer) }.to_str().ok()
}

//! The errors of create() and session_open(), and text that fits the caller's memory.

use crate::abi;
use core::ffi::c_char;
use core::fmt::{self, Write};
use std::borrow::Cow;

/// Why a transform cannot be created, or refuses a peer: a status and one line of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    status: abi::resay_status,
    text: Cow<'static, str>,
}

impl Error {
    /// An option is invalid. The text names the option and the reason.
    pub fn config(text: impl Into<Cow<'static, str>>) -> Self {
        Self { status: abi::RESAY_E_CONFIG, text: text.into() }
    }

    /// Not supported here.
    pub fn unsupported(text: impl Into<Cow<'static, str>>) -> Self {
        Self { status: abi::RESAY_E_UNSUPPORTED, text: text.into() }
    }

    /// Out of memory.
    pub fn no_memory() -> Self {
        Self { status: abi::RESAY_E_NOMEM, text: Cow::Borrowed("out of memory") }
    }

    pub(crate) fn from_host(status: abi::resay_status, text: String) -> Self {
        Self { status, text: text.into() }
    }

    /// The RESAY_E_ code.
    pub fn status(&self) -> abi::resay_status {
        self.status
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Error {}

/// Formats into borrowed memory; what does not fit is cut, at a character's boundary.
pub(crate) struct Clipped<'a> {
    memory: &'a mut [u8],
    len: usize,
    full: bool,
}

impl<'a> Clipped<'a> {
    pub(crate) fn new(memory: &'a mut [u8]) -> Self {
        Self { memory, len: 0, full: false }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.memory[..self.len]
    }
}

impl Write for Clipped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if !self.full {
            let fits = floor_char_boundary(text, self.memory.len() - self.len);
            self.memory[self.len..self.len + fits].copy_from_slice(&text.as_bytes()[..fits]);
            self.len += fits;
            self.full = fits < text.len();
        }
        Ok(())
    }
}

/// Writes an error's text where the host wants it: cut to fit, NUL-ended.
///
/// # Safety
/// `err` is NULL, or what the ABI promises of a `resay_text`: `cap` bytes at `buf`, ours for the call.
pub(crate) unsafe fn write_text(err: *mut abi::resay_text, text: &str) {
    // SAFETY: by the contract; NULL becomes None.
    let Some(err) = (unsafe { err.as_ref() }) else { return };
    if err.buf.is_null() || err.cap == 0 {
        return;
    }
    let len = floor_char_boundary(text, err.cap - 1);
    // SAFETY: len + 1 <= cap bytes at buf are ours; text is not in them, for it is borrowed.
    unsafe {
        core::ptr::copy_nonoverlapping(text.as_ptr(), err.buf.cast::<u8>(), len);
        *err.buf.add(len) = 0;
    }
}

/// `str::floor_char_boundary`, which is younger than the oldest Rust that this crate supports.
fn floor_char_boundary(text: &str, index: usize) -> usize {
    if index >= text.len() {
        return text.len();
    }
    (0..=index).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0)
}

/// The text in a NUL-ended buffer that somebody else filled.
pub(crate) fn text_of(memory: &[c_char]) -> String {
    let bytes: Vec<u8> = memory.iter().map(|&c| c as u8).take_while(|&c| c != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(cap: usize, text: &str) -> String {
        let mut memory = vec![0x7f as c_char; cap + 1];
        let mut err = abi::resay_text { buf: memory.as_mut_ptr(), cap };
        // SAFETY: cap bytes at buf, and one more that must stay.
        unsafe { write_text(&mut err, text) };
        assert_eq!(memory[cap], 0x7f, "wrote behind the end");
        assert!(memory[..cap].contains(&0), "no NUL");
        text_of(&memory[..cap])
    }

    #[test]
    fn text_is_cut_on_a_character() {
        assert_eq!(told(1, "größe"), "");
        assert_eq!(told(4, "größe"), "gr");
        assert_eq!(told(5, "größe"), "grö");
        assert_eq!(told(7, "größe"), "größ");
        assert_eq!(told(8, "größe"), "größe");
        assert_eq!(told(100, "größe"), "größe");
    }

    #[test]
    fn nothing_follows_a_cut() {
        let mut memory = [0; 4];
        let mut clipped = Clipped::new(&mut memory);
        for text in ["abc", "é", "x"] {
            let _ = clipped.write_str(text);
        }
        assert_eq!(clipped.as_bytes(), b"abc");
    }

    #[test]
    fn nowhere_to_tell() {
        // SAFETY: NULL and empty are allowed.
        unsafe {
            write_text(core::ptr::null_mut(), "x");
            write_text(&mut abi::resay_text { buf: core::ptr::null_mut(), cap: 0 }, "x");
        }
    }
}

//! The buffers of a call: where they are in memory, and whether the bytes around them stay unchanged.

use super::call::Place;
use crate::guarded::{GuardedMemory, Region};
use crate::host::{POISON, place_struct};
use crate::promise::Promise;
use crate::rng::Rng;
use crate::verdict::{Check, Violation};
use resay_plugin::abi;
use std::ffi::CStr;

/// The largest output_cap of one call.
pub(super) const ROOM_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The size of the buffer for an error's text.
pub(super) const ERROR_BYTES: usize = 512;
const INPUT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes around a buffer that must stay unchanged.
pub(super) const CANARY_BYTES: usize = 64;
pub(super) const CANARY: u8 = 0xc3;

/// The memory for calls: one for each thread.
#[derive(Debug)]
pub(crate) struct Arena {
    pub(super) input: GuardedMemory,
    pub(super) output: GuardedMemory,
    pub(super) structs: GuardedMemory,
    pub(crate) rng: Rng,
    connections: u64,
    pub(super) pattern: u8,
}

impl Arena {
    pub(crate) fn new(seed: u64) -> Arena {
        Arena {
            input: GuardedMemory::new(Region::Input, INPUT_BYTES_MAX),
            output: GuardedMemory::new(Region::Output, ROOM_BYTES_MAX),
            structs: GuardedMemory::new(Region::Struct, 1),
            rng: Rng::new(seed),
            connections: 0,
            pattern: 0x5a,
        }
    }

    pub(super) fn next_id(&mut self, kind: u32) -> u64 {
        self.connections += 1;
        if kind == abi::RESAY_DATAGRAM { 0 } else { self.connections }
    }
}

/// Makes a memory writable again after the call.
pub(super) struct Writable<'a>(pub(super) &'a GuardedMemory);

impl Drop for Writable<'_> {
    fn drop(&mut self) {
        self.0.protect(false);
    }
}

/// The input or output buffer of one call, with canaries next to it.
pub(super) struct CallBuffer {
    pub(super) start: *mut u8,
    len: usize,
    before: usize,
    behind: usize,
}

impl CallBuffer {
    pub(super) fn new(memory: &GuardedMemory, place: Place, len: usize) -> CallBuffer {
        let (start, before, behind) = match place {
            Place::End => (memory.end(len), CANARY_BYTES.min(memory.len() - len), 0),
            Place::Start => (memory.at(0, len + CANARY_BYTES), 0, CANARY_BYTES),
            Place::At(offset) => {
                (memory.at(CANARY_BYTES + offset, len + CANARY_BYTES), CANARY_BYTES, CANARY_BYTES)
            }
        };
        CallBuffer { start, len, before, behind }
    }

    pub(super) fn fill(&self, bytes: &[u8]) {
        self.clear(0);
        self.overwrite(bytes);
    }

    /// Sets the canaries, and the first bytes to a pattern: the rest is initialised anyway.
    pub(super) fn clear(&self, pattern: u8) {
        // SAFETY: within the mapping, by the constructor; writable now.
        unsafe {
            self.start.sub(self.before).write_bytes(CANARY, self.before);
            self.start.add(self.len).write_bytes(CANARY, self.behind);
            self.start.write_bytes(pattern, self.len.min(4096));
        }
    }

    pub(super) fn overwrite(&self, bytes: &[u8]) {
        let bytes = &bytes[..bytes.len().min(self.len)];
        // SAFETY: as above; the source is not in guarded memory.
        unsafe { self.start.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: initialised bytes of a mapping that outlives this.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }

    pub(super) fn check(&self, what: &str) -> Check<()> {
        // SAFETY: as above.
        let [before, behind] = unsafe {
            [
                std::slice::from_raw_parts(self.start.sub(self.before), self.before),
                std::slice::from_raw_parts(self.start.add(self.len), self.behind),
            ]
        };
        let broken = |how: String| Err(Violation::of(Promise::OutputBounds, how));
        if let Some(at) = behind.iter().position(|byte| *byte != CANARY) {
            return broken(format!(
                "it wrote {at} bytes beyond the end of {what}, which has {} bytes",
                self.len
            ));
        }
        if let Some(at) = before.iter().rposition(|byte| *byte != CANARY) {
            return broken(format!("it wrote {} bytes before {what}", self.before - at));
        }
        Ok(())
    }
}

/// A buffer for an error's text that ends at an unmapped page.
pub(super) struct ErrorText {
    memory: GuardedMemory,
    chars: *mut u8,
    cap: usize,
    pub(super) raw: *mut abi::resay_text,
    _struct: GuardedMemory,
}

impl ErrorText {
    pub(super) fn new(cap: usize) -> ErrorText {
        let memory = GuardedMemory::new(Region::Text, cap);
        let chars = memory.end(cap);
        // SAFETY: cap bytes of the mapping.
        unsafe {
            chars.write_bytes(POISON, cap);
            chars.write(0);
        }
        let structs = GuardedMemory::new(Region::Struct, 1);
        let raw = place_struct(&structs, abi::resay_text { buf: chars.cast(), cap }, 0);
        ErrorText { memory, chars, cap, raw, _struct: structs }
    }

    pub(super) fn check(&self, call: &str) -> Check<String> {
        debug_assert!(self.memory.len() >= self.cap);
        // SAFETY: initialised bytes of the mapping.
        let chars = unsafe { std::slice::from_raw_parts(self.chars, self.cap) };
        let cap = self.cap;
        let Ok(text) = CStr::from_bytes_until_nul(chars) else {
            let what = format!("the error text of {call} has no NUL within its {cap} bytes");
            return Err(Violation::of(Promise::ErrorText, what));
        };
        match text.to_str() {
            Ok(text) => Ok(text.to_owned()),
            // A text that was cut may be cut within a character, as by snprintf().
            Err(_) if text.count_bytes() + 1 == cap => Ok(text.to_string_lossy().into_owned()),
            Err(_) => Err(Violation::of(
                Promise::ErrorText,
                format!("the error text of {call} is not UTF-8: {}", text.to_string_lossy()),
            )),
        }
    }
}

//! Memory that is lent for a call: where it is, and whether what is around it stays as it was.

use super::{Breach, Kept, Place};
use crate::arena::{Arena, Region};
use crate::host::{POISON, place_struct};
use crate::plan::Rng;
use crate::promise::Promise;
use resay_plugin::abi;
use std::ffi::CStr;

/// The host never gives more room than this for one call.
pub(super) const ROOM_BYTES_MAX: usize = 64 * 1024 * 1024;
const INPUT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes around what is lent that must stay as they are.
pub(super) const CANARY_BYTES: usize = 64;
pub(super) const CANARY: u8 = 0xc3;

/// The memory that calls are made with: one for each thread.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(super) input: Arena,
    pub(super) output: Arena,
    pub(super) structs: Arena,
    pub(crate) rng: Rng,
    connections: u64,
    pub(super) pattern: u8,
}

impl Desk {
    pub(crate) fn new(seed: u64) -> Desk {
        Desk {
            input: Arena::new(Region::Input, INPUT_BYTES_MAX),
            output: Arena::new(Region::Output, ROOM_BYTES_MAX),
            structs: Arena::new(Region::Struct, 1),
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

/// Makes an arena writable again when the call is over.
pub(super) struct Writable<'a>(pub(super) &'a Arena);

impl Drop for Writable<'_> {
    fn drop(&mut self) {
        self.0.protect(false);
    }
}

/// Bytes of an arena that are lent for a call, and the canaries next to them.
pub(super) struct Lent {
    pub(super) start: *mut u8,
    len: usize,
    before: usize,
    behind: usize,
}

impl Lent {
    pub(super) fn new(arena: &Arena, place: Place, len: usize) -> Lent {
        let (start, before, behind) = match place {
            Place::End => (arena.end(len), CANARY_BYTES.min(arena.len() - len), 0),
            Place::Start => (arena.at(0, len + CANARY_BYTES), 0, CANARY_BYTES),
            Place::At(offset) => {
                (arena.at(CANARY_BYTES + offset, len + CANARY_BYTES), CANARY_BYTES, CANARY_BYTES)
            }
        };
        Lent { start, len, before, behind }
    }

    pub(super) fn fill(&self, bytes: &[u8]) {
        self.clear(0);
        self.overwrite(bytes);
    }

    /// Sets the canaries, and the first bytes to a pattern: the rest is initialised anyway.
    pub(super) fn clear(&self, pattern: u8) {
        // SAFETY: within the arena, by the constructor; writable now.
        unsafe {
            self.start.sub(self.before).write_bytes(CANARY, self.before);
            self.start.add(self.len).write_bytes(CANARY, self.behind);
            self.start.write_bytes(pattern, self.len.min(4096));
        }
    }

    pub(super) fn overwrite(&self, bytes: &[u8]) {
        let bytes = &bytes[..bytes.len().min(self.len)];
        // SAFETY: as above; the source is not in an arena.
        unsafe { self.start.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: initialised memory of an arena that outlives this.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }

    pub(super) fn check(&self, what: &str) -> Kept<()> {
        // SAFETY: as above.
        let [before, behind] = unsafe {
            [
                std::slice::from_raw_parts(self.start.sub(self.before), self.before),
                std::slice::from_raw_parts(self.start.add(self.len), self.behind),
            ]
        };
        let broken = |how: String| Err(Breach::of(Promise::OutputBounds, how));
        if let Some(at) = behind.iter().position(|byte| *byte != CANARY) {
            return broken(format!("it wrote {at} bytes behind the end of {what}, which has {}", self.len));
        }
        if let Some(at) = before.iter().rposition(|byte| *byte != CANARY) {
            return broken(format!("it wrote {} bytes before {what}", self.before - at));
        }
        Ok(())
    }
}

/// Room for an error's text that ends where it says.
pub(super) struct ErrorText {
    arena: Arena,
    chars: *mut u8,
    cap: usize,
    pub(super) raw: *mut abi::resay_text,
    _struct: Arena,
}

impl ErrorText {
    pub(super) fn new(cap: usize) -> ErrorText {
        let arena = Arena::new(Region::Text, cap);
        let chars = arena.end(cap);
        // SAFETY: cap bytes of the arena.
        unsafe {
            chars.write_bytes(POISON, cap);
            chars.write(0);
        }
        let structs = Arena::new(Region::Struct, 1);
        let raw = place_struct(&structs, abi::resay_text { buf: chars.cast(), cap }, 0);
        ErrorText { arena, chars, cap, raw, _struct: structs }
    }

    pub(super) fn check(&self, call: &str) -> Kept<String> {
        debug_assert!(self.arena.len() >= self.cap);
        // SAFETY: initialised memory of the arena.
        let chars = unsafe { std::slice::from_raw_parts(self.chars, self.cap) };
        let cap = self.cap;
        let Ok(text) = CStr::from_bytes_until_nul(chars) else {
            let what = format!("the text of {call} has no NUL within its {cap} bytes");
            return Err(Breach::of(Promise::ErrorText, what));
        };
        match text.to_str() {
            Ok(text) => Ok(text.to_owned()),
            // A text that was cut may be cut within a character, as by snprintf().
            Err(_) if text.count_bytes() + 1 == cap => Ok(text.to_string_lossy().into_owned()),
            Err(_) => {
                Err(Breach::of(Promise::ErrorText, format!("the text of {call} is not UTF-8: {text:?}")))
            }
        }
    }
}

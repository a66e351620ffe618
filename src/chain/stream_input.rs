//! What stages of a raw stream have in hand.

use crate::buffer;
use crate::bug;
use crate::limits::SCRATCH_BYTES_MAX;

/// What the stages of one raw stream have not read yet.
#[derive(Debug, Default)]
pub(crate) struct StreamInput {
    /// One for each stage that makes output of its own, in order; none before it is [made](Self::clear) for a chain.
    pub(super) stages: Vec<StageInput>,
    /// A stage has asked for the end: what is behind it is still sent on.
    pub(super) is_closing: bool,
}

#[derive(Debug, Default)]
pub(super) struct StageInput {
    pub(super) bytes: Vec<u8>,
    /// Bytes of it that are read.
    pub(super) start: usize,
    /// How long stages before this one want it to be held back.
    pub(super) delay_us: u64,
    /// It waits for more input (MORE_IN).
    pub(super) wants_more: bool,
    /// It has more output than there was room for (MORE_OUT), and how much room it asked for.
    pub(super) has_more: bool,
    pub(super) room_wanted: usize,
    /// It was told that the stream has ended, and has said all that it has to say then.
    pub(super) is_ending: bool,
    pub(super) has_ended: bool,
}

impl StreamInput {
    /// Bytes that are not read.
    pub(crate) fn unread_bytes(&self) -> usize {
        self.stages.iter().map(|stage| stage.bytes.len() - stage.start).sum()
    }

    /// What they take of memory.
    #[cfg(debug_assertions)]
    pub(crate) fn cost(&self) -> usize {
        self.stages.iter().map(|stage| stage.bytes.capacity()).sum()
    }

    /// Whether no stage has anything in hand, so that another chain may take over.
    pub(crate) fn is_idle(&self) -> bool {
        !self.is_closing && self.stages.iter().all(StageInput::is_idle)
    }

    pub(super) fn of(&mut self, place: usize) -> Option<&mut StageInput> {
        self.stages.get_mut(place)
    }

    /// Makes it as new, for so many stages, with its memory.
    pub(super) fn clear(&mut self, places: usize) {
        self.is_closing = false;
        self.stages.truncate(places);
        for stage in &mut self.stages {
            let mut bytes = std::mem::take(&mut stage.bytes);
            bytes.clear();
            if bytes.capacity() > SCRATCH_BYTES_MAX {
                bytes = Vec::new();
            }
            *stage = StageInput { bytes, ..StageInput::default() };
        }
        self.stages.resize_with(places, StageInput::default);
    }
}

impl StageInput {
    pub(super) fn is_idle(&self) -> bool {
        self.unread().is_empty() && !self.has_more && !self.is_ending
    }

    pub(super) fn unread(&self) -> &[u8] {
        bug::part(&self.bytes, self.start..)
    }

    pub(super) fn push(&mut self, bytes: &[u8], delay_us: u64) {
        if bytes.is_empty() {
            return;
        }
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        if self.bytes.is_empty() {
            self.delay_us = 0;
        }
        self.delay_us = self.delay_us.max(delay_us);
        self.wants_more = false;
        buffer::append(&mut self.bytes, bytes);
    }

    pub(super) fn discard(&mut self) {
        *self = StageInput { has_ended: true, ..StageInput::default() };
    }

    /// Whether it is to be called now, and how: `Some(true)`: it hears that the stream has ended.
    pub(super) fn next_call(&self, is_last: bool) -> Option<bool> {
        if self.has_ended {
            None
        } else if self.is_ending {
            Some(true)
        } else if self.has_more || (!self.wants_more && !self.unread().is_empty()) {
            Some(false)
        } else if is_last {
            Some(true)
        } else {
            None
        }
    }
}

//! Input that waits.

use crate::chain::StreamInput;

/// Input that is not answered yet.
#[derive(Debug, Default)]
pub(super) struct Unread {
    /// An unfinished frame, or all from where the budget ended.
    pub(super) bytes: Vec<u8>,
    /// Bytes of it that are answered: from there on it is unread. 0 but for input that goes on in a later turn.
    pub(super) start: usize,
    /// Bytes of it that are known to hold no end of a frame.
    pub(super) scanned: usize,
    /// The budget ended: there may be whole messages.
    pub(super) has_more: bool,
    /// What the stages of a raw stream have in hand, and reads of it that count as messages once all is answered.
    pub(super) stream: Option<Box<StreamInput>>,
    pub(super) stream_messages: u32,
}

impl Unread {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty() && !self.has_more && self.stream.is_none()
    }

    /// Bytes of input.
    pub(super) fn count(&self) -> usize {
        self.bytes.len() - self.start + self.stream.as_ref().map_or(0, |stream| stream.unread_bytes())
    }

    /// What it takes of memory.
    #[cfg(debug_assertions)]
    pub(super) fn cost(&self) -> usize {
        self.bytes.capacity() + self.stream.as_ref().map_or(0, |stream| stream.cost())
    }
}

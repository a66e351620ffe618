//! What is found in a window of bytes.

use std::fmt;
use std::ops::Range;

/// One complete frame at the start of a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// The message, without its frame.
    pub(crate) body: Range<usize>,
    /// All of the frame.
    pub(crate) len: usize,
}

/// A message that is over the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLong {
    pub(crate) max: usize,
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a message is longer than {} bytes", self.max)
    }
}

//! Limits of a connection: for transforms that end it.

use crate::error::Error;
use crate::options::Options;

/// A limit of bytes and a limit of messages; the one reached first applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    bytes_max: u64,
    messages_max: u64,
}

impl Limits {
    /// Reads the limits from two options, a [size](crate::OptionSpec::size) and an
    /// [integer](crate::OptionSpec::integer); 0 is no limit. If both are 0, the first message is the limit.
    pub fn read(options: &Options<'_>, bytes: &str, messages: &str) -> Result<Self, Error> {
        let limit = |n: u64| if n == 0 { u64::MAX } else { n };
        let bytes = options.size(bytes)? as u64;
        let messages: u64 = options.integer(messages)?;
        let messages = if bytes == 0 { messages.max(1) } else { messages };
        Ok(Self { bytes_max: limit(bytes), messages_max: limit(messages) })
    }

    /// The bytes that a connection has left.
    pub fn bytes_left(&self, tally: &Tally) -> usize {
        usize::try_from(self.bytes_max.saturating_sub(tally.bytes)).unwrap_or(usize::MAX)
    }

    /// Whether a connection has reached one of the limits.
    pub fn reached(&self, tally: &Tally) -> bool {
        tally.bytes >= self.bytes_max || tally.messages >= self.messages_max
    }
}

/// The messages and bytes of a connection so far; it belongs to the [session](crate::Transform::Session).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    bytes: u64,
    messages: u64,
}

impl Tally {
    /// Counts a message with this number of bytes.
    pub fn count(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
        self.messages = self.messages.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::{Limits, Tally};

    #[test]
    fn whichever_comes_first() {
        let limits = Limits { bytes_max: 10, messages_max: 3 };
        let tally = |bytes, messages| Tally { bytes, messages };
        assert!(!limits.reached(&tally(9, 2)));
        assert!(limits.reached(&tally(10, 1)) && limits.reached(&tally(0, 3)));
        assert_eq!((limits.bytes_left(&tally(4, 1)), limits.bytes_left(&tally(12, 1))), (6, 0));
    }

    #[test]
    fn a_tally_does_not_wrap() {
        let mut tally = Tally { bytes: u64::MAX - 1, messages: u64::MAX };
        tally.count(7);
        assert_eq!(tally, Tally { bytes: u64::MAX, messages: u64::MAX });
    }
}

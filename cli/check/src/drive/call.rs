//! How a call is made, and what comes back.

use crate::promise::Promise;
use crate::verdict::{Check, Violation};
use crate::words::status_text;
use resay_plugin::abi;
use std::fmt;

/// How a call is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct How {
    pub(crate) room: Room,
    pub(crate) place: Place,
    /// The output buffer is the input buffer.
    pub(crate) alias: bool,
    /// map() gets memory that cannot be written.
    pub(crate) read_only: bool,
}

impl Default for How {
    fn default() -> Self {
        How { room: Room::Huge, place: Place::End, alias: false, read_only: false }
    }
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.room {
            Room::Tight => f.write_str("the smallest output_cap allowed")?,
            Room::Exact(bytes) => write!(f, "output_cap for {bytes} bytes")?,
            Room::Huge => f.write_str("a large output_cap")?,
            Room::Random => f.write_str("a random output_cap")?,
        }
        write!(f, ", {}", self.place)?;
        if self.alias {
            f.write_str(", output == input")?;
        }
        if self.read_only {
            f.write_str(", read-only data")?;
        }
        Ok(())
    }
}

/// How large the output buffer is: never less than the declared bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// The bound, or a single byte.
    Tight,
    Exact(usize),
    Huge,
    Random,
}

/// Where in memory the bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// They end at an unmapped page.
    End,
    /// This many bytes after an address that is a multiple of 64, between canaries.
    At(usize),
    /// They start after an unmapped page.
    Start,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::End => f.write_str("buffers that end at an unmapped page"),
            Place::Start => f.write_str("buffers that start after an unmapped page"),
            Place::At(offset) => write!(f, "buffers at an address of 64 n + {offset}"),
        }
    }
}

/// What a transform made of its input.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Reply {
    /// The output.
    pub(crate) output: Vec<u8>,
    /// The last status. `None`: this host's limits were reached.
    pub(crate) status: Option<abi::resay_status>,
}

/// A failure is one of the known errors.
pub(crate) fn expect_error(status: abi::resay_status, call: &str) -> Check<()> {
    let known = abi::RESAY_E_PANIC..=abi::RESAY_E_DATA;
    if status == abi::RESAY_E_PANIC {
        return Err(Violation::of(Promise::NoPanic, format!("{call} returned RESAY_E_PANIC")));
    }
    if known.contains(&status) {
        return Ok(());
    }
    Err(Violation::of(Promise::Statuses, format!("{call} returned {}", status_text(status))))
}

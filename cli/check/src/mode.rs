//! The ways in which messages reach a transform.

use crate::table::Table;
use resay_plugin::abi;
use std::fmt;

/// How messages reach a transform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Framed messages of a stream.
    Messages,
    /// Reads of a raw stream, then its end.
    Stream,
    /// Datagrams: a session for each.
    Datagrams,
}

impl Mode {
    /// Those that a table's needs leave.
    pub(crate) fn of(table: &Table) -> &'static [Mode] {
        if table.fields.needs & abi::RESAY_NEED_MESSAGES == 0 {
            &[Mode::Messages, Mode::Stream, Mode::Datagrams]
        } else {
            &[Mode::Messages, Mode::Datagrams]
        }
    }

    pub(crate) fn kind(self) -> u32 {
        if self == Mode::Datagrams { abi::RESAY_DATAGRAM } else { abi::RESAY_STREAM }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Messages => "as a framed message",
            Mode::Stream => "as a raw stream",
            Mode::Datagrams => "as a datagram",
        })
    }
}

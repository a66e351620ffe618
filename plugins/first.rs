//! The first connections only: for `reset` and `close`, so that a client that tries again is served in the end.

use core::sync::atomic::{AtomicU64, Ordering};
use resay_plugin::{Error, OptionSpec, Options, Tally};

const FIRST: &str = "first";
/// The option, for a table.
pub(crate) const OPTION: OptionSpec =
    OptionSpec::integer(c"first", c"only the first n connections; 0: all").or(c"0");

/// Counts connections.
#[derive(Debug)]
pub(crate) struct First {
    /// 0: all.
    connections_max: u64,
    opened: AtomicU64,
}

impl First {
    pub(crate) fn read(options: &Options<'_>) -> Result<Self, Error> {
        Ok(Self { connections_max: options.integer(FIRST)?, opened: AtomicU64::new(0) })
    }

    /// Counts a connection that opens.
    pub(crate) fn open(&self, session: &mut Session) {
        let before = self.opened.fetch_add(1, Ordering::Relaxed);
        session.is_spared = self.connections_max > 0 && before >= self.connections_max;
    }
}

/// Of one connection.
#[derive(Debug, Default)]
pub(crate) struct Session {
    /// What it has brought, or was answered with.
    pub(crate) tally: Tally,
    /// Nothing happens to it.
    pub(crate) is_spared: bool,
}

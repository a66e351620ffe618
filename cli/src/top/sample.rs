//! What a server says of itself at one moment.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::control::report::{Connection, Connections, Stats};
use crate::ctl::client::Server;
use crate::exit::Failure;

/// How long an answer may take. Workers have a second of it to list their connections.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);
/// Connections that are asked for; the slowest ones come first.
const CONNECTIONS_MAX: usize = 100;

#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) at: Instant,
    pub(super) stats: Stats,
    /// The slowest ones, the slowest first.
    pub(super) connections: Vec<Connection>,
}

impl Sample {
    pub(super) fn take(socket: &Path) -> Result<Sample, Failure> {
        let server = Server { socket, timeout: TIMEOUT };
        let stats = server.ask("stats")?;
        let at = Instant::now();
        let list: Connections = server.ask(&format!("connections {CONNECTIONS_MAX}"))?;
        Ok(Sample { at, stats, connections: list.connections })
    }

    /// Whether `later` is of the same process: its counters have gone on.
    pub(super) fn is_continued_by(&self, later: &Sample) -> bool {
        // In a container every server may be process 1.
        self.stats.pid == later.stats.pid && self.stats.uptime_ms <= later.stats.uptime_ms
    }
}

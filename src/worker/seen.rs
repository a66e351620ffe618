//! What of a connection its host may ask for at any time.

use crate::connection::{Connection, ConnectionState};
use crate::timer::Moment;

/// As it was when it was last here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) state: ConnectionState,
    pub(super) silent_since: Moment,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) is_paused: bool,
}

impl Seen {
    pub(super) fn of(connection: &Connection) -> Seen {
        let (bytes_in, bytes_out) = connection.traffic();
        Seen {
            state: connection.state(),
            silent_since: connection.silent_since(),
            bytes_in,
            bytes_out,
            is_paused: connection.is_paused_by_host(),
        }
    }
}

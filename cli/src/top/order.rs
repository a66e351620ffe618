//! What the operator wants of a server.

use std::path::Path;
use std::time::Duration;

use resay::options::duration_text;

use super::sample::TIMEOUT;
use crate::control::report::{Closing, Ended, Listener};
use crate::ctl::client::Server;
use crate::ctl::text::printable;
use crate::exit::Failure;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Order {
    Chain {
        /// 0: the chain that all listeners without one of their own have.
        listener: u64,
        spec: String,
    },
    Drain {
        within: Duration,
    },
    Close {
        connection: u64,
        is_reset: bool,
    },
}

impl Order {
    /// Gives it to the server and waits for the answer, which may take as long as a drain: what has become of it, in words.
    pub(super) fn give(&self, socket: &Path) -> Result<String, Failure> {
        let server = Server { socket, timeout: TIMEOUT };
        let mut warnings = Vec::new();
        let warn = |warning| warnings.push(warning);
        let done = match self {
            Order::Chain { listener, spec } => {
                let request = format!("chain {listener} {spec}");
                server.ask_within::<Vec<Listener>>(&request, TIMEOUT, warn)?;
                format!("the chain is now {}", printable(spec))
            }
            Order::Drain { within } => {
                let request = format!("drain {}", duration_text(*within));
                let limit = within.saturating_add(TIMEOUT);
                printable(&server.ask_within::<Ended>(&request, limit, warn)?.ended)
            }
            Order::Close { connection, is_reset } => {
                let request = format!("close {connection}{}", if *is_reset { " reset" } else { "" });
                let report: Closing = server.ask_within(&request, TIMEOUT, warn)?;
                format!("closing connection {}", report.closing)
            }
        };
        Ok([vec![done], warnings].concat().join("; "))
    }
}

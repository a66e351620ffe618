//! The load generator of `resay bench` and of the comparison with other servers (`benches/peers/`): connections that send
//! messages, compare every answer with the expected one, and count. It is no interface for others.
//!
//! ```text
//! Plan ──> Script: messages and the answers that the chain gives
//!  │         │
//!  v         v
//! Job::new(sockets), one a thread ── run(Probe) ──> Report: a Tally, and how busy the thread was
//!                                        │
//!                    others ── answers, processor time of the server
//! ```
//!
//! Connecting, threads and their cores are the caller's, and so is everything that is told to people. What runs once a
//! message is here, and nothing of it is generic for a caller: so it is compiled for speed, however the caller is.
//!
//! The files, from the bottom up:
//! - `plan` says what is to be done, `error` what can fail; `frame` writes and reads frames, `script` has all messages and
//!   answers.
//! - `latency` and `tally` count, `due` says when messages are, or were, due; `alarm` is a timer.
//! - `tls` is the TLS of a connection, `runs` moves many datagrams a call, `socket` is a socket with either or neither.
//! - `talk` is what a loop needs of a connection; `stream` and `records` are the two kinds of them.
//! - `probe` is what threads share, `load` the loop of one.
#![forbid(unsafe_code)]

mod alarm;
mod due;
mod error;
mod frame;
mod latency;
mod load;
mod plan;
mod probe;
mod records;
#[cfg(feature = "runs")]
mod runs;
mod script;
mod socket;
mod stream;
mod talk;
mod tally;
#[cfg(feature = "tls")]
mod tls;

pub use error::{LoadError, ScriptError};
pub use latency::{Latencies, Lateness, Point};
pub use load::{Job, Report, Sockets};
pub use plan::{Pace, Plan};
pub use probe::{Cost, Probe, ServerTime};
#[cfg(feature = "runs")]
pub use runs::Runs;
pub use script::Script;
pub use socket::Socket;
pub use tally::{Counts, Interval, Span, Tally, Wrong};
#[cfg(feature = "tls")]
pub use tls::{TlsRecords, TlsState};

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use resay::SocketKind;
    use resay::options::Frame;

    use super::*;

    pub(crate) fn plan(kind: SocketKind) -> Plan {
        Plan {
            kind,
            connections: 1,
            message_bytes: 64,
            pace: Pace::Closed { pipeline: 1 },
            frame: Frame::Raw,
            expect: String::new(),
            warmup: Duration::ZERO,
            duration: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            lost_after: Duration::from_secs(1),
            seed: 1,
        }
    }
}

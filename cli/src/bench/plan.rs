//! What is to be done, checked.

use std::time::Duration;

use resay::SocketKind;
use resay::options::Frame;

use crate::tls::Tls;

/// One measurement.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) url: String,
    pub(crate) kind: SocketKind,
    /// Where the URL is one of TLS.
    pub(crate) tls: Option<Tls>,
    pub(crate) connections: usize,
    pub(crate) message_bytes: usize,
    pub(crate) pace: Pace,
    pub(crate) frame: Frame,
    /// The chain that the server is said to have.
    pub(crate) expect: String,
    pub(crate) threads: usize,
    pub(crate) warmup: Duration,
    pub(crate) duration: Duration,
    pub(crate) timeout: Duration,
    pub(crate) lost_after: Duration,
    pub(crate) seed: u64,
    /// The core that the load runs on, if on one.
    pub(crate) core: Option<usize>,
}

/// When messages are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pace {
    /// A connection has so many messages in flight; each answer brings the next message.
    Closed { pipeline: usize },
    /// Messages are due at times that no answer changes, so many a second over all connections; a connection has at
    /// most `pipeline` in flight, if that is limited.
    Open { rate: f64, pipeline: Option<usize> },
}

impl Pace {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Pace::Closed { .. } => "closed",
            Pace::Open { .. } => "open",
        }
    }

    pub(crate) fn pipeline(self) -> Option<usize> {
        match self {
            Pace::Closed { pipeline } => Some(pipeline),
            Pace::Open { pipeline, .. } => pipeline,
        }
    }

    pub(crate) fn rate(self) -> Option<f64> {
        match self {
            Pace::Closed { .. } => None,
            Pace::Open { rate, .. } => Some(rate),
        }
    }
}

impl Plan {
    pub(crate) fn is_stream(&self) -> bool {
        matches!(self.kind, SocketKind::Tcp | SocketKind::UnixStream)
    }
}

/// Nanoseconds, as all times of a measurement are counted.
pub(crate) fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

//! What is to be done.

use std::time::Duration;

use resay::SocketKind;
use resay::options::Frame;

/// One measurement.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The kind of the sockets.
    pub kind: SocketKind,
    /// Connections, or datagram sockets, of all threads together.
    pub connections: usize,
    /// Bytes of a message without its frame.
    pub message_bytes: usize,
    /// When messages are sent.
    pub pace: Pace,
    /// The frame of the server's stream.
    pub frame: Frame,
    /// The chain that the server is said to have.
    pub expect: String,
    /// Time before the measured time, under the same load.
    pub warmup: Duration,
    /// The measured time.
    pub duration: Duration,
    /// Silence of the server, where nothing is lost, that ends the measurement; also how long it waits at its end.
    pub timeout: Duration,
    /// A datagram without an answer for this time is lost.
    pub lost_after: Duration,
    /// Of the bytes of the messages.
    pub seed: u64,
}

/// When messages are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// Each answer brings the next message.
    Closed {
        /// Messages that a connection has in flight.
        pipeline: usize,
    },
    /// Messages are due at times that no answer changes.
    Open {
        /// Messages a second over all connections.
        rate: f64,
        /// Messages that a connection has in flight at most, if that is limited.
        pipeline: Option<usize>,
    },
}

impl Pace {
    /// `closed` or `open`.
    pub fn name(self) -> &'static str {
        match self {
            Pace::Closed { .. } => "closed",
            Pace::Open { .. } => "open",
        }
    }

    /// Messages that a connection has in flight at most, if that is limited.
    pub fn pipeline(self) -> Option<usize> {
        match self {
            Pace::Closed { pipeline } => Some(pipeline),
            Pace::Open { pipeline, .. } => pipeline,
        }
    }

    /// Messages a second over all connections, where they have a schedule.
    pub fn rate(self) -> Option<f64> {
        match self {
            Pace::Closed { .. } => None,
            Pace::Open { rate, .. } => Some(rate),
        }
    }
}

impl Plan {
    /// Whether messages are bytes of a stream, and not datagrams or records.
    pub fn is_stream(&self) -> bool {
        matches!(self.kind, SocketKind::Tcp | SocketKind::UnixStream)
    }
}

/// Nanoseconds, as all times of a measurement are counted.
pub(crate) fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

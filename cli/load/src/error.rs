//! What can fail.

use std::io;

use hdrhistogram::CreationError;
use resay::options::Frame;

/// Why there are no messages and answers to measure with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScriptError {
    /// The chain cannot be created.
    #[error(transparent)]
    Chain(#[from] resay::Error),
    /// A message, a greeting or an answer does not fit in its frame.
    #[error("{bytes} bytes are more than a frame {frame} can hold")]
    TooLong {
        /// How long it is.
        bytes: usize,
        /// What it should go into.
        frame: Frame,
    },
    /// Messages of no bytes, where bytes are all that is seen of them.
    #[error("messages of 0 bytes: a {kind} stream has none, as nothing would be sent")]
    Empty {
        /// The kind of the sockets, as in URLs.
        kind: &'static str,
    },
    /// The chain does not answer every message.
    #[error("chain {chain:?} cannot be checked against: {what}")]
    NoAnswer {
        /// As in the plan.
        chain: String,
        /// What it does instead.
        what: String,
    },
    /// The answer to a message comes with a later one.
    #[error("chain {chain:?}: message {message}, of {bytes} bytes, has no answer of its own on a {kind}")]
    Silent {
        /// As in the plan.
        chain: String,
        /// Which message it is.
        message: usize,
        /// How long messages are.
        bytes: usize,
        /// The kind of the sockets, as in URLs.
        kind: &'static str,
    },
    /// The answer to a message changes.
    #[error(
        "chain {chain:?} answers the same message differently the next time, so its answers cannot be checked"
    )]
    Unsteady {
        /// As in the plan.
        chain: String,
    },
}

/// Why a thread cannot measure.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A system call failed that has nothing to do with a single connection.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// There is no memory to count in.
    #[error("make a histogram: {0}")]
    Histogram(#[from] CreationError),
}

//! How far a read has come on the path of most messages.

use crate::chain::ChainOutcome;
use crate::transform::library::MapStopped;

/// How far a read was answered on this path. The general one goes on from there.
#[derive(Debug, Default)]
pub(super) struct Begun {
    /// The read is counted.
    pub(super) is_counted: bool,
    /// Bytes that are answered in place, and in how many messages.
    pub(super) used: usize,
    pub(super) messages: usize,
    /// The length of the frame behind them, of which a transform has said something else than that it goes on.
    pub(super) stopped: Option<Box<(usize, ChainOutcome)>>,
}

impl Begun {
    #[cold]
    pub(super) fn stop(&mut self, frame_bytes: usize, MapStopped(stopped): MapStopped) -> &ChainOutcome {
        let (stage, status) = *stopped;
        let outcome = ChainOutcome::of_end(stage, status);
        &self.stopped.insert(Box::new((frame_bytes, outcome))).1
    }
}

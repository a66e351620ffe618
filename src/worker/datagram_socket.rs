//! What a worker knows of one datagram socket.

use crate::datagram::{DatagramSession, DelayedDatagrams};
use crate::timer::Moment;

/// A socket whose messages are datagrams.
#[derive(Debug)]
pub(super) struct DatagramSocket {
    /// The place of its listener's state.
    pub(super) state: u32,
    pub(super) session: DatagramSession,
    pub(super) delayed: DelayedDatagrams,
    /// The deadline that is armed for it.
    pub(super) deadline: Moment,
    /// Datagrams that are with transforms that may block.
    pub(super) offloaded: usize,
    /// It is to be closed when it owes no answer.
    pub(super) ends: bool,
}

impl DatagramSocket {
    pub(super) fn new(state: u32) -> DatagramSocket {
        DatagramSocket {
            state,
            session: DatagramSession::default(),
            delayed: DelayedDatagrams::default(),
            deadline: Moment::NEVER,
            offloaded: 0,
            ends: false,
        }
    }

    /// Answers that are still to come.
    pub(super) fn owed(&self) -> usize {
        self.delayed.len() + self.offloaded
    }

    pub(super) fn is_owing(&self) -> bool {
        self.owed() > 0
    }
}

//! What a worker knows of one datagram socket.

use std::collections::HashMap;

use crate::datagram::{DatagramSession, DeferredDatagram, DelayedDatagrams};
use crate::peer::Peer;
use crate::sys::ReplyTo;
use crate::timer::Moment;

/// A datagram whose answer comes later.
#[derive(Debug)]
pub(super) struct LateDatagram {
    pub(super) to: ReplyTo,
    pub(super) from: Peer,
    pub(super) message: DeferredDatagram,
}

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
    /// Datagrams whose answers come later, by the numbers of their tickets.
    pub(super) late: HashMap<u64, LateDatagram>,
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
            late: HashMap::new(),
            ends: false,
        }
    }

    /// Answers that are still to come.
    pub(super) fn owed(&self) -> usize {
        self.delayed.len() + self.offloaded + self.late.len()
    }

    pub(super) fn is_owing(&self) -> bool {
        self.owed() > 0
    }
}

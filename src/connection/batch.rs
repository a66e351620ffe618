//! What became of a window of input: what is the answer, and whether the connection ends with it.

use super::deferred::DeferredMessage;
use crate::buffer::Pool;
use crate::bug;
use crate::chain::{DelayedRange, stage_bit};
use crate::context::Reply;
use crate::stats::CloseReason;
use crate::transform::library::Fault;

/// What became of a window of input.
#[derive(Debug)]
pub(super) struct Batch {
    /// Bytes from the start that are done with.
    pub(super) used: usize,
    /// Without `out`: bytes from the start that are the answer.
    pub(super) in_place: usize,
    pub(super) out: Option<Vec<u8>>,
    pub(super) delays: Vec<DelayedRange>,
    /// How many messages were answered.
    pub(super) answers: u32,
    pub(super) end: Option<End>,
    /// The budget ended before the window.
    pub(super) has_more: bool,
    /// There is an answer that answers no message.
    pub(super) is_greeting: bool,
    /// Messages whose answers come later, in order, and the functions at which they wait.
    pub(super) deferred: Vec<Mark>,
    pub(super) waiting_stages: u64,
}

/// Where in a batch's answers a message has its place whose answer comes later.
#[derive(Debug)]
pub(super) struct Mark {
    /// Bytes of `out` before it, and how many messages they answer.
    pub(super) at: usize,
    pub(super) answers: u32,
    pub(super) message: Box<DeferredMessage>,
}

impl Batch {
    pub(super) fn new() -> Batch {
        Batch {
            used: 0,
            in_place: 0,
            out: None,
            delays: Vec::new(),
            answers: 0,
            end: None,
            has_more: false,
            is_greeting: false,
            deferred: Vec::new(),
            waiting_stages: 0,
        }
    }

    /// Takes in a message whose answer comes later. `in_place`: the answers before it, if they are still a part of the
    /// window.
    pub(super) fn defer(&mut self, message: DeferredMessage, in_place: &[u8], pool: &mut Pool) {
        let out = self.out.get_or_insert_with(|| pool.copy_of(in_place));
        self.waiting_stages |= stage_bit(message.stage);
        self.deferred.push(Mark { at: out.len(), answers: self.answers, message: Box::new(message) });
    }

    /// What the messages cost whose answers come later.
    pub(super) fn deferred_cost(&self) -> usize {
        self.deferred.iter().map(|mark| mark.message.cost()).sum()
    }

    /// The answers, without those that are a part of the window, and whether those are the answer.
    fn take_out(&mut self, records: bool, pool: &mut Pool) -> (Reply, bool) {
        let has_record = records && (self.answers > 0 || self.is_greeting);
        match self.out.take() {
            // Of a stream, an answer without bytes is nothing to send; of records, it is an empty record.
            Some(out) if out.is_empty() && !has_record => {
                pool.put(out);
                (Reply::Nothing, false)
            }
            Some(out) => (Reply::Owned(out), false),
            None => (Reply::Nothing, self.in_place > 0 || has_record),
        }
    }

    /// The answer to a window that is the driver's buffer from `from` on.
    pub(super) fn reply_in_recv_buf(&mut self, from: usize, records: bool, pool: &mut Pool) -> Reply {
        match self.take_out(records, pool) {
            (_, true) => Reply::InRecvBuf(from..from + self.in_place),
            (reply, false) => reply,
        }
    }

    /// The answer to a window whose memory is still needed.
    pub(super) fn reply_copied(&mut self, window: &[u8], records: bool, pool: &mut Pool) -> Reply {
        match self.take_out(records, pool) {
            (_, true) => Reply::Owned(pool.copy_of(bug::part(window, ..self.in_place))),
            (reply, false) => reply,
        }
    }

    /// The answer to a window that has memory of its own; what is not the answer goes back to the pool.
    pub(super) fn reply_in(&mut self, mut window: Vec<u8>, records: bool, pool: &mut Pool) -> Reply {
        match self.take_out(records, pool) {
            (_, true) => {
                window.truncate(self.in_place);
                Reply::Owned(window)
            }
            (reply, false) => {
                pool.put(window);
                reply
            }
        }
    }
}

/// The connection is to end, once what is to be sent before has been sent.
#[derive(Debug)]
pub(super) struct End {
    pub(super) reason: CloseReason,
    /// The stage and what it did, where a transform is the reason.
    pub(super) fault: Option<(usize, Fault)>,
    /// With a reset, and at once.
    pub(super) is_reset: bool,
}

impl End {
    pub(super) fn because(reason: CloseReason) -> End {
        End { reason, fault: None, is_reset: false }
    }

    pub(super) fn reset(reason: CloseReason) -> End {
        End { reason, fault: None, is_reset: true }
    }

    pub(super) fn failed(stage: usize, fault: Fault) -> End {
        End { reason: CloseReason::TransformFailed, fault: Some((stage, fault)), is_reset: false }
    }
}

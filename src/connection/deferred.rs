//! Messages whose answers come later. Each keeps its place among the answers of its connection.

use crate::chain::{Deferred, DeferredAnswer};
use crate::later::{LateAnswer, LateVerdict, Ticket};
use crate::limits::QUEUED_SEND_BYTES;
use crate::tap::KeptMessage;

/// A message whose answer comes later.
#[derive(Debug)]
pub(super) struct DeferredMessage {
    /// The function that it waits for.
    pub(super) stage: usize,
    pub(super) state: DeferredState,
    /// What is behind the message in its frame, and goes behind the answer.
    pub(super) tail: Vec<u8>,
    /// Those of `resay_io`.
    pub(super) flags: u32,
    /// 0: it is the end of a raw stream.
    pub(super) messages: u32,
    /// The bytes of its frame.
    pub(super) input_bytes: usize,
    /// For how long its answer is to be held back.
    pub(super) delay_us: u64,
    /// The connection ends with its answer.
    pub(super) closes: bool,
    /// The order of its first ticket, if it has had one.
    pub(super) order: Option<u64>,
    /// For taps, which hear of it when it is known what becomes of it.
    pub(super) kept: Option<KeptMessage>,
}

/// What it waits for.
#[derive(Debug)]
pub(super) enum DeferredState {
    ToCome(Ticket),
    /// The function has answered. The ticket counts the bytes until the answer goes on.
    Answered {
        ticket: Option<Ticket>,
        verdict: LateVerdict,
        bytes: Vec<u8>,
    },
}

impl DeferredMessage {
    /// `frame`: all of it, with the end of the message in it.
    pub(super) fn new(
        deferred: Deferred,
        frame: &[u8],
        end: usize,
        flags: u32,
        messages: u32,
        kept: Option<KeptMessage>,
    ) -> DeferredMessage {
        let Deferred { stage, answer, delay_us } = deferred;
        let state = DeferredState::of(answer);
        let order = state.order();
        let tail = frame.get(end..).unwrap_or_default().to_vec();
        let input_bytes = frame.len();
        let closes = false;
        DeferredMessage { stage, state, tail, flags, messages, input_bytes, delay_us, closes, order, kept }
    }

    /// It goes on to another function, and waits there.
    pub(super) fn defer_again(&mut self, deferred: Deferred) {
        self.stage = deferred.stage;
        self.state = DeferredState::of(deferred.answer);
        self.delay_us = self.delay_us.saturating_add(deferred.delay_us);
        self.order = self.order.or(self.state.order());
    }

    /// What it costs while it waits.
    pub(super) fn cost(&self) -> usize {
        let answer = match &self.state {
            DeferredState::ToCome(_) => 0,
            DeferredState::Answered { bytes, .. } => bytes.capacity(),
        };
        let kept = self.kept.as_ref().map_or(0, KeptMessage::cost);
        2 * QUEUED_SEND_BYTES + size_of::<DeferredMessage>() + self.tail.capacity() + answer + kept
    }

    pub(super) fn is_answered(&self) -> bool {
        matches!(self.state, DeferredState::Answered { .. })
    }

    /// Takes the answer in, if it is this message's. If not, it comes back.
    pub(super) fn take_answer(&mut self, answer: LateAnswer) -> Option<LateAnswer> {
        match &self.state {
            DeferredState::ToCome(ticket) if ticket.number() == answer.ticket => {}
            _ => return Some(answer),
        }
        let LateAnswer { verdict, bytes, .. } = answer;
        let state = DeferredState::Answered { ticket: None, verdict, bytes };
        if let DeferredState::ToCome(asked) = std::mem::replace(&mut self.state, state)
            && let DeferredState::Answered { ticket, .. } = &mut self.state
        {
            *ticket = Some(asked);
        }
        None
    }
}

impl DeferredState {
    fn of(answer: DeferredAnswer) -> DeferredState {
        match answer {
            DeferredAnswer::ToCome(ticket) => DeferredState::ToCome(ticket),
            DeferredAnswer::Given(bytes) => {
                DeferredState::Answered { ticket: None, verdict: LateVerdict::Answer, bytes }
            }
        }
    }

    fn order(&self) -> Option<u64> {
        match self {
            DeferredState::ToCome(ticket) => Some(ticket.order()),
            DeferredState::Answered { ticket, .. } => ticket.as_ref().map(Ticket::order),
        }
    }
}

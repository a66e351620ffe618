//! What open taps hear of a connection's messages.

use super::Connection;
use super::deferred::DeferredMessage;
use crate::chain::ChainOutcome;
use crate::context::Context;
use crate::stats::{CloseReason, DropReason};
use crate::tap::{Recorded, TapOutcome};

impl Connection {
    /// Records the message that was kept last, before its answer goes anywhere.
    #[inline(never)]
    pub(super) fn record(&self, outcome: TapOutcome, flags: u32, answer: &[u8], cx: &mut Context<'_>) {
        let recorded = Recorded {
            time: cx.now,
            listener: cx.limits.local.listener,
            connection: self.id,
            peer: &self.peer,
            kind: cx.limits.local.kind,
            flags,
            outcome,
        };
        cx.recorder.record(&recorded, answer);
    }

    /// Records a message at which a chain that works in place has stopped.
    #[cold]
    pub(super) fn record_stopped(
        &self,
        body: &[u8],
        outcome: &ChainOutcome,
        flags: u32,
        cx: &mut Context<'_>,
    ) {
        let answer = if matches!(outcome, ChainOutcome::Close) { body } else { &[] };
        self.record(tap_outcome(outcome), flags, answer, cx);
    }

    /// Records a message that no transform has seen.
    #[cold]
    pub(super) fn record_dropped(&self, message: &[u8], reason: DropReason, cx: &mut Context<'_>) {
        if cx.recorder.is_on() {
            cx.recorder.keep(message);
            self.record(TapOutcome::Dropped(reason), 0, &[], cx);
        }
    }

    /// Records a message whose answer has come, or will not come any more.
    #[cold]
    pub(super) fn record_deferred(
        &self,
        message: &DeferredMessage,
        outcome: TapOutcome,
        answer: &[u8],
        cx: &mut Context<'_>,
    ) {
        if let Some(kept) = message.kept.as_ref().filter(|_| cx.recorder.is_on()) {
            cx.recorder.keep_again(kept);
            self.record(outcome, message.flags, answer, cx);
        }
    }

    /// Records the messages that are given up with what waits from a place on.
    pub(super) fn record_given_up(&self, place: usize, cx: &mut Context<'_>) {
        if self.output.deferred_count() > 0 {
            for message in self.output.deferred_from(place) {
                self.record_deferred(message, TapOutcome::Dropped(DropReason::Undelivered), &[], cx);
            }
        }
    }
}

/// What a tap hears of an outcome.
pub(super) fn tap_outcome(outcome: &ChainOutcome) -> TapOutcome {
    match outcome {
        ChainOutcome::Answer | ChainOutcome::Later { closes: false } => TapOutcome::Answered,
        ChainOutcome::Drop => TapOutcome::Dropped(DropReason::ByTransform),
        ChainOutcome::Close | ChainOutcome::DropAndClose | ChainOutcome::Later { closes: true } => {
            TapOutcome::Closed(CloseReason::TransformClosed)
        }
        ChainOutcome::Reset => TapOutcome::Reset(CloseReason::TransformClosed),
        ChainOutcome::Failed { .. } => TapOutcome::Failed(DropReason::TransformFailed),
    }
}

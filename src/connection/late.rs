//! Answers that come later: the message goes on from where it waits, once all before it have.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::batch::End;
use super::deferred::{DeferredMessage, DeferredState};
use super::output::{Chunk, Undelivered};
use super::recording::tap_outcome;
use super::step::Step;
use super::{Connection, Phase};
use crate::bug;
use crate::chain::{ChainContext, ChainOutcome};
use crate::context::Context;
use crate::frame::Found;
use crate::later::{LateAnswer, LateVerdict, TicketIssuer};
use crate::stats::{Block, CloseReason, DropReason};
use crate::transform::library::{CallContext, Fault};

impl Connection {
    /// The answer of a message has come that waits for it.
    pub(crate) fn answered_late(&mut self, answer: LateAnswer, cx: &mut Context<'_>) -> Step {
        let mut step = Step::default();
        if !self.output.take_answer(answer) {
            return step;
        }
        while !step.is_closing()
            && let Some((place, message)) = self.output.take_answered()
        {
            self.go_on_with(place, message, &mut step, cx);
        }
        // What has kept a connection with its chain may be over. Where following it may block, the next message or the end of
        // its time with that chain takes it along: the answer is not to wait for that.
        let retired = if self.must_offload(cx) { None } else { self.follow(cx) };
        if retired.is_some() {
            step.rare().retired = retired;
        }
        self.advance(step, cx)
    }

    /// Sends a message on through the stages behind its function, and puts the answer to its place.
    fn go_on_with(
        &mut self,
        place: usize,
        mut message: Box<DeferredMessage>,
        step: &mut Step,
        cx: &mut Context<'_>,
    ) {
        // The ticket counts the bytes until this is done.
        let waited = DeferredState::Answered { ticket: None, verdict: LateVerdict::Drop, bytes: Vec::new() };
        let DeferredState::Answered { ticket: _ticket, verdict, bytes } =
            std::mem::replace(&mut message.state, waited)
        else {
            return;
        };
        message.closes |= verdict == LateVerdict::Close;
        let mut answer = cx.pool.take(bytes.len());
        let (mut outcome, delay_us, body) = match verdict {
            LateVerdict::Answer | LateVerdict::Close => {
                match self.run_behind(&mut message, bytes, &mut answer, cx) {
                    Some(resumed) => resumed,
                    None => {
                        cx.pool.put(answer);
                        return self.output.keep_waiting(place, message);
                    }
                }
            }
            LateVerdict::Drop => (ChainOutcome::Drop, 0, 0..0),
            LateVerdict::Reset => (ChainOutcome::Reset, 0, 0..0),
            LateVerdict::Fail(code) => {
                (ChainOutcome::Failed { stage: message.stage, fault: Fault::Status(code) }, 0, 0..0)
            }
        };
        if message.closes {
            outcome = match outcome {
                ChainOutcome::Answer => ChainOutcome::Close,
                ChainOutcome::Drop => ChainOutcome::DropAndClose,
                other => other,
            };
        }
        let has_answer = matches!(outcome, ChainOutcome::Answer | ChainOutcome::Close);
        if message.kept.is_some() {
            let body = if has_answer { bug::part(&answer, body) } else { &[] };
            self.record_deferred(&message, tap_outcome(&outcome), body, cx);
        }
        if has_answer && (cx.limits.records || !answer.is_empty()) {
            let due = cx.now.after(Duration::from_micros(delay_us));
            let chunk = Chunk::answers(answer, message.messages);
            self.output.put_answer(place, Some((chunk, due)), cx.pool);
        } else {
            cx.pool.put(answer);
            self.output.put_answer(place, None, cx.pool);
            self.count_unanswered(&message, &outcome, cx.stats);
        }
        let end = match outcome {
            ChainOutcome::Answer | ChainOutcome::Drop | ChainOutcome::Later { .. } => return,
            ChainOutcome::Close | ChainOutcome::DropAndClose => End::because(CloseReason::TransformClosed),
            ChainOutcome::Reset => End::reset(CloseReason::TransformClosed),
            ChainOutcome::Failed { stage, fault } => End::failed(stage, fault),
        };
        // What is behind the message that ends the connection gets no answer.
        let behind = place + usize::from(has_answer && self.output.has_place(place));
        self.record_given_up(behind, cx);
        count_given_up(self.output.give_up_from(Some(behind)), cx.stats);
        if let Phase::Flushing(reason) = &mut self.phase {
            // What has ended it since came behind this message.
            *reason = end.reason;
        }
        self.begin_end(end, step, cx);
    }

    /// Runs the stages behind its function; what comes of that, in its frame, for how long it is to be held back, and where
    /// in it the answer without its frame is. `None`: it waits for another function now.
    fn run_behind(
        &mut self,
        message: &mut DeferredMessage,
        mut bytes: Vec<u8>,
        answer: &mut Vec<u8>,
        cx: &mut Context<'_>,
    ) -> Option<(ChainOutcome, u64, Range<usize>)> {
        let framer = &cx.limits.framer;
        let mark = framer.open(answer);
        let mut body = 0..0;
        let mut delays = Vec::new();
        let issuer = cx.issuer.map(|issuer| TicketIssuer { order: message.order, ..issuer });
        let conversation = cx.limits.conversation(self.id, &self.peer, self.proxied.as_deref());
        let mut chain = ChainContext {
            session: &mut self.session,
            call: CallContext { conversation, issuer: issuer.as_ref() },
            out: answer,
            out_max: cx.limits.local.answer_bytes_max,
            flags: message.flags,
            scratch: cx.scratch,
            delays: &mut delays,
            delay_us: 0,
            // All before it have gone on.
            waiting_stages: 0,
            deferred: None,
        };
        let generation = Arc::clone(&self.generation);
        let mut outcome = generation.resume(message.stage, &mut bytes, &mut chain);
        let deferred = chain.deferred;
        cx.pool.put(bytes);
        if let (ChainOutcome::Later { closes }, Some(deferred)) = (&outcome, deferred) {
            message.closes |= *closes && message.messages > 0;
            message.defer_again(deferred);
            return None;
        }
        if matches!(outcome, ChainOutcome::Answer | ChainOutcome::Close) {
            let found = Found { body: 0..0, len: message.tail.len() };
            match framer.close(answer, mark, &message.tail, &found) {
                Ok(range) => body = range,
                Err(_) => {
                    let stage = generation.last_stage();
                    outcome = ChainOutcome::Failed { stage, fault: Fault::TooLong };
                }
            }
        }
        let longest_us = delays.iter().map(|range| range.delay_us).max().unwrap_or(0);
        Some((outcome, longest_us.saturating_add(message.delay_us), body))
    }

    /// Counts a message that has nothing to be sent.
    fn count_unanswered(&self, message: &DeferredMessage, outcome: &ChainOutcome, stats: &Block) {
        let messages = u64::from(message.messages);
        let reason = match outcome {
            ChainOutcome::Answer | ChainOutcome::Close => return stats.messages_out.add(messages),
            ChainOutcome::Failed { .. } => {
                stats.transform_errors.add(1);
                DropReason::TransformFailed
            }
            _ => DropReason::ByTransform,
        };
        stats.dropped(reason, messages);
        stats.dropped_bytes.add(message.input_bytes as u64);
    }

    /// Gives up all messages whose answers have not come; what is behind them goes on.
    pub(super) fn give_up_unanswered(&mut self, cx: &mut Context<'_>) {
        self.record_given_up(0, cx);
        count_given_up(self.output.give_up_deferred(), cx.stats);
    }

    /// Gives up all messages whose answers have not come, and what is behind them.
    pub(super) fn give_up_deferred(&mut self, cx: &mut Context<'_>) {
        self.record_given_up(0, cx);
        count_given_up(self.output.give_up_from(None), cx.stats);
    }
}

fn count_given_up(left: Undelivered, stats: &Block) {
    stats.undelivered_bytes.add(left.bytes as u64);
    stats.dropped_bytes.add(left.input_bytes as u64);
    stats.dropped(DropReason::Undelivered, u64::from(left.messages));
}

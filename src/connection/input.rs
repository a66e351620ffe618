//! What a connection has received: finds messages, sends them through the chain as far as the budget goes, and keeps the
//! rest.
//!
//! ```text
//! | answered | answered | next message ... | unfinished |
//!                       ^ the budget ends here: all from here on is unread input
//! ```

use std::sync::Arc;

use resay_plugin::abi;

use super::Connection;
use super::batch::{Batch, End};
use super::begun::Begun;
use super::deferred::DeferredMessage;
use super::recording::tap_outcome;
use crate::buffer;
use crate::bug;
use crate::chain::{
    ChainContext, ChainOutcome, DelayedRange, Generation, StreamContext, StreamInput, StreamOutcome, WHOLE,
    note_delay,
};
use crate::context::Context;
use crate::frame::{Found, Framer};
use crate::limits::{LATE_ANSWERS_MAX, TURN_ANSWER_BYTES, TURN_MESSAGES, TURN_MESSAGES_MADE};
use crate::stats::{CloseReason, DropReason};
use crate::tap::TapOutcome;
use crate::transform::library::{CallContext, Fault};

impl Connection {
    /// Answers the messages of a window, as far as the budget goes; at the end of the stream also what is unfinished.
    /// `begun`: what the fast path has done of it.
    pub(super) fn answer(
        &mut self,
        window: &mut [u8],
        scanned: usize,
        begun: Begun,
        cx: &mut Context<'_>,
    ) -> Batch {
        let at_end = self.flags.has_peer_ended;
        if cx.limits.records {
            self.answer_record(window, at_end, cx)
        } else if !cx.limits.framer.has_messages() && !self.generation.is_in_place() {
            self.answer_stream(window, at_end, cx)
        } else {
            self.answer_messages(window, scanned, begun, cx)
        }
    }

    fn answer_messages(
        &mut self,
        window: &mut [u8],
        mut scanned: usize,
        begun: Begun,
        cx: &mut Context<'_>,
    ) -> Batch {
        let at_end = self.flags.has_peer_ended;
        let mut batch = Batch::new();
        (batch.used, batch.in_place, batch.answers) = (begun.used, begun.used, begun.messages as u32);
        let flags = if cx.limits.framer.has_messages() { WHOLE } else { 0 };
        let waiting_cost = self.output.cost();
        let answer_bytes_max = cx.limits.high_water_bytes.saturating_sub(waiting_cost).min(TURN_ANSWER_BYTES);
        if !self.generation.is_in_place() {
            batch.out = Some(cx.pool.take(window.len().min(answer_bytes_max)));
        }
        let mut messages = begun.messages;
        let mut goes_on = begun.stopped.is_none_or(|stopped| {
            let (frame_bytes, outcome) = *stopped;
            messages += 1;
            batch.used += frame_bytes;
            self.take_outcome(window, begun.used, outcome, &mut batch, cx)
        });
        let messages_max = if self.generation.is_in_place() { TURN_MESSAGES } else { TURN_MESSAGES_MADE };
        while goes_on {
            let rest = bug::part(window, batch.used..);
            let deferred_cost = if batch.deferred.is_empty() { 0 } else { batch.deferred_cost() };
            let answer_bytes = batch.out.as_ref().map_or(batch.in_place, Vec::len) + deferred_cost;
            let is_full = self.output.deferred_count() + batch.deferred.len() >= LATE_ANSWERS_MAX;
            // Where nothing waits one message is always answered, however long its answer is.
            let is_free = messages == 0 && waiting_cost == 0;
            if messages == messages_max || is_full || (answer_bytes >= answer_bytes_max && !is_free) {
                batch.has_more = !rest.is_empty() || at_end;
                break;
            }
            // By reference: what was just written is not copied as a whole, for which the processor would wait.
            let found = cx.limits.framer.find(rest, scanned);
            let mut last = None;
            let found = match &found {
                Ok(Some(found)) => found,
                Ok(None) if !at_end => break,
                // Of a stream that was cut off nobody knows what the rest was to be.
                Ok(None) => match cx.limits.framer.find_last(rest).filter(|_| !self.flags.is_truncated) {
                    Some(found) => last.insert(found),
                    None => {
                        if !rest.is_empty() {
                            cx.stats.messages_in.add(1);
                            cx.stats.dropped(DropReason::Undelivered, 1);
                            cx.stats.dropped_bytes.add(rest.len() as u64);
                            self.record_dropped(rest, DropReason::Undelivered, cx);
                        }
                        batch.used = window.len();
                        batch.end = Some(End::because(CloseReason::PeerClosed));
                        if flags == 0 && self.generation.hears_end() {
                            self.answer_end(window, &mut batch, cx);
                        }
                        break;
                    }
                },
                Err(_) => {
                    cx.stats.messages_in.add(1);
                    cx.stats.dropped(DropReason::TooLong, 1);
                    self.record_dropped(rest, DropReason::TooLong, cx);
                    batch.end = Some(End::because(CloseReason::MessageTooLong));
                    break;
                }
            };
            scanned = 0;
            messages += 1;
            cx.stats.messages_in.add(1);
            goes_on = self.answer_message(window, found, flags, &mut batch, cx);
        }
        if !batch.has_more && batch.end.is_some() {
            // What is behind the message that ended the connection gets no answer.
            cx.stats.dropped_bytes.add((window.len() - batch.used) as u64);
            batch.used = window.len();
        }
        batch
    }

    /// Lets functions with sessions hear of the end of a raw stream, in a chain that works in place. It is no message: what
    /// they answer counts for none.
    fn answer_end(&mut self, window: &[u8], batch: &mut Batch, cx: &mut Context<'_>) {
        let in_place = batch.in_place;
        let out = batch.out.get_or_insert_with(|| cx.pool.copy_of(bug::part(window, ..in_place)));
        let conversation = cx.limits.conversation(self.id, &self.peer, self.proxied.as_deref());
        let mut chain = ChainContext {
            session: &mut self.session,
            call: CallContext { conversation, issuer: cx.issuer.as_ref() },
            out,
            out_max: cx.limits.local.answer_bytes_max,
            flags: abi::RESAY_IO_EOF,
            scratch: cx.scratch,
            delays: &mut batch.delays,
            delay_us: 0,
            waiting_stages: self.output.waiting_stages() | batch.waiting_stages,
            deferred: None,
        };
        let outcome = self.generation.end_stream(&mut chain);
        if let Some(deferred) = chain.deferred {
            let message = DeferredMessage::new(deferred, &[], 0, abi::RESAY_IO_EOF, 0, None);
            batch.defer(message, &[], cx.pool);
        }
        batch.end = match outcome {
            ChainOutcome::Reset => Some(End::reset(CloseReason::TransformClosed)),
            ChainOutcome::Failed { stage, fault } => {
                cx.stats.transform_errors.add(1);
                Some(End::failed(stage, fault))
            }
            _ => return,
        };
    }

    fn answer_record(&mut self, window: &mut [u8], at_end: bool, cx: &mut Context<'_>) -> Batch {
        let mut batch = Batch::new();
        if at_end {
            batch.end = Some(End::because(CloseReason::PeerClosed));
            return batch;
        }
        if !self.generation.is_in_place() {
            batch.out = Some(cx.pool.take(window.len()));
        }
        cx.stats.messages_in.add(1);
        let record = Found { body: 0..window.len(), len: window.len() };
        self.answer_message(window, &record, WHOLE, &mut batch, cx);
        batch
    }

    /// A raw stream has no messages: its transforms are given what came, and the answer goes on as far as there is room.
    fn answer_stream(&mut self, window: &mut [u8], at_end: bool, cx: &mut Context<'_>) -> Batch {
        let mut batch = Batch::new();
        batch.used = window.len();
        cx.stats.messages_in.add(u64::from(!window.is_empty()));
        let reads = u32::from(!window.is_empty());
        let room = cx.limits.high_water_bytes.saturating_sub(self.output.cost()).min(TURN_ANSWER_BYTES);
        batch.out = Some(cx.pool.take(window.len().min(room)));
        let generation = Arc::clone(&self.generation);
        if reads > 0 && cx.recorder.is_on() {
            cx.recorder.keep(window);
        }
        self.stream(room, reads, at_end, &mut batch, cx, |kept, cx| generation.stream(window, kept, cx));
        batch
    }

    /// Lets transforms go on with a raw stream, and takes what comes of it into a batch.
    fn stream(
        &mut self,
        room: usize,
        reads: u32,
        at_end: bool,
        batch: &mut Batch,
        cx: &mut Context<'_>,
        run: impl FnOnce(&mut Option<Box<StreamInput>>, &mut StreamContext<'_>) -> StreamOutcome,
    ) {
        let unread = self.unread.as_mut();
        let (mut kept, before) =
            unread.map_or((None, 0), |unread| (unread.stream.take(), unread.stream_messages));
        let out = batch.out.get_or_insert_default();
        let begin = out.len();
        let out_len_max = out.len() + room.max(1);
        let conversation = cx.limits.conversation(self.id, &self.peer, self.proxied.as_deref());
        let StreamOutcome { outcome, is_done } = run(
            &mut kept,
            &mut StreamContext {
                session: &mut self.session,
                call: CallContext { conversation, issuer: None },
                out,
                out_len_max,
                unread_max: cx.limits.local.answer_bytes_max,
                scratch: cx.scratch,
                delays: &mut batch.delays,
                at_end,
            },
        );
        batch.has_more = !is_done;
        if reads > 0 && cx.recorder.is_on() {
            let answer = batch.out.as_deref().and_then(|out| out.get(begin..)).unwrap_or_default();
            self.record(tap_outcome(&outcome), 0, answer, cx);
        }
        // What was read counts as answered when all of it is.
        let (messages, waiting) = if is_done { (before + reads, 0) } else { (0, before + reads) };
        if kept.is_some() || self.unread.is_some() {
            let unread = self.unread.get_or_insert_default();
            (unread.stream, unread.stream_messages) = (kept, waiting);
        }
        match outcome {
            ChainOutcome::Answer | ChainOutcome::Later { .. } => batch.answers += messages,
            ChainOutcome::Drop => cx.stats.dropped(DropReason::ByTransform, u64::from(messages)),
            ChainOutcome::Close => {
                batch.answers += messages;
                batch.end = Some(End::because(CloseReason::TransformClosed));
            }
            ChainOutcome::DropAndClose => {
                cx.stats.dropped(DropReason::ByTransform, u64::from(messages));
                batch.end = Some(End::because(CloseReason::TransformClosed));
            }
            ChainOutcome::Reset => {
                cx.stats.dropped(DropReason::ByTransform, u64::from(messages));
                batch.end = Some(End::reset(CloseReason::TransformClosed));
            }
            ChainOutcome::Failed { stage, fault } => {
                cx.stats.transform_errors.add(1);
                cx.stats.dropped(DropReason::TransformFailed, u64::from(messages));
                batch.end = Some(End::failed(stage, fault));
            }
        }
        if is_done && at_end && batch.end.is_none() {
            batch.end = Some(End::because(CloseReason::PeerClosed));
        }
    }

    /// Sends the message at `batch.used` of the window through the chain; whether the next one may follow. `found` counts
    /// from there.
    fn answer_message(
        &mut self,
        window: &mut [u8],
        found: &Found,
        flags: u32,
        batch: &mut Batch,
        cx: &mut Context<'_>,
    ) -> bool {
        let begin = batch.used;
        batch.used += found.len;
        let body = bug::part_mut(bug::part_mut(window, begin..batch.used), found.body.clone());
        let is_recorded = cx.recorder.is_on();
        if is_recorded {
            cx.recorder.keep(body);
        }
        if self.generation.is_map_only() && batch.out.is_none() {
            let Err(stopped) = self.session.map_all(body) else {
                batch.in_place = batch.used;
                batch.answers += 1;
                if is_recorded {
                    self.record(TapOutcome::Answered, flags, body, cx);
                }
                return true;
            };
            let (stage, status) = *stopped.0;
            let outcome = ChainOutcome::of_end(stage, status);
            if is_recorded {
                self.record_stopped(body, &outcome, flags, cx);
            }
            return self.take_outcome(window, begin, outcome, batch, cx);
        }
        let framer = &cx.limits.framer;
        let in_place = self.generation.is_in_place();
        // Where the answers before this one end.
        let mark = match &mut batch.out {
            Some(out) if in_place => out.len(),
            Some(out) => framer.open(out),
            None => batch.in_place,
        };
        let mut unused = Vec::new();
        let out = batch.out.as_mut().unwrap_or(&mut unused);
        // Where the answer to this message stands without its frame: in `out`, or where the message stood.
        let mut answer_in_out = None;
        let first_range = batch.delays.len();
        let body_begin = out.len();
        let conversation = cx.limits.conversation(self.id, &self.peer, self.proxied.as_deref());
        let mut chain = ChainContext {
            session: &mut self.session,
            call: CallContext { conversation, issuer: cx.issuer.as_ref() },
            out,
            out_max: cx.limits.local.answer_bytes_max,
            flags,
            scratch: cx.scratch,
            delays: &mut batch.delays,
            delay_us: 0,
            waiting_stages: self.output.waiting_stages() | batch.waiting_stages,
            deferred: None,
        };
        let mut outcome = self.generation.run(body, &mut chain);
        let (delay_us, deferred) = (chain.delay_us, chain.deferred);
        if matches!(outcome, ChainOutcome::Answer | ChainOutcome::Close) {
            let replaced = if in_place { cx.scratch.replaced() } else { None };
            if delay_us > 0 {
                // What is delayed is no longer one piece with the answers before it.
                batch.out.get_or_insert_with(|| cx.pool.copy_of(bug::part(window, ..batch.in_place)));
            }
            let before = batch.out.as_ref().map_or(0, Vec::len);
            let closed = match (&mut batch.out, replaced) {
                (Some(out), None) if !in_place => {
                    let closed = framer.close(out, mark, bug::part(window, begin..batch.used), found);
                    let frame = Frame { begin: mark, body: body_begin, before, end: out.len() };
                    frame_ranges(framer, &mut batch.delays, first_range, &frame);
                    if cx.limits.records && batch.delays.len() > first_range {
                        join_ranges(&mut batch.delays, first_range, out.len());
                    }
                    closed.map(Some)
                }
                (out, Some(answer)) => {
                    // The answers are no longer one piece of the window.
                    let out = out.get_or_insert_with(|| cx.pool.copy_of(bug::part(window, ..batch.in_place)));
                    let mark = framer.open(out);
                    buffer::append(out, answer);
                    framer.close(out, mark, bug::part(window, begin..batch.used), found).map(Some)
                }
                (Some(out), None) => {
                    buffer::append(out, bug::part(window, begin..batch.used));
                    Ok(None)
                }
                (None, None) => {
                    batch.in_place = batch.used;
                    Ok(None)
                }
            };
            if delay_us > 0 {
                note_delay(&mut batch.delays, before, batch.out.as_ref().map_or(0, Vec::len), delay_us);
            }
            match closed {
                Ok(range) => answer_in_out = range,
                Err(_) => {
                    let stage = self.generation.last_stage();
                    outcome = ChainOutcome::Failed { stage, fault: Fault::TooLong };
                    batch.delays.truncate(first_range);
                }
            }
        }
        let has_answer = matches!(outcome, ChainOutcome::Answer | ChainOutcome::Close);
        if is_recorded && deferred.is_none() {
            let answer = match (answer_in_out, &batch.out) {
                _ if !has_answer => &[],
                (Some(range), Some(out)) => bug::part(out, range),
                _ => bug::part(bug::part(window, begin..batch.used), found.body.clone()),
            };
            self.record(tap_outcome(&outcome), flags, answer, cx);
        }
        if !has_answer && let Some(out) = &mut batch.out {
            out.truncate(mark);
        }
        if let Some(deferred) = deferred {
            let frame = bug::part(window, begin..batch.used);
            // Taps hear of it when its answer comes, or when it is given up.
            let kept = is_recorded.then(|| cx.recorder.kept());
            let message = DeferredMessage::new(deferred, frame, found.body.end, flags, 1, kept);
            batch.defer(message, bug::part(window, ..batch.in_place), cx.pool);
        }
        self.take_outcome(window, begin, outcome, batch, cx)
    }

    /// Counts what became of the message from `begin` to `batch.used`; whether the next one may follow.
    fn take_outcome(
        &mut self,
        window: &[u8],
        begin: usize,
        outcome: ChainOutcome,
        batch: &mut Batch,
        cx: &mut Context<'_>,
    ) -> bool {
        let dropped_bytes = (batch.used - begin) as u64;
        match outcome {
            ChainOutcome::Answer => {
                batch.answers += 1;
                return true;
            }
            ChainOutcome::Drop => {
                cx.stats.dropped(DropReason::ByTransform, 1);
                cx.stats.dropped_bytes.add(dropped_bytes);
                // The answers are no longer one piece of the window.
                let in_place = batch.in_place;
                batch.out.get_or_insert_with(|| cx.pool.copy_of(bug::part(window, ..in_place)));
                return true;
            }
            ChainOutcome::Later { closes: false } => return true,
            ChainOutcome::Later { closes: true } => {
                batch.end = Some(End::because(CloseReason::TransformClosed));
            }
            ChainOutcome::Close => {
                if batch.out.is_none() {
                    batch.in_place = batch.used;
                }
                batch.answers += 1;
                batch.end = Some(End::because(CloseReason::TransformClosed));
            }
            ChainOutcome::DropAndClose => {
                cx.stats.dropped(DropReason::ByTransform, 1);
                cx.stats.dropped_bytes.add(dropped_bytes);
                batch.end = Some(End::because(CloseReason::TransformClosed));
            }
            ChainOutcome::Reset => {
                cx.stats.dropped(DropReason::ByTransform, 1);
                cx.stats.dropped_bytes.add(dropped_bytes);
                batch.end = Some(End::reset(CloseReason::TransformClosed));
            }
            ChainOutcome::Failed { stage, fault } => {
                cx.stats.transform_errors.add(1);
                cx.stats.dropped(DropReason::TransformFailed, 1);
                cx.stats.dropped_bytes.add(dropped_bytes);
                batch.end = Some(End::failed(stage, fault));
            }
        }
        false
    }

    /// What the transforms of the chain send before they are asked.
    pub(super) fn greetings(&mut self, cx: &mut Context<'_>) -> Batch {
        let mut batch = Batch::new();
        let framer = &cx.limits.framer;
        let is_whole = cx.limits.records || framer.has_messages();
        let generation = Arc::clone(&self.generation);
        for stage in generation.greeters() {
            if generation.is_function(stage) && !self.session.has_begun(stage) {
                continue;
            }
            if !is_whole && !generation.is_in_place() {
                let room = cx.limits.high_water_bytes;
                let greet =
                    |kept: &mut _, cx: &mut StreamContext<'_>| generation.stream_greeting(stage, kept, cx);
                self.stream(room, 0, false, &mut batch, cx, greet);
            } else {
                self.greet_whole(&generation, stage, is_whole, &mut batch, cx);
            }
            if batch.end.is_some() {
                break;
            }
        }
        batch
    }

    fn greet_whole(
        &mut self,
        generation: &Generation,
        stage: usize,
        is_whole: bool,
        batch: &mut Batch,
        cx: &mut Context<'_>,
    ) {
        let framer = &cx.limits.framer;
        let out = batch.out.get_or_insert_with(|| cx.pool.take(0));
        let mark = framer.open(out);
        let body_begin = out.len();
        let first_range = batch.delays.len();
        let conversation = cx.limits.conversation(self.id, &self.peer, self.proxied.as_deref());
        let mut chain = ChainContext {
            session: &mut self.session,
            call: CallContext { conversation, issuer: None },
            out,
            out_max: cx.limits.local.answer_bytes_max,
            // Those behind the greeter see a message like any other.
            flags: if is_whole { WHOLE } else { 0 },
            scratch: cx.scratch,
            delays: &mut batch.delays,
            delay_us: 0,
            waiting_stages: 0,
            deferred: None,
        };
        let mut outcome = generation.greet(stage, &mut chain);
        if matches!(outcome, ChainOutcome::Answer | ChainOutcome::Close) {
            let before = out.len();
            match framer.close_unasked(out, mark) {
                Ok(()) => {
                    let frame = Frame { begin: mark, body: body_begin, before, end: out.len() };
                    frame_ranges(framer, &mut batch.delays, first_range, &frame);
                }
                Err(_) => {
                    let stage = generation.last_stage();
                    outcome = ChainOutcome::Failed { stage, fault: Fault::TooLong };
                }
            }
        }
        if matches!(outcome, ChainOutcome::Answer | ChainOutcome::Close) {
            batch.is_greeting = true;
            if cx.limits.records {
                join_ranges(&mut batch.delays, first_range, out.len());
            }
        } else {
            out.truncate(mark);
            batch.delays.truncate(first_range);
        }
        batch.end = match outcome {
            // One that drops its own greeting has refused the connection.
            ChainOutcome::Drop if generation.is_function(stage) && self.session.refusal().is_some() => {
                Some(End::because(CloseReason::TransformClosed))
            }
            ChainOutcome::Answer | ChainOutcome::Drop | ChainOutcome::Later { .. } => None,
            ChainOutcome::Close | ChainOutcome::DropAndClose => {
                Some(End::because(CloseReason::TransformClosed))
            }
            ChainOutcome::Reset => Some(End::reset(CloseReason::TransformClosed)),
            ChainOutcome::Failed { stage, fault } => {
                cx.stats.transform_errors.add(1);
                Some(End::failed(stage, fault))
            }
        };
    }
}

/// Where an answer stands in what is sent: its frame begins and ends there; its body began at `body` and ended at `before`
/// when the frame was not written yet.
struct Frame {
    begin: usize,
    body: usize,
    before: usize,
    end: usize,
}

/// The frame of a message leaves with the message's own ranges, those from `first` on.
fn frame_ranges(framer: &Framer, ranges: &mut Vec<DelayedRange>, first: usize, frame: &Frame) {
    let Frame { begin, body, before, end } = *frame;
    let own = bug::part_mut(ranges, first..);
    // What stands before the body without a delay is the answers before this one; the head of the frame is not.
    let has_gap = matches!(own, [gap, _, ..] if gap.end == body && gap.delay_us == 0);
    if framer.moves_body() {
        own.iter_mut().for_each(|range| range.end += end - before);
    } else if let Some(last) = own.last_mut() {
        // It ends where the message does.
        last.end = end;
    }
    if has_gap {
        let earlier = first.checked_sub(1).and_then(|last| ranges.get(last)).map_or(0, |range| range.end);
        if begin > earlier {
            ranges[first].end = begin;
        } else {
            ranges.remove(first);
        }
    }
}

/// A record is one answer: its ranges, those from `first` on, all wait for the last.
fn join_ranges(ranges: &mut Vec<DelayedRange>, first: usize, end: usize) {
    let delay_us = bug::part(ranges, first..).iter().map(|range| range.delay_us).max();
    ranges.truncate(first);
    // A greeting may have none.
    ranges.push(DelayedRange { end, delay_us: delay_us.unwrap_or(0) });
}

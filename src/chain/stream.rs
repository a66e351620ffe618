//! A raw stream through a chain with stages that make output of their own: by `process`, or functions with sessions.
//!
//! A raw stream has no messages, so nothing has to be there at once: each such stage is called with room for a piece of
//! output, and what it makes goes on to the next one. The stages behind come first, so that what waits between two stages
//! is what one call has made. When the answer has taken the room that the connection has for it, the rest of the input
//! stays with the stages until there is room again: a transform that grows streams in bounded memory, and answers the
//! same however its input was cut.
//!
//! ```text
//! read ─> maps ─> [input of stage 1] ─> process ─> maps ─> [input of stage 2] ─> process ─> maps ─> answer
//! ```

use std::ops::Range;

use resay_plugin::abi;

use super::generation::Generation;
use super::outcome::{ChainOutcome, DelayedRange};
use super::scratch::{Scratch, room_of};
use super::stream_input::{StageInput, StreamInput};
use crate::buffer;
use crate::bug;
use crate::limits::STREAM_CHUNK_BYTES;
use crate::transform::library::{CallContext, Fault, Session, Status};

/// What a stream takes along on its way through a chain.
#[derive(Debug)]
pub(crate) struct StreamContext<'a> {
    pub(crate) session: &'a mut Session,
    /// What functions are called with.
    pub(crate) call: CallContext<'a>,
    /// Where answers are appended.
    pub(crate) out: &'a mut Vec<u8>,
    /// When `out` is as long as this, the rest waits.
    pub(crate) out_len_max: usize,
    /// What one stage may leave unread, or ask to be given room for at once.
    pub(crate) unread_max: usize,
    pub(crate) scratch: &'a mut Scratch,
    /// When `out` is to be sent; empty while nothing is delayed.
    pub(crate) delays: &'a mut Vec<DelayedRange>,
    /// The peer sends no more.
    pub(crate) at_end: bool,
}

/// How far a stream came.
#[derive(Debug)]
pub(crate) struct StreamOutcome {
    pub(crate) outcome: ChainOutcome,
    /// The stages have read all that they can read for now.
    pub(crate) is_done: bool,
}

impl Generation {
    /// Sends what a read has brought through, after all that earlier reads left unread in `kept`: as far as there is
    /// room. `None` in `kept`: nothing is unread.
    pub(crate) fn stream(
        &self,
        fresh: &mut [u8],
        kept: &mut Option<Box<StreamInput>>,
        cx: &mut StreamContext<'_>,
    ) -> StreamOutcome {
        self.with_input(kept, cx, |input, room, cx| {
            let Some(&first) = self.streamers.first() else {
                bug::found("a stage that makes output of its own");
                return Err(ChainOutcome::Drop);
            };
            let mut buffers = std::mem::take(&mut cx.scratch.buffers);
            let passed = self.pass(0..first, fresh, &mut buffers, cx).map(|passed| {
                let bytes = passed.buffer.map_or(&*fresh, |buffer| &buffers[buffer]);
                match input.of(0) {
                    _ if passed.is_dropped => {}
                    Some(stage) => stage.push(bytes, passed.delay_us),
                    None => bug::found("the input of the first stage"),
                }
                input.is_closing |= passed.is_closing;
                passed.is_dropped
            });
            cx.scratch.buffers = buffers;
            let has_dropped = passed?;
            self.pump(input, room, cx).map(|dropped| dropped | has_dropped)
        })
    }

    /// Lets one stage greet a raw stream; what is behind it sees the greeting like any other input.
    pub(crate) fn stream_greeting(
        &self,
        stage: usize,
        kept: &mut Option<Box<StreamInput>>,
        cx: &mut StreamContext<'_>,
    ) -> StreamOutcome {
        self.with_input(kept, cx, |input, room, cx| {
            if self.stages.instance(stage).is_function() {
                return self.stream_begun(stage, input, room, cx);
            }
            let mut room_wanted = 0;
            loop {
                let bytes = cx.session.output_bound(stage, 0).unwrap_or(0).max(512).max(room_wanted);
                let bytes = bytes.min(cx.unread_max.max(1));
                let place = room_of(room, bytes).map_err(|fault| ChainOutcome::Failed { stage, fault })?;
                let processed = cx.session.process_once(stage, &[], place, 0);
                if processed.room_wanted > cx.unread_max {
                    return Err(ChainOutcome::Failed { stage, fault: Fault::TooLong });
                }
                let is_more = processed.status == Status::MoreOut;
                match ChainOutcome::of(stage, processed.status) {
                    None => {}
                    Some(ChainOutcome::Close) => input.is_closing = true,
                    Some(ChainOutcome::Drop) => return Ok(true),
                    Some(outcome) => return Err(outcome),
                }
                let written = bug::part_mut(room, ..processed.written);
                self.forward(stage, written, processed.delay_us, input, cx)?;
                // Where a stage has asked for the end, what the greeter has left to say is not for the peer.
                if !is_more || input.is_closing {
                    return self.pump(input, room, cx);
                }
                room_wanted = processed.room_wanted;
            }
        })
    }

    /// Sends on what a function said when it began.
    fn stream_begun(
        &self,
        stage: usize,
        input: &mut StreamInput,
        room: &mut Vec<u8>,
        cx: &mut StreamContext<'_>,
    ) -> Result<bool, ChainOutcome> {
        let Some(mut begun) = cx.session.take_begun(stage) else { return Ok(false) };
        match ChainOutcome::of(stage, begun.status) {
            None => {}
            Some(ChainOutcome::Close) => input.is_closing = true,
            Some(ChainOutcome::Drop) => {
                begun.greeting.clear();
                input.is_closing = true;
            }
            Some(outcome) => return Err(outcome),
        }
        self.forward(stage, &mut begun.greeting, begun.delay_us, input, cx)?;
        self.pump(input, room, cx)
    }

    /// Runs `step` with the stages' input and a room to write to. An error ends the stream; OK says whether something was
    /// dropped.
    fn with_input(
        &self,
        kept: &mut Option<Box<StreamInput>>,
        cx: &mut StreamContext<'_>,
        step: impl FnOnce(&mut StreamInput, &mut Vec<u8>, &mut StreamContext<'_>) -> Result<bool, ChainOutcome>,
    ) -> StreamOutcome {
        let base = cx.out.len();
        let mut taken = kept.take();
        let mut own = std::mem::take(&mut cx.scratch.stream);
        let input = match &mut taken {
            Some(input) => &mut **input,
            None => {
                own.clear(self.streamers.len());
                &mut own
            }
        };
        let mut room = std::mem::take(&mut cx.scratch.room);
        let stepped = step(input, &mut room, cx);
        cx.scratch.room = room;
        let is_done = stepped.is_err() || self.next_place(input, cx.at_end).is_none();
        let is_closing = input.is_closing;
        if stepped.is_ok() && !(input.is_idle() || is_done && is_closing) {
            *kept = Some(taken.unwrap_or_else(|| Box::new(std::mem::take(&mut own))));
        }
        cx.scratch.stream = own;
        let outcome = match stepped {
            Err(outcome) => outcome,
            Ok(true) if is_done && is_closing && cx.out.len() == base => ChainOutcome::DropAndClose,
            Ok(_) if is_done && is_closing => ChainOutcome::Close,
            Ok(true) if cx.out.len() == base => ChainOutcome::Drop,
            Ok(_) => ChainOutcome::Answer,
        };
        StreamOutcome { outcome, is_done }
    }

    /// The stage to be called next, by its place among those that make output: the last one that can go on.
    fn next_place(&self, input: &StreamInput, at_end: bool) -> Option<usize> {
        (0..self.streamers.len()).rev().find(|&place| {
            let before_has_ended = place
                .checked_sub(1)
                .map_or(at_end, |before| input.stages.get(before).is_some_and(|stage| stage.has_ended));
            let is_last = before_has_ended && at_end && !input.is_closing;
            match input.stages.get(place) {
                Some(stage) => stage.next_call(is_last).is_some(),
                None => is_last,
            }
        })
    }

    /// Calls stages until all is read or there is no room. Whether something was dropped.
    fn pump(
        &self,
        input: &mut StreamInput,
        room: &mut Vec<u8>,
        cx: &mut StreamContext<'_>,
    ) -> Result<bool, ChainOutcome> {
        let mut has_dropped = false;
        while cx.out.len() < cx.out_len_max
            && let Some(place) = self.next_place(input, cx.at_end)
            && let Some(&stage) = self.streamers.get(place)
            && let Some(current) = input.of(place)
        {
            let is_ending = current.is_ending
                || !(current.has_more || (!current.wants_more && !current.unread().is_empty()));
            current.is_ending = is_ending;
            if self.stages.instance(stage).is_function() {
                has_dropped |= self.pump_function(place, stage, input, cx)?;
                continue;
            }
            let is_last_stage = place + 1 == self.streamers.len();
            let room_left = if is_last_stage { cx.out_len_max - cx.out.len() } else { usize::MAX };
            let unread = bug::part(&current.bytes, current.start..);
            let (len, room_bytes) = portion(
                |len| cx.session.output_bound(stage, len),
                unread.len(),
                room_left.clamp(512, STREAM_CHUNK_BYTES),
            );
            // MORE_OUT said how much is needed; a stage that has already seen all of its input gets all of it again.
            let is_whole = is_ending || current.room_wanted > 0;
            let given = if is_whole { unread } else { bug::part(unread, ..len) };
            let room_bytes = if is_whole {
                let bound = cx.session.output_bound(stage, given.len()).unwrap_or(room_bytes);
                bound.max(current.room_wanted).clamp(1, cx.unread_max.max(1))
            } else {
                room_bytes.min(cx.unread_max.max(1))
            };
            let is_all = given.len() == unread.len();
            let flags = if is_ending { abi::RESAY_IO_EOF } else { 0 };
            let room = room_of(room, room_bytes).map_err(|fault| ChainOutcome::Failed { stage, fault })?;
            let processed = cx.session.process_once(stage, given, room, flags);
            let delay_us = current.delay_us.saturating_add(processed.delay_us);
            let given_bytes = given.len();
            current.start += processed.used;
            current.has_more = processed.status == Status::MoreOut;
            current.room_wanted = if current.has_more { processed.room_wanted } else { 0 };
            match processed.status {
                Status::MoreOut if processed.room_wanted > cx.unread_max => {
                    return Err(ChainOutcome::Failed { stage, fault: Fault::TooLong });
                }
                Status::MoreOut => {}
                Status::Ok => current.has_ended = is_ending,
                // It may have meant only that the portion was too small.
                Status::MoreIn if !is_all => current.room_wanted = 1,
                Status::MoreIn => {
                    current.wants_more = true;
                    if current.unread().len() > cx.unread_max {
                        return Err(ChainOutcome::Failed { stage, fault: Fault::TooLong });
                    }
                }
                Status::Drop => {
                    has_dropped = true;
                    current.start += given_bytes - processed.used;
                    current.has_ended = is_ending;
                    continue;
                }
                Status::Close => {
                    input.is_closing = true;
                    input.stages.iter_mut().take(place + 1).for_each(StageInput::discard);
                }
                status @ (Status::Reset | Status::DropAndClose | Status::Later | Status::Failed(_)) => {
                    return Err(ChainOutcome::of_end(stage, status));
                }
            }
            let written = bug::part_mut(room, ..processed.written);
            has_dropped |= self.forward(stage, written, delay_us, input, cx)?;
        }
        Ok(has_dropped)
    }

    /// Gives a function with a session all that it has not read, or tells it that the stream has ended. Whether something
    /// was dropped.
    fn pump_function(
        &self,
        place: usize,
        stage: usize,
        input: &mut StreamInput,
        cx: &mut StreamContext<'_>,
    ) -> Result<bool, ChainOutcome> {
        let Some(current) = input.of(place) else { return Ok(false) };
        let flags = if current.is_ending { abi::RESAY_IO_EOF } else { 0 };
        let mut given = std::mem::take(&mut current.bytes);
        let start = std::mem::take(&mut current.start);
        let earlier_us = current.delay_us;
        current.has_ended = current.is_ending;
        let mut made = std::mem::take(&mut cx.scratch.buffers[0]);
        let bytes = bug::part(&given, start..);
        let called = cx.session.call(stage, bytes, flags, &mut made, cx.unread_max, &cx.call);
        let delay_us = earlier_us.saturating_add(called.delay_us);
        let outcome = ChainOutcome::of(stage, called.status);
        if outcome == Some(ChainOutcome::Close) {
            input.is_closing = true;
            input.stages.iter_mut().take(place + 1).for_each(StageInput::discard);
        }
        let forwarded = match outcome {
            Some(ChainOutcome::Drop) => Ok(true),
            Some(ChainOutcome::Close) | None => {
                let bytes = if called.is_replaced { &mut *made } else { bug::part_mut(&mut given, start..) };
                self.forward(stage, bytes, delay_us, input, cx)
            }
            Some(outcome) => Err(outcome),
        };
        cx.scratch.buffers[0] = made;
        forwarded
    }

    /// Sends what one stage has made on to the next that makes output of its own, or into the answer. Whether it was
    /// dropped on the way.
    fn forward(
        &self,
        from: usize,
        made: &mut [u8],
        delay_us: u64,
        input: &mut StreamInput,
        cx: &mut StreamContext<'_>,
    ) -> Result<bool, ChainOutcome> {
        if made.is_empty() {
            return Ok(false);
        }
        let next = self.streamers.iter().position(|stage| *stage > from);
        let until = next.and_then(|place| self.streamers.get(place).copied()).unwrap_or(self.stages.len());
        let mut buffers = std::mem::take(&mut cx.scratch.buffers);
        let passed = self.pass(from + 1..until, made, &mut buffers, cx);
        let is_dropped = passed.map(|passed| {
            let bytes = passed.buffer.map_or(&*made, |buffer| &buffers[buffer]);
            match next.map(|place| input.of(place)) {
                _ if passed.is_dropped => {}
                Some(Some(stage)) => stage.push(bytes, delay_us.saturating_add(passed.delay_us)),
                Some(None) => bug::found("the input of the next stage"),
                None => cx.answer(bytes, delay_us.saturating_add(passed.delay_us)),
            }
            if passed.is_closing {
                input.is_closing = true;
                let before = next.unwrap_or(self.streamers.len());
                input.stages.iter_mut().take(before).for_each(StageInput::discard);
            }
            passed.is_dropped
        });
        cx.scratch.buffers = buffers;
        is_dropped
    }

    /// Sends bytes through stages that work in place, or replace what they see. An error: there is nothing to go on with.
    fn pass(
        &self,
        stages: Range<usize>,
        bytes: &mut [u8],
        buffers: &mut [Vec<u8>; 2],
        cx: &mut StreamContext<'_>,
    ) -> Result<Passed, ChainOutcome> {
        let mut passed = Passed { buffer: None, is_closing: false, is_dropped: false, delay_us: 0 };
        for stage in stages {
            if passed.buffer.map_or(&*bytes, |buffer| &buffers[buffer]).is_empty() {
                break;
            }
            let status = if self.stages.instance(stage).is_function() {
                let [first, second] = &mut *buffers;
                let (source, target): (&[u8], _) = match passed.buffer {
                    None => (&*bytes, first),
                    Some(0) => (first, second),
                    Some(_) => (second, first),
                };
                let called = cx.session.call(stage, source, 0, target, cx.unread_max, &cx.call);
                if called.is_replaced {
                    passed.buffer = Some(if passed.buffer == Some(0) { 1 } else { 0 });
                }
                passed.delay_us = passed.delay_us.saturating_add(called.delay_us);
                called.status
            } else {
                match passed.buffer {
                    None => cx.session.map(stage, bytes),
                    Some(buffer) => cx.session.map(stage, &mut buffers[buffer]),
                }
            };
            match ChainOutcome::of(stage, status) {
                None => {}
                Some(ChainOutcome::Close) => passed.is_closing = true,
                Some(ChainOutcome::Drop) => {
                    passed.is_dropped = true;
                    break;
                }
                Some(outcome) => return Err(outcome),
            }
        }
        Ok(passed)
    }
}

/// Where bytes stand that have passed stages: where they stood, or in a buffer.
struct Passed {
    buffer: Option<usize>,
    is_closing: bool,
    /// Nothing goes on: what came so far of a Close still holds.
    is_dropped: bool,
    /// For how long functions want it to be held back.
    delay_us: u64,
}

impl StreamContext<'_> {
    fn answer(&mut self, bytes: &[u8], delay_us: u64) {
        if delay_us > 0 && self.delays.is_empty() && !self.out.is_empty() {
            self.delays.push(DelayedRange { end: self.out.len(), delay_us: 0 });
        }
        buffer::append(self.out, bytes);
        if delay_us > 0 || !self.delays.is_empty() {
            self.delays.push(DelayedRange { end: self.out.len(), delay_us });
        }
    }
}

/// How much of `len` bytes of input a stage is given at once, and room for what it makes of it: at most about `room_max`
/// bytes, but always at least one byte of input and the room that the stage declares for that.
fn portion(bound: impl Fn(usize) -> Option<usize>, len: usize, room_max: usize) -> (usize, usize) {
    let fits = |len: usize| bound(len).is_none_or(|bound| bound <= room_max);
    if fits(len) {
        return (len, bound(len).unwrap_or(room_max).max(1));
    }
    // The bound grows with the length: the longest that fits.
    let (mut fitting, mut too_long) = (1, len.max(2));
    while fitting + 1 < too_long {
        let middle = fitting + (too_long - fitting) / 2;
        if fits(middle) { fitting = middle } else { too_long = middle }
    }
    let given = fitting.min(len);
    (given, bound(given).unwrap_or(room_max).max(1))
}

//! One whole message through a chain.

use resay_plugin::abi;

use super::generation::Generation;
use super::outcome::{ChainOutcome, Deferred, DeferredAnswer, DelayedRange};
use super::scratch::{OUT_OF_MEMORY, Scratch, room_of};
use crate::buffer;
use crate::bug;
use crate::transform::library::{CallContext, Called, Fault, Session, Status};

/// What a message takes along on its way through a chain.
#[derive(Debug)]
pub(crate) struct ChainContext<'a> {
    pub(crate) session: &'a mut Session,
    /// What functions are called with.
    pub(crate) call: CallContext<'a>,
    /// Where answers are appended that are not made in place, at most `out_max` bytes a message.
    pub(crate) out: &'a mut Vec<u8>,
    pub(crate) out_max: usize,
    /// Those of `resay_io`.
    pub(crate) flags: u32,
    pub(crate) scratch: &'a mut Scratch,
    /// When `out` is to be sent; empty while nothing is delayed.
    pub(crate) delays: &'a mut Vec<DelayedRange>,
    /// For how long an answer that was made in place is to be held back.
    pub(crate) delay_us: u64,
    /// The functions at which earlier messages wait: see [`stage_bit`]. A message behind them waits there too.
    pub(crate) waiting_stages: u64,
    /// With [`ChainOutcome::Later`].
    pub(crate) deferred: Option<Deferred>,
}

/// A stage in a set of stages. Beyond the 63rd they share a bit: what waits for one waits for all of them.
pub(crate) fn stage_bit(stage: usize) -> u64 {
    1 << stage.min(63)
}

impl Generation {
    /// Sends one message through. An in-place chain leaves the answer in `message`, or where [`Scratch::replaced`] says,
    /// and `cx.out` as it is; any other appends the answer to `cx.out`, and changes `message` on the way.
    pub(crate) fn run(&self, message: &mut [u8], cx: &mut ChainContext<'_>) -> ChainOutcome {
        if self.is_map_only {
            cx.scratch.replaced = None;
            return match cx.session.map_all(message) {
                Ok(()) => ChainOutcome::Answer,
                Err(stopped) => {
                    let (stage, status) = *stopped.0;
                    ChainOutcome::of_end(stage, status)
                }
            };
        }
        self.run_from(0, None, message, cx)
    }

    /// Lets one stage greet; those behind it see a message like any other. The greeting is appended to `cx.out`.
    pub(crate) fn greet(&self, stage: usize, cx: &mut ChainContext<'_>) -> ChainOutcome {
        self.run_from(stage, Some(stage), &mut [], cx)
    }

    /// Goes on with a message that was deferred, with what the function at `stage` has answered. The answer is appended
    /// to `cx.out`.
    pub(crate) fn resume(&self, stage: usize, answer: &mut [u8], cx: &mut ChainContext<'_>) -> ChainOutcome {
        let base = cx.out.len();
        if cx.flags & abi::RESAY_IO_EOF != 0 {
            return self.end_from(stage + 1, answer, cx);
        }
        let outcome = self.run_from(stage + 1, None, answer, cx);
        if matches!(outcome, ChainOutcome::Answer | ChainOutcome::Close) && !self.has_process_from(stage + 1)
        {
            let answer = cx.scratch.replaced().unwrap_or(answer);
            buffer::append(cx.out, answer);
            if cx.delay_us > 0 {
                note_delay(cx.delays, base, cx.out.len(), cx.delay_us);
            }
        }
        outcome
    }

    /// Lets functions with sessions hear of the end of a raw stream, where all transforms work in place. What they
    /// answer is appended to `cx.out`.
    pub(crate) fn end_stream(&self, cx: &mut ChainContext<'_>) -> ChainOutcome {
        self.end_from(0, &mut [], cx)
    }

    fn end_from(&self, first: usize, bytes: &mut [u8], cx: &mut ChainContext<'_>) -> ChainOutcome {
        let base = cx.out.len();
        let mut buffers = std::mem::take(&mut cx.scratch.buffers);
        let mut at = None;
        let mut is_closing = false;
        let mut outcome = ChainOutcome::Answer;
        let mut delay_us = 0_u64;
        let mut is_dropped = false;
        for stage in first..self.stages.len() {
            let instance = self.stages.instance(stage);
            let [one, two] = &mut buffers;
            let (input, output): (&mut [u8], &mut Vec<u8>) = match at {
                None => (&mut *bytes, one),
                Some(0) => (one, two),
                Some(_) => (two, one),
            };
            let input = if is_dropped { &mut [] } else { input };
            let status = if !instance.is_function() {
                if input.is_empty() { Status::Ok } else { cx.session.map(stage, input) }
            } else if input.is_empty() && !instance.has_session() {
                Status::Ok
            } else {
                let mut called = cx.session.call(stage, input, cx.flags, output, cx.out_max, &cx.call);
                delay_us = delay_us.saturating_add(called.delay_us);
                if called.is_replaced {
                    at = Some(usize::from(at == Some(0)));
                    is_dropped = false;
                }
                let made = || -> &[u8] {
                    match at {
                        _ if is_dropped => &[],
                        None => &*bytes,
                        Some(buffer) => &buffers[buffer],
                    }
                };
                match self.deferral(stage, &mut called, made, cx) {
                    Ok(None) => called.status,
                    Ok(Some(answer)) => {
                        cx.deferred = Some(Deferred { stage, answer, delay_us });
                        outcome = ChainOutcome::Later { closes: true };
                        break;
                    }
                    Err(fault) => Status::Failed(fault),
                }
            };
            match ChainOutcome::of(stage, status) {
                None => {}
                Some(ChainOutcome::Close) => is_closing = true,
                // What is behind hears of the end all the same.
                Some(ChainOutcome::Drop | ChainOutcome::DropAndClose) => is_dropped = true,
                Some(other) => {
                    outcome = other;
                    break;
                }
            }
        }
        if outcome == ChainOutcome::Answer {
            if !is_dropped {
                buffer::append(cx.out, at.map_or(&*bytes, |buffer| &buffers[buffer]));
            }
            if delay_us > 0 && cx.out.len() > base {
                note_delay(cx.delays, base, cx.out.len(), delay_us);
            }
            if is_closing {
                outcome = ChainOutcome::Close;
            }
        }
        cx.scratch.buffers = buffers;
        outcome
    }

    fn has_process_from(&self, first: usize) -> bool {
        self.processes.last().is_some_and(|last| *last >= first)
    }

    /// Sends a message through from a stage on. `greeter`: a stage that is asked by process() with no input and no flags,
    /// or that has greeted when it began, whatever it does with messages.
    fn run_from(
        &self,
        first: usize,
        greeter: Option<usize>,
        message: &mut [u8],
        cx: &mut ChainContext<'_>,
    ) -> ChainOutcome {
        let base = cx.out.len();
        let mut delays = Delays { base, so_far: base, earlier_us: 0, is_noted: false };
        let last_process = self.processes.last().copied().filter(|last| *last >= first).max(greeter);
        let mut at = Place::Message;
        let mut outcome = ChainOutcome::Answer;
        cx.scratch.replaced = None;
        cx.scratch.copies = 0;
        for stage in first..self.stages.len() {
            let instance = self.stages.instance(stage);
            let status = if instance.is_map() && greeter != Some(stage) {
                let bytes = match at {
                    Place::Message => &mut *message,
                    Place::Scratch(index) => &mut cx.scratch.buffers[index],
                    Place::Out => bug::part_mut(cx.out, base..),
                };
                cx.session.map(stage, bytes)
            } else if instance.is_function() && greeter == Some(stage) {
                let target = if last_process == Some(stage) { Place::Out } else { at.other() };
                at = target;
                take_greeting(stage, target, cx, &mut delays)
            } else if instance.is_function() {
                let mut called = call(stage, message, at, base, cx);
                if called.is_replaced {
                    at = at.other();
                }
                if called.delay_us > 0 {
                    delays.add(cx.delays, called.delay_us);
                }
                // Nearly all. What was just written into a status is not read back as a whole, for which the processor would wait.
                if matches!(called.status, Status::Ok) && called.ticket.is_none() && cx.waiting_stages == 0 {
                    continue;
                }
                let closes = outcome == ChainOutcome::Close || called.status == Status::Close;
                match self.deferral(stage, &mut called, || place(message, at, base, cx), cx) {
                    Ok(None) => called.status,
                    Ok(Some(answer)) => {
                        let delay_us = delays.longest_us(cx.delays);
                        cx.deferred = Some(Deferred { stage, answer, delay_us });
                        return cx.take_back(base, ChainOutcome::Later { closes });
                    }
                    Err(fault) => Status::Failed(fault),
                }
            } else {
                let target = if last_process == Some(stage) { Place::Out } else { at.other() };
                let flags = if greeter == Some(stage) { 0 } else { cx.flags };
                let status = process(stage, flags, message, (at, target), cx, &mut delays);
                at = target;
                status
            };
            match ChainOutcome::of(stage, status) {
                None => {}
                Some(ChainOutcome::Close) => outcome = ChainOutcome::Close,
                Some(ChainOutcome::Drop) if outcome == ChainOutcome::Close => {
                    return cx.take_back(base, ChainOutcome::DropAndClose);
                }
                Some(outcome) => return cx.take_back(base, outcome),
            }
        }
        if let Place::Scratch(index) = at {
            match last_process {
                None => cx.scratch.replaced = Some(index),
                Some(_) => cx.adopt_answer(base, index),
            }
        }
        if last_process.is_none() {
            cx.delay_us = delays.earlier_us;
        } else if delays.earlier_us > 0 && !delays.is_noted {
            // All of the answer, which a function behind the last `process` may have made shorter.
            note_delay(cx.delays, base, cx.out.len(), delays.earlier_us);
        }
        outcome
    }

    /// What a message waits for at a function, if it does: for its answer, or for messages before it, so that what is behind
    /// sees all in order. Behind the last stage they are put in order anyway. `made`: what goes on from the function.
    #[inline]
    fn deferral<'m>(
        &self,
        stage: usize,
        called: &mut Called,
        made: impl FnOnce() -> &'m [u8],
        cx: &ChainContext<'_>,
    ) -> Result<Option<DeferredAnswer>, Fault> {
        if let Some(ticket) = called.ticket.take() {
            return Ok(Some(DeferredAnswer::ToCome(ticket)));
        }
        let is_held = cx.waiting_stages & stage_bit(stage) != 0
            && stage + 1 < self.stages.len()
            && matches!(called.status, Status::Ok | Status::Close);
        if !is_held {
            return Ok(None);
        }
        buffer::try_copy(made()).map(|made| Some(DeferredAnswer::Given(made))).ok_or(OUT_OF_MEMORY)
    }
}

/// Puts what a function said when it began to its place.
#[cold]
fn take_greeting(stage: usize, target: Place, cx: &mut ChainContext<'_>, delays: &mut Delays) -> Status {
    let Some(begun) = cx.session.take_begun(stage) else { return Status::Ok };
    match target {
        Place::Out => {
            if !buffer::try_append(cx.out, &begun.greeting) {
                return Status::Failed(OUT_OF_MEMORY);
            }
            delays.so_far = cx.out.len();
        }
        Place::Message => bug::found("a place for a greeting"),
        Place::Scratch(index) => cx.scratch.buffers[index] = begun.greeting,
    }
    delays.earlier_us = delays.earlier_us.saturating_add(begun.delay_us);
    begun.status
}

/// The bytes at a place.
fn place<'a>(message: &'a [u8], at: Place, base: usize, cx: &'a ChainContext<'_>) -> &'a [u8] {
    match at {
        Place::Message => message,
        Place::Scratch(index) => &cx.scratch.buffers[index],
        Place::Out => bug::part(cx.out, base..),
    }
}

/// Sends what stands at one place through one stage, to another place, call by call until it has said all.
fn process(
    stage: usize,
    flags: u32,
    message: &[u8],
    (source, target): (Place, Place),
    cx: &mut ChainContext<'_>,
    delays: &mut Delays,
) -> Status {
    let Scratch { buffers: [first, second], room, copies, .. } = &mut *cx.scratch;
    let (input, output): (&[u8], &mut Vec<u8>) = match (source, target) {
        (Place::Message, Place::Out) => (message, &mut *cx.out),
        (Place::Message, Place::Scratch(0)) => (message, first),
        (Place::Message, _) => (message, second),
        (Place::Scratch(0), Place::Out) => (first, &mut *cx.out),
        (Place::Scratch(0), _) => (first, second),
        (_, Place::Out) => (second, &mut *cx.out),
        (_, _) => (second, first),
    };
    if target != Place::Out {
        output.clear();
    }
    let base = output.len();
    let mut rest = input;
    let mut stage_us = 0;
    let mut room_wanted = 0;
    loop {
        let bound = cx.session.output_bound(stage, rest.len()).unwrap_or(rest.len().max(512));
        // A declared bound is believed up to what an answer may be: beyond that the message fails anyway.
        let room_bytes = bound.max(room_wanted).clamp(1, cx.out_max.max(1));
        // Whether anything of the message has been taken or answered.
        let is_begun = rest.len() < input.len() || output.len() > base;
        let flags = if is_begun { flags & !abi::RESAY_IO_BEGIN } else { flags };
        let room = match room_of(room, room_bytes) {
            Ok(room) => room,
            Err(fault) => return Status::Failed(fault),
        };
        let processed = cx.session.process_once(stage, rest, room, flags);
        if !buffer::try_append(output, bug::part(room, ..processed.written)) {
            return Status::Failed(OUT_OF_MEMORY);
        }
        if let Status::Failed(_) = processed.status {
            return processed.status;
        }
        *copies = copies.saturating_add(processed.copies);
        match target {
            // What another stage is going to change has no ranges any more: the message waits as a whole.
            Place::Message | Place::Scratch(_) => stage_us = stage_us.max(processed.delay_us),
            Place::Out if processed.delay_us > 0 || delays.is_noted => {
                delays.note(cx.delays, output.len(), processed.delay_us);
            }
            Place::Out => delays.so_far = output.len(),
        }
        rest = bug::part(rest, processed.used..);
        let answered = output.len() - base;
        if answered > cx.out_max || processed.room_wanted > cx.out_max {
            return Status::Failed(Fault::TooLong);
        }
        match processed.status {
            Status::MoreOut => room_wanted = processed.room_wanted,
            // Only a greeter has no whole message, and nothing to leave unread.
            status => {
                delays.earlier_us = delays.earlier_us.saturating_add(stage_us);
                return status;
            }
        }
    }
}

/// Calls a function with what stands at `source`; what it answers instead goes to the next place.
fn call(stage: usize, message: &[u8], source: Place, base: usize, cx: &mut ChainContext<'_>) -> Called {
    let [first, second] = &mut cx.scratch.buffers;
    let (input, output): (&[u8], &mut Vec<u8>) = match source {
        Place::Message => (message, first),
        Place::Scratch(0) => (first, second),
        Place::Scratch(_) => (second, first),
        Place::Out => (bug::part(cx.out, base..), first),
    };
    cx.session.call(stage, input, cx.flags, output, cx.out_max, &cx.call)
}

impl ChainContext<'_> {
    /// Puts an answer that a function made behind the last `process` where it belongs. What was delayed in ranges is
    /// delayed as a whole.
    fn adopt_answer(&mut self, base: usize, index: usize) {
        let longest_us =
            self.delays.iter().filter(|range| range.end > base).map(|range| range.delay_us).max();
        self.delays.retain(|range| range.end <= base);
        self.out.truncate(base);
        buffer::append(self.out, &self.scratch.buffers[index]);
        if let Some(delay_us) = longest_us {
            self.delays.push(DelayedRange { end: self.out.len(), delay_us });
        }
    }

    /// Forgets a message that gets no answer.
    fn take_back(&mut self, base: usize, outcome: ChainOutcome) -> ChainOutcome {
        self.out.truncate(base);
        self.delays.retain(|range| range.end <= base);
        outcome
    }
}

/// Notes that the bytes from `begin` to `end` are held back.
pub(crate) fn note_delay(ranges: &mut Vec<DelayedRange>, begin: usize, end: usize, delay_us: u64) {
    if ranges.last().map_or(0, |range| range.end) < begin {
        ranges.push(DelayedRange { end: begin, delay_us: 0 });
    }
    ranges.push(DelayedRange { end, delay_us });
}

/// The delays of one message.
struct Delays {
    /// Where its answer begins.
    base: usize,
    /// Where what came first, without a delay, ends.
    so_far: usize,
    /// What stages that are not the last asked for.
    earlier_us: u64,
    /// Some range of this message is noted.
    is_noted: bool,
}

impl Delays {
    /// A function holds back all that has been made so far, for so much longer.
    fn add(&mut self, ranges: &mut [DelayedRange], delay_us: u64) {
        if !self.is_noted {
            self.earlier_us = self.earlier_us.saturating_add(delay_us);
            return;
        }
        let own = ranges.iter_mut().filter(|range| range.end > self.base);
        // Once one is noted, the last reaches to the end of what has been made.
        own.for_each(|range| range.delay_us = range.delay_us.saturating_add(delay_us));
    }

    /// For how long all of the message is held back at least.
    fn longest_us(&self, ranges: &[DelayedRange]) -> u64 {
        let own = ranges.iter().filter(|range| range.end > self.base).map(|range| range.delay_us);
        own.max().unwrap_or(0).max(self.earlier_us)
    }

    fn note(&mut self, ranges: &mut Vec<DelayedRange>, end: usize, delay_us: u64) {
        if !self.is_noted {
            self.is_noted = true;
            if self.so_far > self.base {
                note_delay(ranges, self.base, self.so_far, self.earlier_us);
            }
        }
        note_delay(ranges, self.base, end, delay_us.saturating_add(self.earlier_us));
    }
}

/// Where a message stands on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Message,
    Scratch(usize),
    Out,
}

impl Place {
    /// A scratch buffer that is not this place.
    fn other(self) -> Place {
        if self == Place::Scratch(0) { Place::Scratch(1) } else { Place::Scratch(0) }
    }
}

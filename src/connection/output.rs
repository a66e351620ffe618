//! Answers on their way out: the one that is with the driver, those that wait for it in the send queue, and those that
//! transforms delay. One after the other, in the order in which they were made.

use std::collections::VecDeque;
use std::time::Duration;

use super::batch::Mark;
use super::deferred::DeferredMessage;
use super::request::{Permit, Unasked};
use crate::buffer::Pool;
use crate::bug;
use crate::chain::{DelayedRange, stage_bit};
use crate::context::ConnLimits;
use crate::later::LateAnswer;
use crate::limits::{QUEUED_SEND_BYTES, READ_BYTES_MAX};
use crate::stats::{Block, DropReason};
use crate::timer::{Moment, TurnNumber};

/// The answers of one connection that the kernel has not taken.
#[derive(Debug)]
pub(super) struct Output {
    /// Bytes of the send that is with the driver, and messages that they answer.
    in_flight_bytes: usize,
    in_flight_messages: u32,
    is_sending: bool,
    /// The send is with the driver, which says nothing of it if all of it leaves with the turn's end: it is to be taken for
    /// done in every turn but this one.
    submitted_in: Option<TurnNumber>,
    /// When the peer was last seen to take something, and how much of the send in flight it had not taken then, of which
    /// the lower half shows a change as well.
    last_progress: Moment,
    unsent_then: u32,
    waiting: Option<Box<Waiting>>,
}

/// What is not with the driver yet.
#[derive(Debug, Default)]
struct Waiting {
    /// The send queue.
    queue: VecDeque<Chunk>,
    /// What leaves later, in order: also messages whose answers come later, and what is behind them.
    delayed: VecDeque<Delayed>,
    /// How many of `delayed` are such messages, and the functions that they wait for.
    deferred: usize,
    waiting_stages: u64,
    /// How many of `delayed`, from the back, are delayed from the beginning of the turn and not from their own moment.
    unscheduled: usize,
    /// Memory that the chunks take.
    cost: usize,
}

/// Bytes of one send.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) bytes: Vec<u8>,
    /// How many messages it answers: those whose answers end in it.
    pub(super) messages: u32,
    /// A layer has made it for its own sake: it is sent as it is.
    pub(super) is_wire: bool,
    /// Room for what of it the host has sent unasked.
    permit: Option<Permit>,
}

#[derive(Debug)]
struct Delayed {
    due: Moment,
    chunk: Chunk,
    /// The answer comes later, and this is the message. The chunk has no bytes then, and is never due.
    message: Option<Box<DeferredMessage>>,
}

impl Delayed {
    fn cost(&self) -> usize {
        self.chunk.cost() + self.message.as_ref().map_or(0, |message| message.cost())
    }
}

impl Chunk {
    pub(super) fn answers(bytes: Vec<u8>, messages: u32) -> Chunk {
        Chunk { bytes, messages, is_wire: false, permit: None }
    }

    /// What a layer says for its own sake.
    pub(super) fn wire(bytes: Vec<u8>) -> Chunk {
        Chunk { bytes, messages: 0, is_wire: true, permit: None }
    }

    /// What answers nothing.
    pub(super) fn unasked(unasked: Unasked) -> Chunk {
        Chunk { bytes: unasked.bytes, messages: 0, is_wire: false, permit: Some(unasked.permit) }
    }

    /// What it costs while it waits: its memory, and its place.
    fn cost(&self) -> usize {
        self.bytes.capacity() + QUEUED_SEND_BYTES
    }
}

/// What a closing connection leaves undelivered.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Undelivered {
    /// Bytes of the send in flight that the kernel took.
    pub(super) taken_bytes: usize,
    /// Messages whose answers it took.
    pub(super) taken_messages: u32,
    pub(super) bytes: usize,
    pub(super) messages: u32,
    /// Bytes of the messages among them that nobody has answered.
    pub(super) input_bytes: usize,
}

/// Answers that the kernel has not taken, of a connection that may not come back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owed {
    in_flight_bytes: usize,
    in_flight_messages: u32,
    queued_bytes: usize,
    queued_messages: u32,
}

impl Undelivered {
    fn take_in(&mut self, delayed: &Delayed) {
        self.bytes += delayed.chunk.bytes.len();
        self.messages += delayed.chunk.messages;
        self.input_bytes += delayed.message.as_ref().map_or(0, |message| message.input_bytes);
    }
}

impl Owed {
    /// Bytes of it.
    pub(crate) fn bytes(&self) -> usize {
        self.in_flight_bytes + self.queued_bytes
    }

    /// Counts what of it was delivered and what was not. `unsent`: bytes of the send in flight that the kernel has not
    /// taken; `is_sent`: it has taken all of it.
    pub(crate) fn count(self, unsent: usize, is_sent: bool, stats: &Block) {
        let unsent = if is_sent { 0 } else { unsent.min(self.in_flight_bytes) };
        let is_whole = is_sent || (unsent == 0 && self.in_flight_bytes > 0);
        let taken_messages = if is_whole { self.in_flight_messages } else { 0 };
        stats.bytes_out.add((self.in_flight_bytes - unsent) as u64);
        stats.undelivered_bytes.add((unsent + self.queued_bytes) as u64);
        stats.messages_out.add(u64::from(taken_messages));
        let lost = self.in_flight_messages - taken_messages + self.queued_messages;
        stats.dropped(DropReason::Undelivered, u64::from(lost));
    }
}

impl Output {
    pub(super) fn new(now: Moment) -> Output {
        Output {
            in_flight_bytes: 0,
            in_flight_messages: 0,
            is_sending: false,
            submitted_in: None,
            last_progress: now,
            unsent_then: 0,
            waiting: None,
        }
    }

    /// Whether the driver could take a send now that nothing is before.
    #[inline]
    pub(super) fn can_send(&self) -> bool {
        !self.is_sending && self.waiting.as_ref().is_none_or(|waiting| waiting.queue.is_empty())
    }

    /// Whether something could be sent now.
    pub(super) fn has_next(&self, now: Moment) -> bool {
        let is_due = |waiting: &Waiting| {
            !waiting.queue.is_empty() || waiting.delayed.front().is_some_and(|delayed| delayed.due <= now)
        };
        !self.is_sending && self.waiting.as_deref().is_some_and(is_due)
    }

    /// Whether all answers are with the kernel.
    #[inline]
    pub(super) fn is_flushed(&self) -> bool {
        !self.is_sending && self.waiting.is_none()
    }

    /// Whether a send is with the driver, and of how many bytes.
    pub(super) fn is_sending(&self) -> bool {
        self.is_sending
    }

    pub(super) fn is_delaying(&self) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| !waiting.delayed.is_empty())
    }

    /// What the answers that are not with the kernel cost: an empty record is not free.
    pub(super) fn cost(&self) -> usize {
        let in_flight = if self.is_sending { self.in_flight_bytes + QUEUED_SEND_BYTES } else { 0 };
        in_flight + self.waiting.as_ref().map_or(0, |waiting| waiting.cost)
    }

    /// Bytes of answers that wait, or are with the driver and not submitted.
    pub(super) fn bytes(&self) -> usize {
        let in_flight = if self.is_sending { self.in_flight_bytes } else { 0 };
        let answers = |waiting: &Waiting| {
            waiting.chunks().filter(|chunk| !chunk.is_wire).map(|chunk| chunk.bytes.len()).sum()
        };
        in_flight + self.waiting.as_deref().map_or(0, answers)
    }

    /// What it owes, for whoever has to count that without it. `held`: bytes that wait for the stream to be open.
    pub(super) fn owed(&self, held: usize) -> Owed {
        let messages =
            self.waiting.as_deref().map_or(0, |waiting| waiting.chunks().map(|c| c.messages).sum());
        Owed {
            in_flight_bytes: self.in_flight_bytes,
            in_flight_messages: self.in_flight_messages,
            queued_bytes: self.bytes() - self.in_flight_bytes + held,
            queued_messages: messages,
        }
    }

    /// A send goes to the driver.
    #[inline]
    pub(super) fn begin(&mut self, bytes: usize, messages: u32) {
        debug_assert!(!self.is_sending, "one send at a time");
        self.is_sending = true;
        self.in_flight_bytes = bytes;
        self.in_flight_messages = messages;
    }

    /// The driver has taken the send that was begun, and nobody waits for its end. How many bytes it has, and how many
    /// messages it answers.
    #[inline]
    pub(super) fn submit(&mut self, turn: TurnNumber) -> (usize, u32) {
        self.is_sending = false;
        self.submitted_in = Some(turn);
        (self.in_flight_bytes, self.in_flight_messages)
    }

    #[inline]
    pub(super) fn submitted_in(&self) -> Option<TurnNumber> {
        self.submitted_in
    }

    /// The send that was submitted is done.
    #[inline]
    pub(super) fn end_submitted(&mut self) {
        self.submitted_in = None;
        (self.in_flight_bytes, self.in_flight_messages) = (0, 0);
    }

    /// The send that was submitted is in flight like any other: how many bytes and messages are to be counted when it ends.
    pub(super) fn await_submitted(&mut self) -> (usize, u32) {
        self.submitted_in = None;
        self.is_sending = true;
        (self.in_flight_bytes, self.in_flight_messages)
    }

    /// The driver has not sent all of it at once.
    pub(super) fn wait(&mut self, unsent: usize, now: Moment) {
        self.last_progress = now;
        self.unsent_then = unsent as u32;
    }

    /// The send is finished: how many bytes it had, and how many messages it answered.
    #[inline]
    pub(super) fn end(&mut self) -> (usize, u32) {
        debug_assert!(self.is_sending, "a send that was begun");
        self.is_sending = false;
        (std::mem::take(&mut self.in_flight_bytes), std::mem::take(&mut self.in_flight_messages))
    }

    /// Puts an answer behind those that wait already.
    pub(super) fn queue(&mut self, chunk: Chunk, limits: &ConnLimits, pool: &mut Pool) {
        let waiting = self.waiting.get_or_insert_default();
        // Small answers of a stream share a buffer, and leave with one send.
        match waiting.queue.back_mut() {
            Some(last)
                if !limits.records
                    && last.is_wire == chunk.is_wire
                    && last.bytes.len() + chunk.bytes.len() <= READ_BYTES_MAX =>
            {
                waiting.cost -= last.cost();
                last.bytes.extend_from_slice(&chunk.bytes);
                last.messages += chunk.messages;
                last.take_permit(chunk.permit);
                waiting.cost += last.cost();
                pool.put(chunk.bytes);
            }
            _ => {
                let chunk = chunk.kept(pool);
                waiting.cost += chunk.cost();
                waiting.queue.push_back(chunk);
            }
        }
    }

    /// Puts an answer that is to leave later, in ranges, behind everything that waits. Each range of a seqpacket answer
    /// is a record.
    pub(super) fn delay(
        &mut self,
        answer: Chunk,
        ranges: &[DelayedRange],
        now: Moment,
        limits: &ConnLimits,
        pool: &mut Pool,
    ) {
        let Chunk { bytes, messages, is_wire, permit } = answer;
        let waiting = self.waiting.get_or_insert_default();
        let (mut from, before) = (0, waiting.delayed.len());
        let rest = (bytes.len(), 0, ranges.is_empty());
        let parts = ranges.iter().map(|range| (range.end, range.delay_us, true)).chain([rest]);
        for (end, delay_us, may_be_record) in parts {
            let part = bug::part(&bytes, from..end);
            from = end;
            if part.is_empty() && !(limits.records && may_be_record) {
                continue;
            }
            // In a stream, order comes first.
            let due = now.after(Duration::from_micros(delay_us));
            let last = waiting.delayed.back().filter(|last| last.message.is_none());
            let due = last.map_or(due, |last| due.max(last.due));
            let chunk = Chunk { bytes: pool.copy_of(part), messages: 0, is_wire, permit: None };
            waiting.cost += chunk.cost();
            waiting.delayed.push_back(Delayed { due, chunk, message: None });
        }
        waiting.unscheduled += waiting.delayed.len() - before;
        // They are answered when the last part has left.
        match waiting.delayed.back_mut() {
            Some(last) => {
                last.chunk.messages += messages;
                last.chunk.take_permit(permit);
            }
            None if messages > 0 => bug::found("an answer that has a part to be delayed"),
            None => {}
        }
        pool.put(bytes);
        self.forget_if_empty();
    }

    /// Puts the answers of a batch behind everything that waits, and between them the messages that are answered later. How
    /// many messages of a stream are answered with that, since their answers have no bytes.
    pub(super) fn defer(
        &mut self,
        answers: Chunk,
        ranges: &[DelayedRange],
        marks: Vec<Mark>,
        now: Moment,
        limits: &ConnLimits,
        pool: &mut Pool,
    ) -> u32 {
        let Chunk { bytes, messages, .. } = answers;
        let (mut from, mut before, mut answered) = (0, 0, 0);
        let last = (bytes.len(), messages, None);
        let parts = marks.into_iter().map(|mark| (mark.at, mark.answers, Some(mark.message))).chain([last]);
        for (end, count, message) in parts {
            let part = bug::part(&bytes, from..end);
            if part.is_empty() {
                answered += count - before;
            } else {
                let ranges = clip(ranges, from, end);
                let chunk = Chunk::answers(pool.copy_of(part), count - before);
                self.delay(chunk, &ranges, now, limits, pool);
            }
            (from, before) = (end, count);
            if let Some(message) = message {
                let waiting = self.waiting.get_or_insert_default();
                let chunk = Chunk::answers(Vec::new(), message.messages);
                let delayed = Delayed { due: Moment::NEVER, chunk, message: Some(message) };
                waiting.cost += delayed.cost();
                waiting.delayed.push_back(delayed);
                waiting.count_deferred();
            }
        }
        pool.put(bytes);
        answered
    }

    /// Messages whose answers come later.
    #[inline]
    pub(super) fn deferred_count(&self) -> usize {
        self.waiting.as_ref().map_or(0, |waiting| waiting.deferred)
    }

    /// The functions that they wait for.
    #[inline]
    pub(super) fn waiting_stages(&self) -> u64 {
        self.waiting.as_ref().map_or(0, |waiting| waiting.waiting_stages)
    }

    /// Messages whose answers come later, those at a place or behind it.
    pub(super) fn deferred_from(&self, place: usize) -> impl Iterator<Item = &DeferredMessage> {
        let delayed = self.waiting.iter().flat_map(move |waiting| waiting.delayed.iter().skip(place));
        delayed.filter_map(|delayed| delayed.message.as_deref())
    }

    /// An answer has come. Whether a message waits for it.
    pub(super) fn take_answer(&mut self, answer: LateAnswer) -> bool {
        let Some(waiting) = &mut self.waiting else { return false };
        let mut answer = Some(answer);
        for message in waiting.delayed.iter_mut().filter_map(|delayed| delayed.message.as_mut()) {
            let before = message.cost();
            answer = answer.and_then(|answer| message.take_answer(answer));
            if answer.is_none() {
                waiting.cost += message.cost() - before;
                return true;
            }
        }
        false
    }

    /// Takes the first of those messages out, if its answer has come; its place among the answers is kept.
    pub(super) fn take_answered(&mut self) -> Option<(usize, Box<DeferredMessage>)> {
        let waiting = self.waiting.as_mut().filter(|waiting| waiting.deferred > 0)?;
        let place = waiting.delayed.iter().position(|delayed| delayed.message.is_some())?;
        let delayed = waiting.delayed.get_mut(place)?;
        if !delayed.message.as_ref().is_some_and(|message| message.is_answered()) {
            return None;
        }
        waiting.cost -= delayed.cost();
        let message = delayed.message.take()?;
        waiting.cost += delayed.cost();
        waiting.count_deferred();
        Some((place, message))
    }

    /// Puts a message back to its place: it waits for another function.
    pub(super) fn keep_waiting(&mut self, place: usize, message: Box<DeferredMessage>) {
        let Some(waiting) = &mut self.waiting else { return };
        if let Some(delayed) = waiting.delayed.get_mut(place) {
            waiting.cost -= delayed.cost();
            delayed.message = Some(message);
            waiting.cost += delayed.cost();
        }
        waiting.count_deferred();
    }

    /// Puts an answer to the place of its message; `None`: there is none.
    pub(super) fn put_answer(&mut self, place: usize, answer: Option<(Chunk, Moment)>, pool: &mut Pool) {
        let Some(waiting) = &mut self.waiting else { return };
        let Some(delayed) = waiting.delayed.get_mut(place) else { return };
        waiting.cost -= delayed.cost();
        match answer {
            Some((chunk, due)) => {
                *delayed = Delayed { due, chunk: chunk.kept(pool), message: None };
                waiting.cost += delayed.cost();
            }
            None => {
                waiting.delayed.remove(place);
                waiting.unscheduled = waiting.unscheduled.min(waiting.delayed.len());
            }
        }
        self.forget_if_empty();
    }

    /// Whether something has this place among what leaves later.
    pub(super) fn has_place(&self, place: usize) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| place < waiting.delayed.len())
    }

    /// Gives up all from a place on; `None`: from the first message on whose answer has not come.
    pub(super) fn give_up_from(&mut self, place: Option<usize>) -> Undelivered {
        let mut left = Undelivered::default();
        let Some(waiting) = &mut self.waiting else { return left };
        let first = || waiting.delayed.iter().position(|delayed| delayed.message.is_some());
        let Some(place) = place.or_else(first) else { return left };
        for delayed in waiting.delayed.drain(place.min(waiting.delayed.len())..) {
            waiting.cost -= delayed.cost();
            left.take_in(&delayed);
        }
        waiting.unscheduled = waiting.unscheduled.min(waiting.delayed.len());
        waiting.count_deferred();
        self.forget_if_empty();
        left
    }

    /// Gives up the messages whose answers have not come, and nothing else.
    pub(super) fn give_up_deferred(&mut self) -> Undelivered {
        let mut left = Undelivered::default();
        let Some(waiting) = &mut self.waiting else { return left };
        let Waiting { delayed, cost, .. } = &mut **waiting;
        delayed.retain(|delayed| {
            let is_made = delayed.message.is_none();
            if !is_made {
                *cost -= delayed.cost();
                left.take_in(delayed);
            }
            is_made
        });
        waiting.unscheduled = waiting.unscheduled.min(waiting.delayed.len());
        waiting.count_deferred();
        self.forget_if_empty();
        left
    }

    /// Counts the delays of what has been put there since the last time from now on: so much time has passed in the turn.
    pub(super) fn schedule(&mut self, passed: Duration) {
        let Some(waiting) = &mut self.waiting else { return };
        let unscheduled = std::mem::take(&mut waiting.unscheduled);
        for delayed in waiting.delayed.iter_mut().rev().take(unscheduled) {
            delayed.due = delayed.due.after(passed);
        }
    }

    /// When the next delayed answer is due that nothing is before: what waits for a send to end is sent then.
    pub(super) fn delayed_until(&self) -> Moment {
        if !self.can_send() {
            return Moment::NEVER;
        }
        let delayed = self.waiting.as_ref().and_then(|waiting| waiting.delayed.front());
        delayed.map_or(Moment::NEVER, |delayed| delayed.due)
    }

    /// Takes what is to be sent next: the send queue's first, or a delayed answer that is due.
    pub(super) fn next(&mut self, now: Moment) -> Option<Chunk> {
        if self.is_sending {
            return None;
        }
        let waiting = self.waiting.as_mut()?;
        let chunk = match waiting.queue.pop_front() {
            Some(chunk) => chunk,
            None if waiting.delayed.front()?.due <= now => waiting.delayed.pop_front()?.chunk,
            None => return None,
        };
        waiting.cost -= chunk.cost();
        waiting.unscheduled = waiting.unscheduled.min(waiting.delayed.len());
        self.forget_if_empty();
        Some(chunk)
    }

    /// An idle connection holds no memory for answers.
    fn forget_if_empty(&mut self) {
        if self.waiting.as_ref().is_some_and(|w| w.queue.is_empty() && w.delayed.is_empty()) {
            self.waiting = None;
        }
    }

    /// Notes how much of the send in flight the peer has not taken; whether it has taken nothing for `timeout`.
    pub(super) fn is_stuck(&mut self, unsent: usize, now: Moment, timeout: Duration) -> bool {
        if self.can_send() {
            return false;
        }
        if unsent as u32 != self.unsent_then {
            self.unsent_then = unsent as u32;
            self.last_progress = now;
        }
        self.last_progress.after(timeout) <= now
    }

    /// When a peer that takes nothing is given up.
    pub(super) fn stuck_at(&self, timeout: Duration) -> Moment {
        if self.can_send() { Moment::NEVER } else { self.last_progress.after(timeout) }
    }

    pub(super) fn note_progress(&mut self, now: Moment) {
        self.last_progress = now;
    }

    /// Gives up everything that is not with the kernel; `unsent`: bytes of the send in flight that are not.
    pub(super) fn abandon(&mut self, unsent: usize) -> Undelivered {
        let mut left = Undelivered::default();
        if self.is_sending {
            let unsent = unsent.min(self.in_flight_bytes);
            let (bytes, messages) = self.end();
            left.taken_bytes = bytes - unsent;
            left.bytes = unsent;
            if unsent == 0 && bytes > 0 {
                left.taken_messages = messages;
            } else {
                left.messages = messages;
            }
        }
        if let Some(waiting) = self.waiting.take() {
            for chunk in waiting.chunks().filter(|chunk| !chunk.is_wire) {
                left.bytes += chunk.bytes.len();
                left.messages += chunk.messages;
            }
            let unanswered = waiting.delayed.iter().filter_map(|delayed| delayed.message.as_ref());
            left.input_bytes = unanswered.map(|message| message.input_bytes).sum();
        }
        left
    }

    /// What must hold between two steps.
    #[cfg(debug_assertions)]
    pub(super) fn check(&self) {
        assert!(!self.is_sending || self.submitted_in.is_none());
        let is_in_flight = self.is_sending || self.submitted_in.is_some();
        assert!(is_in_flight || self.in_flight_bytes == 0 && self.in_flight_messages == 0);
        if let Some(waiting) = &self.waiting {
            let queued: usize = waiting.queue.iter().map(Chunk::cost).sum();
            let delayed: usize = waiting.delayed.iter().map(Delayed::cost).sum();
            assert_eq!(waiting.cost, queued + delayed);
            assert!(!waiting.queue.is_empty() || !waiting.delayed.is_empty(), "nothing waits");
            let mut dues = waiting.delayed.iter();
            assert!(
                dues.all(|delayed| delayed.message.is_none() || delayed.due == Moment::NEVER),
                "what has no answer is never due"
            );
            assert_eq!(waiting.deferred, waiting.delayed.iter().filter(|d| d.message.is_some()).count());
            assert_eq!(waiting.unscheduled, 0, "delays begin with the step that made them");
        }
    }
}

impl Chunk {
    fn take_permit(&mut self, permit: Option<Permit>) {
        match (&mut self.permit, permit) {
            (Some(own), Some(other)) => own.join(other),
            (own @ None, permit) => *own = permit,
            (Some(_), None) => {}
        }
    }

    /// The same in memory that is not much larger than its bytes.
    fn kept(self, pool: &mut Pool) -> Chunk {
        if self.bytes.capacity() <= 2 * self.bytes.len() + QUEUED_SEND_BYTES {
            return self;
        }
        let Some(bytes) = pool.try_copy_of(&self.bytes) else { return self };
        pool.put(self.bytes);
        Chunk { bytes, ..self }
    }
}

/// The ranges of the part from `from` to `end`, as that counts.
fn clip(ranges: &[DelayedRange], from: usize, end: usize) -> Vec<DelayedRange> {
    let mut begin = 0;
    let mut clipped = Vec::new();
    for range in ranges {
        if begin.max(from) < range.end.min(end) {
            clipped.push(DelayedRange { end: range.end.min(end) - from, delay_us: range.delay_us });
        }
        begin = range.end;
    }
    clipped
}

impl Waiting {
    fn count_deferred(&mut self) {
        let messages = || self.delayed.iter().filter_map(|delayed| delayed.message.as_ref());
        let count = messages().count();
        let stages = messages().fold(0, |stages, message| stages | stage_bit(message.stage));
        (self.deferred, self.waiting_stages) = (count, stages);
    }

    fn chunks(&self) -> impl Iterator<Item = &Chunk> {
        self.queue.iter().chain(self.delayed.iter().map(|delayed| &delayed.chunk))
    }
}

//! What is counted while it runs, one for each thread, added up at the end. Nothing here allocates once it has begun.
//!
//! A message belongs to the measurement if it was due within the measured time, whenever its answer came, and it
//! belongs to the interval in which it was due: so slow answers count where they were caused.

use hdrhistogram::Histogram;

use crate::error::LoadError;
use crate::latency::{Latencies, Lateness, histogram};
use crate::plan::{Plan, ns};

/// Intervals of the measured time, and the least that one is.
const INTERVALS: u64 = 50;
const INTERVAL_NS_MIN: u64 = 10_000_000;

/// The measured time, in nanoseconds since the connections were made.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// When it begins.
    pub begin: u64,
    /// When it is over.
    pub end: u64,
    /// How long its intervals are; the last one may be shorter.
    pub interval: u64,
}

impl Span {
    /// The one of a plan.
    pub fn of(plan: &Plan) -> Span {
        let (begin, len) = (ns(plan.warmup), ns(plan.duration).max(1));
        Span {
            begin,
            end: begin.saturating_add(len),
            interval: (len.div_ceil(INTERVALS)).max(INTERVAL_NS_MIN),
        }
    }

    pub(crate) fn has(&self, time: u64) -> bool {
        (self.begin..self.end).contains(&time)
    }

    fn intervals(&self) -> usize {
        (self.end - self.begin).div_ceil(self.interval) as usize
    }

    fn interval_of(&self, time: u64) -> usize {
        (time.saturating_sub(self.begin) / self.interval) as usize
    }
}

/// What one thread saw.
#[derive(Debug)]
pub struct Tally {
    /// The measured time. It may have ended before the one of the plan.
    pub span: Span,
    /// The parts of the measured time.
    pub intervals: Vec<Interval>,
    /// Messages and connections.
    pub counts: Counts,
    /// The first answer that was not the expected one.
    pub first_wrong: Option<Wrong>,
    /// How late the generator was with messages that were due, where it has a schedule.
    late: Histogram<u32>,
    /// Answers of all times, for whoever watches.
    pub(crate) seen: u64,
}

/// Messages of the measured time: `asked` is the sum of `answered`, `lost` and `unanswered`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Messages that were due.
    pub asked: u64,
    /// Those with an answer, right or wrong.
    pub answered: u64,
    /// Datagrams without an answer in time.
    pub lost: u64,
    /// Nothing had come when the measurement gave up, or the connection ended before.
    pub unanswered: u64,
    /// Answers that were not the expected ones, at any time.
    pub wrong: u64,
    /// Answers to nothing that was asked, or once more, or after the message was given up; at any time.
    pub unasked: u64,
    /// Connections that the server ended.
    pub ended: u64,
    /// Connections that the server reset.
    pub reset: u64,
    /// Connections at whose other side nobody is (any more).
    pub refused: u64,
    /// Connections on which another system call failed.
    pub failed: u64,
}

/// A part of the measured time.
#[derive(Debug)]
pub struct Interval {
    /// Latencies, in ns, of messages that were due in it.
    latency: Histogram<u32>,
    /// Answers that arrived in it.
    pub answers: u64,
    /// Their bytes.
    pub answer_bytes: u64,
}

/// The first answer that was not the expected one.
#[derive(Debug, Clone)]
pub struct Wrong {
    /// The number of the connection.
    pub connection: usize,
    /// The number of the answer on its connection, from 0.
    pub message: u64,
    /// The first byte that differs, in this answer.
    pub offset: usize,
    /// The same among all bytes of the connection.
    pub connection_offset: u64,
    /// How long the answer should have been.
    pub expected_bytes: usize,
    /// How long it was, as far as it had come.
    pub got_bytes: usize,
    /// Where `expected` and `got` begin.
    pub shown_from: usize,
    /// What should have been around the place.
    pub expected: Vec<u8>,
    /// What was there.
    pub got: Vec<u8>,
}

/// What of an answer is shown before and behind the place where it differs.
const SHOWN_BEFORE: usize = 16;
const SHOWN_BYTES: usize = 64;

impl Wrong {
    pub(crate) fn new(connection: usize, message: u64, at: u64, expected: &[u8], got: &[u8]) -> Wrong {
        let offset = expected.iter().zip(got).take_while(|(a, b)| a == b).count();
        let from = offset.saturating_sub(SHOWN_BEFORE);
        let part = |bytes: &[u8]| bytes.iter().skip(from).take(SHOWN_BYTES).copied().collect();
        Wrong {
            connection,
            message,
            offset,
            connection_offset: at + offset as u64,
            expected_bytes: expected.len(),
            got_bytes: got.len(),
            shown_from: from,
            expected: part(expected),
            got: part(got),
        }
    }
}

impl Interval {
    /// The latency, in ns, within which this share of the messages was answered that were due in it; `None`: there was
    /// none.
    pub fn latency_at(&self, quantile: f64) -> Option<u64> {
        (!self.latency.is_empty()).then(|| self.latency.value_at_quantile(quantile))
    }

    /// The longest latency, in ns, of a message that was due in it.
    pub fn latency_max(&self) -> Option<u64> {
        (!self.latency.is_empty()).then(|| self.latency.max())
    }
}

impl Tally {
    /// One in which nothing is counted yet.
    pub fn new(span: Span) -> Result<Tally, LoadError> {
        let interval = || Ok(Interval { latency: histogram()?, answers: 0, answer_bytes: 0 });
        Ok(Tally {
            span,
            intervals: (0..span.intervals()).map(|_| interval()).collect::<Result<_, LoadError>>()?,
            counts: Counts::default(),
            first_wrong: None,
            late: histogram()?,
            seen: 0,
        })
    }

    /// A message that was due at `due` is sent, or waits to be.
    pub(crate) fn ask(&mut self, due: u64) {
        self.counts.asked += u64::from(self.span.has(due));
    }

    /// The answer to a message of `due` is complete.
    pub(crate) fn answer(&mut self, due: u64, now: u64, bytes: usize) {
        self.seen += 1;
        if self.span.has(now)
            && let Some(interval) = self.intervals.get_mut(self.span.interval_of(now))
        {
            interval.answers += 1;
            interval.answer_bytes += bytes as u64;
        }
        if self.span.has(due) {
            self.counts.answered += 1;
            self.record(due, now);
        }
    }

    /// A datagram of `due` was not answered in time.
    pub(crate) fn lose(&mut self, due: u64) {
        self.counts.lost += u64::from(self.span.has(due));
    }

    /// Nothing is going to answer the message of `due`: it has waited until now, at least.
    pub(crate) fn give_up(&mut self, due: u64, now: u64) {
        if self.span.has(due) {
            self.counts.unanswered += 1;
            self.record(due, now);
        }
    }

    fn record(&mut self, due: u64, now: u64) {
        if let Some(interval) = self.intervals.get_mut(self.span.interval_of(due)) {
            interval.latency.saturating_record(now.saturating_sub(due));
        }
    }

    /// A message that is due by the schedule is taken up now.
    pub(crate) fn take_up(&mut self, due: u64, now: u64) {
        self.ask(due);
        if self.span.has(due) {
            self.late.saturating_record(now.saturating_sub(due));
        }
    }

    pub(crate) fn wrong(&mut self, wrong: impl FnOnce() -> Wrong) {
        self.counts.wrong += 1;
        if self.first_wrong.is_none() {
            self.first_wrong = Some(wrong());
        }
    }

    /// Adds what another thread saw of the same time.
    pub fn add(&mut self, other: Tally) {
        for (mine, theirs) in self.intervals.iter_mut().zip(other.intervals) {
            // They have the same bounds, so this does not fail.
            let _ = mine.latency.add(&theirs.latency);
            mine.answers += theirs.answers;
            mine.answer_bytes += theirs.answer_bytes;
        }
        let _ = self.late.add(&other.late);
        let (mine, theirs) = (&mut self.counts, other.counts);
        for (mine, theirs) in [
            (&mut mine.asked, theirs.asked),
            (&mut mine.answered, theirs.answered),
            (&mut mine.lost, theirs.lost),
            (&mut mine.unanswered, theirs.unanswered),
            (&mut mine.wrong, theirs.wrong),
            (&mut mine.unasked, theirs.unasked),
            (&mut mine.ended, theirs.ended),
            (&mut mine.reset, theirs.reset),
            (&mut mine.refused, theirs.refused),
            (&mut mine.failed, theirs.failed),
        ] {
            *mine += theirs;
        }
        self.first_wrong = self.first_wrong.take().or(other.first_wrong);
        self.seen += other.seen;
    }

    /// All latencies together.
    pub fn latencies(&self) -> Result<Latencies, LoadError> {
        Latencies::sum(self.intervals.iter().map(|interval| &interval.latency))
    }

    /// How late the generator was, where it has a schedule.
    pub fn lateness(&self) -> Lateness {
        Lateness::of(&self.late)
    }
}

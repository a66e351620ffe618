//! What is counted while it runs, one for each thread, added up at the end. Nothing here allocates once it has begun.
//!
//! A message belongs to the measurement if it was due within the measured time, whenever its answer came, and it
//! belongs to the interval in which it was due: so slow answers count where they were caused.

use hdrhistogram::{Counter, Histogram};

use super::plan::{Plan, ns};
use crate::exit::{Exit, Failure};

/// Latencies are kept with three digits, up to an hour.
const DIGITS: u8 = 3;
const LATENCY_NS_MAX: u64 = 3_600_000_000_000;
/// Intervals of the measured time, and the least that one is.
const INTERVALS: u64 = 50;
const INTERVAL_NS_MIN: u64 = 10_000_000;
/// How late the generator may be with a message before that is told.
pub(crate) const LATE_NS: u64 = 1_000_000;

/// The measured time, in nanoseconds since the connections were made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) begin: u64,
    pub(crate) end: u64,
    pub(crate) interval: u64,
}

impl Span {
    pub(crate) fn of(plan: &Plan) -> Span {
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
pub(crate) struct Tally {
    pub(crate) span: Span,
    pub(crate) intervals: Vec<Interval>,
    pub(crate) counts: Counts,
    /// How late the generator was with messages that were due, where it has a schedule.
    pub(crate) lateness: Histogram<u32>,
    pub(crate) first_wrong: Option<Wrong>,
    /// Answers of all times, for whoever watches.
    pub(crate) seen: u64,
}

/// Messages of the measured time: `asked` is the sum of `answered`, `lost` and `unanswered`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) asked: u64,
    pub(crate) answered: u64,
    /// Datagrams without an answer in time.
    pub(crate) lost: u64,
    /// Nothing had come when the measurement gave up, or the connection ended before.
    pub(crate) unanswered: u64,
    /// Answers that were not the expected ones, at any time.
    pub(crate) wrong: u64,
    /// Answers to nothing that was asked, or once more, or after the message was given up; at any time.
    pub(crate) unasked: u64,
    /// Connections that the server ended.
    pub(crate) ended: u64,
    pub(crate) reset: u64,
    pub(crate) refused: u64,
    /// Connections on which another system call failed.
    pub(crate) failed: u64,
}

/// A part of the measured time.
#[derive(Debug)]
pub(crate) struct Interval {
    /// Latencies, in ns, of messages that were due in it.
    pub(crate) latency: Histogram<u32>,
    /// What arrived in it.
    pub(crate) answers: u64,
    pub(crate) answer_bytes: u64,
}

/// The first answer that was not the expected one.
#[derive(Debug, Clone)]
pub(crate) struct Wrong {
    pub(crate) connection: usize,
    /// The number of the answer on its connection, from 0.
    pub(crate) message: u64,
    /// The first byte that differs, in this answer and among all bytes of the connection.
    pub(crate) offset: usize,
    pub(crate) connection_offset: u64,
    pub(crate) expected_bytes: usize,
    pub(crate) got_bytes: usize,
    /// What is around the place.
    pub(crate) shown_from: usize,
    pub(crate) expected: Vec<u8>,
    pub(crate) got: Vec<u8>,
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

fn histogram<C: Counter>() -> Result<Histogram<C>, Failure> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, DIGITS)
        .map_err(|error| Failure::new(Exit::Unreachable, format!("make a histogram: {error}")))
}

impl Tally {
    pub(crate) fn new(span: Span) -> Result<Tally, Failure> {
        let interval = || Ok(Interval { latency: histogram()?, answers: 0, answer_bytes: 0 });
        Ok(Tally {
            span,
            intervals: (0..span.intervals()).map(|_| interval()).collect::<Result<_, Failure>>()?,
            counts: Counts::default(),
            lateness: histogram()?,
            first_wrong: None,
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
            self.lateness.saturating_record(now.saturating_sub(due));
        }
    }

    pub(crate) fn wrong(&mut self, wrong: impl FnOnce() -> Wrong) {
        self.counts.wrong += 1;
        if self.first_wrong.is_none() {
            self.first_wrong = Some(wrong());
        }
    }

    /// Adds what another thread saw of the same time.
    pub(crate) fn add(&mut self, other: Tally) {
        for (mine, theirs) in self.intervals.iter_mut().zip(other.intervals) {
            // They have the same bounds, so this does not fail.
            let _ = mine.latency.add(&theirs.latency);
            mine.answers += theirs.answers;
            mine.answer_bytes += theirs.answer_bytes;
        }
        let _ = self.lateness.add(&other.lateness);
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

    /// All latencies together, in ns.
    pub(crate) fn latency(&self) -> Result<Histogram<u64>, Failure> {
        let mut all = histogram()?;
        for interval in &self.intervals {
            for value in interval.latency.iter_recorded() {
                all.saturating_record_n(value.value_iterated_to(), value.count_at_value().into());
            }
        }
        Ok(all)
    }
}

//! What the loops have in common: turns, and a clock.

use std::error::Error;
use std::time::Instant;

use hdrhistogram::Histogram;

/// Nothing for so long means that answers were lost.
pub(super) const SILENCE_MS: i32 = 10_000;
/// Times are kept with so many digits, up to a minute.
const TIME_DIGITS: u8 = 3;
const TIME_NS_MAX: u64 = 60_000_000_000;

/// One of the loops.
pub(super) trait Turns {
    /// Waits for answers, takes what there is, sends as many messages.
    fn turn(&mut self, clock: &mut Clock) -> Result<(), Box<dyn Error>>;
    /// Messages that were lost so far.
    fn lost(&self) -> u64 {
        0
    }
}

/// The time, and how long answers took.
pub(super) struct Clock {
    begin: Instant,
    pub(super) times: Histogram<u64>,
}

impl Clock {
    pub(super) fn new() -> Result<Clock, Box<dyn Error>> {
        Ok(Clock { begin: Instant::now(), times: Histogram::new_with_bounds(1, TIME_NS_MAX, TIME_DIGITS)? })
    }

    /// Nanoseconds since the load began.
    pub(super) fn now_ns(&self) -> u64 {
        self.begin.elapsed().as_nanos() as u64
    }

    pub(super) fn record(&mut self, ns: u64) {
        self.times.saturating_record(ns.max(1));
    }
}

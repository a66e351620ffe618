//! The least that must pass over a connection while something of it is unfinished (`min_rate`): a peer that sends a
//! message byte by byte, or takes its answers so, holds memory that others could use.

use crate::options::MinRate;
use crate::timer::Moment;

/// What has passed in the current span.
#[derive(Debug)]
pub(crate) struct MinRateMonitor {
    rate: MinRate,
    /// When the span is over; [`Moment::NEVER`] while nothing is unfinished.
    until: Moment,
    /// Bytes received in the span, those handed to the driver in it, and those that were with the driver before.
    passed: u64,
}

impl MinRateMonitor {
    pub(crate) fn new(rate: MinRate) -> MinRateMonitor {
        MinRateMonitor { rate, until: Moment::NEVER, passed: 0 }
    }

    /// Counts bytes that came, or that were handed to the driver to be sent.
    pub(crate) fn count(&mut self, bytes: usize) {
        self.passed += bytes as u64;
    }

    /// Says whether something is unfinished. `unsent`: bytes with the driver that the peer has not taken.
    pub(crate) fn note(&mut self, is_unfinished: bool, unsent: usize, now: Moment) {
        if !is_unfinished {
            self.until = Moment::NEVER;
        } else if self.until == Moment::NEVER {
            self.begin(unsent, now);
        }
    }

    /// Begins a new span, whatever the one before was worth.
    pub(crate) fn begin(&mut self, unsent: usize, now: Moment) {
        self.until = now.after(self.rate.within);
        self.passed = unsent as u64;
    }

    /// When the next look is due.
    pub(crate) fn until(&self) -> Moment {
        self.until
    }

    /// Whether a span has ended in which too little passed. One in which enough did is followed by the next.
    pub(crate) fn is_too_slow(&mut self, unsent: usize, now: Moment) -> bool {
        if now < self.until {
            return false;
        }
        if self.passed.saturating_sub(unsent as u64) < self.rate.bytes {
            return true;
        }
        self.begin(unsent, now);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_was_unsent_before_counts_once_it_is_taken() {
        let at = |seconds: u64| Moment::from_micros(seconds * 1_000_000);
        let mut monitor = MinRateMonitor::new(MinRate { bytes: 100, within: Duration::from_secs(10) });
        assert!(!monitor.is_too_slow(0, at(1000)), "nothing is unfinished");
        monitor.note(true, 500, at(0));
        assert_eq!(monitor.until(), at(10));
        monitor.note(true, 450, at(5));
        assert!(!monitor.is_too_slow(450, at(9)));
        // 500 were there, 400 are left: 100 were taken.
        assert!(!monitor.is_too_slow(400, at(10)));
        assert_eq!(monitor.until(), at(20));
        // Bytes handed over meanwhile are not taken yet.
        monitor.count(300);
        assert!(monitor.is_too_slow(601, at(20)));
        assert!(!monitor.is_too_slow(600, at(20)));
        monitor.count(99);
        assert!(monitor.is_too_slow(600, at(30)));
        monitor.note(false, 0, at(31));
        assert_eq!(monitor.until(), Moment::NEVER);
    }
}

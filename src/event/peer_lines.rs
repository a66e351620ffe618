//! Lines above debug that peers can cause: each listener emits the first of a kind, and then one in a while with the
//! number of those between, which are emitted at debug level. A peer must not be able to fill a disk.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::description::LogLevel;
use crate::limits::PEER_LINE_PERIOD;

/// What a line is about.
#[derive(Debug, Clone, Copy)]
pub(crate) enum PeerLine {
    TransformFailed,
    TransformStuck,
    /// Each reason for which connections are turned away has lines of its own.
    RejectedFull,
    RejectedUser,
    RejectedUnknown,
    RejectedPeer,
    RejectedDenied,
    RejectedProxy,
    RefusedPreface,
    RefusedLayer,
    AcceptFailed,
    SocketFailed,
    /// The lines of a transform itself.
    FromTransform,
}

const LINES: usize = PeerLine::FromTransform as usize + 1;

/// How many lines of each kind there have been of late, for one listener or one transform; any thread may ask.
#[derive(Debug, Default)]
pub(crate) struct PeerLines([Count; LINES]);

#[derive(Debug, Default)]
struct Count {
    /// When the period began in which the last line was emitted, in microseconds and at least 1; 0: there was none.
    since_us: AtomicU64,
    /// Lines in this period.
    lines: AtomicU64,
}

impl PeerLines {
    /// The level at which a line is to be emitted, and what goes at its end. `now_us`: by any clock, always the same one.
    pub(crate) fn next(&self, line: PeerLine, level: LogLevel, now_us: u64) -> (LogLevel, More) {
        self.next_of(line, level, now_us, 1)
    }

    /// The same where `most` lines a period are fine.
    pub(crate) fn next_of(
        &self,
        line: PeerLine,
        level: LogLevel,
        now_us: u64,
        most: u64,
    ) -> (LogLevel, More) {
        let Count { since_us, lines } = &self.0[line as usize];
        let since = since_us.load(Ordering::Relaxed);
        let now_us = now_us.max(1);
        let is_over = since == 0 || Duration::from_micros(now_us.saturating_sub(since)) >= PEER_LINE_PERIOD;
        // Of several threads that find it over, one begins the next.
        if is_over && since_us.compare_exchange(since, now_us, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            return (level, More(lines.swap(1, Ordering::Relaxed).saturating_sub(most)));
        }
        if lines.fetch_add(1, Ordering::Relaxed) < most {
            return (level, More(0));
        }
        (level.max(LogLevel::Debug), More(0))
    }

    /// Lines that were emitted at debug level since the last one that was not. They are then forgotten.
    pub(crate) fn take_rest(&self) -> More {
        More(self.0.iter().map(|count| count.lines.swap(0, Ordering::Relaxed).saturating_sub(1)).sum())
    }
}

/// Lines that were left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct More(pub(crate) u64);

impl fmt::Display for More {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 > 0 { write!(f, " ({} more at debug level)", self.0) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_period_and_the_number_of_those_between() {
        let lines = PeerLines::default();
        let period = PEER_LINE_PERIOD.as_micros() as u64;
        let next = |line, now| lines.next(line, LogLevel::Warn, now);
        assert_eq!(next(PeerLine::TransformFailed, 0), (LogLevel::Warn, More(0)), "the first");
        for now in 1..1000 {
            assert_eq!(next(PeerLine::TransformFailed, now), (LogLevel::Debug, More(0)));
        }
        assert_eq!(next(PeerLine::AcceptFailed, 1000), (LogLevel::Warn, More(0)), "another kind");
        assert_eq!(next(PeerLine::TransformFailed, period + 1), (LogLevel::Warn, More(999)));
        assert_eq!(next(PeerLine::TransformFailed, period + 2), (LogLevel::Debug, More(0)));
        assert_eq!(lines.take_rest(), More(1));
        assert_eq!(lines.take_rest(), More(0));
        assert_eq!(More(7).to_string(), " (7 more at debug level)");
    }

    #[test]
    fn a_burst_is_fine_where_that_was_asked() {
        let lines = PeerLines::default();
        let levels: Vec<_> =
            (0..5).map(|now| lines.next_of(PeerLine::FromTransform, LogLevel::Info, now, 3).0).collect();
        assert_eq!(
            levels,
            [LogLevel::Info, LogLevel::Info, LogLevel::Info, LogLevel::Debug, LogLevel::Debug]
        );
        assert_eq!(lines.next_of(PeerLine::FromTransform, LogLevel::Trace, 9, 3).0, LogLevel::Trace);
    }
}

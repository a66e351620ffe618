//! How long the turns of a worker take, of one turn in 64: the one in which transforms are timed too, so that the others read no clock
//! for it. A turn that does not come back at all is the watchdog's to find.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::sys;

/// How long turns of a worker took, from the end of its wait to the next one: one turn in 64 is timed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TurnTimes {
    /// How many turns took at most each of [`BOUNDS_US`](TurnTimes::BOUNDS_US) and more than the one before; the last ones took
    /// longer than all of those.
    pub turns: [u64; TurnTimes::BOUNDS_US.len() + 1],
    /// How long all of them took.
    pub sum: Duration,
}

impl TurnTimes {
    /// From 4 µs to 4.2 s, each four times the one before.
    pub const BOUNDS_US: [u64; 11] = {
        let mut bounds = [4; 11];
        let mut place = 1;
        while place < bounds.len() {
            bounds[place] = bounds[place - 1] * 4;
            place += 1;
        }
        bounds
    };
}

/// The turns of one worker, which alone adds to them.
#[derive(Debug, Default)]
pub(super) struct Turns {
    turns: [AtomicU64; TurnTimes::BOUNDS_US.len() + 1],
    sum_ns: AtomicU64,
}

impl Turns {
    /// Adds a turn that began at `began_ns`.
    #[cold]
    pub(super) fn add_since(&self, began_ns: u64) {
        let took_ns = sys::monotonic_nanos().saturating_sub(began_ns);
        let place = TurnTimes::BOUNDS_US.partition_point(|bound| *bound * 1000 < took_ns);
        let add = |counter: &AtomicU64, n| {
            counter.store(counter.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
        };
        if let Some(turns) = self.turns.get(place) {
            add(turns, 1);
            add(&self.sum_ns, took_ns);
        }
    }

    pub(super) fn read(&self) -> TurnTimes {
        let mut turns = [0; TurnTimes::BOUNDS_US.len() + 1];
        for (to, from) in turns.iter_mut().zip(&self.turns) {
            *to = from.load(Ordering::Relaxed);
        }
        TurnTimes { turns, sum: Duration::from_nanos(self.sum_ns.load(Ordering::Relaxed)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_counted_where_it_belongs() {
        assert_eq!(TurnTimes::BOUNDS_US[..4], [4, 16, 64, 256]);
        let turns = Turns::default();
        turns.add_since(sys::monotonic_nanos() - 5_000_000_000);
        // The clock of another processor may be a little ahead.
        turns.add_since(u64::MAX);
        let read = turns.read();
        assert_eq!((read.turns[0], read.turns[11], read.turns.iter().sum()), (1, 1, 2_u64));
        assert!(read.sum >= Duration::from_secs(5));
    }
}

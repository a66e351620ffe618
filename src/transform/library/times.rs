//! How long transforms take, of a few calls.
//!
//! ```text
//! worker, each 64th turn ── arm ──> Instance: the next call is no ordinary one ── timed ──> Times
//! ```
//!
//! A call that is timed takes the way of one that needs a lock, for which every call looks anyway: the others cost nothing more.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::lock::lock;
use crate::sys;

/// Transforms whose times are kept: those of more are forgotten.
const TRANSFORMS_MAX: usize = 256;

/// How long calls of one transform took, in all chains of an engine: one call in 64 turns of a worker, so one message in 64,
/// or fewer where a turn has several. It is the first one of its turn, which finds less in the processor's caches than others.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransformTime {
    /// The transform.
    pub id: &'static str,
    /// How many calls took at most each of [`BOUNDS_NS`](TransformTime::BOUNDS_NS) and more than the one before; the last ones
    /// took longer than all of those.
    pub calls: [u64; TransformTime::BOUNDS_NS.len() + 1],
    /// How long all of them took.
    pub sum: Duration,
}

impl TransformTime {
    /// From 10 ns to 1 s.
    pub const BOUNDS_NS: [u64; 25] = {
        let mut bounds = [0; 25];
        let (mut place, mut decade) = (0, 10);
        while place < bounds.len() {
            bounds[place] = decade * [1, 2, 5][place % 3];
            if place % 3 == 2 {
                decade *= 10;
            }
            place += 1;
        }
        bounds
    };
}

/// The times of all transforms of an engine, which outlive their chains.
#[derive(Debug, Default)]
pub(crate) struct AllTimes(Mutex<Vec<(&'static str, Arc<Times>)>>);

impl AllTimes {
    pub(super) fn of(&self, id: &'static str) -> Arc<Times> {
        let mut all = lock(&self.0);
        if let Some((_, times)) = all.iter().find(|(known, _)| *known == id) {
            return Arc::clone(times);
        }
        let times = Arc::<Times>::default();
        if all.len() < TRANSFORMS_MAX {
            all.push((id, Arc::clone(&times)));
        }
        times
    }

    /// As they are now, in the order in which the transforms were first used.
    pub(crate) fn read(&self) -> Vec<TransformTime> {
        let all = lock(&self.0);
        all.iter().map(|(id, times)| times.read(id)).collect()
    }
}

/// The times of one transform.
#[derive(Debug, Default)]
pub(super) struct Times {
    calls: [AtomicU64; TransformTime::BOUNDS_NS.len() + 1],
    sum_ns: AtomicU64,
}

impl Times {
    /// Adds a call that began at `began_ns`.
    #[cold]
    pub(super) fn add_since(&self, began_ns: u64) {
        let took = sys::monotonic_nanos().saturating_sub(began_ns);
        let place = TransformTime::BOUNDS_NS.partition_point(|bound| *bound < took);
        if let Some(calls) = self.calls.get(place) {
            calls.fetch_add(1, Ordering::Relaxed);
            self.sum_ns.fetch_add(took, Ordering::Relaxed);
        }
    }

    fn read(&self, id: &'static str) -> TransformTime {
        let mut calls = [0; TransformTime::BOUNDS_NS.len() + 1];
        for (to, from) in calls.iter_mut().zip(&self.calls) {
            *to = from.load(Ordering::Relaxed);
        }
        TransformTime { id, calls, sum: Duration::from_nanos(self.sum_ns.load(Ordering::Relaxed)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_in_steps_of_1_2_and_5() {
        let bounds = TransformTime::BOUNDS_NS;
        assert_eq!(bounds[..5], [10, 20, 50, 100, 200]);
        assert_eq!(bounds[24], 1_000_000_000);
    }

    #[test]
    fn a_call_is_counted_where_it_belongs() {
        let all = AllTimes::default();
        let times = all.of("slow");
        times.add_since(sys::monotonic_nanos() - 2_000_000_000);
        times.add_since(u64::MAX);
        assert!(Arc::ptr_eq(&times, &all.of("slow")));
        all.of("never");
        let [slow, never] = all.read().try_into().unwrap();
        assert_eq!((slow.id, slow.calls[0], slow.calls[25]), ("slow", 1, 1));
        assert!(slow.sum >= Duration::from_secs(2));
        assert_eq!((never.id, never.calls.iter().sum::<u64>()), ("never", 0));
    }
}

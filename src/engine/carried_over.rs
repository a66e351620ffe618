//! What processes before this one have done, whose sockets the engine goes on with: each listener's figures go on from there.

use std::collections::BTreeMap;

use crate::stats::{ClosedListeners, Stats};

/// What a process has done that hands its sockets over, so that the figures of each listener go on in the next one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HandoverStats {
    /// Of each listener, under the URL that it has there: of those that are there, and of those that were [left](crate::Engine::leave).
    pub listeners: Vec<(String, Stats)>,
    /// Of listeners that were closed.
    pub others: Stats,
}

/// What processes before this one have done.
#[derive(Debug, Default)]
pub(super) struct CarriedOver {
    /// Which listener goes on with one of theirs, by the URL that it had there.
    heirs: BTreeMap<String, u64>,
    /// Of the listeners with these numbers, also when they are closed.
    listeners: BTreeMap<u64, Stats>,
    /// Of listeners that nobody goes on with.
    others: Stats,
    /// There was such a process.
    is_known: bool,
}

impl CarriedOver {
    pub(super) fn is_known(&self) -> bool {
        self.is_known
    }

    /// This listener has the sockets of the one that had this URL.
    pub(super) fn inherit(&mut self, url: String, listener: u64) {
        self.heirs.insert(url, listener);
    }

    /// Replaces all figures. `find`: the listener that goes on with one whose sockets nobody has got, by its URL.
    pub(super) fn replace(&mut self, stats: &HandoverStats, find: impl Fn(&str) -> Option<u64>) {
        self.is_known = true;
        self.listeners.clear();
        self.others = stats.others.clone();
        for (url, stats) in &stats.listeners {
            match self.heirs.get(url).copied().or_else(|| find(url)) {
                Some(id) => {
                    // Whatever becomes of that listener, the figures stay with it.
                    self.heirs.insert(url.clone(), id);
                    self.listeners.entry(id).or_default().add(stats);
                }
                None => self.others.add(stats),
            }
        }
    }

    /// The figures of a listener, with those that it goes on with.
    pub(super) fn added_to(&self, listener: u64, mut stats: Stats) -> Stats {
        if let Some(before) = self.listeners.get(&listener) {
            stats.add(before);
        }
        stats
    }

    /// The figures of all listeners but some.
    pub(super) fn of_others(&self, but: impl Fn(u64) -> bool) -> Stats {
        let mut sum = self.others.clone();
        self.listeners.iter().filter(|(id, _)| !but(**id)).for_each(|(_, stats)| sum.add(stats));
        sum
    }
}

/// A listener that was left to another process, while its connections are still here.
#[derive(Debug)]
pub(super) struct LeftListener {
    pub(super) listener: u64,
    pub(super) url: String,
    pub(super) counters: ClosedListeners,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::CloseReason;

    fn stats(closed: u64) -> Stats {
        let mut stats = Stats::default();
        stats.set_closed_by(CloseReason::PeerClosed, closed);
        stats
    }

    fn count(stats: &Stats) -> u64 {
        stats.closed_by(CloseReason::PeerClosed)
    }

    #[test]
    fn figures_stay_with_the_listener_that_has_the_socket() {
        let mut carried_over = CarriedOver::default();
        carried_over.inherit("tcp://localhost:1".to_owned(), 7);
        let told = |a, b, c, others| {
            let all = [("tcp://localhost:1", a), ("unix:/passed", b), ("unix:/gone", c)];
            let listeners = all.map(|(url, closed)| (url.to_owned(), stats(closed))).into();
            HandoverStats { listeners, others: stats(others) }
        };
        carried_over.replace(&told(1, 10, 100, 1000), |url| (url == "unix:/passed").then_some(8));
        let of = |carried_over: &CarriedOver, id| count(&carried_over.added_to(id, stats(5)));
        assert_eq!([7, 8, 9].map(|id| of(&carried_over, id)), [6, 15, 5]);
        assert_eq!(count(&carried_over.of_others(|id| id == 7 || id == 8)), 1100);
        // The last figures replace the first ones, also of a listener that was closed meanwhile.
        carried_over.replace(&told(2, 20, 200, 2000), |_| None);
        assert_eq!([7, 8, 9].map(|id| of(&carried_over, id)), [7, 25, 5]);
        assert_eq!(count(&carried_over.of_others(|id| id == 7)), 2220);
    }
}

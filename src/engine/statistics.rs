//! What an engine has done and has open.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::listeners::ListenerId;
use super::state::Engine;
use crate::channel::channel;
use crate::error::Result;
use crate::lock::lock;
use crate::stats::Stats;
use crate::transform::library::TransformTime;
use crate::worker::{Command, ConnectionInfo};

impl Engine {
    /// What all listeners have done, closed ones too: the figures never run backwards, `open` aside.
    pub fn stats(&self) -> Stats {
        let mut control = lock(&self.control);
        let mut sum = control.closed.stats();
        for listener in &control.listeners {
            sum.add(&listener.stats());
        }
        sum
    }

    /// What one listener has done.
    pub fn listener_stats(&self, id: ListenerId) -> Result<Stats> {
        self.find(id).map(|listener| listener.stats())
    }

    /// What listeners have done that are closed by now: with the [`listener_stats`](Engine::listener_stats) of those that are
    /// left, it adds up to [`stats`](Engine::stats).
    pub fn closed_stats(&self) -> Stats {
        lock(&self.control).closed.stats()
    }

    /// The connections that are open now, in the order in which they came. Workers that have no answer within
    /// `patience` are left out: one on a lent thread answers when it next has a turn.
    pub fn connections(&self, patience: Duration) -> Vec<ConnectionInfo> {
        let (to, found) = channel();
        for mailbox in self.core.get().map(|core| &core.shared.mailboxes).into_iter().flatten() {
            // A worker that has ended has no connections.
            let _ = mailbox.push(Command::List { to: to.clone() });
        }
        drop(to);
        // Further away than a clock reaches is for ever.
        let until = Instant::now().checked_add(patience);
        let left = || until.map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()));
        let mut connections = Vec::new();
        while let Ok(info) = found.receive(left()) {
            connections.push(info);
        }
        connections.sort_unstable_by_key(|info| info.id);
        connections
    }

    /// The counters that transforms keep, as `transform.counter`.
    pub fn transform_counters(&self) -> Vec<(String, u64)> {
        self.services.counters.read()
    }

    /// How long calls of transforms took that were timed, in the order in which the transforms were first used.
    pub fn transform_times(&self) -> Vec<TransformTime> {
        self.services.times.read()
    }

    /// Whether a fault of Resay itself has ended one of the workers. What was with it is lost; the engine should go.
    pub fn is_poisoned(&self) -> bool {
        self.ended.is_poisoned.load(Ordering::Relaxed)
    }
}

//! What an engine has done and has open, and what its workers do.

use std::ffi::CStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::listeners::{ListenerId, find_listener};
use super::state::Engine;
use crate::channel::{Nothing, channel};
use crate::error::Result;
use crate::lock::lock;
use crate::stats::Stats;
use crate::sys;
use crate::timer::Moment;
use crate::transform::library::TransformTime;
use crate::worker::{Command, ConnectionInfo, Mailbox, Pulse, TurnTimes};

/// The turns of a worker, as they are at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerInfo {
    /// How long ago its last turn began; before the first one, since a point of the system's.
    pub last_turn: Duration,
    /// How long it has been busy with that turn; `None`: it waits for something to do, or for a thread.
    pub busy: Option<Duration>,
    /// The transform whose code runs there now, if one does.
    pub transform: Option<&'static CStr>,
    /// How long its turns have taken so far.
    pub turn_times: TurnTimes,
}

/// Connections that are open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionList {
    /// In the order in which they came.
    pub connections: Vec<ConnectionInfo>,
    /// The numbers of workers that had no answer in time: their connections are not in the list, or not all.
    pub missing_workers: Vec<usize>,
}

impl Engine {
    /// What all listeners have done, closed ones too, and what was [carried over](Engine::carry_over): the figures never run backwards, `open` aside.
    pub fn stats(&self) -> Stats {
        let mut control = lock(&self.control);
        let mut sum = control.gone_stats();
        for listener in &control.listeners {
            sum.add(&control.stats_of(listener));
        }
        sum
    }

    /// What one listener has done, with what was [carried over](Engine::carry_over) of the one before whose sockets it has.
    pub fn listener_stats(&self, id: ListenerId) -> Result<Stats> {
        let control = lock(&self.control);
        find_listener(&control, id).map(|listener| control.stats_of(&listener))
    }

    /// What listeners have done that are closed by now: with the [`listener_stats`](Engine::listener_stats) of those that are
    /// left, it adds up to [`stats`](Engine::stats).
    pub fn closed_stats(&self) -> Stats {
        lock(&self.control).gone_stats()
    }

    /// Whether the figures go on from those of another process: see [`carry_over`](Engine::carry_over).
    pub fn has_carried_over(&self) -> bool {
        lock(&self.control).carried_over.is_known()
    }

    /// The connections that are open now, in the order in which they came. Workers that have no answer within
    /// `patience` are left out: [`list_connections`](Engine::list_connections) says which.
    pub fn connections(&self, patience: Duration) -> Vec<ConnectionInfo> {
        self.list_connections(patience).connections
    }

    /// The same, with the workers that had no answer within `patience`: one on a lent thread answers when it next has a turn.
    pub fn list_connections(&self, patience: Duration) -> ConnectionList {
        let mailboxes = self.core.get().map(|core| &core.shared.mailboxes);
        let ask = |mailbox: &Mailbox<_>| {
            let (to, found) = channel();
            // A worker that has ended has no connections.
            let _ = mailbox.push(Command::List { to });
            found
        };
        let asked: Vec<_> = mailboxes.into_iter().flatten().map(ask).collect();
        // Further away than a clock reaches is for ever.
        let until = Instant::now().checked_add(patience);
        let left = || until.map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()));
        let mut list = ConnectionList::default();
        for (worker, found) in asked.into_iter().enumerate() {
            loop {
                match found.receive(left()) {
                    Ok(info) => list.connections.push(info),
                    Err(Nothing::Ever) => break,
                    Err(Nothing::Yet) => {
                        list.missing_workers.push(worker);
                        break;
                    }
                }
            }
        }
        list.connections = in_order(list.connections);
        list
    }

    /// The counters that transforms keep, as `transform.counter`.
    pub fn transform_counters(&self) -> Vec<(String, u64)> {
        self.services.counters.read()
    }

    /// What the workers are doing; empty before there are workers. Asks them nothing, so it does not wait.
    pub fn workers(&self) -> Vec<WorkerInfo> {
        let now = Moment::from_micros(sys::monotonic_micros());
        let pulses = self.core.get().into_iter().flat_map(|core| &core.shared.pulses);
        let info = |pulse: &Arc<Pulse>| WorkerInfo {
            last_turn: pulse.last_turn().until(now),
            busy: pulse.busy_since().map(|since| since.until(now)),
            transform: pulse.transform(),
            turn_times: pulse.turn_times(),
        };
        pulses.map(info).collect()
    }

    /// Has every worker take a turn, also where there is nothing to do: whoever looks at [`workers`](Engine::workers) later
    /// sees which have. Those on lent threads take it with the next [`run`](Engine::run).
    pub fn wake_workers(&self) {
        if let Some(core) = self.core.get() {
            core.shared.wake_all();
        }
    }

    /// How often a turn or a message took longer than the [watchdog](super::Builder::watchdog)'s time.
    pub fn transforms_stuck(&self) -> u64 {
        self.core.get().map_or(0, |core| core.shared.stuck.load(Ordering::Relaxed))
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

/// In the order of their numbers. Only these are sorted, as elsewhere: to sort what they belong to takes code of its own.
fn in_order(connections: Vec<ConnectionInfo>) -> Vec<ConnectionInfo> {
    let mut ids: Vec<u64> = connections.iter().map(|info| info.id).collect();
    ids.sort_unstable();
    let mut places: Vec<Option<ConnectionInfo>> = ids.iter().map(|_| None).collect();
    for info in connections {
        // No two have the same.
        if let Some(place) = places.get_mut(ids.partition_point(|id| *id < info.id)) {
            *place = Some(info);
        }
    }
    places.into_iter().flatten().collect()
}

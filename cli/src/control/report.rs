//! What the answers of a control socket say, in JSON: written by the server, read by `resay ctl`.

use std::collections::BTreeMap;
use std::time::Duration;

use resay::{
    CloseReason, ConnectionInfo, ConnectionState, DropReason, Engine, ListenerInfo, RejectReason,
    TransformTime, WorkerInfo,
};
use serde::{Deserialize, Serialize};

use crate::health::Health;
use crate::metrics::process::WorkerTime;

/// The answer to `stats`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Stats {
    pub(crate) version: String,
    pub(crate) pid: u32,
    pub(crate) uptime_ms: u64,
    /// `serving`, `lame_duck`, `draining` and so on. Servers of earlier versions do not say.
    #[serde(default)]
    pub(crate) state: String,
    /// The counters go on from those of a server before it, whose sockets it has taken over.
    #[serde(default)]
    pub(crate) carried_over: bool,
    /// Of all listeners together, closed ones too.
    pub(crate) totals: Counts,
    pub(crate) listeners: Vec<ListenerCounts>,
    /// What transforms count, as `transform.counter`.
    pub(crate) transforms: BTreeMap<String, u64>,
    /// How often one of them took longer than the watchdog's time. Servers of earlier versions do not say.
    #[serde(default)]
    pub(crate) transforms_stuck: u64,
    /// How long calls of transforms took that were timed. Servers of earlier versions do not say.
    #[serde(default)]
    pub(crate) transform_times: Vec<Times>,
    /// In the order of their numbers. Servers of earlier versions do not say.
    #[serde(default)]
    pub(crate) workers: Vec<Worker>,
}

/// How long calls of one transform took, in all chains: see [`TransformTime`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Times {
    pub(crate) transform: String,
    pub(crate) sum_ns: u64,
    pub(crate) bounds_ns: Vec<u64>,
    /// How many took at most as long as the bound in the same place; one more for all others.
    pub(crate) calls: Vec<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Worker {
    pub(crate) worker: usize,
    /// How long ago its last turn began.
    pub(crate) last_turn_ms: u64,
    /// How long it has been busy with that turn; `None`: it waits.
    pub(crate) busy_ms: Option<u64>,
    /// The transform that runs there now.
    pub(crate) transform: Option<String>,
    /// Processor time, and time in which there was work and no processor; `None`: the system does not say.
    pub(crate) busy_seconds: Option<f64>,
    pub(crate) waiting_seconds: Option<f64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ListenerCounts {
    pub(crate) id: u64,
    /// Its name in the configuration file, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    pub(crate) url: String,
    pub(crate) chain: String,
    #[serde(flatten)]
    pub(crate) counts: Counts,
}

/// The counters of one listener, or of all: see [`resay::Stats`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Counts {
    pub(crate) open: u64,
    pub(crate) accepted: u64,
    pub(crate) closed: u64,
    pub(crate) rejected: u64,
    pub(crate) accept_errors: u64,
    pub(crate) messages_in: u64,
    pub(crate) messages_out: u64,
    pub(crate) dropped: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) undelivered_bytes: u64,
    pub(crate) dropped_bytes: u64,
    pub(crate) transform_errors: u64,
    /// By [name](CloseReason::name), the reasons that never came up too.
    pub(crate) closed_by: BTreeMap<String, u64>,
    pub(crate) dropped_by: BTreeMap<String, u64>,
    pub(crate) rejected_by: BTreeMap<String, u64>,
}

/// An element of the answer to `listeners` and `chain`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Listener {
    pub(crate) id: u64,
    /// Its name in the configuration file, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    pub(crate) url: String,
    /// Canonical; empty for the plain echo.
    pub(crate) chain: String,
    /// Options, as the system reports them.
    pub(crate) effective: BTreeMap<String, String>,
}

/// The answer to `connections`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Connections {
    pub(crate) connections: Vec<Connection>,
    /// Workers that had no answer in time, since a transform does not return for example: their connections are missing.
    pub(crate) missing_workers: Vec<usize>,
}

impl Connections {
    /// What there is to say of those that are missing.
    pub(crate) fn warning(&self) -> Option<String> {
        let numbers: Vec<_> = self.missing_workers.iter().map(ToString::to_string).collect();
        let whose = match numbers.as_slice() {
            [] => return None,
            [one] => format!("worker {one} does not answer: its"),
            all => format!("workers {} do not answer: their", all.join(", ")),
        };
        Some(format!("{whose} connections are not in the list"))
    }
}

/// An element of the answer to `connections`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Connection {
    pub(crate) id: u64,
    pub(crate) listener: String,
    pub(crate) peer: String,
    /// The proxy that has named the peer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) via: Option<String>,
    /// What the proxy and TLS tell. Servers of earlier versions do not say.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) facts: BTreeMap<String, String>,
    pub(crate) worker: usize,
    pub(crate) idle_ms: u64,
    pub(crate) waiting_bytes: usize,
    pub(crate) state: State,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    Open,
    /// It has its last answers before it, or lingers.
    Ending,
}

/// The answer to `drain` and `stop`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ended {
    /// `drained` or `stopped`.
    pub(crate) ended: String,
}

/// The answer to `set`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct OptionReport {
    pub(crate) listener: u64,
    pub(crate) key: String,
    /// As it holds now.
    pub(crate) value: String,
}

/// The answer to `close`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Closing {
    /// The connection that is to end.
    pub(crate) closing: u64,
}

/// The answer to `health`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct HealthReport {
    /// A [name](crate::health::Health::name).
    pub(crate) health: String,
    /// New work is welcome.
    pub(crate) ready: bool,
}

/// The answer to `reload`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Reloaded {
    /// A line for each change, as `--diff` prints them.
    pub(crate) changes: Vec<String>,
}

impl Stats {
    pub(crate) fn of(
        engine: &Engine,
        health: Health,
        uptime: Duration,
        names: &BTreeMap<u64, String>,
    ) -> Stats {
        let listeners = engine.listeners().into_iter().filter_map(|listener| {
            // One that was closed in between has nothing to say.
            let stats = engine.listener_stats(listener.id).ok()?;
            let ListenerInfo { id, url, chain, .. } = listener;
            let (id, counts) = (id.number(), Counts::of(&stats));
            Some(ListenerCounts { id, name: names.get(&id).cloned(), url, chain, counts })
        });
        Stats {
            version: resay::VERSION.to_owned(),
            pid: std::process::id(),
            uptime_ms: milliseconds(uptime),
            state: health.name().to_owned(),
            carried_over: engine.has_carried_over(),
            listeners: listeners.collect(),
            totals: Counts::of(&engine.stats()),
            transforms: engine.transform_counters().into_iter().collect(),
            transforms_stuck: engine.transforms_stuck(),
            transform_times: engine.transform_times().into_iter().map(Times::from).collect(),
            workers: Worker::of_all(engine),
        }
    }
}

impl From<TransformTime> for Times {
    fn from(time: TransformTime) -> Times {
        Times {
            transform: time.id.to_owned(),
            sum_ns: u64::try_from(time.sum.as_nanos()).unwrap_or(u64::MAX),
            bounds_ns: TransformTime::BOUNDS_NS.into(),
            calls: time.calls.into(),
        }
    }
}

impl Worker {
    fn of_all(engine: &Engine) -> Vec<Worker> {
        let workers = engine.workers();
        let times = WorkerTime::of_all(&engine.thread_name(), workers.len());
        let report = |(worker, info): (usize, WorkerInfo)| {
            let time = times.iter().find(|time| time.worker == worker);
            Worker {
                worker,
                last_turn_ms: milliseconds(info.last_turn),
                busy_ms: info.busy.map(milliseconds),
                transform: info.transform.map(|id| id.to_string_lossy().into_owned()),
                busy_seconds: time.map(|time| time.busy_seconds),
                waiting_seconds: time.map(|time| time.waiting_seconds),
            }
        };
        workers.into_iter().enumerate().map(report).collect()
    }
}

impl Counts {
    pub(crate) fn of(stats: &resay::Stats) -> Counts {
        let closed_by = CloseReason::ALL.map(|reason| (reason.name().to_owned(), stats.closed_by(reason)));
        let rejected_by =
            RejectReason::ALL.map(|reason| (reason.name().to_owned(), stats.rejected_by(reason)));
        let dropped_by = DropReason::ALL.map(|reason| (reason.name().to_owned(), stats.dropped_by(reason)));
        Counts {
            open: stats.open,
            accepted: stats.accepted,
            closed: stats.closed,
            rejected: stats.rejected,
            accept_errors: stats.accept_errors,
            messages_in: stats.messages_in,
            messages_out: stats.messages_out,
            dropped: stats.dropped,
            bytes_in: stats.bytes_in,
            bytes_out: stats.bytes_out,
            undelivered_bytes: stats.undelivered_bytes,
            dropped_bytes: stats.dropped_bytes,
            transform_errors: stats.transform_errors,
            closed_by: closed_by.into(),
            dropped_by: dropped_by.into(),
            rejected_by: rejected_by.into(),
        }
    }
}

impl Counts {
    /// The same without the reasons that never came up, for readers that know them all.
    pub(crate) fn short(mut self) -> Counts {
        for counts in [&mut self.closed_by, &mut self.dropped_by, &mut self.rejected_by] {
            counts.retain(|_, count| *count > 0);
        }
        self
    }

    /// As the engine has them. Reasons that this version does not know are in the sums alone.
    pub(crate) fn stats(&self) -> resay::Stats {
        let mut stats = resay::Stats::default();
        stats.open = self.open;
        stats.accepted = self.accepted;
        stats.closed = self.closed;
        stats.rejected = self.rejected;
        stats.accept_errors = self.accept_errors;
        stats.messages_in = self.messages_in;
        stats.messages_out = self.messages_out;
        stats.dropped = self.dropped;
        stats.bytes_in = self.bytes_in;
        stats.bytes_out = self.bytes_out;
        stats.undelivered_bytes = self.undelivered_bytes;
        stats.dropped_bytes = self.dropped_bytes;
        stats.transform_errors = self.transform_errors;
        for reason in CloseReason::ALL {
            stats.set_closed_by(reason, self.closed_by.get(reason.name()).copied().unwrap_or(0));
        }
        for reason in DropReason::ALL {
            stats.set_dropped_by(reason, self.dropped_by.get(reason.name()).copied().unwrap_or(0));
        }
        for reason in RejectReason::ALL {
            stats.set_rejected_by(reason, self.rejected_by.get(reason.name()).copied().unwrap_or(0));
        }
        stats
    }
}

impl From<ListenerInfo> for Listener {
    fn from(info: ListenerInfo) -> Listener {
        let effective = info.effective.into_iter().collect();
        Listener { id: info.id.number(), name: None, url: info.url, chain: info.chain, effective }
    }
}

impl From<ConnectionInfo> for Connection {
    fn from(info: ConnectionInfo) -> Connection {
        Connection {
            id: info.id,
            listener: info.listener,
            peer: info.peer.to_string(),
            via: info.via.map(|via| via.to_string()),
            facts: info.facts.into_iter().collect(),
            worker: info.worker,
            idle_ms: milliseconds(info.idle),
            waiting_bytes: info.waiting_bytes,
            state: if info.state == ConnectionState::Ending { State::Ending } else { State::Open },
        }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

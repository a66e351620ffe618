//! What is shown of a server, out of two samples: how much each counter has grown in a second, what of their time workers
//! were busy, how long transforms took.
//!
//! A counter that is lower than before has begun anew: all of it is new. So have all counters of another process, unless it
//! has taken over what the one before has counted. The totals are of listeners too that are closed, which nobody looks for any
//! more: the rates of all listeners are the sums of each one's.

use std::collections::BTreeMap;
use std::time::Duration;

use resay::transform::spec::{ChainSpec, Target};
use serde::Serialize;

use super::sample::Sample;
use crate::control::report::{Connection, Counts, ListenerCounts, Times, Worker};

#[derive(Debug, Clone, Serialize)]
pub(super) struct Figures {
    pub(super) version: String,
    pub(super) pid: u32,
    pub(super) uptime_ms: u64,
    pub(super) state: String,
    /// Of all listeners; the counters are of closed ones too.
    pub(super) totals: Counted,
    pub(super) listeners: Vec<ListenerFigures>,
    pub(super) transforms: Vec<Stage>,
    pub(super) workers: Vec<WorkerFigures>,
    /// The slowest ones, the slowest first.
    pub(super) connections: Vec<Connection>,
}

/// Counters, and how fast they grow.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Counted {
    #[serde(flatten)]
    pub(super) counts: Counts,
    pub(super) per_second: Rates,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct ListenerFigures {
    pub(super) id: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    pub(super) url: String,
    pub(super) chain: String,
    #[serde(flatten)]
    pub(super) counted: Counted,
    pub(super) stages: Vec<Stage>,
}

/// Growth in a second, under the names of the counters.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Rates {
    pub(super) accepted: f64,
    pub(super) closed: f64,
    pub(super) rejected: f64,
    pub(super) messages_in: f64,
    pub(super) messages_out: f64,
    pub(super) dropped: f64,
    pub(super) bytes_in: f64,
    pub(super) bytes_out: f64,
    pub(super) transform_errors: f64,
    pub(super) closed_by: BTreeMap<String, f64>,
    pub(super) dropped_by: BTreeMap<String, f64>,
    pub(super) rejected_by: BTreeMap<String, f64>,
}

/// A transform of a chain, and how long it took. The times of a transform are those of all chains that have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Stage {
    pub(super) transform: String,
    pub(super) timed_calls: u64,
    /// So many took at most as long. `None`: no call was timed, or it took longer than a second.
    pub(super) p50_ns: Option<u64>,
    pub(super) p99_ns: Option<u64>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct WorkerFigures {
    #[serde(flatten)]
    pub(super) worker: Worker,
    /// The part of its time in which it had a processor, from 0 to 1; `None`: that is not known.
    pub(super) busy_share: Option<f64>,
    /// The part in which it had work and no processor.
    pub(super) waiting_share: Option<f64>,
}

impl Figures {
    /// `times` are those of an earlier sample, against which the times of transforms are held.
    pub(super) fn of(old: &Sample, new: &Sample, times: &[Times]) -> Figures {
        let elapsed = new.at.saturating_duration_since(old.at);
        let is_same = old.is_continued_by(new);
        let mut sum = Rates::default();
        let goes_on = is_same || (new.stats.carried_over && old.stats.pid != new.stats.pid);
        let listener = |listener: &ListenerCounts| {
            let before = old.stats.listeners.iter().find(|before| before.url == listener.url && goes_on);
            let rates = Rates::of(before.map(|before| &before.counts), &listener.counts, elapsed);
            sum.add(&rates);
            ListenerFigures {
                id: listener.id,
                name: listener.name.clone(),
                url: listener.url.clone(),
                chain: listener.chain.clone(),
                counted: Counted { counts: listener.counts.clone(), per_second: rates },
                stages: stages(&listener.chain, times, &new.stats.transform_times),
            }
        };
        let listeners = new.stats.listeners.iter().map(listener).collect();
        let worker = |worker: &Worker| {
            let before = old.stats.workers.get(worker.worker).filter(|_| is_same);
            let share = |of: fn(&Worker) -> Option<f64>| {
                let grown = of(worker)? - before.and_then(of)?;
                (!elapsed.is_zero()).then(|| (grown / elapsed.as_secs_f64()).clamp(0.0, 1.0))
            };
            WorkerFigures {
                busy_share: share(|worker| worker.busy_seconds),
                waiting_share: share(|worker| worker.waiting_seconds),
                worker: worker.clone(),
            }
        };
        let transforms = new.stats.transform_times.iter();
        Figures {
            version: new.stats.version.clone(),
            pid: new.stats.pid,
            uptime_ms: new.stats.uptime_ms,
            state: new.stats.state.clone(),
            listeners,
            totals: Counted { counts: new.stats.totals.clone(), per_second: sum },
            transforms: transforms.map(|now| Stage::of(&now.transform, times, Some(now))).collect(),
            workers: new.stats.workers.iter().map(worker).collect(),
            connections: new.connections.clone(),
        }
    }
}

impl Rates {
    fn of(old: Option<&Counts>, new: &Counts, elapsed: Duration) -> Rates {
        let none = Counts::default();
        let old = old.unwrap_or(&none);
        let rate = |old: u64, new: u64| per_second(grown(old, new), elapsed);
        let by = |old: &BTreeMap<String, u64>, new: &BTreeMap<String, u64>| {
            let of = |(name, count): (&String, &u64)| {
                (name.clone(), rate(old.get(name).copied().unwrap_or(0), *count))
            };
            new.iter().map(of).collect()
        };
        Rates {
            accepted: rate(old.accepted, new.accepted),
            closed: rate(old.closed, new.closed),
            rejected: rate(old.rejected, new.rejected),
            messages_in: rate(old.messages_in, new.messages_in),
            messages_out: rate(old.messages_out, new.messages_out),
            dropped: rate(old.dropped, new.dropped),
            bytes_in: rate(old.bytes_in, new.bytes_in),
            bytes_out: rate(old.bytes_out, new.bytes_out),
            transform_errors: rate(old.transform_errors, new.transform_errors),
            closed_by: by(&old.closed_by, &new.closed_by),
            dropped_by: by(&old.dropped_by, &new.dropped_by),
            rejected_by: by(&old.rejected_by, &new.rejected_by),
        }
    }

    fn add(&mut self, other: &Rates) {
        self.accepted += other.accepted;
        self.closed += other.closed;
        self.rejected += other.rejected;
        self.messages_in += other.messages_in;
        self.messages_out += other.messages_out;
        self.dropped += other.dropped;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.transform_errors += other.transform_errors;
        for (to, from) in [
            (&mut self.closed_by, &other.closed_by),
            (&mut self.dropped_by, &other.dropped_by),
            (&mut self.rejected_by, &other.rejected_by),
        ] {
            for (name, rate) in from {
                *to.entry(name.clone()).or_default() += rate;
            }
        }
    }
}

/// A counter that is lower than before has begun anew.
fn grown(old: u64, new: u64) -> u64 {
    new.checked_sub(old).unwrap_or(new)
}

fn per_second(count: u64, elapsed: Duration) -> f64 {
    if elapsed.is_zero() { 0.0 } else { count as f64 / elapsed.as_secs_f64() }
}

/// The transforms of a chain in their order; none for the plain echo.
fn stages(chain: &str, old: &[Times], new: &[Times]) -> Vec<Stage> {
    let Ok(spec) = ChainSpec::parse(chain) else { return Vec::new() };
    let stage = |target: &Target| {
        let (shown, id) = names(target);
        Stage::of(&shown, old, new.iter().find(|times| times.transform == id))
    };
    spec.stages.iter().map(|stage_of| stage(&stage_of.target)).collect()
}

/// What a stage is called, and under which name its times are kept: a plugin file `libNAME.so` that does not say which of its
/// transforms is meant has one that is called NAME, as a rule.
fn names(target: &Target) -> (String, String) {
    match target {
        Target::Name(name) => (name.clone(), name.clone()),
        Target::File { path, id } => {
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            match id {
                Some(id) => (format!("{file}#{id}"), id.clone()),
                None => {
                    let stem = file.strip_suffix(".so").unwrap_or(&file);
                    let id = stem.strip_prefix("lib").unwrap_or(stem).to_owned();
                    (file, id)
                }
            }
        }
    }
}

impl Stage {
    fn of(shown: &str, old: &[Times], new: Option<&Times>) -> Stage {
        let calls = new.map_or(Vec::new(), |new| {
            let before = old.iter().find(|old| old.transform == new.transform);
            let before = |place: usize| before.and_then(|old| old.calls.get(place)).copied().unwrap_or(0);
            new.calls.iter().enumerate().map(|(place, calls)| grown(before(place), *calls)).collect()
        });
        let bounds = new.map_or(&[][..], |new| &new.bounds_ns);
        Stage {
            transform: shown.to_owned(),
            timed_calls: calls.iter().sum(),
            p50_ns: percentile(&calls, bounds, 50),
            p99_ns: percentile(&calls, bounds, 99),
        }
    }
}

/// The bound that so many of a hundred calls kept.
fn percentile(calls: &[u64], bounds: &[u64], percent: u64) -> Option<u64> {
    let total: u64 = calls.iter().sum();
    let wanted = total.saturating_mul(percent).div_ceil(100);
    let mut seen = 0;
    let place = calls.iter().position(|calls| {
        seen += calls;
        seen >= wanted && total > 0
    });
    bounds.get(place?).copied()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::control::report::Stats;

    fn sample(pid: u32, uptime_ms: u64, messages: u64, at: Instant) -> Sample {
        let closed_by = BTreeMap::from([("peer_closed".to_owned(), messages / 10)]);
        let counts =
            Counts { messages_in: messages, bytes_in: messages * 64, closed_by, ..Counts::default() };
        let listener = |id, url: &str| ListenerCounts {
            id,
            name: None,
            url: url.to_owned(),
            chain: "uppercase | ./libmine.so".to_owned(),
            counts: counts.clone(),
        };
        let worker = Worker {
            worker: 0,
            last_turn_ms: 1,
            busy_ms: None,
            transform: None,
            busy_seconds: Some(messages as f64 / 1024.0),
            waiting_seconds: None,
        };
        let stats = Stats {
            version: "1".to_owned(),
            pid,
            uptime_ms,
            state: "serving".to_owned(),
            carried_over: false,
            // Those of closed listeners are in them.
            totals: Counts { messages_in: 1_000_000, ..Counts::default() },
            listeners: vec![listener(1, "tcp://a:1"), listener(2, "tcp://a:2")],
            transforms: BTreeMap::new(),
            transforms_stuck: 0,
            transform_times: Vec::new(),
            workers: vec![worker],
        };
        Sample { at, stats, connections: Vec::new() }
    }

    fn rates(old: &Sample, new: &Sample) -> (f64, f64, f64) {
        let figures = Figures::of(old, new, &[]);
        let one = &figures.listeners[0].counted.per_second;
        (one.messages_in, one.closed_by["peer_closed"], figures.totals.per_second.messages_in)
    }

    #[test]
    fn rates_are_growth_in_a_second() {
        let at = Instant::now();
        let (old, later) = (sample(7, 1000, 100, at), at + Duration::from_millis(500));
        assert_eq!(rates(&old, &sample(7, 1500, 150, later)), (100.0, 10.0, 200.0));
        assert_eq!(rates(&old, &sample(7, 1500, 100, later)), (0.0, 0.0, 0.0));
        // At the same moment nothing grows.
        assert_eq!(rates(&old, &sample(7, 1000, 150, at)), (0.0, 0.0, 0.0));
        let figures = Figures::of(&old, &sample(7, 1500, 356, later), &[]);
        assert_eq!((figures.workers[0].busy_share, figures.workers[0].waiting_share), (Some(0.5), None));
    }

    #[test]
    fn counters_of_another_process_have_begun_anew() {
        let at = Instant::now();
        let (old, later) = (sample(7, 60_000, 100, at), at + Duration::from_secs(1));
        // Fewer, as many and more than the old process had.
        for messages in [50, 100, 150] {
            let new = sample(8, 400, messages, later);
            assert_eq!(rates(&old, &new), (messages as f64, (messages / 10) as f64, 2.0 * messages as f64));
            assert_eq!(Figures::of(&old, &new, &[]).workers[0].busy_share, None);
        }
        // One that has taken over what the old one had counted.
        let mut new = sample(8, 400, 150, later);
        new.stats.carried_over = true;
        assert_eq!(rates(&old, &new), (50.0, 5.0, 100.0));
        assert_eq!(Figures::of(&old, &new, &[]).workers[0].busy_share, None);
        // In a container, under the same number.
        assert_eq!(rates(&old, &sample(7, 400, 150, later)).0, 150.0);
        // A counter that was set back.
        assert_eq!(rates(&old, &sample(7, 61_000, 20, later)).0, 20.0);
    }

    #[test]
    fn a_listener_that_is_new_has_counted_since_then() {
        let at = Instant::now();
        let mut old = sample(7, 1000, 100, at);
        old.stats.listeners.remove(0);
        let new = sample(7, 2000, 150, at + Duration::from_secs(1));
        assert_eq!(rates(&old, &new), (150.0, 15.0, 200.0));
    }

    fn times(transform: &str, calls: [u64; 4]) -> Times {
        Times {
            transform: transform.to_owned(),
            sum_ns: 0,
            bounds_ns: vec![10, 20, 50],
            calls: calls.to_vec(),
        }
    }

    #[test]
    fn percentiles_are_of_the_calls_in_between() {
        let table = [
            ([0, 0, 0, 0], None, None),
            ([1, 0, 0, 0], Some(10), Some(10)),
            ([50, 50, 0, 0], Some(10), Some(20)),
            ([49, 50, 1, 0], Some(20), Some(20)),
            ([49, 49, 2, 0], Some(20), Some(50)),
            // Longer than all bounds.
            ([98, 0, 0, 2], Some(10), None),
        ];
        for (calls, p50, p99) in table {
            let found = Stage::of("x", &[], Some(&times("x", calls)));
            assert_eq!((found.p50_ns, found.p99_ns), (p50, p99), "{calls:?}");
        }
        let old = [times("y", [7, 7, 7, 7]), times("x", [100, 0, 0, 0])];
        let found = Stage::of("x", &old, Some(&times("x", [100, 3, 0, 0])));
        assert_eq!((found.timed_calls, found.p50_ns), (3, Some(20)));
    }

    #[test]
    fn stages_find_their_times() {
        let new =
            [times("uppercase", [1, 0, 0, 0]), times("mine", [0, 1, 0, 0]), times("second", [0, 0, 1, 0])];
        let found = stages("uppercase:unicode=1 | ./libmine.so:key=v | ./a.so#second | hex", &[], &new);
        let found: Vec<_> = found.iter().map(|stage| (stage.transform.as_str(), stage.p50_ns)).collect();
        let wanted =
            [("uppercase", Some(10)), ("libmine.so", Some(20)), ("a.so#second", Some(50)), ("hex", None)];
        assert_eq!(found, wanted);
        assert_eq!(stages("", &[], &new), []);
    }
}

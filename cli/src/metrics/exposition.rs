//! The metrics: which there are, what they mean, and where their figures come from. The counters are the engine's own; they
//! are read when somebody asks, so that nothing is counted twice.
//!
//! ```text
//! engine, /proc ── collect ──> Snapshot ── one family after the other ──> prometheus-client ──> text
//! ```
//!
//! No label has an address of a peer, or options of a transform: there would be no end to them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, MetricEncoder, NoLabelSet,
    prometheus_text, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use resay::transform::spec::{ChainSpec, Target};
use resay::{
    CloseReason, DropReason, ListenerInfo, Peer, RejectReason, SocketKind, Stats, TransformTime, TurnTimes,
};

use super::process::{Figures, KernelDrops, WorkerTime};
use super::source::Source;
use crate::health::Health;

/// What the listener of connections and messages is called whose listener is closed.
const CLOSED: &str = "(closed)";

/// All metrics of a service.
#[derive(Debug)]
pub(super) struct Exposition {
    registry: Registry,
}

impl Exposition {
    pub(super) fn new(source: &Arc<Source>) -> Exposition {
        let mut registry = Registry::default();
        registry.sub_registry_with_prefix("resay").register_collector(Box::new(Service(Arc::clone(source))));
        registry
            .sub_registry_with_prefix("process")
            .register_collector(Box::new(OwnProcess(Arc::clone(source))));
        Exposition { registry }
    }

    /// All of them, now, and the format's name.
    pub(super) fn text(&self, as_open_metrics: bool) -> Result<(String, &'static str), fmt::Error> {
        let mut body = String::new();
        if as_open_metrics {
            text::encode(&mut body, &self.registry)?;
            Ok((body, "application/openmetrics-text; version=1.0.0; charset=utf-8"))
        } else {
            prometheus_text::encode(&mut body, &self.registry)?;
            Ok((body, prometheus_text::CONTENT_TYPE))
        }
    }
}

/// A listener, and what it has done.
struct Row {
    name: String,
    address: String,
    chain: String,
    stats: Stats,
    kernel_dropped: Option<u64>,
}

impl Row {
    fn labels(&self) -> [(&'static str, &str); 2] {
        [("listener", &self.name), ("address", &self.address)]
    }
}

type Count = fn(&Stats) -> u64;

/// What is counted of each listener: its name, its meaning, where it stands.
const COUNTERS: [(&str, &str, Count); 9] = [
    ("connections_accepted", "Connections that were served", |stats| stats.accepted),
    ("accept_errors", "Failures of accept(2)", |stats| stats.accept_errors),
    ("messages_received", "Messages received; on a raw stream each read is one", |stats| stats.messages_in),
    (
        "messages_sent",
        "Messages whose answers the kernel took, or that need none; messages_received is this, and those that were \
         dropped, and those that wait",
        |stats| stats.messages_out,
    ),
    ("received_bytes", "Bytes received", |stats| stats.bytes_in),
    ("sent_bytes", "Bytes of answers that the kernel took", |stats| stats.bytes_out),
    ("undelivered_bytes", "Bytes of answers that waited when their connection ended", |stats| {
        stats.undelivered_bytes
    }),
    ("dropped_bytes", "Bytes received on connections that were given no answer", |stats| stats.dropped_bytes),
    ("transform_errors", "Messages or conversations at which a transform failed", |stats| {
        stats.transform_errors
    }),
];

/// The service's own metrics, `resay_…`.
#[derive(Debug)]
struct Service(Arc<Source>);

impl Collector for Service {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let source = &*self.0;
        let mut families = Families(&mut encoder);
        families.one("build_info", "The version, as a label", MetricType::Gauge, |metric| {
            gauge(metric, &[("version", resay::VERSION)], &1_u64)
        })?;
        families.one(
            "start_time_seconds",
            "When the service began, in seconds since 1970",
            MetricType::Gauge,
            |metric| metric.encode_gauge(&source.start_seconds),
        )?;
        families.one("workers", "Threads that share the connections", MetricType::Gauge, |metric| {
            metric.encode_gauge(&(source.workers as u64))
        })?;
        let health = source.readiness.get();
        families.one("ready", "1: new work is welcome, as /readyz says", MetricType::Gauge, |metric| {
            metric.encode_gauge(&u64::from(health.is_ready()))
        })?;
        families.one("health", "1 for the state that holds", MetricType::Gauge, |metric| {
            Health::ALL
                .into_iter()
                .try_for_each(|state| gauge(metric, &[("state", state.name())], &u64::from(state == health)))
        })?;
        families.one(
            "poisoned",
            "1: a fault of Resay itself has ended a worker",
            MetricType::Gauge,
            |metric| metric.encode_gauge(&u64::from(source.engine.is_poisoned())),
        )?;
        let rows = source.rows();
        families.one(
            "listener_info",
            "The transforms of a listener's chain, as a label",
            MetricType::Gauge,
            |metric| {
                rows.iter().filter(|row| row.name != CLOSED).try_for_each(|row| {
                    let [listener, address] = row.labels();
                    gauge(metric, &[listener, address, ("chain", &row.chain)], &1_u64)
                })
            },
        )?;
        families.one("connections_open", "Connections open now", MetricType::Gauge, |metric| {
            rows.iter().try_for_each(|row| gauge(metric, &row.labels(), &row.stats.open))
        })?;
        for (name, help, of) in COUNTERS {
            families.one(name, help, MetricType::Counter, |metric| {
                rows.iter().try_for_each(|row| counter(metric, &row.labels(), &of(&row.stats)))
            })?;
        }
        families.one(
            "connections_closed",
            "Connections that are over, by reason",
            MetricType::Counter,
            |metric| reasons(metric, &rows, &CloseReason::ALL, CloseReason::name, Stats::closed_by),
        )?;
        families.one(
            "connections_rejected",
            "Connections turned away before anything was read, by reason",
            MetricType::Counter,
            |metric| reasons(metric, &rows, &RejectReason::ALL, RejectReason::name, Stats::rejected_by),
        )?;
        families.one(
            "messages_dropped",
            "Messages without an answer, by reason",
            MetricType::Counter,
            |metric| reasons(metric, &rows, &DropReason::ALL, DropReason::name, Stats::dropped_by),
        )?;
        let help = "Datagrams that the kernel dropped before Resay could read them: the socket's buffer was full (rcvbuf)";
        families.one("kernel_dropped", help, MetricType::Counter, |metric| {
            let udp = rows.iter().filter_map(|row| Some((row, row.kernel_dropped?)));
            udp.into_iter().try_for_each(|(row, drops)| counter(metric, &row.labels(), &drops))
        })?;
        let counters = source.engine.transform_counters();
        families.one(
            "transform_counter",
            "What transforms count themselves",
            MetricType::Counter,
            |metric| {
                counters.iter().try_for_each(|(name, count)| {
                    let (transform, name) = name.split_once('.').unwrap_or((name, ""));
                    counter(metric, &[("transform", transform), ("counter", name)], count)
                })
            },
        )?;
        let times = source.engine.transform_times();
        let help = "Time in a transform, in seconds, of one call in 64 turns of a worker";
        families.one("transform_duration_seconds", help, MetricType::Histogram, |metric| {
            times.iter().try_for_each(|time| {
                let bounds = TransformTime::BOUNDS_NS.map(Duration::from_nanos);
                histogram(metric, &[("transform", time.id)], &bounds, &time.calls, time.sum)
            })
        })?;
        let help = "Time of a worker's turn, from the end of its wait to the next one, in seconds, of one turn in 64";
        families.one("worker_turn_seconds", help, MetricType::Histogram, |metric| {
            source.engine.workers().iter().enumerate().try_for_each(|(worker, info)| {
                let bounds = TurnTimes::BOUNDS_US.map(Duration::from_micros);
                let TurnTimes { turns, sum, .. } = &info.turn_times;
                histogram(metric, &[("worker", worker.to_string())], &bounds, turns, *sum)
            })
        })?;
        let threads = self.0.worker_times();
        let help = "Processor time of a worker, in seconds, busy polling (spin) included";
        families.one("worker_busy_seconds", help, MetricType::Counter, |metric| {
            threads.iter().try_for_each(|thread| {
                counter(metric, &[("worker", thread.worker.to_string())], &thread.busy_seconds)
            })
        })?;
        let help = "Time in which a worker had work and no processor, in seconds";
        families.one("worker_waiting_seconds", help, MetricType::Counter, |metric| {
            threads.iter().try_for_each(|thread| {
                counter(metric, &[("worker", thread.worker.to_string())], &thread.waiting_seconds)
            })
        })?;
        let reloads = source.reloader.as_ref().map(|reloader| reloader.counts());
        families.one("reloads", "Reloads of the configuration file", MetricType::Counter, |metric| {
            let results = reloads.map(|(good, failed)| [("ok", good), ("failed", failed)]);
            results
                .iter()
                .flatten()
                .try_for_each(|(result, count)| counter(metric, &[("result", *result)], count))
        })?;
        families.one(
            "events_lost",
            "Events that found the queue of a watcher full",
            MetricType::Counter,
            |metric| count(metric, &source.engine.events_lost()),
        )?;
        families.one(
            "log_lines_lost",
            "Lines of the log that standard error did not take",
            MetricType::Counter,
            |metric| count(metric, &source.log.lost()),
        )
    }
}

/// What every process has, `process_…`.
#[derive(Debug)]
struct OwnProcess(Arc<Source>);

impl Collector for OwnProcess {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let figures = Figures::read();
        let mut families = Families(&mut encoder);
        families.one(
            "cpu_seconds",
            "Processor time, user and system, in seconds",
            MetricType::Counter,
            |metric| figures.cpu_seconds.map_or(Ok(()), |seconds| count(metric, &seconds)),
        )?;
        families.one(
            "start_time_seconds",
            "When the process began, in seconds since 1970",
            MetricType::Gauge,
            |metric| metric.encode_gauge(&self.0.start_seconds),
        )?;
        families.one("max_fds", "Descriptors that may be open", MetricType::Gauge, |metric| {
            figures.descriptors_max.map_or(Ok(()), |most| metric.encode_gauge(&most))
        })?;
        for (name, help, value) in [
            ("open_fds", "Descriptors that are open", figures.open_descriptors),
            ("resident_memory_bytes", "Resident memory, in bytes", figures.resident_bytes),
            ("virtual_memory_bytes", "Virtual memory, in bytes", figures.virtual_bytes),
            ("threads", "Threads of the process", figures.threads),
        ] {
            families.one(name, help, MetricType::Gauge, |metric| {
                value.map_or(Ok(()), |value| metric.encode_gauge(&value))
            })?;
        }
        Ok(())
    }
}

impl Source {
    fn worker_times(&self) -> Vec<WorkerTime> {
        WorkerTime::of_all(&self.engine.thread_name(), self.workers)
    }

    /// The listeners, and one more for what outlives them.
    fn rows(&self) -> Vec<Row> {
        let names = self.reloader.as_ref().map(|reloader| reloader.names()).unwrap_or_default();
        let infos = self.engine.listeners();
        let has_udp = infos.iter().any(|info| info.kind == SocketKind::Udp);
        let drops = if has_udp { KernelDrops::read() } else { KernelDrops::default() };
        let mut rows = Vec::with_capacity(infos.len() + 1);
        for info in infos {
            // One that was closed in between is among the closed ones.
            let Ok(stats) = self.engine.listener_stats(info.id) else { continue };
            rows.push(Row::of(info, stats, &names, &drops));
        }
        rows.push(Row {
            name: CLOSED.to_owned(),
            address: String::new(),
            chain: String::new(),
            // After the others: no connection is missing in both.
            stats: self.engine.closed_stats(),
            kernel_dropped: None,
        });
        rows
    }
}

impl Row {
    fn of(info: ListenerInfo, stats: Stats, names: &BTreeMap<u64, String>, drops: &KernelDrops) -> Row {
        let kernel_dropped = match (info.kind, &info.local) {
            (SocketKind::Udp, Some(Peer::Ip(address))) => drops.of(*address),
            _ => None,
        };
        let name = names.get(&info.id.number()).cloned().unwrap_or_else(|| info.url.clone());
        Row { name, chain: chain_names(&info.chain), address: info.url, stats, kernel_dropped }
    }
}

/// A chain without the options of its transforms, which may be secret and have no end.
fn chain_names(chain: &str) -> String {
    let Ok(spec) = ChainSpec::parse(chain) else { return String::new() };
    let names = spec.stages.iter().map(|stage| match &stage.target {
        Target::Name(name) => name.clone(),
        Target::File { path, id } => {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            id.as_ref().map_or_else(|| file.clone().into_owned(), |id| format!("{file}#{id}"))
        }
    });
    let names: Vec<_> = names.collect();
    if names.is_empty() { "identity".to_owned() } else { names.join(" | ") }
}

/// Where families are written, each once.
struct Families<'a, 'b>(&'a mut DescriptorEncoder<'b>);

impl Families<'_, '_> {
    fn one(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        write: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result,
    ) -> fmt::Result {
        write(&mut self.0.encode_descriptor(name, help, None, kind)?)
    }
}

fn reasons<T: Copy>(
    metric: &mut MetricEncoder<'_>,
    rows: &[Row],
    all: &[T],
    name: fn(T) -> &'static str,
    of: fn(&Stats, T) -> u64,
) -> fmt::Result {
    for row in rows {
        let [listener, address] = row.labels();
        for reason in all {
            counter(metric, &[listener, address, ("reason", name(*reason))], &of(&row.stats, *reason))?;
        }
    }
    Ok(())
}

/// `counts` has one more than there are `bounds`: of what is above all of them.
fn histogram(
    metric: &mut MetricEncoder<'_>,
    labels: &impl EncodeLabelSet,
    bounds: &[Duration],
    counts: &[u64],
    sum: Duration,
) -> fmt::Result {
    let bounds = bounds.iter().map(Duration::as_secs_f64).chain([f64::INFINITY]);
    let buckets: Vec<_> = bounds.zip(counts.iter().copied()).collect();
    let count = counts.iter().sum();
    let mut metric = metric.encode_family(labels)?;
    metric.encode_histogram::<NoLabelSet>(sum.as_secs_f64(), count, &buckets, None)
}

fn counter(
    metric: &mut MetricEncoder<'_>,
    labels: &impl EncodeLabelSet,
    value: &impl EncodeCounterValue,
) -> fmt::Result {
    count(&mut metric.encode_family(labels)?, value)
}

fn count(metric: &mut MetricEncoder<'_>, value: &impl EncodeCounterValue) -> fmt::Result {
    metric.encode_counter::<NoLabelSet, _, f64>(value, None)
}

fn gauge(
    metric: &mut MetricEncoder<'_>,
    labels: &impl EncodeLabelSet,
    value: &impl EncodeGaugeValue,
) -> fmt::Result {
    metric.encode_family(labels)?.encode_gauge(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_told_without_its_options() {
        for (chain, wanted) in [
            ("", "identity"),
            ("uppercase | prefix:text='secret'", "uppercase | prefix"),
            ("/opt/lib/libmine.so:key=secret | ./libmine.so#second", "libmine.so | libmine.so#second"),
        ] {
            assert_eq!(chain_names(chain), wanted);
        }
    }
}

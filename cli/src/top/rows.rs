//! The rows of each part of the view, as text: on the screen, and with `--once`. What servers and peers have named is printable
//! here.

use std::collections::BTreeMap;

use super::figures::{Counted, Figures, ListenerFigures, Stage, WorkerFigures};
use super::units::{self, percentile, share, short};
use crate::control::report::{Connection, State};
use crate::ctl::text::{chain_text, duration_text, printable};

pub(super) const LISTENERS: [&str; 9] =
    ["LISTENER", "CHAIN", "IN/S", "OUT/S", "IN B/S", "OUT B/S", "OPEN", "DROPS/S", "CLOSES/S"];
pub(super) const STAGES: [&str; 4] = ["TRANSFORM", "P50", "P99", "TIMED"];
pub(super) const REASONS: [&str; 3] = ["REASON", "COUNT", "PER S"];
pub(super) const WORKERS: [&str; 5] = ["WORKER", "BUSY", "WAITS", "TURN", "DOES"];
pub(super) const CONNECTIONS: [&str; 7] = ["ID", "PEER", "LISTENER", "WORKER", "WAITING", "IDLE", "STATE"];

/// What stands for a rate after one sample.
const UNKNOWN: &str = "…";

/// All of them together, and each one.
pub(super) fn listeners(figures: &Figures, has_rates: bool) -> Vec<[String; 9]> {
    let row = |label: String, chain: String, counted: &Counted| {
        let rates = &counted.per_second;
        let rate = |rate: f64| if has_rates { short(rate) } else { UNKNOWN.to_owned() };
        [
            label,
            chain,
            rate(rates.messages_in),
            rate(rates.messages_out),
            rate(rates.bytes_in),
            rate(rates.bytes_out),
            units::count(counted.counts.open),
            rate(rates.dropped),
            rate(rates.closed),
        ]
    };
    let all = row("all".to_owned(), String::new(), &figures.totals);
    let each = figures.listeners.iter();
    let each = each.map(|listener| row(label(listener), chain_text(&listener.chain), &listener.counted));
    [all].into_iter().chain(each).collect()
}

fn label(listener: &ListenerFigures) -> String {
    match &listener.name {
        Some(name) => format!("{} {}", printable(name), printable(&listener.url)),
        None => printable(&listener.url),
    }
}

pub(super) fn stages(stages: &[Stage]) -> Vec<[String; 4]> {
    let row = |stage: &Stage| {
        [
            printable(&stage.transform),
            percentile(stage.p50_ns, stage.timed_calls),
            percentile(stage.p99_ns, stage.timed_calls),
            stage.timed_calls.to_string(),
        ]
    };
    stages.iter().map(row).collect()
}

/// Reasons that have come up, under their names in metrics and JSON: those that come up most now first.
pub(super) fn reasons(counted: &Counted, has_rates: bool) -> Vec<[String; 3]> {
    let Counted { counts, per_second } = counted;
    let of = |what: &'static str, counts: &BTreeMap<String, u64>, rates: &BTreeMap<String, f64>| {
        let found = counts.iter().filter(|(_, count)| **count > 0);
        let found = found.map(|(name, count)| (what, name.clone(), *count, rates.get(name).copied()));
        found.collect::<Vec<_>>()
    };
    let mut all = of("dropped", &counts.dropped_by, &per_second.dropped_by);
    all.extend(of("closed", &counts.closed_by, &per_second.closed_by));
    all.extend(of("rejected", &counts.rejected_by, &per_second.rejected_by));
    all.sort_by(|(_, _, a_count, a_rate), (_, _, b_count, b_rate)| {
        let (a_rate, b_rate) = (a_rate.unwrap_or(0.0), b_rate.unwrap_or(0.0));
        b_rate.total_cmp(&a_rate).then(b_count.cmp(a_count))
    });
    let row = |(what, name, count, rate): (&str, String, u64, Option<f64>)| {
        let rate = rate.filter(|_| has_rates).map_or(UNKNOWN.to_owned(), short);
        [format!("{what} {}", printable(&name)), units::count(count), rate]
    };
    all.into_iter().map(row).collect()
}

pub(super) fn workers(workers: &[WorkerFigures]) -> Vec<[String; 5]> {
    let row = |figures: &WorkerFigures| {
        let worker = &figures.worker;
        let does = match (&worker.transform, worker.busy_ms) {
            (Some(transform), _) => printable(transform),
            (None, Some(_)) => "turn".to_owned(),
            (None, None) => "waits".to_owned(),
        };
        [
            worker.worker.to_string(),
            share(figures.busy_share),
            share(figures.waiting_share),
            duration_text(worker.last_turn_ms),
            does,
        ]
    };
    workers.iter().map(row).collect()
}

pub(super) fn connections(connections: &[Connection]) -> Vec<[String; 7]> {
    let row = |connection: &Connection| {
        let via = connection.via.as_ref().map_or_else(String::new, |via| format!(" via {}", printable(via)));
        let state = match connection.state {
            State::Open => "open",
            State::Ending => "ending",
        };
        [
            connection.id.to_string(),
            printable(&connection.peer) + &via,
            printable(&connection.listener),
            connection.worker.to_string(),
            connection.waiting_bytes.to_string(),
            duration_text(connection.idle_ms),
            state.to_owned(),
        ]
    };
    connections.iter().map(row).collect()
}

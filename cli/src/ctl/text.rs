//! Answers of a control socket as text, for people.

use std::fmt::Write as _;
use std::time::Duration;

use resay::{CloseReason, DropReason, RejectReason};

use crate::control::report::{Connection, Counts, Ended, Listener, State, Stats};
use crate::log::escape_into;

pub(crate) fn chain_text(chain: &str) -> String {
    printable(if chain.is_empty() { "identity" } else { chain })
}

/// Peers choose their names; a terminal is not to obey them.
pub(crate) fn printable(text: &str) -> String {
    let mut escaped = String::new();
    escape_into(&mut escaped, text);
    escaped
}

pub(crate) fn ended_text(ended: &Ended) -> String {
    printable(&ended.ended) + "\n"
}

pub(crate) fn listeners_text(listeners: &[Listener]) -> String {
    let row = |listener: &Listener| {
        [listener.id.to_string(), printable(&listener.url), chain_text(&listener.chain)]
    };
    if listeners.iter().all(|listener| listener.name.is_none()) {
        return table(["ID", "LISTENER", "CHAIN"], listeners.iter().map(row));
    }
    let named = |listener: &Listener| {
        let [id, url, chain] = row(listener);
        [id, printable(listener.name.as_deref().unwrap_or("-")), url, chain]
    };
    table(["ID", "NAME", "LISTENER", "CHAIN"], listeners.iter().map(named))
}

pub(crate) fn connections_text(connections: &[Connection]) -> String {
    let row = |connection: &Connection| {
        let state = match connection.state {
            State::Open => "open",
            State::Ending => "ending",
        };
        let mut peer = printable(&connection.peer);
        if let Some(via) = &connection.via {
            peer += &format!(" via {}", printable(via));
        }
        [
            connection.id.to_string(),
            printable(&connection.listener),
            peer,
            connection.worker.to_string(),
            duration_text(connection.idle_ms),
            connection.waiting_bytes.to_string(),
            state.to_owned(),
        ]
    };
    if connections.iter().all(|connection| connection.facts.is_empty()) {
        let head = ["ID", "LISTENER", "PEER", "WORKER", "IDLE", "WAITING", "STATE"];
        return table(head, connections.iter().map(row));
    }
    let with_facts = |connection: &Connection| {
        let [id, listener, peer, worker, idle, waiting, state] = row(connection);
        let facts = connection.facts.iter().map(|(key, value)| format!("{key}={}", printable(value)));
        [id, listener, peer, worker, idle, waiting, state, facts.collect::<Vec<_>>().join(" ")]
    };
    let head = ["ID", "LISTENER", "PEER", "WORKER", "IDLE", "WAITING", "STATE", "FACTS"];
    table(head, connections.iter().map(with_facts))
}

/// Columns as wide as their widest cell.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let rows: Vec<[String; N]> = [head.map(str::to_owned)].into_iter().chain(rows).collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text += cells.join("  ").trim_end();
        text += "\n";
    }
    text
}

/// Milliseconds below a second, seconds above.
pub(crate) fn duration_text(ms: u64) -> String {
    let shown = if ms < 1000 { ms } else { ms - ms % 1000 };
    humantime::format_duration(Duration::from_millis(shown)).to_string()
}

pub(crate) fn stats_text(stats: &Stats) -> String {
    let mut text = format!(
        "resay {}, process {}, up {}{}{}\n\nall listeners\n",
        printable(&stats.version),
        stats.pid,
        duration_text(stats.uptime_ms),
        if stats.state.is_empty() { "" } else { ", " },
        printable(&stats.state.replace('_', " ")),
    );
    counts_into(&mut text, &stats.totals);
    for listener in &stats.listeners {
        let (url, chain) = (printable(&listener.url), chain_text(&listener.chain));
        // Writing to a String does not fail.
        let _ = writeln!(text, "\nlistener {}: {url}\n  chain        {chain}", listener.id);
        counts_into(&mut text, &listener.counts);
    }
    if !stats.transforms.is_empty() {
        text += "\ntransforms\n";
    }
    for (name, count) in &stats.transforms {
        let _ = writeln!(text, "  {}: {count}", printable(name));
    }
    if stats.transforms_stuck > 0 {
        let _ = writeln!(text, "\ntransforms that did not return in time: {}", stats.transforms_stuck);
    }
    text
}

fn counts_into(text: &mut String, counts: &Counts) {
    // Writing to a String does not fail.
    let _ = writeln!(
        text,
        "  connections  open {}, accepted {}, closed {}, rejected {}, accept errors {}\n  \
         messages     in {}, out {}, dropped {}, transform errors {}\n  \
         bytes        in {}, out {}, undelivered {}",
        counts.open,
        counts.accepted,
        counts.closed,
        counts.rejected,
        counts.accept_errors,
        counts.messages_in,
        counts.messages_out,
        counts.dropped,
        counts.transform_errors,
        counts.bytes_in,
        counts.bytes_out,
        counts.undelivered_bytes,
    );
    for (what, reasons) in
        [("closed", &counts.closed_by), ("dropped", &counts.dropped_by), ("rejected", &counts.rejected_by)]
    {
        for (name, count) in reasons.iter().filter(|(_, count)| **count > 0) {
            let _ = writeln!(text, "  {what:11}  {count}: {}", printable(&reason_text(what, name)));
        }
    }
}

/// A reason in words. A server of another version may have reasons that are unknown here.
pub(crate) fn reason_text(what: &str, name: &str) -> String {
    let closed =
        CloseReason::ALL.into_iter().find(|reason| reason.name() == name).map(|reason| reason.to_string());
    let dropped =
        DropReason::ALL.into_iter().find(|reason| reason.name() == name).map(|reason| reason.to_string());
    let rejected =
        RejectReason::ALL.into_iter().find(|reason| reason.name() == name).map(|reason| reason.to_string());
    let found = match what {
        "closed" => closed,
        "dropped" => dropped,
        _ => rejected,
    };
    found.unwrap_or_else(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        for (ms, text) in [(0, "0s"), (999, "999ms"), (1999, "1s"), (61_000, "1m 1s")] {
            assert_eq!(duration_text(ms), text);
        }
    }
}

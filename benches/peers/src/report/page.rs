//! `performance.md`.

use std::fmt::Write as _;

use super::figures::{Figure, Ratio};
use super::machine;
use super::plots::{digits, size};
use crate::peer::{Family, Peer};
use crate::results::{Cell, Pass, Results};
use crate::workload::{Kind, Shape, Workload};

/// What stands between these is kept.
const BY_HAND_BEGIN: &str = "<!-- by hand: what stands from here is kept -->";
const BY_HAND_END: &str = "<!-- by hand: to here -->";

/// What an older page has that was written by hand.
pub(super) fn by_hand(page: &str) -> &str {
    let Some((_, rest)) = page.split_once(BY_HAND_BEGIN) else { return "" };
    rest.split_once(BY_HAND_END).map_or("", |(text, _)| text.trim())
}

/// The whole page. `pictures`: those that were drawn.
pub(super) fn page(results: &Results, pictures: &[&str], by_hand: &str) -> String {
    let picture = |name: &str, what: &str| {
        if pictures.contains(&name) { format!("![{what}](plots/{name})\n\n") } else { String::new() }
    };
    let mut text = String::from("# Performance\n\n");
    text.push_str(&head(results));
    text.push_str("## At a glance\n\n");
    text.push_str(&glance(results));
    text.push_str(&picture(
        "cost-tcp.svg",
        "Processor time a message over TCP, all servers, one panel a workload",
    ));
    text.push_str(&picture("cost-unix.svg", "Processor time a message over unix streams"));
    text.push_str(&picture("cost-udp.svg", "Processor time a datagram over UDP"));
    text.push_str("## How long answers take\n\n");
    text.push_str(
        "Closed loop: a connection sends its next message when the last one is answered. Server and client have a core each, \
         so wake-ups cross cores and take most of a single round trip.\n\n",
    );
    text.push_str(&picture("times.svg", "Median and 99th percentile of the time to an answer"));
    text.push_str("## Memory\n\n");
    text.push_str(&memory(results));
    text.push_str(&picture("memory.svg", "Memory a connection, all servers"));
    text.push_str("## Where the time goes\n\n");
    match &results.flame {
        Ok(_) => text.push_str(&picture(
            "flame.svg",
            "Flame graph: stacks of resay's thread with 50 connections of 64 bytes; nearly all of it is the kernel's",
        )),
        Err(reason) => {
            let _ = writeln!(text, "There is no flame graph of this run: {reason}.\n");
        }
    }
    let _ = writeln!(text, "{BY_HAND_BEGIN}\n\n{by_hand}\n\n{BY_HAND_END}\n");
    text.push_str("## Every figure\n\n");
    text.push_str(
        "*CPU*: the server's processor time a message, with the load on the server's core, and its noise. *Alone*: messages a \
         second with both on that one core. *Messages/s*, *p50* and *p99*: with a core each.\n\n",
    );
    for workload in results.workloads() {
        text.push_str(&details(results, workload));
    }
    text.push_str(&peers(results));
    text
}

fn head(results: &Results) -> String {
    let (server_core, load_core) = results.cores;
    let noise = results.noise().map_or_else(|| "unknown".to_owned(), |noise| percent(noise.median));
    let mut command = "cargo xtask peers".to_owned();
    if !results.arguments.is_empty() {
        command = format!("{command} {}", results.arguments);
    }
    format!(
        "Resay in comparison with other echo servers, each written as its own community writes an echo server. All get the \
         same load in the same run; every answer is read and compared; the page shows wins and losses alike. `{command}` wrote \
         this page on {date}. It builds the servers, restarts each for every figure, and keeps the hand-written section.\n\n\
         | | |\n|---|---|\n\
         | machine | {machine} |\n\
         | rounds | {rounds} of {ms:.0} ms for each server and workload, in rotating order; figures are medians |\n\
         | noise | half the distance between the quartiles; {noise} of the median for half of all figures. \
         Load average at the end: {load}; the comparison itself causes 1 to 2 |\n\
         | placement | every server on one thread or process, pinned to core {server_core}; load on that core too for \
         processor time, on core {load_core} for times |\n\
         | processor time | of all threads and processes of the server, from the kernel's clocks |\n\n",
        date = machine::date(),
        machine = machine::machine(),
        rounds = results.rounds,
        ms = results.measured.as_secs_f64() * 1000.0,
        load = machine::load_average(),
    )
}

/// Resay beside the best of each family.
pub(super) fn glance(results: &Results) -> String {
    let mut text = String::from(
        "Server processor time a message, µs. *Ratio*: Resay with default settings, which use io_uring except for a few \
         streams, to the best of the others. Below 1 Resay is cheaper; a difference within ± is noise.\n\n\
         | workload | by hand, best | others, best | resay | with epoll alone | with io_uring alone | ratio to others | ratio to by hand |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for workload in results.workloads() {
        let best = |family| results.best(workload, family);
        let own = |name: &str| {
            let peer = Peer::ALL.iter().find(|peer| peer.name == name)?;
            results.cell(peer, workload, Pass::Cost)?.cost()
        };
        let (resay, epoll, uring) = (own("resay"), own("resay-epoll"), own("resay-uring"));
        let named = |best: Option<(&Peer, Figure)>| {
            best.map_or_else(
                || "–".to_owned(),
                |(peer, figure)| format!("{} ({peer})", digits(figure.median)),
            )
        };
        let plain =
            |figure: Option<Figure>| figure.map_or_else(|| "–".to_owned(), |figure| digits(figure.median));
        let ratio = |to: Option<(&Peer, Figure)>| match (resay, to) {
            (Some(figure), Some((_, to))) => {
                let ratio = Ratio::of(figure, to);
                let noise = if ratio.noise.is_nan() { "?".to_owned() } else { format!("{:.2}", ratio.noise) };
                format!("{:.2} ± {noise}", ratio.value)
            }
            _ => "–".to_owned(),
        };
        let (hand, others) = (best(Family::ByHand), best(Family::Community));
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {} {} | {} | {} | {} | {} | {} | {} | {} |",
            workload.kind,
            workload.title(),
            named(hand),
            named(others),
            plain(resay),
            plain(epoll),
            plain(uring),
            ratio(others),
            ratio(hand),
        );
    }
    text.push('\n');
    text
}

fn memory(results: &Results) -> String {
    let mut text = String::from(
        "The memory that one idle TCP connection adds to the server after it has echoed 64 bytes once: the proportional set \
         size of all processes with the connections, minus that without them, divided by their number. Kernel buffers come \
         on top, for all servers alike.\n\n\
         | server | a connection | processes a connection | connections |\n|---|---:|---:|---:|\n",
    );
    let mut rows: Vec<_> = results.memory.iter().collect();
    let bytes = |row: &(&Peer, Result<crate::load::Memory, String>)| {
        row.1.as_ref().map_or(f64::INFINITY, |memory| memory.bytes)
    };
    rows.sort_by(|a, b| bytes(a).total_cmp(&bytes(b)));
    for (peer, memory) in rows {
        let _ = match memory {
            Ok(memory) => writeln!(
                text,
                "| {} | {} | {:.0} | {} |",
                emphasised(peer),
                size(memory.bytes.max(0.0)),
                memory.processes,
                memory.connections
            ),
            Err(reason) => writeln!(text, "| {} | failed: {} | | |", emphasised(peer), cell_text(reason)),
        };
    }
    text.push('\n');
    text
}

fn details(results: &Results, workload: &'static Workload) -> String {
    let is_udp = workload.kind == Kind::Udp;
    let mut text = format!("<details><summary>{} {}</summary>\n\n", workload.kind, workload.title());
    if matches!(workload.shape, Shape::Connect { .. }) {
        text.push_str("A message is a connection here: connect, send, receive, close.\n\n");
    }
    text.push_str("| server | CPU, µs | noise | alone | messages/s | p50, µs | p99, µs |");
    text.push_str(if is_udp { " lost |\n" } else { "\n" });
    text.push_str("|---|---:|---:|---:|---:|---:|---:|");
    text.push_str(if is_udp { "---:|\n" } else { "\n" });
    let mut rows: Vec<(f64, &Peer, String)> = Vec::new();
    for (peer, _) in &results.present {
        if let Some(reason) = peer.refuses(workload) {
            if !reason.is_empty() {
                rows.push((f64::INFINITY, peer, format!("| not measured: {reason} |")));
            }
            continue;
        }
        let cost = results.cell(peer, workload, Pass::Cost);
        let time = results.cell(peer, workload, Pass::Time);
        if let Some(reason) = [cost, time].into_iter().flatten().find_map(|cell| cell.failure.as_ref()) {
            rows.push((f64::INFINITY, peer, format!("| failed: {} |", cell_text(reason))));
            continue;
        }
        let figure = |cell: Option<&Cell>, value| cell.and_then(|cell| cell.figure(value));
        let (Some(cpu), Some(alone)) =
            (figure(cost, |sample| sample.cpu_us), figure(cost, |sample| sample.messages_per_s))
        else {
            continue;
        };
        let mut row =
            format!("| {} | {} | {} |", digits(cpu.median), percent(cpu.noise), thousands(alone.median));
        match figure(time, |sample| sample.messages_per_s) {
            Some(rate) => {
                let us = |value| figure(time, value).map_or_else(String::new, |figure| digits(figure.median));
                let _ = write!(
                    row,
                    " {} | {} | {} |",
                    thousands(rate.median),
                    us(|sample| sample.p50_us),
                    us(|sample| sample.p99_us)
                );
            }
            None => row.push_str(" | | |"),
        }
        if is_udp {
            let lost = [cost, time].into_iter().filter_map(|cell| figure(cell, |sample| sample.lost));
            let _ = write!(row, " {} |", percent(lost.map(|lost| lost.median).fold(0.0, f64::max)));
        }
        rows.push((cpu.median, peer, row));
    }
    rows.sort_by(|(a, ..), (b, ..)| a.total_cmp(b));
    for (_, peer, row) in rows {
        let _ = writeln!(text, "| {} {row}", emphasised(peer));
    }
    text.push_str("\n</details>\n\n");
    text
}

fn peers(results: &Results) -> String {
    let mut text = String::from(
        "## The servers\n\nTheir sources are in [benches/peers/servers](../benches/peers/servers). UDP sockets have the \
         largest receive buffer that the system allows, where their language lets one say so.\n\n\
         | server | what it is | version |\n|---|---|---|\n",
    );
    for (peer, version) in &results.present {
        let _ = writeln!(text, "| {} | {} | {} |", emphasised(peer), peer.about, cell_text(version));
    }
    text.push('\n');
    for (peer, reason) in &results.left_out {
        let _ = writeln!(text, "- {peer} is left out: {reason}.");
    }
    if !results.left_out.is_empty() {
        text.push('\n');
    }
    text.push_str(
        "Commands: `cargo xtask peers` for all of this, `--quick` for fewer workloads in three minutes, `--only tcp-50` and \
         `--servers resay,tokio` for a part (which does not touch this page), `--rounds` and `--seconds` for less noise, \
         `--install` to let it install what Debian has.\n",
    );
    text
}

/// Resay's own in bold.
fn emphasised(peer: &Peer) -> String {
    if peer.family == Family::Resay { format!("**{peer}**") } else { peer.to_string() }
}

fn percent(part: f64) -> String {
    if part.is_nan() {
        return "?".to_owned();
    }
    format!("{:.0} %", part * 100.0)
}

fn thousands(count: f64) -> String {
    if count >= 10_000.0 { format!("{:.0} k", count / 1000.0) } else { format!("{count:.0}") }
}

/// Text that does not end a cell.
fn cell_text(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_by_hand_is_kept() {
        let page = format!("a\n{BY_HAND_BEGIN}\n\nMine.\n\nAll of it.\n\n{BY_HAND_END}\nb");
        assert_eq!(by_hand(&page), "Mine.\n\nAll of it.");
        assert_eq!(by_hand("nothing"), "");
    }
}

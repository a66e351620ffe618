//! The pictures of the page.

use crate::report::svg::{Bar, Panel, Scale, panels};
use crate::results::{Pass, Results};
use crate::workload::{Kind, Workload};

const COLUMNS: usize = 3;

/// Name and text of each picture that there are figures for.
pub(super) fn all(results: &Results) -> Vec<(&'static str, String)> {
    let mut plots = Vec::new();
    for (name, kind, title) in [
        ("cost-tcp.svg", Kind::Tcp, "TCP: processor time of the server, µs a message"),
        ("cost-unix.svg", Kind::Unix, "Unix streams: processor time of the server, µs a message"),
        ("cost-udp.svg", Kind::Udp, "UDP: processor time of the server, µs a datagram"),
    ] {
        let of_kind = results.workloads().filter(|workload| workload.kind == kind);
        let all: Vec<Panel> = of_kind.map(|workload| cost(results, workload)).collect();
        if !all.is_empty() {
            plots.push((name, panels(title, "less is better; cut bars are longer", COLUMNS, all)));
        }
    }
    let timed: Vec<Panel> = results
        .workloads()
        .filter(|workload| results.cells_of(workload, Pass::Time).next().is_some())
        .map(|workload| time(results, workload))
        .collect();
    if !timed.is_empty() {
        let title = "From sending a message to having read its answer, µs, server and client on two cores";
        plots.push(("times.svg", panels(title, "from the median to the 99th percentile", COLUMNS, timed)));
    }
    if let Some(panel) = memory(results) {
        let title = "Memory of the server for an idle TCP connection";
        plots.push(("memory.svg", panels(title, "powers of ten", 1, vec![panel])));
    }
    if let Ok(flame) = &results.flame {
        plots.push(("flame.svg", flame.clone()));
    }
    plots
}

fn cost(results: &Results, workload: &Workload) -> Panel {
    let bars = results
        .cells_of(workload, Pass::Cost)
        .filter_map(|cell| {
            let median = cell.cost()?.median;
            Some(Bar {
                label: cell.peer.name.to_owned(),
                family: cell.peer.family,
                value: median,
                far: median,
                text: digits(median),
            })
        })
        .collect();
    Panel { title: workload.title(), bars, scale: Scale::Linear }
}

fn time(results: &Results, workload: &Workload) -> Panel {
    let bars = results
        .cells_of(workload, Pass::Time)
        .filter_map(|cell| {
            let (p50, p99) = (cell.figure(|sample| sample.p50_us)?, cell.figure(|sample| sample.p99_us)?);
            Some(Bar {
                label: cell.peer.name.to_owned(),
                family: cell.peer.family,
                value: p50.median,
                far: p99.median,
                text: format!("{}–{}", digits(p50.median), digits(p99.median)),
            })
        })
        .collect();
    Panel { title: format!("{} {}", workload.kind, workload.title()), bars, scale: Scale::Log }
}

fn memory(results: &Results) -> Option<Panel> {
    let bars: Vec<Bar> = results
        .memory
        .iter()
        .filter_map(|(peer, memory)| {
            let bytes = memory.as_ref().ok()?.bytes.max(1.0);
            Some(Bar {
                label: peer.name.to_owned(),
                family: peer.family,
                value: bytes,
                far: bytes,
                text: size(bytes),
            })
        })
        .collect();
    (!bars.is_empty()).then(|| Panel { title: "bytes a connection".to_owned(), bars, scale: Scale::Log })
}

/// Three of them, or as many as stand before the point.
pub(super) fn digits(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

pub(super) fn size(bytes: f64) -> String {
    if bytes >= 1024.0 { format!("{} KiB", digits(bytes / 1024.0)) } else { format!("{bytes:.0} B") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_are_enough() {
        assert_eq!([digits(0.359), digits(28.27), digits(123.4)], ["0.36", "28.3", "123"]);
        assert_eq!([size(48.2), size(4915.2)], ["48 B", "4.80 KiB"]);
    }
}

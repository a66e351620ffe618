//! `--once`: figures of one interval, as a table or as JSON.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::figures::Figures;
use super::rows;
use super::sample::Sample;
use crate::ctl::text::{duration_text, printable, table};
use crate::exit::{Exit, Failure};
use crate::output;

/// The document.
#[derive(Debug, Serialize)]
struct Report {
    ts: String,
    interval_ms: u64,
    servers: Vec<Server>,
}

#[derive(Debug, Serialize)]
struct Server {
    socket: String,
    /// Why there are no figures.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(flatten)]
    figures: Option<Figures>,
}

pub(super) fn run(sockets: &[PathBuf], interval: Duration, is_json: bool) -> Result<Exit, Failure> {
    let first: Vec<_> = sockets.iter().map(|socket| Sample::take(socket)).collect();
    thread::sleep(interval);
    let ts = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
    let mut exit = Exit::Done;
    let mut servers = Vec::with_capacity(sockets.len());
    for (socket, first) in sockets.iter().zip(first) {
        let figures = first.and_then(|first| {
            let second = Sample::take(socket)?;
            Ok(Figures::of(&first, &second, &first.stats.transform_times))
        });
        let socket = socket.display().to_string();
        servers.push(match figures {
            Ok(figures) => Server { socket, error: None, figures: Some(figures) },
            Err(failure) => {
                if exit == Exit::Done {
                    exit = failure.exit;
                }
                Failure::new(failure.exit, format!("{}: {}", printable(&socket), failure.text())).report();
                Server { socket, error: Some(failure.text().to_owned()), figures: None }
            }
        });
    }
    let interval_ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
    let text = if is_json {
        printable(&output::json(&Report { ts, interval_ms, servers })?) + "\n"
    } else {
        let texts = servers.iter().filter_map(|server| Some(text(&server.socket, server.figures.as_ref()?)));
        texts.collect::<Vec<_>>().join("\n")
    };
    output::print(text)?;
    Ok(exit)
}

fn text(socket: &str, figures: &Figures) -> String {
    let head = format!(
        "{}: resay {}, process {}, up {}, {}\n",
        printable(socket),
        printable(&figures.version),
        figures.pid,
        duration_text(figures.uptime_ms),
        printable(&figures.state.replace('_', " ")),
    );
    let mut parts = vec![head, table(rows::LISTENERS, rows::listeners(figures, true).into_iter())];
    if !figures.transforms.is_empty() {
        parts.push(table(rows::STAGES, rows::stages(&figures.transforms).into_iter()));
    }
    let reasons = rows::reasons(&figures.totals, true);
    if !reasons.is_empty() {
        parts.push(table(rows::REASONS, reasons.into_iter()));
    }
    parts.push(table(rows::WORKERS, rows::workers(&figures.workers).into_iter()));
    if !figures.connections.is_empty() {
        parts.push(table(rows::CONNECTIONS, rows::connections(&figures.connections).into_iter()));
    }
    parts.join("\n")
}

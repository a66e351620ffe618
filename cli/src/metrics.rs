//! `resay serve --metrics`: figures for Prometheus, and health checks, over HTTP.
//!
//! | path | |
//! |---|---|
//! | `/metrics` | all counters: Prometheus text 0.0.4, or OpenMetrics 1.0 if that is preferred |
//! | `/stats.json` | the same as `resay ctl stats --json` |
//! | `/readyz` | 200: new work is welcome; else 503, with the reason |
//! | `/livez` | 200, or 503 if a fault of Resay itself has ended a worker: it should be started again |
//!
//! ```text
//! `server`: one thread, a few clients ── `http` ──> here ──> `exposition` ──> the engine's counters, `process`
//! ```

mod exposition;
mod http;
pub(crate) mod place;
pub(crate) mod process;
mod server;
pub(crate) mod source;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;
use std::{fmt, io};

use resay::LogLevel;
use resay::net::address::Address;
use resay::net::unix_file::SocketFile;
use rustix::net::{Shutdown, shutdown};

use crate::control::Belongings;
use crate::exit::{Exit, Failure, Unopened};
use exposition::Exposition;
use http::Request;
use place::Place;
use source::Source;

/// A socket that listens, and that nobody serves yet. Its file goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Metrics {
    // Before the socket, which keeps it from being mistaken for another.
    file: Option<SocketFile>,
    socket: Arc<OwnedFd>,
    url: String,
    address: Address,
    is_loopback: bool,
}

impl Metrics {
    pub(crate) fn open(place: &Place) -> Result<Metrics, Unopened> {
        let opened = place.open().map_err(|error| {
            let is_usage = error.kind() == io::ErrorKind::InvalidFilename;
            let exit = if is_usage { Exit::Usage } else { Exit::Unreachable };
            let failure = Failure::new(exit, format!("metrics {place}: {error}"));
            Unopened {
                is_in_use: error.kind() == io::ErrorKind::AddrInUse,
                address: place.address(),
                failure,
            }
        })?;
        let place::Opened { file, socket, url, address, is_loopback } = opened;
        Ok(Metrics { file, socket: Arc::new(socket), url, address, is_loopback })
    }

    /// Where they are, as a client would write it.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Serves on a thread of its own, until the belongings are given up, of which the address is one.
    pub(crate) fn serve(self, source: Source, belongings: &Belongings) -> io::Result<()> {
        let Metrics { file, socket, address, is_loopback, .. } = self;
        belongings.add(address, (file, Listening(Arc::clone(&socket))));
        let source = Arc::new(source);
        thread::Builder::new().name("metrics".to_owned()).spawn(move || {
            let exposition = Exposition::new(&source);
            let answer = |request: &Request| answer(&source, &exposition, request);
            let complain = |error: io::Error| {
                source.log.emit(LogLevel::Warn, "", format_args!("metrics: accept: {error}"));
            };
            server::serve(&socket, is_loopback, answer, complain)
        })?;
        Ok(())
    }
}

/// Ends the listening when it is dropped, so that the address is free, whoever has the socket too.
struct Listening(Arc<OwnedFd>);

impl Drop for Listening {
    fn drop(&mut self) {
        // It is not connected, as the error says, and listens no more (tcp(7), unix(7)).
        let _ = shutdown(&self.0, Shutdown::Both);
    }
}

fn answer(source: &Source, exposition: &Exposition, request: &Request) -> Vec<u8> {
    let &Request { is_head, wants_open_metrics, .. } = request;
    let failed = |what: &dyn fmt::Display| http::plain(http::UNAVAILABLE, &what.to_string(), is_head);
    match request.path.as_str() {
        "/metrics" => match exposition.text(wants_open_metrics) {
            Ok((body, kind)) => http::answer(http::OK, kind, &body, is_head),
            Err(error) => failed(&error),
        },
        "/stats.json" => match source.stats_json() {
            Ok(body) => http::answer(http::OK, "application/json", &(body + "\n"), is_head),
            Err(failure) => failed(&failure.text()),
        },
        "/readyz" => {
            let health = source.readiness.get();
            let status = if health.is_ready() { http::OK } else { http::UNAVAILABLE };
            http::plain(status, health.name(), is_head)
        }
        "/livez" if source.engine.is_poisoned() => failed(&"a worker has ended by a fault"),
        "/livez" => http::plain(http::OK, "alive", is_head),
        _ => {
            let words = "there are /metrics, /stats.json, /readyz and /livez";
            http::plain(http::NOT_FOUND, words, is_head)
        }
    }
}

/// Any bytes of a client.
#[cfg(any(test, fuzzing))]
pub(crate) fn try_request(bytes: &[u8]) {
    http::try_request(bytes);
}

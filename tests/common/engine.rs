//! Engines under watch.

use std::sync::{Arc, Mutex};

use resay::{Backend, Builder, CloseReason, DropReason, Engine, Event, EventKind, LogLevel, Stats};
use tempfile::TempDir;

use super::layer;
use super::peer::Peer;
use super::waiting::PATIENCE;

/// A directory for socket files, with a short path: addresses have 108 bytes.
pub(crate) fn directory() -> TempDir {
    tempfile::Builder::new().prefix("resay-").tempdir_in("/tmp").unwrap()
}

/// What an engine said.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<(LogLevel, EventKind, String)>>>);

impl Log {
    /// A builder whose engine says everything to this log.
    pub(crate) fn builder(&self) -> Builder {
        let log = self.clone();
        engine_builder().on_event(LogLevel::Trace, move |event: &Event<'_>| {
            log.0.lock().unwrap().push((event.level, event.kind, event.to_string()));
        })
    }

    pub(crate) fn lines(&self, kind: EventKind) -> Vec<(LogLevel, String)> {
        let all = self.0.lock().unwrap();
        all.iter().filter(|line| line.1 == kind).map(|(level, _, text)| (*level, text.clone())).collect()
    }
}

/// An engine to be, with the driver that `RESAY_BACKEND` names: the whole suite runs once for each.
pub(crate) fn engine_builder() -> Builder {
    let builder = if layer::is_on() { Engine::builder().around(layer::around) } else { Engine::builder() };
    match std::env::var("RESAY_BACKEND").as_deref() {
        Err(_) | Ok("auto") => builder,
        Ok("epoll") => builder.backend(Backend::Epoll),
        Ok("uring") => builder.backend(Backend::Uring),
        Ok(other) => panic!("RESAY_BACKEND={other}: auto, epoll or uring"),
    }
}

/// An engine with one listener of this kind on its own threads, and the listener's URL.
pub(crate) fn serve(url: &str, chain: &str) -> (Engine, String) {
    let engine = engine_builder().listen(url).unwrap().chain(chain).unwrap().start().unwrap();
    let url = engine.urls().remove(0);
    (engine, url)
}

/// Stops an engine, waits until all its workers have ended, and checks that the figures balance.
#[track_caller]
pub(crate) fn finish(engine: Engine) -> Stats {
    engine.stop();
    engine.join(PATIENCE).expect("a stopped engine ends");
    let stats = balanced(&engine);
    drop(engine);
    stats
}

/// The figures of an engine whose workers have ended: nothing is open, everything has a reason.
#[track_caller]
pub(crate) fn balanced(engine: &Engine) -> Stats {
    for listener in engine.listeners() {
        let stats = engine.listener_stats(listener.id).unwrap();
        let text = format!("{}: {stats:?}", listener.url);
        assert_eq!(stats.open, 0, "{text}");
        assert_eq!(stats.accepted, stats.closed, "{text}");
        let reasons: u64 = CloseReason::ALL.into_iter().map(|reason| stats.closed_by(reason)).sum();
        assert_eq!(stats.closed, reasons, "{text}");
        let dropped: u64 = DropReason::ALL.into_iter().map(|reason| stats.dropped_by(reason)).sum();
        assert_eq!(stats.dropped, dropped, "{text}");
        assert_eq!(stats.messages_in, stats.messages_out + stats.dropped, "{text}");
        if listener.kind.is_datagram() {
            assert_eq!(stats.accepted, 0, "{text}");
        } else if keeps_length(&listener.chain) {
            let accounted = stats.bytes_out + stats.undelivered_bytes + stats.dropped_bytes;
            assert_eq!(stats.bytes_in, accounted, "{text}");
        }
    }
    engine.stats()
}

/// Whether a chain is known to answer as many bytes as it is asked, and nothing of its own accord.
fn keeps_length(chain: &str) -> bool {
    chain.split('|').all(|stage| ["", "identity", "uppercase", "lowercase", "rot13"].contains(&stage.trim()))
}

/// Whether an engine still answers: a peer of its own asks something.
#[track_caller]
pub(crate) fn assert_answers(url: &str) {
    let peer = Peer::connect(url);
    assert_eq!(peer.ask(b"STILL THERE\n"), b"STILL THERE\n", "{url}");
}

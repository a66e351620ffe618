//! What does not come back is named: turns of workers, and messages with the threads that may block.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use common::*;
use resay::{Builder, Engine, Event, EventKind, LogLevel, Message, Output, Transform, Verdict};

const SOON: Duration = Duration::from_millis(100);

/// A transform that keeps `hold` until the test lets it go.
struct Gate {
    entered: Receiver<()>,
    release: Sender<()>,
}

impl Gate {
    fn new() -> (Gate, Transform) {
        let ((enter, entered), (release, held)) = (mpsc::channel(), mpsc::channel::<()>());
        let held = Mutex::new(held);
        let hold = move |message: &Message<'_>, _: &mut Output<'_>| {
            if **message == *b"hold" {
                enter.send(()).unwrap();
                let _ = held.lock().unwrap().recv();
            }
            Verdict::Pass
        };
        (Gate { entered, release }, Transform::from_fn("hold", hold).unwrap())
    }
}

/// Event kind, listener and text.
type Lines = Arc<Mutex<Vec<(EventKind, String, String)>>>;

fn builder() -> (Builder, Lines) {
    let lines = Lines::default();
    let told = Arc::clone(&lines);
    let builder = engine_builder().on_event(LogLevel::Warn, move |event: &Event<'_>| {
        told.lock().unwrap().push((event.kind, event.listener.to_owned(), event.text.to_string()));
    });
    (builder, lines)
}

fn of(lines: &Lines, kind: EventKind) -> Vec<(String, String)> {
    let lines = lines.lock().unwrap();
    lines.iter().filter(|line| line.0 == kind).map(|(_, url, text)| (url.clone(), text.clone())).collect()
}

fn eventually_told(lines: &Lines, kind: EventKind) -> (String, String) {
    eventually("it is told", || of(lines, kind).pop().ok_or_else(|| format!("{:?}", lines.lock().unwrap())))
}

/// Sends what is held, sees it named, lets it go, sees that named. One after the other: each case is a case of its own.
fn assert_named(engine: &Engine, lines: &Lines, gate: &Gate, url: &str, worker: usize) {
    let peer = Peer::connect(url);
    for case in 1..=2 {
        peer.send(b"hold");
        gate.entered.recv_timeout(PATIENCE).unwrap();
        eventually("it is counted", || match engine.transforms_stuck() {
            found if found == case => Ok(()),
            found => Err(found.to_string()),
        });
        let info = engine.workers().swap_remove(worker);
        assert_eq!(info.transform, Some(c"hold"), "{info:?}");
        assert!(info.busy.is_some_and(|busy| busy >= SOON && busy == info.last_turn), "{info:?}");
        gate.release.send(()).unwrap();
        assert_eq!(peer.exactly_or_message(4), b"hold");
        eventually("both are told", || {
            match (of(lines, EventKind::TransformStuck).len(), of(lines, EventKind::TransformReturned).len())
            {
                (stuck, returned) if stuck == returned => Ok(()),
                counts => Err(format!("{counts:?}")),
            }
        });
        if case == 1 {
            // Further ones of the same listener are debug lines for a while.
            let (about, text) = eventually_told(lines, EventKind::TransformStuck);
            assert_eq!(about, url);
            let rest = text.strip_prefix("transform hold has not returned for ");
            assert!(rest.is_some_and(|rest| rest.ends_with(&format!("; worker {worker} serves nobody meanwhile"))), "{text}");
            let (about, text) = eventually_told(lines, EventKind::TransformReturned);
            assert_eq!(about, url);
            let rest = text.strip_prefix("transform hold has returned after ");
            assert!(rest.is_some_and(|rest| rest.ends_with(&format!("; worker {worker} goes on"))), "{text}");
        }
    }
    assert_eq!(of(lines, EventKind::TransformStuck).len(), 1, "the second is left out");
}

/// Each worker, on whatever kind of socket: the listener, the transform and the worker are told, once for each case.
#[test]
fn a_turn_that_does_not_end_is_named() {
    isolated(|| {
        for transport in Transport::all() {
            let (gate, hold) = Gate::new();
            let directory = directory();
            let (builder, lines) = builder();
            let builder = builder.watchdog(SOON).unwrap().register(hold);
            // So that the listener is not the first one.
            let builder = builder.listen("tcp://127.0.0.1:0?chain=uppercase").unwrap();
            let builder = builder.listen(&transport.url(directory.path())).unwrap();
            let engine = builder.chain("hold").unwrap().start().unwrap();
            let url = engine.urls().swap_remove(1);
            assert_named(&engine, &lines, &gate, &url, 0);
            finish(engine);
        }
    });
}

/// Nobody else is named, and what waits is not busy.
#[test]
fn workers_that_wait_are_not_named() {
    isolated(|| {
        let (builder, lines) = builder();
        let builder = builder.threads(2).unwrap().watchdog(Duration::from_millis(10)).unwrap();
        let engine = builder.listen("tcp://127.0.0.1:0").unwrap().start().unwrap();
        let peer = Peer::connect(&engine.urls()[0]);
        assert_eq!(peer.ask(b"hello"), b"hello");
        eventually("both wait", || {
            let workers = engine.workers();
            assert_eq!(workers.len(), 2);
            match workers.iter().all(|worker| worker.busy.is_none() && worker.transform.is_none()) {
                true => Ok(()),
                false => Err(format!("{workers:?}")),
            }
        });
        // Many times as long as the watchdog's time.
        pace(Duration::from_millis(200));
        let before = engine.workers();
        engine.wake_workers();
        eventually("both take a turn", || {
            let workers = engine.workers();
            let turned = workers.iter().zip(&before).all(|(now, before)| now.last_turn < before.last_turn);
            if turned { Ok(()) } else { Err(format!("{workers:?} {before:?}")) }
        });
        drop(peer);
        finish(engine);
        assert_eq!(lines.lock().unwrap().as_slice(), []);
    });
}

/// A worker on a thread of the host's is watched if the host wants that, and only while it runs.
#[test]
fn a_lent_thread_is_watched_if_that_is_asked_for() {
    isolated(|| {
        let (gate, hold) = Gate::new();
        let (builder, lines) = builder();
        let builder = builder.watchdog(SOON).unwrap().register(hold).listen("tcp://127.0.0.1:0").unwrap();
        let engine = Arc::new(builder.chain("hold").unwrap().build().unwrap());
        // A turn, and then the host does something else for long.
        assert!(engine.run(Some(Duration::ZERO)).unwrap());
        pace(SOON * 3);
        assert_eq!(engine.transforms_stuck(), 0);
        let host = Arc::clone(&engine);
        let runs = thread::spawn(move || while host.run(None).unwrap() {});
        assert_named(&engine, &lines, &gate, &engine.urls()[0], 0);
        engine.stop();
        runs.join().unwrap();
        finish(Arc::into_inner(engine).unwrap());
    });
}

/// No thread looks for an engine that has none of its own, and for one that does not want it.
#[test]
fn nobody_looks_where_nobody_asks() {
    isolated(|| {
        let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
        let before = threads();
        let engine = engine_builder().listen("tcp://127.0.0.1:0").unwrap().build().unwrap();
        assert!(engine.run(Some(Duration::ZERO)).unwrap());
        assert_eq!(threads(), before);
        finish_lent(engine);
        let builder = engine_builder().watchdog(Duration::ZERO).unwrap().listen("tcp://127.0.0.1:0").unwrap();
        let engine = builder.start().unwrap();
        assert_eq!((threads(), engine.watchdog()), (before + 1, Duration::ZERO));
        finish(engine);
        let engine = engine_builder().listen("tcp://127.0.0.1:0").unwrap().start().unwrap();
        assert_eq!((threads(), engine.watchdog()), (before + 2, Duration::from_secs(10)));
        finish(engine);
        assert_eq!(threads(), before);
        for wrong in [Duration::from_millis(9), Duration::from_secs(24 * 3600 + 1)] {
            engine_builder().watchdog(wrong).unwrap_err();
        }
    });
}

fn finish_lent(engine: Engine) {
    engine.stop();
    while engine.run(None).unwrap() {}
    drop(engine);
}

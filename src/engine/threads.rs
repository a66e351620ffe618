//! The lives of workers on threads of the engine's own, and how many of all have ended.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use crate::driver::hybrid::Hybrid;
use crate::event::{EventKind, Events, LogLevel};
use crate::lock::lock;
use crate::sys;
use crate::worker::Worker;

/// How many workers have ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) workers: Mutex<usize>,
    pub(super) changed: Condvar,
    /// How many there are.
    pub(super) all: AtomicUsize,
    /// One of them panicked.
    pub(super) is_poisoned: AtomicBool,
    events: Arc<Events>,
}

impl Ended {
    pub(super) fn new(events: &Arc<Events>) -> Ended {
        Ended {
            workers: Mutex::new(0),
            changed: Condvar::new(),
            all: AtomicUsize::new(usize::MAX),
            is_poisoned: AtomicBool::new(false),
            events: Arc::clone(events),
        }
    }

    pub(super) fn count(&self) {
        let mut ended = lock(&self.workers);
        *ended += 1;
        let is_last = *ended == self.all.load(Ordering::Relaxed);
        drop(ended);
        if is_last {
            self.events.emit_about(LogLevel::Info, EventKind::Engine, &(), "ended");
            self.events.end();
        }
        self.changed.notify_all();
    }
}

/// One worker's life on a thread of its own.
pub(super) fn run_worker(index: usize, worker: &Mutex<Worker<Hybrid>>, events: &Events, ended: &Ended) {
    sys::block_signals();
    live(index, events, ended, || {
        let mut worker = lock(worker);
        loop {
            match worker.turn(None) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    events.emit_about(
                        LogLevel::Error,
                        EventKind::Engine,
                        &(),
                        format_args!("worker {index}: {error}"),
                    );
                    break;
                }
            }
        }
    });
}

/// Counts the end of a life, however it ends.
fn live(index: usize, events: &Events, ended: &Ended, life: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(life)).is_err() {
        ended.is_poisoned.store(true, Ordering::Relaxed);
        events.emit_about(
            LogLevel::Error,
            EventKind::Engine,
            &(),
            format_args!("worker {index} failed: an internal error"),
        );
    }
    ended.count();
}

pub(super) fn join_all(threads: &mut Vec<JoinHandle<()>>) {
    for thread in threads.drain(..) {
        // A panic of a worker has been reported by the panic hook; there is nothing to add.
        let _ = thread.join();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_worker_that_fails_is_counted_and_told() {
        let (seen, told) = mpsc::channel();
        let events = Arc::new(Events::new(
            LogLevel::Error,
            Box::new(move |event| {
                let _ = seen.send(event.to_string());
                panic!("in the host's own code");
            }),
        ));
        let ended = Ended::new(&events);
        ended.all.store(2, Ordering::Relaxed);
        live(0, &events, &ended, || {});
        assert!(!ended.is_poisoned.load(Ordering::Relaxed));
        live(1, &events, &ended, || panic!("a fault"));
        assert!(ended.is_poisoned.load(Ordering::Relaxed));
        assert_eq!(*lock(&ended.workers), 2);
        assert_eq!(told.try_iter().collect::<Vec<_>>(), ["worker 1 failed: an internal error"]);
    }
}

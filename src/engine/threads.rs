//! The lives of workers on threads of the engine's own, and how many of all have ended.

use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::channel::{Sender, channel};
use crate::driver::hybrid::Hybrid;
use crate::error::{Error, Result};
use crate::event::{EventKind, Events, LogLevel};
use crate::lock::lock;
use crate::sys::{Thread, ThreadSettings};
use crate::tap::Taps;
use crate::values::ranges_text;
use crate::worker::Worker;

/// The number of the calling thread.
pub(super) fn thread_number() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    thread_local! {
        static NUMBER: Cell<u64> = const { Cell::new(0) };
    }
    NUMBER.with(|number| {
        if number.get() == 0 {
            number.set(LAST.fetch_add(1, Ordering::Relaxed) + 1);
        }
        number.get()
    })
}

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
    taps: Arc<Taps>,
}

impl Ended {
    pub(super) fn new(events: &Arc<Events>, taps: &Arc<Taps>) -> Ended {
        Ended {
            workers: Mutex::new(0),
            changed: Condvar::new(),
            all: AtomicUsize::new(usize::MAX),
            is_poisoned: AtomicBool::new(false),
            events: Arc::clone(events),
            taps: Arc::clone(taps),
        }
    }

    /// A worker has ended.
    pub(super) fn count(&self) {
        self.count_and(|| self.events.emit_about(LogLevel::Info, EventKind::Engine, &(), "ended"));
    }

    /// The host has ended the thread of a worker in the middle of a callback. It is not told: that would be another callback.
    pub(super) fn lose(&self) {
        self.poison();
        self.count_and(|| {});
    }

    fn count_and(&self, emit: impl FnOnce()) {
        let mut ended = lock(&self.workers);
        *ended += 1;
        let is_last = *ended == self.all.load(Ordering::Relaxed);
        drop(ended);
        if is_last {
            emit();
            self.end();
        }
        self.changed.notify_all();
    }

    /// Something that was with a thread is lost: the engine should go.
    pub(super) fn poison(&self) {
        self.is_poisoned.store(true, Ordering::Relaxed);
    }

    /// No events and no records of messages will come any more.
    pub(super) fn end(&self) {
        self.events.end();
        self.taps.end();
    }
}

/// Threads that are there, and wait until they may begin; dropped, it ends them.
#[derive(Default)]
pub(super) struct Gate {
    threads: Vec<Thread<()>>,
    /// A word to each lets it begin; without one it ends.
    doors: Vec<Sender<()>>,
}

impl Gate {
    /// A thread for each worker.
    pub(super) fn start(
        workers: &[Arc<Mutex<Worker<Hybrid>>>],
        settings: &Arc<ThreadSettings>,
        events: &Arc<Events>,
        ended: &Arc<Ended>,
    ) -> Result<Gate> {
        let mut gate = Gate::default();
        let (arrives, arrived) = channel();
        for (index, worker) in workers.iter().enumerate() {
            let (worker, events, ended) = (Arc::clone(worker), Arc::clone(events), Arc::clone(ended));
            let lost_by = Arc::clone(&ended);
            let lost = move || lost_by.lose();
            let ((door, opened), arrives) = (channel(), arrives.clone());
            let wait = move |bound| {
                arrives.send(bound);
                opened.receive(Duration::MAX).is_ok()
            };
            let thread = settings
                .start_when(&index.to_string(), wait, lost, move || {
                    run_worker(index, &worker, &events, &ended)
                })
                .map_err(Error::system(format!("start thread {index}")))?;
            gate.threads.push(thread);
            gate.doors.push(door);
        }
        // Each waits until it is where it is to be, or says that it cannot get there.
        for _ in workers {
            let bound: io::Result<()> = arrived.receive(Duration::MAX).unwrap_or(Ok(()));
            bound.map_err(Error::system(format!(
                "bind a thread to thread_cpus={}",
                ranges_text(&settings.cpus)
            )))?;
        }
        Ok(gate)
    }

    /// Lets them begin.
    pub(super) fn open(mut self) -> Vec<Thread<()>> {
        self.doors.iter().for_each(|door| door.send(()));
        std::mem::take(&mut self.threads)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.doors.clear();
        join_all(&mut self.threads);
    }
}

/// One worker's life on a thread of its own.
fn run_worker(index: usize, worker: &Mutex<Worker<Hybrid>>, events: &Events, ended: &Ended) {
    let life = || {
        let mut worker = lock(worker);
        let pulse = Arc::clone(worker.pulse());
        pulse.during(|| {
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
    };
    live(index, events, ended, life);
}

/// Counts the end of a life, however it ends.
fn live(index: usize, events: &Events, ended: &Ended, life: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(life)).is_err() {
        ended.poison();
        events.emit_about(
            LogLevel::Error,
            EventKind::Engine,
            &(),
            format_args!("worker {index} failed: an internal error"),
        );
    }
    ended.count();
}

pub(super) fn join_all(threads: &mut Vec<Thread<()>>) {
    for thread in threads.drain(..) {
        thread.join();
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
        let ended = Ended::new(&events, &Arc::default());
        ended.all.store(2, Ordering::Relaxed);
        live(0, &events, &ended, || {});
        assert!(!ended.is_poisoned.load(Ordering::Relaxed));
        live(1, &events, &ended, || panic!("a fault"));
        assert!(ended.is_poisoned.load(Ordering::Relaxed));
        assert_eq!(*lock(&ended.workers), 2);
        assert_eq!(told.try_iter().collect::<Vec<_>>(), ["worker 1 failed: an internal error"]);
    }
}

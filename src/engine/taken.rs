//! Which workers the host's threads have taken, to run them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::threads::thread_number;
use crate::driver::hybrid::Hybrid;
use crate::error::{Error, Result};
use crate::lock::lock;
use crate::worker::Worker;

type SharedWorker = Arc<Mutex<Worker<Hybrid>>>;

/// What threads of the host's do with a worker.
#[derive(Debug, Default)]
pub(super) struct Runner {
    /// Which has last run it.
    thread: AtomicU64,
    /// One runs it now. Who only asks the worker something has it locked, but does not run it.
    is_taken: AtomicBool,
    /// It has ended, and is counted.
    has_ended: AtomicBool,
}

impl Runner {
    /// The [number](thread_number) of the thread that has last run it; 0: nobody has.
    pub(super) fn thread(&self) -> u64 {
        self.thread.load(Ordering::Relaxed)
    }
}

/// A worker that the calling thread runs.
pub(super) struct Taken<'a> {
    worker: &'a SharedWorker,
    runner: &'a Runner,
}

impl<'a> Taken<'a> {
    /// One that has not ended and that no other thread runs. `None`: what is left has threads, or nothing is left.
    pub(super) fn one_of(workers: &'a [SharedWorker], runners: &'a [Runner]) -> Result<Option<Taken<'a>>> {
        let mut has_any_ended = false;
        for (worker, runner) in workers.iter().zip(runners) {
            if runner.has_ended.load(Ordering::Acquire) {
                has_any_ended = true;
            } else if !runner.is_taken.swap(true, Ordering::Acquire) {
                runner.thread.store(thread_number(), Ordering::Relaxed);
                return Ok(Some(Taken { worker, runner }));
            }
        }
        if has_any_ended { Ok(None) } else { Err(Error::State("every worker already has a thread")) }
    }

    /// One that no thread has ever run.
    pub(super) fn one_that_never_ran(
        workers: &'a [SharedWorker],
        runners: &'a [Runner],
    ) -> Option<Taken<'a>> {
        let is_free = |runner: &Runner| {
            runner.thread() == 0
                && !runner.has_ended.load(Ordering::Acquire)
                && !runner.is_taken.swap(true, Ordering::Acquire)
        };
        let found = workers.iter().zip(runners).find(|(_, runner)| is_free(runner));
        found.map(|(worker, runner)| Taken { worker, runner })
    }

    /// Waits for whoever asks it something.
    pub(super) fn lock(&self) -> MutexGuard<'a, Worker<Hybrid>> {
        lock(self.worker)
    }

    /// It has ended, perhaps before it had a thread. Whether that is new.
    pub(super) fn end(&self) -> bool {
        !self.runner.has_ended.swap(true, Ordering::AcqRel)
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.runner.is_taken.store(false, Ordering::Release);
    }
}

//! Serving: on threads of the engine's own, on threads that the host lends, or in the host's event loop.

use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use super::settings::check_threads;
use super::state::{Control, Engine};
use super::threads::{join_all, run_worker};
use crate::driver::Driver;
use crate::driver::hybrid::Hybrid;
use crate::error::{Error, Result};
use crate::lock::lock;
use crate::worker::Worker;

impl Engine {
    /// Serves on threads of the engine's own, one a worker, with all signals blocked in them. When this returns,
    /// every socket answers.
    pub fn start(&self) -> Result<()> {
        let mut control = lock(&self.control);
        self.start_threads(&mut control)
    }

    /// The same with another number of workers than the builder was told.
    pub fn start_with(&self, threads: usize) -> Result<()> {
        check_threads(threads)?;
        let mut control = lock(&self.control);
        if self.core.get().is_some() {
            return Err(Error::State("the engine is already started"));
        }
        control.workers = threads;
        self.start_threads(&mut control)
    }

    fn start_threads(&self, control: &mut Control) -> Result<()> {
        if self.core.get().is_some() {
            return Err(Error::State("the engine is already started"));
        }
        let core = self.core(control, true)?;
        for worker in &core.workers {
            lock(worker).open_listeners().map_err(Error::system("watch a listening socket"))?;
        }
        for (index, worker) in core.workers.iter().enumerate() {
            let (worker, ended) = (Arc::clone(worker), Arc::clone(&self.ended));
            let events = Arc::clone(&self.services.events);
            let spawned = thread::Builder::new()
                .name(format!("resay-{index}"))
                .spawn(move || run_worker(index, &worker, &events, &ended));
            match spawned {
                Ok(thread) => control.threads.push(thread),
                Err(error) => {
                    self.stop();
                    join_all(&mut control.threads);
                    return Err(Error::system(format!("start thread {index}"))(error));
                }
            }
        }
        Ok(())
    }

    /// Serves on the calling thread: one turn at least, then until `timeout` has passed (`None`: until the engine
    /// has ended). Several threads may be lent at once, as many as there are workers. Whether the engine is alive.
    ///
    /// Fails with `Interrupted` when a signal came, so that the host can look after it.
    pub fn run(&self, timeout: Option<Duration>) -> Result<bool> {
        let mut control = lock(&self.control);
        if !control.threads.is_empty() {
            return Err(Error::State("the engine runs on its own threads"));
        }
        let core = self.core(&mut control, false)?;
        drop(control);
        let mut worker =
            core.workers.iter().find_map(free).ok_or(Error::State("every worker already has a thread"))?;
        let until = timeout.map(|timeout| Instant::now() + timeout);
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let was_alive = worker.is_alive();
            let alive = worker.turn(left).map_err(Error::system("wait for events"))?;
            if !alive {
                if was_alive {
                    self.ended.count();
                }
                self.end_offload();
                return Ok(false);
            }
            if left == Some(Duration::ZERO) {
                return Ok(true);
            }
        }
    }

    /// A descriptor for the host's own event loop: readable when [`run`](Engine::run) would find something to
    /// do. It belongs to the engine. Only for engines with one worker.
    pub fn poll_fd(&self) -> Result<RawFd> {
        let mut control = lock(&self.control);
        if !control.threads.is_empty() {
            return Err(Error::State("the engine runs on its own threads"));
        }
        let core = self.core(&mut control, false)?;
        match core.workers.as_slice() {
            [worker] => match free(worker) {
                Some(worker) => Ok(worker.driver().poll_fd()),
                None => Err(Error::State("the worker already has a thread")),
            },
            _ => Err(Error::State("an engine with several workers has no single descriptor")),
        }
    }

    /// How long the host's event loop may wait before it calls [`run`](Engine::run) even though the
    /// descriptor is not readable; `None`: as long as it likes.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let worker = free(self.core.get()?.workers.first()?)?;
        if worker.driver().has_leftovers() {
            Some(Duration::ZERO)
        } else {
            worker.until_deadline_from(worker.driver().read_clock())
        }
    }
}

/// The worker, if no thread has it.
fn free(worker: &Arc<Mutex<Worker<Hybrid>>>) -> Option<MutexGuard<'_, Worker<Hybrid>>> {
    match worker.try_lock() {
        Ok(worker) => Some(worker),
        Err(TryLockError::Poisoned(worker)) => Some(worker.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

//! Serving: on threads of the engine's own, on threads that the host lends, or in the host's event loop.

use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

use super::settings::check_threads;
use super::state::{Control, Engine};
use super::taken::Taken;
use super::threads::Gate;
use crate::driver::Driver;
use crate::driver::hybrid::Hybrid;
use crate::error::{Error, Result};
use crate::lock::lock;
use crate::sys::with_loss;
use crate::timer::Moment;
use crate::worker::Worker;

impl Engine {
    /// Serves on threads of the engine's own, one a worker, with all signals blocked in them. When this returns,
    /// every socket answers.
    pub fn start(&self) -> Result<()> {
        let mut control = lock(&self.control);
        let threads = control.workers;
        self.start_threads(&mut control, threads)
    }

    /// The same with another number of workers than the builder was told.
    pub fn start_with(&self, threads: usize) -> Result<()> {
        check_threads(threads)?;
        let mut control = lock(&self.control);
        self.start_threads(&mut control, threads)
    }

    /// All threads, or none and nothing has changed.
    fn start_threads(&self, control: &mut Control, threads: usize) -> Result<()> {
        if self.core.get().is_some() {
            return Err(Error::State("the engine is already started"));
        }
        if self.is_ending() {
            return Err(Error::State("the engine was stopped before it was started"));
        }
        let before = std::mem::replace(&mut control.workers, threads);
        let settings = Arc::clone(&control.thread_settings);
        let (events, ended) = (&self.services.events, &self.ended);
        let started = self.begin(control, true, |core| Gate::start(&core.workers, &settings, events, ended));
        if let Err(error) = started {
            control.workers = before;
            return Err(error);
        }
        Ok(())
    }

    /// Serves on the calling thread: one turn at least, then until `timeout` has passed (`None`: until the engine
    /// has ended). Several threads may be lent at once, as many as there are workers. Whether the engine is alive.
    ///
    /// Fails with `Interrupted` when a signal came, so that the host can look after it.
    pub fn run(&self, timeout: Option<Duration>) -> Result<bool> {
        let core = match self.core.get() {
            // Without the lock: a host may call this with one of its own held, for which somebody else waits in here.
            Some(core) => core,
            None => self.core(&mut lock(&self.control))?,
        };
        if core.has_own_threads {
            let has_ended = lock(&self.control).threads.is_empty();
            return if has_ended {
                Ok(false)
            } else {
                Err(Error::State("the engine runs on its own threads"))
            };
        }
        let Some(taken) = Taken::one_of(&core.workers, &core.runners)? else { return Ok(false) };
        let until = timeout.and_then(Until::after);
        let is_alive = with_loss(&|| self.ended.lose(), || self.take_turns(&taken, until))?;
        drop(taken);
        if !is_alive {
            match timeout {
                // Whoever does not wait for events does not wait for threads either, which may wait for what the caller has.
                Some(Duration::ZERO) => {
                    lock(&self.watchdog).as_ref().inspect(|watchdog| watchdog.begin_end());
                    core.shared.offload.begin_end();
                }
                _ => self.end_offload(until.map(Until::instant)),
            }
        }
        Ok(is_alive)
    }

    /// Turns of a worker until the time is up; whether it is alive.
    fn take_turns(&self, taken: &Taken<'_>, until: Option<Until>) -> Result<bool> {
        let mut worker = taken.lock();
        let pulse = Arc::clone(worker.pulse());
        pulse.during(|| self.take_turns_of(taken, &mut worker, until))
    }

    fn take_turns_of(
        &self,
        taken: &Taken<'_>,
        worker: &mut Worker<Hybrid>,
        until: Option<Until>,
    ) -> Result<bool> {
        loop {
            let left = until.map(Until::left);
            let turned = worker.turn(left);
            if turned.is_err() || left == Some(Duration::ZERO) {
                set_timer(worker, worker.driver().now());
            }
            if !turned.map_err(Error::system("wait for events"))? {
                if taken.end() {
                    self.ended.count();
                }
                return Ok(false);
            }
            if left == Some(Duration::ZERO) {
                return Ok(true);
            }
        }
    }

    /// A descriptor for the host's own event loop: readable when [`run`](Engine::run) would find something to
    /// do, or something is due. It belongs to the engine. Only for engines with one worker.
    pub fn poll_fd(&self) -> Result<RawFd> {
        let mut control = lock(&self.control);
        if !control.threads.is_empty() {
            return Err(Error::State("the engine runs on its own threads"));
        }
        if self.core.get().is_none() && self.is_ending() {
            return Err(Error::State("the engine was stopped before it was started"));
        }
        let core = self.core(&mut control)?;
        match core.workers.as_slice() {
            [worker] => match free(worker) {
                Some(worker) if !worker.is_alive() => Err(Error::State("the engine has ended")),
                Some(mut worker) => {
                    let poll_fd =
                        worker.driver_mut().foreign_poll_fd().map_err(Error::system("make a timer"));
                    let now = worker.driver().read_clock();
                    set_timer(&mut worker, now);
                    poll_fd
                }
                None => Err(Error::State("the worker already has a thread")),
            },
            _ => Err(Error::State("an engine with several workers has no single descriptor")),
        }
    }

    /// How long the host's event loop may wait before it calls [`run`](Engine::run) even if the loop does not watch
    /// [`poll_fd`](Engine::poll_fd); `None`: as long as it likes. Who does watch it need not ask.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let worker = free(self.core.get()?.workers.first()?)?;
        until_due(&worker, worker.driver().read_clock())
    }
}

/// How long a call of the host's may take.
#[derive(Debug, Clone, Copy)]
enum Until {
    /// One turn without waiting. A loop of the host's makes one for every message, so not even the clock is read.
    Now,
    At(Instant),
}

impl Until {
    /// `None`: for ever.
    fn after(timeout: Duration) -> Option<Until> {
        if timeout.is_zero() { Some(Until::Now) } else { Instant::now().checked_add(timeout).map(Until::At) }
    }

    fn left(self) -> Duration {
        match self {
            Until::Now => Duration::ZERO,
            Until::At(at) => at.saturating_duration_since(Instant::now()),
        }
    }

    fn instant(self) -> Instant {
        match self {
            Until::Now => Instant::now(),
            Until::At(at) => at,
        }
    }
}

/// How long from `now` until a worker has something to do without any event; `None`: it does not know.
fn until_due(worker: &Worker<Hybrid>, now: Moment) -> Option<Duration> {
    if worker.driver().has_leftovers() || worker.is_called() {
        Some(Duration::ZERO)
    } else {
        worker.until_deadline_from(now)
    }
}

/// Has a foreign loop, if there is one, woken for what is due. `now` may be the moment of the turn that has just been made.
pub(super) fn set_timer(worker: &mut Worker<Hybrid>, now: Moment) {
    if worker.driver().has_foreign_loop() {
        let due = until_due(worker, now).map_or(Moment::NEVER, |until_due| now.after(until_due));
        worker.driver_mut().set_timer(due, now);
    }
}

/// The worker, if no thread has it.
pub(super) fn free(worker: &Arc<Mutex<Worker<Hybrid>>>) -> Option<MutexGuard<'_, Worker<Hybrid>>> {
    match worker.try_lock() {
        Ok(worker) => Some(worker),
        Err(TryLockError::Poisoned(worker)) => Some(worker.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

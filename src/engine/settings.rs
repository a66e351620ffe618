//! What an engine is to be, for an owner that says so when the engine is there already.

use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use super::backend::Backend;
use super::state::{Control, Engine};
use crate::error::{Error, Result, SpecError};
use crate::limits::{
    SPIN_MAX, THREAD_NAME_BYTES_MAX, THREAD_STACK_BYTES_MAX, THREAD_STACK_BYTES_MIN, THREADS_MAX,
    WATCHDOG_DEFAULT, WATCHDOG_MAX, WATCHDOG_MIN,
};
use crate::lock::lock;
use crate::sys::{self, ThreadHooks, ThreadSettings};
use crate::values::{parse_ranges, ranges_text};

impl Engine {
    /// Sets an option for the listeners that are added from now on.
    pub fn set(&self, key: &str, value: &str) -> Result<()> {
        lock(&self.control).defaults.set_pair(&format!("{key}={value}"))?;
        Ok(())
    }

    /// An option as the listeners that are added from now on will have it, as text that [`set`](Engine::set) accepts
    /// again. `chain` is the engine's chain, where no other was set. `None`: there is no such option.
    pub fn get(&self, key: &str) -> Option<String> {
        let control = lock(&self.control);
        match control.defaults.get(key) {
            None if key == "chain" => Some(control.chain.spec().to_owned()),
            value => value,
        }
    }

    /// How many workers there are, or will be.
    pub fn threads(&self) -> usize {
        lock(&self.control).workers
    }

    /// The same as [`Builder::threads`](super::Builder::threads), for an engine that has not run yet.
    pub fn set_threads(&self, threads: usize) -> Result<()> {
        check_threads(threads)?;
        let mut control = self.before_workers()?;
        control.workers = threads;
        Ok(())
    }

    /// Which kernel interface is in use, once the engine serves; before that, what was asked for.
    pub fn backend(&self) -> Backend {
        self.core.get().map_or_else(|| lock(&self.control).backend, |core| core.backend)
    }

    /// The same as [`Builder::backend`](super::Builder::backend), for an engine that has not run yet.
    pub fn set_backend(&self, backend: Backend) -> Result<()> {
        let mut control = self.before_workers()?;
        control.backend = backend;
        Ok(())
    }

    /// How long a worker looks before it sleeps.
    pub fn spin(&self) -> Duration {
        lock(&self.control).spin
    }

    /// The same as [`Builder::spin`](super::Builder::spin), for an engine that has not run yet.
    pub fn set_spin(&self, window: Duration) -> Result<()> {
        check_spin(window)?;
        let mut control = self.before_workers()?;
        control.spin = window;
        Ok(())
    }

    /// How long something may take before it is named; zero: as long as it likes.
    pub fn watchdog(&self) -> Duration {
        lock(&self.control).watchdog.unwrap_or(WATCHDOG_DEFAULT)
    }

    /// The same as [`Builder::watchdog`](super::Builder::watchdog), for an engine that has not run yet.
    pub fn set_watchdog(&self, patience: Duration) -> Result<()> {
        check_watchdog(patience)?;
        let mut control = self.before_workers()?;
        control.watchdog = Some(patience);
        Ok(())
    }
}

impl Engine {
    /// What the names of the engine's threads begin with.
    pub fn thread_name(&self) -> String {
        lock(&self.control).thread_settings.name.clone()
    }

    /// The same as [`Builder::thread_name`](super::Builder::thread_name), for an engine that has not run yet.
    pub fn set_thread_name(&self, prefix: &str) -> Result<()> {
        check_thread_name(prefix)?;
        self.set_threads_up(|settings| settings.name = prefix.to_owned())
    }

    /// The size of the stacks of the engine's threads, in bytes.
    pub fn thread_stack(&self) -> usize {
        lock(&self.control).thread_settings.stack_bytes
    }

    /// The same as [`Builder::thread_stack`](super::Builder::thread_stack), for an engine that has not run yet.
    pub fn set_thread_stack(&self, bytes: usize) -> Result<()> {
        check_thread_stack(bytes)?;
        self.set_threads_up(|settings| settings.stack_bytes = bytes)
    }

    /// The processors that the engine's threads may run on, as text that [`set_thread_cpus`](Engine::set_thread_cpus) accepts.
    pub fn thread_cpus(&self) -> String {
        ranges_text(&lock(&self.control).thread_settings.cpus)
    }

    /// The same as [`Builder::thread_cpus`](super::Builder::thread_cpus), for an engine that has not run yet.
    pub fn set_thread_cpus(&self, list: &str) -> Result<()> {
        let cpus = parse_cpus(list)?;
        self.set_threads_up(|settings| settings.cpus = cpus)
    }

    /// The same as [`Builder::thread_hooks`](super::Builder::thread_hooks), for an engine that has not run yet; they take the
    /// place of those before.
    pub fn set_thread_hooks(
        &self,
        begin: impl Fn(&str) + Send + Sync + 'static,
        end: impl Fn() + Send + Sync + 'static,
    ) -> Result<()> {
        let hooks = Arc::new(ThreadHooks { begin: Box::new(begin), end: Box::new(end) });
        self.set_threads_up(|settings| settings.hooks = Some(hooks))
    }

    fn set_threads_up(&self, change: impl FnOnce(&mut ThreadSettings)) -> Result<()> {
        let mut control = self.before_workers()?;
        let mut settings = ThreadSettings::clone(&control.thread_settings);
        change(&mut settings);
        let before = std::mem::replace(&mut control.thread_settings, Arc::new(settings));
        drop(control);
        // The host may do something of its own when its hooks go.
        drop(before);
        Ok(())
    }

    /// What can only be changed while there are no workers.
    fn before_workers(&self) -> Result<MutexGuard<'_, Control>> {
        let control = lock(&self.control);
        match self.core.get() {
            None => Ok(control),
            Some(_) => Err(Error::State("the engine has already run")),
        }
    }
}

pub(super) fn check_thread_name(prefix: &str) -> Result<()> {
    if (1..=THREAD_NAME_BYTES_MAX).contains(&prefix.len()) && !prefix.chars().any(char::is_control) {
        return Ok(());
    }
    let range = format!("must have 1 to {THREAD_NAME_BYTES_MAX} bytes and no control characters");
    Err(SpecError::new("thread_name", prefix, 0, range).into())
}

pub(super) fn check_thread_stack(bytes: usize) -> Result<()> {
    if (THREAD_STACK_BYTES_MIN..=THREAD_STACK_BYTES_MAX).contains(&bytes) {
        return Ok(());
    }
    let range = format!("must be {THREAD_STACK_BYTES_MIN} to {THREAD_STACK_BYTES_MAX} bytes");
    Err(SpecError::new("thread_stack", &bytes.to_string(), 0, range).into())
}

/// The processors that a list names, in ranges; empty text is no choice.
pub(super) fn parse_cpus(list: &str) -> Result<Vec<(u16, u16)>> {
    if list.is_empty() {
        return Ok(Vec::new());
    }
    parse_ranges(list, sys::CPU_MAX, "a processor's number")
        .map_err(|fault| SpecError::new("thread_cpus", list, fault.at, fault.message).into())
}

pub(super) fn check_spin(window: Duration) -> Result<()> {
    if window > SPIN_MAX {
        return Err(Error::State("spin is at most 1 s"));
    }
    Ok(())
}

pub(super) fn check_watchdog(patience: Duration) -> Result<()> {
    if patience.is_zero() || (WATCHDOG_MIN..=WATCHDOG_MAX).contains(&patience) {
        return Ok(());
    }
    Err(Error::State("watchdog is 0, or 10 ms to 24 h"))
}

pub(super) fn check_threads(threads: usize) -> Result<()> {
    if (1..=THREADS_MAX).contains(&threads) {
        return Ok(());
    }
    let range = format!("must be 1 to {THREADS_MAX}");
    Err(SpecError::new("threads", &threads.to_string(), 0, range).into())
}

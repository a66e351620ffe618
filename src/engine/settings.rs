//! What an engine is to be, for an owner that says so when the engine is there already.

use std::time::Duration;

use super::backend::Backend;
use super::state::Engine;
use crate::error::{Error, Result, SpecError};
use crate::limits::{SPIN_MAX, THREADS_MAX};
use crate::lock::lock;

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
        let mut control = lock(&self.control);
        if self.core.get().is_some() {
            return Err(Error::State("the engine has already run"));
        }
        control.workers = threads;
        Ok(())
    }

    /// Which kernel interface is in use, once the engine serves; before that, what was asked for.
    pub fn backend(&self) -> Backend {
        self.core.get().map_or_else(|| lock(&self.control).backend, |core| core.backend)
    }

    /// The same as [`Builder::backend`](super::Builder::backend), for an engine that has not run yet.
    pub fn set_backend(&self, backend: Backend) -> Result<()> {
        let mut control = lock(&self.control);
        if self.core.get().is_some() {
            return Err(Error::State("the engine has already run"));
        }
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
        let mut control = lock(&self.control);
        if self.core.get().is_some() {
            return Err(Error::State("the engine has already run"));
        }
        control.spin = window;
        Ok(())
    }
}

pub(super) fn check_spin(window: Duration) -> Result<()> {
    if window > SPIN_MAX {
        return Err(Error::State("spin is at most 1 s"));
    }
    Ok(())
}

pub(super) fn check_threads(threads: usize) -> Result<()> {
    if (1..=THREADS_MAX).contains(&threads) {
        return Ok(());
    }
    let range = format!("must be 1 to {THREADS_MAX}");
    Err(SpecError::new("threads", &threads.to_string(), 0, range).into())
}

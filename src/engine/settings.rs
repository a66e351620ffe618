//! What an engine is to be, for an owner that says so when the engine is there already.

use std::time::Duration;

use super::{Backend, Engine, check_spin, check_threads, lock};
use crate::error::{Error, Result};

impl Engine {
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

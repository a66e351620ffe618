//! The end of an engine: at once, in good order, or by dropping it.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::state::{Core, Engine};
use super::taken::Taken;
use super::threads::join_all;
use crate::error::{Error, Result};
use crate::limits::{DRAIN_GRACE, OFFLOAD_END};
use crate::lock::lock;
use crate::worker::Command;

impl Engine {
    /// Ends everything at once: connections are closed, what they had not been sent is counted. Returns
    /// immediately; [`join`](Engine::join) waits. May be called from a signal handler.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        if let Some(core) = self.core.get() {
            core.shared.wake_all();
        }
    }

    /// Whether it was told to end: nothing new begins.
    pub(super) fn is_ending(&self) -> bool {
        self.stop.load(Ordering::Acquire) || self.is_draining.load(Ordering::Acquire)
    }

    /// Whether nothing is served any more, or will be at once.
    pub(super) fn has_ended(&self) -> bool {
        self.stop.load(Ordering::Acquire)
            || *lock(&self.ended.workers) >= self.ended.all.load(Ordering::Relaxed)
    }

    /// Stops listening, answers everything that has arrived, ends every connection and waits for that, at most
    /// `within`: what is not done by then is cut off and counted, for which it waits a quarter of a second more at most. On an
    /// engine that runs on lent threads it only begins the draining; the host goes on calling [`run`](Engine::run).
    ///
    /// An engine that never ran answers nothing: connections that wait are reset.
    ///
    /// Fails with [`Error::Timeout`] where a transform has not returned by then, be it one that may block.
    pub fn drain(&self, within: Duration) -> Result<()> {
        self.is_draining.store(true, Ordering::Release);
        let Some(core) = self.core.get() else {
            // Nothing has been served, so there is nothing to answer: peers that wait are refused.
            self.stop();
            let waiting = std::mem::take(&mut lock(&self.control).waiting);
            // As a worker does: the file before its socket.
            waiting.iter().for_each(|waiting| waiting.listener.remove_file());
            drop(waiting);
            self.ended.end();
            return Ok(());
        };
        for mailbox in &core.shared.mailboxes {
            // A worker that has ended has nothing to drain.
            let _ = mailbox.push(Command::Drain { within });
        }
        if lock(&self.control).threads.is_empty() {
            return Ok(());
        }
        // The workers keep the deadline themselves; the grace is for their last turn.
        self.join(within.saturating_add(DRAIN_GRACE))
    }

    /// Waits until every worker and every thread of the engine's has ended, at most `within`; transforms that may block, too.
    pub fn join(&self, within: Duration) -> Result<()> {
        // Further away than a clock reaches is for ever.
        let until = Instant::now().checked_add(within);
        match self.core.get() {
            Some(core) if self.stop.load(Ordering::Acquire) && !core.has_own_threads => {
                self.end_unused(core)?
            }
            // Nobody else would say so to those who wait for events and records.
            None if self.is_ending() => self.ended.end(),
            _ => {}
        }
        let all = self.core.get().map_or(0, |core| core.workers.len());
        let ended = lock(&self.ended.workers);
        let (ended, _) = self
            .ended
            .changed
            .wait_timeout_while(ended, within, |ended| *ended < all)
            .unwrap_or_else(PoisonError::into_inner);
        if *ended < all {
            return Err(Error::Timeout { what: "join the workers", limit: within });
        }
        drop(ended);
        self.join_threads();
        match self.core.get() {
            // One whose transform does not come back is a thread all the same.
            Some(core) if !core.shared.offload.end_by(until) => {
                Err(Error::Timeout { what: "join the threads of transforms that may block", limit: within })
            }
            _ => Ok(()),
        }
    }

    /// Ends the workers that no thread of the host's was lent for, once the engine has been stopped. One that has had a thread, or
    /// is in a loop of the host's, ends there, for so do its callbacks.
    fn end_unused(&self, core: &Core) -> Result<()> {
        while let Some(taken) = Taken::one_that_never_ran(&core.workers, &core.runners) {
            let is_alive = taken.lock().turn(Some(Duration::ZERO)).map_err(Error::system("end a worker"))?;
            if is_alive {
                break;
            }
            if taken.end() {
                self.ended.count();
            }
        }
        Ok(())
    }

    /// Waits a little, until `until` at most, for what is still with transforms that may block, and for what is being destroyed.
    pub(super) fn end_offload(&self, until: Option<Instant>) {
        self.join_watchdog();
        if let Some(core) = self.core.get() {
            let most = Instant::now() + OFFLOAD_END;
            core.shared.offload.end_by(Some(until.map_or(most, |until| until.min(most))));
        }
    }

    /// Waits for the threads of workers that have ended, and for who looks after them.
    fn join_threads(&self) {
        // Whoever comes second waits as well: the threads are not gone before the first one has seen them go.
        let _one = lock(&self.joining);
        let mut threads = std::mem::take(&mut lock(&self.control).threads);
        join_all(&mut threads);
        self.join_watchdog();
    }

    fn join_watchdog(&self) {
        let watchdog = lock(&self.watchdog).take();
        if let Some(watchdog) = watchdog {
            watchdog.end();
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
        self.join_threads();
        self.end_offload(None);
        // Where it never ran, nobody has said so.
        self.ended.end();
    }
}

//! The end of an engine: at once, in good order, or by dropping it.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::state::Engine;
use super::threads::join_all;
use crate::error::{Error, Result};
use crate::lock::lock;
use crate::worker::{Command, Mailbox};

impl Engine {
    /// Ends everything at once: connections are closed, what they had not been sent is counted. Returns
    /// immediately; [`join`](Engine::join) waits. May be called from a signal handler.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        if let Some(core) = self.core.get() {
            core.shared.mailboxes.iter().for_each(Mailbox::wake);
        }
    }

    /// Stops listening, answers everything that has arrived, ends every connection and waits for that, at most
    /// `within`: what is not done by then is cut off and counted. On an engine that runs on lent threads it only
    /// begins the draining; the host goes on calling [`run`](Engine::run).
    pub fn drain(&self, within: Duration) -> Result<()> {
        let Some(core) = self.core.get() else {
            // Nothing has been served, so there is nothing to answer.
            self.stop();
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
        self.join(within + Duration::from_secs(1))
    }

    /// Waits until every worker has ended.
    pub fn join(&self, within: Duration) -> Result<()> {
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
        self.end_offload();
        Ok(())
    }

    /// Waits a little for what is still with transforms that may block, and for what is being destroyed.
    pub(super) fn end_offload(&self) {
        if let Some(core) = self.core.get() {
            core.shared.offload.end();
        }
    }

    fn join_threads(&self) {
        let mut threads = std::mem::take(&mut lock(&self.control).threads);
        join_all(&mut threads);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
        self.join_threads();
        self.end_offload();
    }
}

//! Sockets that go from one process to the next, which serves them while the first one ends.
//!
//! ```text
//! the old process                          the new process
//! hand_over: copies of all sockets ──────> listen_all_with, start: both serve
//!                                          complete_handover: files are its own
//! leave: closes its own, serves what       carry_over: the figures go on
//! waits there, ends its connections later
//! ```
//!
//! A socket is the same one in both, with one queue: whoever waits there is served by one of them, and nothing is lost when one
//! closes its descriptor.

use super::listeners::ListenerId;
use super::state::Engine;
use crate::error::{Error, Result};
use crate::lock::lock;
use crate::net::socket::Handed;
use crate::stats::Stats;
use crate::worker::{Answer, Question};

impl Engine {
    /// Copies of the sockets of all listeners, for a process that is to go on with them. Nothing changes here: the process may
    /// fail. A listener that refuses peers for now, or was stopped, has none.
    pub fn hand_over(&self) -> Result<Vec<(ListenerId, Handed)>> {
        let core = self.core.get().ok_or(Error::State("the engine does not serve yet"))?;
        if self.is_ending() {
            return Err(Error::State("the engine is ending or has ended"));
        }
        let listeners = lock(&self.control).listeners.clone();
        let mut all = Vec::with_capacity(listeners.len());
        for listener in listeners {
            let mut sockets = Vec::new();
            for answer in core.ask_all(Question::CopySocket { id: listener.id })? {
                match answer {
                    Answer::Socket(socket) => sockets.push(socket),
                    Answer::Failed(error) => return Err(Error::system("copy a listening socket")(error)),
                    Answer::Connection(_) | Answer::Count(_) => {}
                }
            }
            if !sockets.is_empty() {
                all.push((ListenerId(listener.id), Handed { url: listener.url.clone(), sockets }));
            }
        }
        Ok(all)
    }

    /// The process that has handed sockets over is about to [leave](Engine::leave) them: the files of unix sockets are this
    /// engine's from now on, and go with their listeners. Before, they stay, whatever becomes of this engine.
    pub fn complete_handover(&self) {
        lock(&self.control).listeners.iter().for_each(|listener| listener.own_file());
    }

    /// Leaves a listener to the process that goes on with its sockets: who waits in the queue is served by one of them, the file
    /// of a unix socket stays, and connections go on here until they end.
    pub fn leave(&self, id: ListenerId) -> Result<()> {
        self.find(id)?.leave();
        self.close_listener(id)
    }

    /// What the process before this one has done by now: the engine's [`stats`](Engine::stats) go on from there. Replaces what
    /// was said before, since that process may still have connections.
    pub fn carry_over(&self, stats: &Stats) {
        lock(&self.control).carried_over = stats.clone();
    }
}

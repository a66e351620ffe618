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

use super::carried_over::{HandoverStats, LeftListener};
use super::listeners::ListenerId;
use super::state::{Control, Core, Engine};
use crate::error::{Error, Result};
use crate::listener::Listener;
use crate::lock::lock;
use crate::net::socket::Handed;
use crate::stats::{ClosedListeners, Stats};
use crate::worker::{Answer, Question};

impl Control {
    /// What a listener has done, and the one before it whose sockets it has.
    pub(super) fn stats_of(&self, listener: &Listener) -> Stats {
        self.carried_over.added_to(listener.id, listener.stats())
    }

    /// What listeners have done that are closed, and were not left.
    fn closed_stats(&mut self) -> Stats {
        let mut sum = self.closed.stats();
        let is_here = |id| self.listeners.iter().any(|listener| listener.id == id);
        let is_left = |id| self.left.iter().any(|left| left.listener == id);
        sum.add(&self.carried_over.of_others(|id| is_here(id) || is_left(id)));
        sum
    }

    fn left_stats(&mut self) -> Vec<(String, Stats)> {
        let carried_over = &self.carried_over;
        let stats = |left: &mut LeftListener| {
            (left.url.clone(), carried_over.added_to(left.listener, left.counters.stats()))
        };
        self.left.iter_mut().map(stats).collect()
    }

    /// What listeners have done that are not here any more.
    pub(super) fn gone_stats(&mut self) -> Stats {
        let mut sum = self.closed_stats();
        self.left_stats().iter().for_each(|(_, stats)| sum.add(stats));
        sum
    }
}

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
            let handed = copies(core, &listener)?;
            all.extend(handed.map(|handed| (ListenerId(listener.id), handed)));
        }
        Ok(all)
    }

    /// Copies of the sockets of some listeners, for others of this engine. Where one cannot be copied there is none: then its
    /// address is in use, which is an error of its own.
    pub(super) fn copies_of(&self, ids: &[ListenerId]) -> Vec<Handed> {
        let Some(core) = self.core.get() else { return Vec::new() };
        let listeners = ids.iter().filter_map(|id| self.find(*id).ok());
        listeners.filter_map(|listener| copies(core, &listener).ok().flatten()).collect()
    }

    /// The process that has handed sockets over is about to [leave](Engine::leave) them: the files of unix sockets are this
    /// engine's from now on, and go with their listeners. Before, they stay, whatever becomes of this engine.
    pub fn complete_handover(&self) {
        lock(&self.control).listeners.iter().for_each(|listener| listener.own_file());
    }

    /// Leaves a listener to the process that goes on with its sockets: who waits in the queue is served by one of them, the file
    /// of a unix socket stays, and connections go on here until they end.
    pub fn leave(&self, id: ListenerId) -> Result<()> {
        let listener = self.find(id)?;
        listener.leave();
        // Before it is closed: in between nobody misses what it has done.
        self.close_and_count(id, |control| {
            let mut counters = ClosedListeners::default();
            counters.add(&listener.blocks());
            control.left.push(LeftListener { listener: listener.id, url: listener.url.clone(), counters });
        })
    }

    /// What this process has done, for the next one to [carry over](Engine::carry_over).
    pub fn handover_stats(&self) -> HandoverStats {
        let mut control = lock(&self.control);
        let mut listeners = control.left_stats();
        let here = control.listeners.iter();
        listeners.extend(here.map(|listener| (listener.url.clone(), control.stats_of(listener))));
        HandoverStats { listeners, others: control.closed_stats() }
    }

    /// What the process before this one has done by now: the figures of each listener that has the sockets of one there, or its
    /// URL, go on from there, and those of the whole engine. Replaces what was said before, since that process may still have
    /// connections.
    pub fn carry_over(&self, stats: &HandoverStats) {
        let mut control = lock(&self.control);
        let Control { carried_over, listeners, .. } = &mut *control;
        // The socket of a service manager has come from there, and not from that process.
        let with_url = |url: &str| listeners.iter().find(|listener| listener.url == url);
        carried_over.replace(stats, |url| with_url(url).map(|listener| listener.id));
    }
}

/// Copies of a listener's sockets; `None`: it has none for now.
fn copies(core: &Core, listener: &Listener) -> Result<Option<Handed>> {
    let mut sockets = Vec::new();
    for answer in core.ask_all(Question::CopySocket { id: listener.id })? {
        match answer {
            Answer::Socket(socket) => sockets.push(socket),
            Answer::Failed(error) => return Err(Error::system("copy a listening socket")(error)),
            Answer::Connection(_) | Answer::Count(_) => {}
        }
    }
    Ok(if sockets.is_empty() { None } else { Some(Handed { url: listener.url.clone(), sockets }) })
}

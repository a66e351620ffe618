//! Questions to workers, and their answers.
//!
//! A worker on a thread of the engine's own takes a question with its next turn. One that the host runs, on threads that it
//! lends or in its own loop, may have no thread at the moment, and the loop may be the very thread that asks: then the thread
//! that asks takes the worker and asks it directly. No transform runs on it; what would need that is left for a turn.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::run::{free, set_timer};
use super::state::{Core, Engine};
use super::taken::Runner;
use super::threads::thread_number;
use crate::channel::{Nothing, channel};
use crate::driver::Driver;
use crate::error::{Error, Result};
use crate::limits::{ASK_AGAIN, ASK_PATIENCE};
use crate::worker::{Answer, Ask, Command, Question};

impl Core {
    /// Asks all workers, and waits until each has answered or has ended.
    pub(super) fn ask_all(&self, question: Question) -> Result<Vec<Answer>> {
        self.ask(0..self.workers.len(), question, Some(ASK_PATIENCE))
    }

    /// Asks one worker.
    pub(super) fn ask_one(&self, worker: usize, question: Question) -> Result<Option<Answer>> {
        self.ask(worker..worker + 1, question, Some(ASK_PATIENCE)).map(|mut answers| answers.pop())
    }

    fn ask(
        &self,
        workers: std::ops::Range<usize>,
        question: Question,
        patience: Option<Duration>,
    ) -> Result<Vec<Answer>> {
        let (to, answers) = channel();
        let mut asks: Vec<(usize, Arc<Ask>)> =
            workers.map(|worker| (worker, Arc::new(Ask::new(question, to.clone())))).collect();
        drop(to);
        let can_be_lent = !self.has_own_threads && !matches!(question, Question::WholeTurn);
        if can_be_lent {
            self.ask_directly(&mut asks)?;
        }
        for (worker, ask) in &asks {
            if self.shared.mailboxes[*worker].push(Command::Ask(Arc::clone(ask))).is_err() {
                // It has ended: there is nothing that it could say or do.
                ask.revoke();
            }
        }
        let until = patience.and_then(|patience| Instant::now().checked_add(patience));
        let mut found = Vec::new();
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let slice = match left {
                _ if can_be_lent => left.unwrap_or(ASK_AGAIN).min(ASK_AGAIN),
                Some(left) => left,
                None => ASK_PATIENCE,
            };
            match answers.receive(slice) {
                Ok(answer) => found.push(answer),
                Err(Nothing::Ever) => return Ok(found),
                Err(Nothing::Yet) if left.is_some_and(|left| left <= slice) => {
                    asks.iter().for_each(|(_, ask)| ask.give_up());
                    let limit = patience.unwrap_or_default();
                    return Err(Error::Timeout { what: "wait for the workers", limit });
                }
                Err(Nothing::Yet) if can_be_lent => self.ask_directly(&mut asks)?,
                Err(Nothing::Yet) => {}
            }
        }
    }

    /// Asks those workers that no thread has.
    fn ask_directly(&self, asks: &mut Vec<(usize, Arc<Ask>)>) -> Result<()> {
        asks.retain(|(_, ask)| !ask.is_taken());
        for (index, ask) in asks.iter() {
            match free(&self.workers[*index]) {
                Some(mut worker) => {
                    worker.answer(ask, true);
                    // What is left for a turn.
                    let now = worker.driver().read_clock();
                    set_timer(&mut worker, now);
                }
                None if self.runners[*index].thread() == thread_number() => {
                    return Err(Error::State("a call that waits for a worker inside one of its callbacks"));
                }
                None => {}
            }
        }
        asks.retain(|(_, ask)| !ask.is_taken());
        Ok(())
    }
}

impl Engine {
    /// Waits until every worker has made a whole turn from now on, at most `timeout` (`None`: without a limit). What was asked
    /// of it before is done then, its events are out, and messages that arrive go through the chain that was set.
    ///
    /// Fails with [`Error::State`] where this would wait for the calling thread itself, which runs a worker in the host's own
    /// loop: calling [`run`](Engine::run) is all it takes there. The same before the engine runs.
    pub fn sync(&self, timeout: Option<Duration>) -> Result<()> {
        let core = self.core.get().ok_or(Error::State("the engine does not run"))?;
        let own = thread_number();
        // 0: nobody has run it yet.
        let waits_for_itself = |runner: &Runner| [0, own].contains(&runner.thread());
        if !core.has_own_threads && core.runners.iter().any(waits_for_itself) {
            return Err(Error::State("no other thread runs the worker: call run, which makes a turn"));
        }
        core.ask(0..core.workers.len(), Question::WholeTurn, timeout).map(drop)
    }
}

//! From serving to the end: what concerns the whole service, in the order in which it comes.

use std::fmt::Display;
use std::io;
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use resay::{CloseReason, DropReason, Engine, LogLevel, RejectReason, Stats};
use signal_hook::consts::{SIGHUP, SIGINT};
use signal_hook::iterator::Signals;

use crate::control::{Order, Waiter};
use crate::exit::{Exit, Failure};
use crate::health::Health;
use crate::lock::lock;
use crate::log::Log;
use crate::notify::Notifier;
use crate::reload::{EndTimes, Reloader};
use crate::takeover;

/// How long to wait for the last lines of the log, and for workers that were told to stop.
pub(super) const LAST_WAIT: Duration = Duration::from_secs(1);
/// How long draining may last beyond its time, in which the workers are to cut off what is left.
const DRAIN_GRACE: Duration = Duration::from_secs(2);
/// Clients of the control socket that may wait for the end.
const WAITERS_MAX: usize = 16;

/// What concerns the whole service.
#[derive(Debug)]
pub(super) enum Word {
    Signal(i32),
    Order(Order, Waiter),
    /// There is no worker any more.
    Ended,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Serving,
    /// It is to drain then.
    LameDuck {
        until: Option<Instant>,
    },
    Draining {
        until: Option<Instant>,
    },
    Stopping {
        until: Option<Instant>,
    },
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Drained,
    /// What was not done in time was cut off.
    CutOff {
        connections: u64,
        bytes: u64,
    },
    Stopped,
    /// A worker, or a transform that is being created, did not end in time, and was left.
    Overdue,
}

impl End {
    /// What whoever gave this order is told.
    pub(super) fn answer_to(self, order: &Order) -> Result<&'static str, Failure> {
        match (self, order) {
            (End::Drained, _) => Ok("drained"),
            (End::Stopped | End::CutOff { .. }, Order::Stop | Order::HandedOver) => Ok("stopped"),
            (End::Stopped, Order::Drain { .. }) => {
                Err(Failure::new(Exit::Broken, "the server was stopped before it had drained"))
            }
            (End::CutOff { connections, bytes }, Order::Drain { .. }) => {
                Err(Failure::new(Exit::Timeout, not_in_time(connections, bytes)))
            }
            (End::Overdue, _) => Err(Failure::new(
                Exit::Timeout,
                "the server did not end in time; what was left of it has been cut off",
            )),
        }
    }
}

fn not_in_time(connections: u64, bytes: u64) -> String {
    format!(
        "drained, but not all in time: {connections} connections were cut off, {bytes} bytes of answers were not \
         delivered"
    )
}

/// From serving to the end.
pub(super) struct Service {
    pub(super) engine: Arc<Engine>,
    /// Where there is a configuration file.
    pub(super) reloader: Option<Arc<Reloader>>,
    /// Where there is none.
    pub(super) times: EndTimes,
    pub(super) log: Log,
    pub(super) notifier: Notifier,
    /// Bytes and connections that were lost before draining began.
    pub(super) lost_before: Arc<Mutex<(u64, u64)>>,
}

impl Service {
    pub(super) fn run(
        &self,
        heard: &Receiver<Word>,
        waiters: &mut Vec<(Order, Waiter)>,
    ) -> Result<End, Failure> {
        let mut phase = Phase::Serving;
        loop {
            let word = match phase {
                Phase::LameDuck { until: Some(until) }
                | Phase::Draining { until: Some(until) }
                | Phase::Stopping { until: Some(until) } => {
                    heard.recv_timeout(until.saturating_duration_since(Instant::now())).ok()
                }
                _ => heard.recv().ok(),
            };
            match (word, phase) {
                (None, Phase::LameDuck { .. }) => {
                    phase = self.drain("the time is over", self.times().drain_timeout)?;
                }
                (None, _) => {
                    self.log.emit(LogLevel::Error, "", "not all has ended in time; leaving what is left");
                    return Ok(End::Overdue);
                }
                (Some(Word::Ended), phase) => return self.ended(phase),
                (Some(Word::Signal(SIGHUP)), _) => {
                    self.reload()?;
                }
                (Some(Word::Signal(signal)), Phase::Serving) => {
                    let name = if signal == SIGINT { "SIGINT" } else { "SIGTERM" };
                    let times = self.times();
                    phase = if times.lame_duck.is_zero() {
                        self.drain(name, times.drain_timeout)?
                    } else {
                        self.begin_lame_duck(name, times)
                    };
                }
                (Some(Word::Signal(_)), Phase::LameDuck { .. }) => {
                    phase = self.drain("another signal", self.times().drain_timeout)?;
                }
                (Some(Word::Signal(_)), Phase::Draining { .. }) => {
                    self.emit("another signal: ending at once");
                    phase = self.stop();
                }
                (Some(Word::Signal(_)), Phase::Stopping { .. }) => {}
                (Some(Word::Order(_, waiter)), _) if waiters.len() == WAITERS_MAX => {
                    let text = format!("{WAITERS_MAX} wait for the end of this server already");
                    waiter.answer(Err(Failure::new(Exit::Unreachable, text)));
                }
                (Some(Word::Order(order, waiter)), _) => {
                    match (&order, phase) {
                        (Order::Drain { within }, Phase::Serving | Phase::LameDuck { .. }) => {
                            phase = self.drain("control socket", *within)?;
                        }
                        (Order::HandedOver, Phase::Serving | Phase::LameDuck { .. }) => {
                            phase = self.begin_end_after_handover();
                        }
                        (Order::Stop, Phase::Serving | Phase::LameDuck { .. } | Phase::Draining { .. }) => {
                            self.emit("control socket: ending at once");
                            phase = self.stop();
                        }
                        // It is under way.
                        _ => {}
                    }
                    waiters.push((order, waiter));
                }
            }
        }
    }

    /// Brings signals, and the end of the workers, to where they are heard.
    pub(super) fn watch(&self, mut signals: Signals, words: Sender<Word>) -> Result<(), Failure> {
        let (engine, ended) = (Arc::clone(&self.engine), words.clone());
        spawn("watch", move || {
            // So long a wait does not end early.
            let _ = engine.join(Duration::MAX);
            let _ = ended.send(Word::Ended);
        })?;
        spawn("signals", move || {
            for signal in signals.forever() {
                let _ = words.send(Word::Signal(signal));
            }
        })
    }

    /// Reads the configuration file again, if there is one.
    fn reload(&self) -> Result<(), Failure> {
        match &self.reloader {
            Some(reloader) => reloader.request(&self.engine, &self.log).map_err(no_thread),
            None => {
                self.emit("SIGHUP: there is no configuration file to read again");
                Ok(())
            }
        }
    }

    /// What the configuration says of the end, now.
    fn times(&self) -> EndTimes {
        self.reloader.as_ref().map_or(self.times, |reloader| reloader.times())
    }

    /// Goes on serving, so that whoever sends clients here finds out first that this server ends.
    fn begin_lame_duck(&self, why: &str, times: EndTimes) -> Phase {
        let EndTimes { lame_duck, drain_timeout } = times;
        self.emit(format_args!(
            "{why}: still serving for {lame_duck:?}, then draining; a signal drains at once"
        ));
        self.notifier
            .ending(Health::LameDuck, lame_duck.saturating_add(drain_timeout).saturating_add(DRAIN_GRACE));
        Phase::LameDuck { until: Instant::now().checked_add(lame_duck) }
    }

    /// Another server has the sockets: the connections have a moment, as in a lame duck.
    fn begin_end_after_handover(&self) -> Phase {
        self.emit("handed over to another server: connections go on for a moment, then draining");
        let within = self.times().drain_timeout.saturating_add(takeover::GRACE).saturating_add(DRAIN_GRACE);
        self.notifier.ending(Health::LameDuck, within);
        Phase::LameDuck { until: Instant::now().checked_add(takeover::GRACE) }
    }

    /// Begins to drain.
    fn drain(&self, why: &str, within: Duration) -> Result<Phase, Failure> {
        self.emit(format_args!("{why}: draining, at most {within:?}; a signal ends it at once"));
        self.notifier.ending(Health::Draining, within.saturating_add(DRAIN_GRACE));
        let (engine, before) = (Arc::clone(&self.engine), Arc::clone(&self.lost_before));
        spawn("drain", move || {
            *lock(&before) = lost(&engine.stats());
            // Its end is heard of as the end of the workers, and if that does not come, the time is kept here too.
            let _ = engine.drain(within);
        })?;
        Ok(Phase::Draining { until: Instant::now().checked_add(within + DRAIN_GRACE) })
    }

    /// Begins to end at once.
    fn stop(&self) -> Phase {
        self.notifier.ending(Health::Stopping, LAST_WAIT);
        self.engine.stop();
        Phase::Stopping { until: Some(Instant::now() + LAST_WAIT) }
    }

    /// The last worker has ended.
    fn ended(&self, phase: Phase) -> Result<End, Failure> {
        match phase {
            Phase::Serving | Phase::LameDuck { .. } => {
                return Err(Failure::new(Exit::Broken, "every worker has ended"));
            }
            Phase::Stopping { .. } => return Ok(End::Stopped),
            Phase::Draining { .. } => {}
        }
        let stats = self.engine.stats();
        let (bytes, connections) = lost(&stats);
        let before = *lock(&self.lost_before);
        let (bytes, connections) = (bytes.saturating_sub(before.0), connections.saturating_sub(before.1));
        if bytes + connections == 0 {
            self.emit("drained");
            return Ok(End::Drained);
        }
        self.log.emit(LogLevel::Warn, "", not_in_time(connections, bytes));
        Ok(End::CutOff { connections, bytes })
    }

    fn emit(&self, text: impl Display) {
        self.log.emit(LogLevel::Info, "", text);
    }
}

/// Bytes that were not delivered, and connections that were cut off.
fn lost(stats: &Stats) -> (u64, u64) {
    (stats.undelivered_bytes, stats.closed_by(CloseReason::CutOff))
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    thread::Builder::new().name(name.to_owned()).spawn(work).map(drop).map_err(no_thread)
}

pub(super) fn no_thread(error: io::Error) -> Failure {
    Failure::new(Exit::Unreachable, format!("start a thread: {error}"))
}

pub(super) fn emit_totals(stats: &Stats, counters: &[(String, u64)], log: &Log) {
    let emit = |text: String| log.emit(LogLevel::Info, "", text);
    emit(format!(
        "totals: messages in {}, out {}, dropped {}; bytes in {}, out {}, undelivered {}",
        stats.messages_in,
        stats.messages_out,
        stats.dropped,
        stats.bytes_in,
        stats.bytes_out,
        stats.undelivered_bytes,
    ));
    emit(format!(
        "totals: connections accepted {}, closed {}, open {}, rejected {}; accept errors {}, \
         transform errors {}",
        stats.accepted, stats.closed, stats.open, stats.rejected, stats.accept_errors, stats.transform_errors,
    ));
    let closed = CloseReason::ALL.map(|reason| (reason.to_string(), stats.closed_by(reason)));
    let dropped = DropReason::ALL.map(|reason| (reason.to_string(), stats.dropped_by(reason)));
    let rejected = RejectReason::ALL.map(|reason| (reason.to_string(), stats.rejected_by(reason)));
    for (what, reasons) in [
        ("connections closed", closed.as_slice()),
        ("connections rejected", &rejected),
        ("messages dropped", &dropped),
    ] {
        for (reason, count) in reasons.iter().filter(|(_, count)| *count > 0) {
            emit(format!("totals: {what}: {reason}: {count}"));
        }
    }
    for (name, count) in counters {
        emit(format!("totals: {name}: {count}"));
    }
}

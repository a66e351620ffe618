//! Names what does not come back: a turn of a worker, or a message with the threads that may block.
//!
//! A thread of its own looks: of an engine with one worker nobody else could, for whoever would look is what is stuck. It
//! wakes once a second, reads what the workers leave behind anyway ([`Pulse`](crate::worker::Pulse)), and asks them nothing.

use std::ffi::CStr;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::event::{EventKind, LogLevel};
use crate::limits::WATCHDOG_LOOK;
use crate::lock::lock;
use crate::sys::{self, Thread, ThreadSettings};
use crate::timer::Moment;
use crate::worker::{About, Shared};

/// The thread that looks.
#[derive(Debug)]
pub(super) struct Watchdog {
    thread: Thread<()>,
    end: Arc<End>,
}

#[derive(Debug, Default)]
struct End {
    has_come: Mutex<bool>,
    changed: Condvar,
}

impl End {
    fn set(&self) {
        *lock(&self.has_come) = true;
        self.changed.notify_all();
    }

    /// Whether it has come within that time.
    fn wait(&self, within: Duration) -> bool {
        let waited = self.changed.wait_timeout_while(lock(&self.has_come), within, |has_come| !*has_come);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Watchdog {
    /// Starts it. Without a thread to be had nobody looks, which is logged.
    pub(super) fn start(
        shared: &Arc<Shared<OwnedFd>>,
        settings: &Arc<ThreadSettings>,
        patience: Duration,
    ) -> Option<Watchdog> {
        let end = Arc::<End>::default();
        let (watched, ends) = (Arc::clone(shared), Arc::clone(&end));
        let started = settings.start("watchdog", move || Watch::new(&watched, patience).look_until(&ends));
        match started {
            Ok(thread) => Some(Watchdog { thread, end }),
            Err(error) => {
                let text = format_args!("no watchdog: start a thread: {error}");
                shared.events.emit_about(LogLevel::Warn, EventKind::Engine, &(), text);
                None
            }
        }
    }

    /// Has it end, after which it may still be there for a moment.
    pub(super) fn begin_end(&self) {
        self.end.set();
    }

    /// Has it end, and waits for that.
    pub(super) fn end(self) {
        self.begin_end();
        self.thread.join();
    }
}

/// What the thread knows.
struct Watch<'a> {
    shared: &'a Shared<OwnedFd>,
    patience: Duration,
    /// What has been told and is not over.
    told: Vec<Case>,
}

/// Something that takes long.
struct Case {
    place: Place,
    /// Tells it apart from what the same place does later.
    began: Began,
    transform: Option<&'static CStr>,
    /// Where it has been logged, and at which level.
    about: Option<About>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Worker(usize),
    /// A thread of the pool.
    Thread(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Began {
    OfTurn(Moment),
    OfJob(Instant),
}

impl Began {
    fn ago(self, now: Moment) -> Duration {
        match self {
            Began::OfTurn(at) => at.until(now),
            Began::OfJob(at) => at.elapsed(),
        }
    }
}

impl<'a> Watch<'a> {
    fn new(shared: &'a Shared<OwnedFd>, patience: Duration) -> Watch<'a> {
        Watch { shared, patience, told: Vec::new() }
    }

    fn look_until(&mut self, end: &End) {
        let every = (self.patience / 4).min(WATCHDOG_LOOK);
        let mut last = now();
        while !end.wait(every) {
            let now = now();
            // If this thread has stood still as well, then so has the process, and nobody is to blame.
            let was_awake = last.until(now) < every + self.patience / 2;
            last = now;
            if was_awake {
                self.look(now);
            }
        }
    }

    fn look(&mut self, now: Moment) {
        let mut found = self.find(now);
        for case in std::mem::take(&mut self.told) {
            if found.iter().any(|other| other.place == case.place && other.began == case.began) {
                found.retain(|other| other.place != case.place);
                self.told.push(case);
            } else {
                self.emit(EventKind::TransformReturned, &case, now);
            }
        }
        for mut case in found {
            self.shared.stuck.fetch_add(1, Ordering::Relaxed);
            case.about = self.about(&case, now);
            self.emit(EventKind::TransformStuck, &case, now);
            self.told.push(case);
        }
    }

    /// All that takes long now.
    fn find(&self, now: Moment) -> Vec<Case> {
        let mut found = Vec::new();
        for (index, pulse) in self.shared.pulses.iter().enumerate() {
            if let Some(since) = pulse.busy_since()
                && since.until(now) >= self.patience
            {
                let (place, began) = (Place::Worker(index), Began::OfTurn(since));
                found.push(Case { place, began, transform: pulse.transform(), about: None });
            }
        }
        for stuck in self.shared.offload.stuck(self.patience) {
            let (place, began) = (Place::Thread(stuck.thread), Began::OfJob(stuck.since));
            found.push(Case { place, began, transform: stuck.transform, about: None });
        }
        found
    }

    fn about(&self, case: &Case, now: Moment) -> Option<About> {
        match case.place {
            Place::Worker(index) => {
                self.shared.pulses.get(index)?.listener_with_transform(case.transform?, now)
            }
            Place::Thread(thread) => {
                let stuck = self.shared.offload.stuck(self.patience);
                let share = stuck.iter().find(|stuck| stuck.thread == thread)?.share;
                self.shared.pulses.iter().find_map(|pulse| pulse.listener_with_share(share, now))
            }
        }
    }

    fn emit(&self, kind: EventKind, case: &Case, now: Moment) {
        let text = Line { kind, case, ago: case.began.ago(now) };
        // A worker that is busy without any transform is nobody's but the engine's, or the sink's.
        let kind = if case.transform.is_some() { kind } else { EventKind::Engine };
        match &case.about {
            Some(about) => self.shared.events.emit_about(about.level, kind, about, text),
            None => self.shared.events.emit_about(LogLevel::Warn, kind, &(), text),
        }
    }
}

fn now() -> Moment {
    Moment::from_micros(sys::monotonic_micros())
}

/// The text of an event.
struct Line<'a> {
    kind: EventKind,
    case: &'a Case,
    ago: Duration,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Line { kind, case, ago } = self;
        let is_over = *kind == EventKind::TransformReturned;
        let ago = Duration::from_millis(u64::try_from(ago.as_millis()).unwrap_or(u64::MAX));
        match (case.transform.map(CStr::to_string_lossy), is_over) {
            (Some(name), false) => write!(f, "transform {name} has not returned for {ago:?}")?,
            (Some(name), true) => write!(f, "transform {name} has returned after {ago:?}")?,
            (None, false) => write!(f, "no end of what has begun {ago:?} ago")?,
            (None, true) => write!(f, "an end after {ago:?}")?,
        }
        match (case.place, is_over) {
            (Place::Worker(index), false) => write!(f, "; worker {index} serves nobody meanwhile")?,
            (Place::Worker(index), true) => write!(f, "; worker {index} goes on")?,
            (Place::Thread(_), _) => {}
        }
        match &case.about {
            Some(about) if !is_over => write!(f, "{}", about.more),
            _ => Ok(()),
        }
    }
}

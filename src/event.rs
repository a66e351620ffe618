//! What the engine tells its owner while it runs: levelled events, and nothing formatted that nobody wants.
//!
//! They go two ways, each or both of which may be open: to a sink, which is called at once and gets words; and into a
//! bounded [queue](Queue), from which the owner takes records when it likes.

mod description;
mod queue;

pub use description::{Event, EventCause, EventKind, LogLevel};
pub(crate) use queue::Queue;
pub use queue::{EVENT_TEXT_BYTES_MAX, EventRecord};

use std::cell::Cell;
use std::fmt;
use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock};
use std::time::Duration;

use crate::error::{Error, Result};

/// Where events go. Called on the thread on which the event happens, workers included: it must not block.
pub(crate) type Sink = dyn Fn(&Event<'_>) + Send + Sync;

/// What an event is about, for [`Events::emit_about`]: nothing but the engine, or a listener.
pub(crate) trait Subject {
    /// Its number and its URL.
    fn subject(&self) -> (u64, &str);
}

impl Subject for () {
    fn subject(&self) -> (u64, &str) {
        (0, "")
    }
}

thread_local! {
    /// A sink runs on this thread. What it causes itself is not told to it: that could go on for ever.
    static IN_SINK: Cell<bool> = const { Cell::new(false) };
}

/// Where events go: a sink that wants to hear of what is important enough, and a queue of some kinds.
#[derive(Default)]
pub(crate) struct Events {
    /// What transforms may ask before they format a line: the sink's level, or more where the queue takes their lines.
    level: AtomicU8,
    sink_level: AtomicU8,
    /// Held for reading while the sink is called, so that whoever replaces it knows that it is not running.
    sink: RwLock<Option<Box<Sink>>>,
    /// The bits of the kinds that go into the queue.
    kinds: AtomicU32,
    queue: OnceLock<Queue>,
}

impl Events {
    pub(crate) fn new(level: LogLevel, sink: Box<Sink>) -> Events {
        let events = Events::default();
        events.set_sink(Some((level, sink)));
        events
    }

    /// The level as a byte that others may watch; 0: nothing is wanted.
    pub(crate) fn level(&self) -> &AtomicU8 {
        &self.level
    }

    /// Puts another sink in the place of the one that there is. When this returns, the old one is not running and
    /// will not be called again.
    pub(crate) fn set_sink(&self, sink: Option<(LogLevel, Box<Sink>)>) {
        let mut place = self.sink.write().unwrap_or_else(PoisonError::into_inner);
        self.sink_level.store(sink.as_ref().map_or(0, |(level, _)| *level as u8), Ordering::Relaxed);
        let old = std::mem::replace(&mut *place, sink.map(|(_, sink)| sink));
        drop(place);
        self.set_level();
        // What it holds may have a destructor that takes its time.
        drop(old);
    }

    /// Which kinds go into the queue from now on, and how many of them may wait there. The capacity is that of the
    /// first call.
    pub(crate) fn set_kinds(&self, kinds: u32, capacity: usize) -> Result<()> {
        if kinds != 0 && self.queue.get().is_none() {
            let queue = Queue::new(capacity).map_err(Error::system("open a queue of events"))?;
            // Whoever was faster has made one just like it.
            let _ = self.queue.set(queue);
        }
        self.kinds.store(kinds, Ordering::Relaxed);
        self.set_level();
        Ok(())
    }

    fn set_level(&self) {
        let lines = if self.kinds.load(Ordering::Relaxed) & EventKind::TransformLog.bit() != 0 {
            LogLevel::Info as u8
        } else {
            0
        };
        self.level.store(lines.max(self.sink_level.load(Ordering::Relaxed)), Ordering::Relaxed);
    }

    pub(crate) fn wants(&self, level: LogLevel, kind: EventKind) -> bool {
        level as u8 <= self.sink_level.load(Ordering::Relaxed)
            || kind.bit() & self.kinds.load(Ordering::Relaxed) != 0
    }

    pub(crate) fn emit(&self, event: &Event<'_>) {
        if event.kind.bit() & self.kinds.load(Ordering::Relaxed) != 0
            && let Some(queue) = self.queue.get()
        {
            queue.push(event);
        }
        if event.level as u8 > self.sink_level.load(Ordering::Relaxed) || IN_SINK.replace(true) {
            return;
        }
        let _leaving = Leaving;
        if let Some(sink) = &*self.sink.read().unwrap_or_else(PoisonError::into_inner) {
            // What the host's code does to itself is reported by the panic hook, and must not end a worker.
            let _ = catch_unwind(AssertUnwindSafe(|| sink(event)));
        }
    }

    /// An event that concerns no peer.
    pub(crate) fn emit_about(
        &self,
        level: LogLevel,
        kind: EventKind,
        about: &impl Subject,
        text: impl fmt::Display,
    ) {
        self.emit_caused(level, kind, about, None, text);
    }

    /// The same, with what is behind it.
    pub(crate) fn emit_caused(
        &self,
        level: LogLevel,
        kind: EventKind,
        about: &impl Subject,
        cause: Option<EventCause>,
        text: impl fmt::Display,
    ) {
        let (listener_id, listener) = about.subject();
        self.emit(&Event {
            level,
            kind,
            listener,
            listener_id,
            connection: 0,
            peer: None,
            cause,
            text: &text,
        });
    }

    /// Takes the first event that waits; see [`Queue::next`].
    pub(crate) fn next(&self, timeout: Option<Duration>) -> Result<Option<EventRecord>> {
        self.queue()?.next(timeout)
    }

    /// A descriptor that is readable while events wait.
    pub(crate) fn queue_fd(&self) -> Result<BorrowedFd<'_>> {
        Ok(self.queue()?.fd())
    }

    /// Events that found the queue full.
    pub(crate) fn lost(&self) -> u64 {
        self.queue.get().map_or(0, Queue::lost)
    }

    /// Nothing more will come.
    pub(crate) fn end(&self) {
        if let Some(queue) = self.queue.get() {
            queue.end();
        }
    }

    fn queue(&self) -> Result<&Queue> {
        self.queue.get().ok_or(Error::State("events are not enabled"))
    }
}

/// The sink has returned, or panicked.
struct Leaving;

impl Drop for Leaving {
    fn drop(&mut self) {
        IN_SINK.set(false);
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("level", &self.level).finish_non_exhaustive()
    }
}

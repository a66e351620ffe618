//! What the engine tells its owner while it runs: levelled events, and nothing formatted that nobody wants.
//!
//! They go two ways, each or both of which may be open: to a sink, which is called at once and gets words; and into
//! bounded [queues](EventQueue), from which the owner takes records when it likes.

mod description;
mod peer_lines;
mod queue;

pub use description::{Event, EventCause, EventKind, LogLevel};
pub(crate) use peer_lines::{More, PeerLine, PeerLines};
pub use queue::{EVENT_TEXT_BYTES_MAX, EventRecord};

use std::cell::Cell;
use std::fmt;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use queue::Queue;

use crate::error::{Error, Result};
use crate::sys;

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

/// Where events go: a sink that wants to hear of what is important enough, and queues of some kinds.
#[derive(Default)]
pub(crate) struct Events {
    /// What transforms may ask before they format a line: the sink's level, or more where a queue takes their lines.
    level: AtomicU8,
    sink_level: AtomicU8,
    /// Held for reading while the sink is called, so that whoever replaces it knows that it is not running.
    sink: RwLock<Option<Box<Sink>>>,
    /// The bits of the kinds that any queue takes.
    kinds: AtomicU32,
    queues: RwLock<Vec<Arc<Queue>>>,
    /// Events that found a queue full, those that are closed included.
    lost: AtomicU64,
    has_ended: AtomicBool,
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

    /// Opens a queue of events.
    pub(crate) fn open_queue(self: &Arc<Events>, kinds: u32, capacity: usize) -> Result<EventQueue> {
        let queue = Queue::new(kinds, capacity).map_err(Error::system("open a queue of events"))?;
        let queue = Arc::new(queue);
        let mut queues = self.queues.write().unwrap_or_else(PoisonError::into_inner);
        if self.has_ended.load(Ordering::Relaxed) {
            return Err(Error::State("the engine has ended"));
        }
        queues.push(Arc::clone(&queue));
        self.set_kinds(&queues);
        Ok(EventQueue { queue, events: Arc::clone(self) })
    }

    fn close_queue(&self, queue: &Arc<Queue>) {
        let mut queues = self.queues.write().unwrap_or_else(PoisonError::into_inner);
        queues.retain(|other| !Arc::ptr_eq(other, queue));
        self.set_kinds(&queues);
    }

    fn set_kinds(&self, queues: &[Arc<Queue>]) {
        let kinds = queues.iter().fold(0, |kinds, queue| kinds | queue.kinds);
        self.kinds.store(kinds, Ordering::Relaxed);
        self.set_level();
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
        let bit = event.kind.bit();
        if bit & self.kinds.load(Ordering::Relaxed) != 0 {
            let queues = self.queues.read().unwrap_or_else(PoisonError::into_inner);
            let full = queues.iter().filter(|queue| queue.kinds & bit != 0 && !queue.push(event)).count();
            self.lost.fetch_add(full as u64, Ordering::Relaxed);
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

    /// Events that found a queue full.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Nothing more will come.
    pub(crate) fn end(&self) {
        let queues = self.queues.write().unwrap_or_else(PoisonError::into_inner);
        self.has_ended.store(true, Ordering::Relaxed);
        queues.iter().for_each(|queue| queue.end());
    }
}

/// A bounded queue of events; see [`Engine::events`](crate::Engine::events). It lives for itself: events can be taken when
/// the engine has ended. Dropping it closes it.
pub struct EventQueue {
    queue: Arc<Queue>,
    events: Arc<Events>,
}

impl EventQueue {
    /// Takes the first event that waits, or waits for one, at most `timeout` (`None`: until the engine has ended).
    /// `None`: there was none in that time. Fails with [`Error::State`] when the engine has ended and all were taken; with
    /// `Interrupted` when a signal came meanwhile. Of several threads that call it, each event goes to one.
    pub fn next(&self, timeout: Option<Duration>) -> Result<Option<EventRecord>> {
        self.queue.next(timeout)
    }

    /// A descriptor that is readable while events wait, and for ever once the engine has ended. It belongs to the queue.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.queue.fd()
    }

    /// How many events found no room.
    pub fn lost(&self) -> u64 {
        self.queue.lost()
    }

    /// For a child of fork(2), in place of dropping it: closes the child's copy of the descriptor and nothing else.
    pub fn abandon(self) {
        let queue = ManuallyDrop::new(self);
        sys::close_copy(queue.fd().as_raw_fd());
    }
}

impl Drop for EventQueue {
    fn drop(&mut self) {
        self.events.close_queue(&self.queue);
    }
}

impl fmt::Debug for EventQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventQueue").field("lost", &self.lost()).finish_non_exhaustive()
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

//! What a worker lets others see of its turns, so that one which does not come back can be named.
//!
//! A turn costs it two stores, and a message nothing: which listener it is of would be a store that is felt, so that is found
//! out by the name of the transform. The worker alone writes, and whoever looks reads.

use std::ffi::CStr;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::turns::{TurnTimes, Turns};
use crate::chain::ShareId;
use crate::event::{LogLevel, More, PeerLine, Subject};
use crate::listener::Listener;
use crate::lock::lock;
use crate::sys;
use crate::timer::Moment;
use crate::transform::library::RunningThread;

/// In `turn`: nothing is being done.
const WAITS: u64 = 1;

/// One worker's.
#[derive(Default)]
pub(crate) struct Pulse {
    /// When the last turn began its work, in microseconds, times two; and whether it [waits](WAITS) again.
    turn: AtomicU64,
    /// The listeners by their places on this worker.
    listeners: Mutex<Vec<Option<Arc<Listener>>>>,
    /// What runs on the thread that the worker has.
    thread: RunningThread,
    turns: Turns,
}

/// A listener, for an event about one of its transforms.
#[derive(Debug)]
pub(crate) struct About {
    id: u64,
    url: String,
    /// The level of the line, and what it ends with.
    pub(crate) level: LogLevel,
    pub(crate) more: More,
}

impl Subject for About {
    fn subject(&self) -> (u64, &str) {
        (self.id, &self.url)
    }
}

impl Pulse {
    /// The worker waits for the kernel, or for a thread.
    #[inline(always)]
    pub(super) fn waits(&self) {
        self.turn.store(self.turn.load(Ordering::Relaxed) | WAITS, Ordering::Relaxed);
    }

    #[inline(always)]
    pub(super) fn works(&self, now: Moment) {
        self.turn.store(now.as_micros() << 1, Ordering::Relaxed);
    }

    /// A turn is over that began then, by the system's clock.
    pub(super) fn note_turn(&self, began_ns: u64) {
        self.turns.add_since(began_ns);
    }

    /// How long its turns have taken that were timed.
    pub(crate) fn turn_times(&self) -> TurnTimes {
        self.turns.read()
    }

    /// A listener has come to a place, or has left it.
    pub(super) fn note_listener(&self, place: usize, listener: Option<&Arc<Listener>>) {
        let mut listeners = lock(&self.listeners);
        if listeners.len() <= place {
            listeners.resize(place + 1, None);
        }
        // The worker still has it: this is not its end.
        listeners[place] = listener.cloned();
    }

    /// The worker has none any more. What is destroyed with them is not the pulse's to destroy.
    pub(super) fn forget_listeners(&self) {
        let listeners = std::mem::take(&mut *lock(&self.listeners));
        drop(listeners);
    }

    /// Takes turns on the calling thread.
    pub(crate) fn during<R>(&self, turns: impl FnOnce() -> R) -> R {
        struct Stopped<'a>(&'a Pulse);
        impl Drop for Stopped<'_> {
            fn drop(&mut self) {
                self.0.waits();
            }
        }
        self.thread.during(|| {
            let _left = Stopped(self);
            // What its last turn knew may be old by now.
            self.works(Moment::from_micros(sys::monotonic_micros()));
            turns()
        })
    }

    /// When its last turn began.
    pub(crate) fn last_turn(&self) -> Moment {
        Moment::from_micros(self.turn.load(Ordering::Relaxed) >> 1)
    }

    /// Since when it has been busy with one turn; `None`: it waits.
    pub(crate) fn busy_since(&self) -> Option<Moment> {
        let turn = self.turn.load(Ordering::Relaxed);
        (turn & WAITS == 0).then_some(Moment::from_micros(turn >> 1))
    }

    /// The transform whose code runs on its thread now, if one does.
    pub(crate) fn transform(&self) -> Option<&'static CStr> {
        self.thread.transform()
    }

    /// The listener that has this transform in its chain; `None`: none has, or several.
    pub(crate) fn listener_with_transform(&self, id: &CStr, now: Moment) -> Option<About> {
        let listeners = lock(&self.listeners);
        let has_it = |listener: &&Arc<Listener>| listener.chain().has(id);
        let mut found = listeners.iter().flatten().filter(has_it);
        let (first, second) = (found.next()?, found.next());
        second.is_none().then(|| About::of(first, now))
    }

    /// The listener whose chain has this share of the threads that may block.
    pub(crate) fn listener_with_share(&self, share: ShareId, now: Moment) -> Option<About> {
        let listeners = lock(&self.listeners);
        let found = listeners.iter().flatten().find(|listener| listener.chain().share() == share);
        found.map(|listener| About::of(listener, now))
    }
}

impl About {
    fn of(listener: &Listener, now: Moment) -> About {
        let (level, more) = listener.lines().next(PeerLine::TransformStuck, LogLevel::Warn, now.as_micros());
        About { id: listener.id, url: listener.url.clone(), level, more }
    }
}

impl fmt::Debug for Pulse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pulse")
            .field("turn", &self.turn)
            .field("thread", &self.thread)
            .finish_non_exhaustive()
    }
}

//! Events and taps, for an owner that asks for them when the engine is there already.

use super::listeners::ListenerId;
use super::state::Engine;
use crate::error::{Error, Result, SpecError};
use crate::event::{Event, EventKind, EventQueue, LogLevel};
use crate::limits::EVENTS_MAX;
use crate::tap::{Settings, Tap};

impl Engine {
    /// The same as [`Builder::on_event`](super::Builder::on_event), at any time; it takes the place of what was there.
    /// When this returns, that is not running any more and will not be called again. Must not be called by a sink.
    ///
    /// What a sink itself causes is not told to it.
    pub fn set_on_event(&self, level: LogLevel, sink: impl Fn(&Event<'_>) + Send + Sync + 'static) {
        self.services.events.set_sink(Some((level, Box::new(sink))));
    }

    /// Nobody hears of events any more; see [`set_on_event`](Engine::set_on_event).
    pub fn clear_on_event(&self) {
        self.services.events.set_sink(None);
    }

    /// Opens a queue that keeps events from now on: `kinds` is a sum of [`EventKind::bit`], of which unknown ones mean
    /// nothing. At most `capacity` wait, 1 to 65536; what finds no room is counted by [`EventQueue::lost`]. Nobody who has
    /// something to say ever waits for room. There may be several queues, each with kinds and a capacity of its own.
    ///
    /// Fails with [`Error::State`](crate::Error::State) when the engine has ended.
    pub fn events(&self, kinds: u32, capacity: usize) -> Result<EventQueue> {
        if !(1..=EVENTS_MAX).contains(&capacity) {
            let range = format!("must be 1 to {EVENTS_MAX}");
            return Err(SpecError::new("capacity", &capacity.to_string(), 0, range).into());
        }
        self.check_not_ended()?;
        let known: u32 = EventKind::ALL.iter().map(|kind| kind.bit()).sum();
        self.services.events.open_queue(kinds & known, capacity)
    }

    /// How many events found no room, in all queues that there are and were.
    pub fn events_lost(&self) -> u64 {
        self.services.events.lost()
    }

    /// Opens a tap: from now on there is a record of each message and of what became of it, for [`Tap::read`]. A worker
    /// writes it before it hands the answer to the kernel, so whoever has read an answer finds the record. There may be
    /// several taps, opened and closed while messages flow; while one is open, messages cost a little more.
    ///
    /// Records say what was known when the message was processed. Bytes of prefaces, greetings of transforms, and what a
    /// layer around a stream says for its own sake are no messages.
    ///
    /// Fails with [`Error::Handle`](crate::Error::Handle) when there is no such listener, with [`Error::Spec`](crate::Error::Spec) for a capacity out of range, and
    /// with [`Error::State`](crate::Error::State) when the engine has ended.
    pub fn tap(&self, options: TapOptions) -> Result<Tap> {
        let listener = options.listener.map(|id| self.find(id)).transpose()?;
        let settings = Settings {
            answers: options.answers,
            listener: listener.map_or(0, |listener| listener.id),
            capacity_bytes: options.capacity_bytes,
            data_bytes_max: options.data_bytes_max,
        };
        self.check_not_ended()?;
        Tap::open(&self.taps, settings)
    }

    /// One that never ran has ended as soon as it is told to: nothing will come any more.
    fn check_not_ended(&self) -> Result<()> {
        let has_ended = self.core.get().is_none() && self.is_ending();
        if has_ended { Err(Error::State("the engine has ended")) } else { Ok(()) }
    }
}

/// What a tap keeps; the default: the messages of all listeners, without their answers, in 4 MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TapOptions {
    /// The answers too.
    pub answers: bool,
    /// One listener; `None`: all, also those that are added later.
    pub listener: Option<ListenerId>,
    /// Memory for records that wait, 4 KiB to 1 GiB; 0: 4 MiB.
    pub capacity_bytes: usize,
    /// Bytes that are kept of a message, and of an answer, at most; 0, and no more than: a quarter of the capacity.
    pub data_bytes_max: usize,
}

//! Events, for an owner that asks for them when the engine is there already.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use super::state::Engine;
use crate::error::{Result, SpecError};
use crate::event::{Event, EventKind, EventRecord, LogLevel};
use crate::limits::EVENTS_MAX;

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

    /// Which events are kept from now on for [`next_event`](Engine::next_event): a sum of [`EventKind::bit`], of which
    /// unknown ones mean nothing. At most `capacity` wait, 1 to 65536, which the first call decides; what finds no
    /// room is counted by [`events_lost`](Engine::events_lost). Nobody who has something to say ever waits for room.
    pub fn keep_events(&self, kinds: u32, capacity: usize) -> Result<()> {
        if !(1..=EVENTS_MAX).contains(&capacity) {
            let range = format!("must be 1 to {EVENTS_MAX}");
            return Err(SpecError::new("capacity", &capacity.to_string(), 0, range).into());
        }
        let known: u32 = EventKind::ALL.iter().map(|kind| kind.bit()).sum();
        self.services.events.set_kinds(kinds & known, capacity)
    }

    /// Takes the first event that waits, or waits for one, at most `timeout` (`None`: until the engine has ended).
    /// `None`: there was none in that time. Fails with [`Error::State`](crate::Error::State) when no events were asked
    /// for, and when the engine has ended and all were taken; with `Interrupted` when a signal came meanwhile.
    pub fn next_event(&self, timeout: Option<Duration>) -> Result<Option<EventRecord>> {
        self.services.events.next(timeout)
    }

    /// A descriptor that is readable while events wait, and for ever once the engine has ended. It belongs to the
    /// engine.
    pub fn event_fd(&self) -> Result<BorrowedFd<'_>> {
        self.services.events.queue_fd()
    }

    /// How many events found no room.
    pub fn events_lost(&self) -> u64 {
        self.services.events.lost()
    }
}

//! Events that wait to be taken: bounded, and nobody who has something to say ever waits.
//!
//! ```text
//! workers ── try_send ──> channel of `capacity` records ── try_recv ──> whoever calls next()
//!    └── the first of several writes ──> eventfd ── readable ──> poll(2), or the host's own loop
//! ```
//!
//! A record that finds no room is counted and forgotten. An engine may have several queues, each with its own kinds of
//! events and its own capacity.

use std::fmt::{self, Write};
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::description::{Event, EventCause, EventKind, LogLevel};
use crate::error::{Error, Result};
use crate::signal::Signal;
use crate::sys;

/// The longest text of a record; what is longer is cut.
pub const EVENT_TEXT_BYTES_MAX: usize = 95;

/// An event that was kept.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct EventRecord {
    /// How important.
    pub level: LogLevel,
    /// What about.
    pub kind: EventKind,
    /// The listener's number, or 0.
    pub listener_id: u64,
    /// The connection's number in this engine, or 0.
    pub connection: u64,
    /// What is behind it.
    pub cause: Option<EventCause>,
    /// When it happened, in nanoseconds of `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    text: Text,
}

impl EventRecord {
    fn of(event: &Event<'_>) -> EventRecord {
        let mut text = Text { bytes: [0; EVENT_TEXT_BYTES_MAX], len: 0, is_cut: false };
        // Writing cannot fail: what does not fit is left out.
        let _ = match event.peer {
            Some(peer) => write!(text, "{peer}: {}", event.text),
            None => write!(text, "{}", event.text),
        };
        EventRecord {
            level: event.level,
            kind: event.kind,
            listener_id: event.listener_id,
            connection: event.connection,
            cause: event.cause,
            time_ns: sys::monotonic_nanos(),
            text,
        }
    }

    /// The peer, where one is concerned, and the rest, in words; at most [`EVENT_TEXT_BYTES_MAX`] bytes.
    pub fn text(&self) -> &str {
        let bytes = self.text.bytes.get(..usize::from(self.text.len)).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }
}

impl fmt::Debug for EventRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventRecord({} {} {})", self.level.name(), self.kind.name(), self.text())
    }
}

/// Words that are cut where they are too long.
#[derive(Clone, Copy)]
struct Text {
    bytes: [u8; EVENT_TEXT_BYTES_MAX],
    len: u8,
    is_cut: bool,
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.is_cut {
            return Ok(());
        }
        let start = usize::from(self.len);
        let mut fits = text.len().min(EVENT_TEXT_BYTES_MAX - start);
        while !text.is_char_boundary(fits) {
            fits -= 1;
        }
        self.is_cut = fits < text.len();
        if let (Some(to), Some(from)) = (self.bytes.get_mut(start..start + fits), text.as_bytes().get(..fits))
        {
            to.copy_from_slice(from);
            self.len += fits as u8;
        }
        Ok(())
    }
}

/// See the module's documentation.
pub(super) struct Queue {
    /// The bits of the kinds that it takes.
    pub(super) kinds: u32,
    // Nobody waits in this channel, which would leave something with the thread: that is what the signal is for.
    records: SyncSender<EventRecord>,
    /// Only those who take from the queue ever wait for this.
    waiting: Mutex<Receiver<EventRecord>>,
    signal: Signal,
    lost: AtomicU64,
}

impl Queue {
    pub(super) fn new(kinds: u32, capacity: usize) -> io::Result<Queue> {
        // A channel ends the process where there is no memory for it: whoever may not have so much hears of it here.
        let is_there = Vec::<EventRecord>::new().try_reserve_exact(capacity);
        is_there.map_err(|_| io::Error::from_raw_os_error(libc::ENOMEM))?;
        let (records, waiting) = mpsc::sync_channel(capacity);
        Ok(Queue {
            kinds,
            records,
            waiting: Mutex::new(waiting),
            signal: Signal::new()?,
            lost: AtomicU64::new(0),
        })
    }

    /// Keeps an event, if there is room: whether there was.
    pub(super) fn push(&self, event: &Event<'_>) -> bool {
        let is_kept = self.records.try_send(EventRecord::of(event)).is_ok();
        if !is_kept {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        self.signal.raise();
        is_kept
    }

    /// Readable while events wait, and for ever once the engine has ended.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.signal.fd()
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    pub(super) fn end(&self) {
        self.signal.end();
    }

    /// Takes the first event, for which it waits at most `timeout` (`None`: until the engine has ended). `None`: the
    /// time is up. Fails with `State` when the engine has ended and nothing is left, and with `Interrupted` when a
    /// signal came while it waited.
    pub(super) fn next(&self, timeout: Option<Duration>) -> Result<Option<EventRecord>> {
        let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let has_ended = self.signal.has_ended();
            if let Some(record) = self.take() {
                return Ok(Some(record));
            }
            if has_ended {
                return Err(Error::State("the engine has ended and its queue of events is empty"));
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Ok(None);
            }
            self.signal.wait(left).map_err(Error::system("wait for events"))?;
        }
    }

    fn take(&self) -> Option<EventRecord> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(record) = waiting.try_recv() {
            return Some(record);
        }
        self.signal.lower();
        // What came before that moment has signalled in vain.
        let record = waiting.try_recv().ok();
        if record.is_some() {
            self.signal.raise();
        }
        record
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("lost", &self.lost).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::thread;

    fn emit(queue: &Queue, text: &str) {
        let _ = queue.push(&Event {
            level: LogLevel::Info,
            kind: EventKind::Engine,
            listener: "",
            listener_id: 7,
            connection: 8,
            peer: None,
            cause: Some(EventCause::System(9)),
            text: &text,
        });
    }

    fn is_readable(queue: &Queue) -> bool {
        queue.signal.wait(Some(Duration::ZERO)).unwrap()
    }

    #[test]
    fn events_come_in_order_and_those_beyond_the_capacity_are_counted() {
        let queue = Queue::new(u32::MAX, 2).unwrap();
        assert!(!is_readable(&queue));
        for text in ["one", "two", "three"] {
            emit(&queue, text);
        }
        assert!(is_readable(&queue));
        let first = queue.next(Some(Duration::ZERO)).unwrap().unwrap();
        assert_eq!((first.text(), first.listener_id, first.connection), ("one", 7, 8));
        assert_eq!(queue.next(None).unwrap().unwrap().text(), "two");
        assert!(queue.next(Some(Duration::ZERO)).unwrap().is_none());
        assert!(!is_readable(&queue));
        assert_eq!(queue.lost(), 1);
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let queue = Queue::new(u32::MAX, 1).unwrap();
        emit(&queue, &format!("{}ä and more", "x".repeat(EVENT_TEXT_BYTES_MAX - 1)));
        let record = queue.next(None).unwrap().unwrap();
        assert_eq!(record.text(), "x".repeat(EVENT_TEXT_BYTES_MAX - 1));
    }

    #[test]
    fn the_end_wakes_everybody_and_stays() {
        let queue = Arc::new(Queue::new(u32::MAX, 4).unwrap());
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let queue = Arc::clone(&queue);
                thread::spawn(move || queue.next(None))
            })
            .collect();
        queue.end();
        for thread in waiting {
            assert!(matches!(thread.join().unwrap(), Err(Error::State(_))));
        }
        assert!(is_readable(&queue));
        assert!(matches!(queue.next(Some(Duration::ZERO)), Err(Error::State(_))));
    }

    #[test]
    fn nothing_is_lost_between_several_who_say_and_several_who_take() {
        const EACH: usize = 2000;
        let queue = Arc::new(Queue::new(u32::MAX, 4 * EACH).unwrap());
        let takers: Vec<_> = (0..2)
            .map(|_| {
                let queue = Arc::clone(&queue);
                thread::spawn(move || {
                    let mut taken = 0;
                    while let Ok(record) = queue.next(None) {
                        taken += usize::from(record.is_some());
                    }
                    taken
                })
            })
            .collect();
        let sayers: Vec<_> = (0..4)
            .map(|_| {
                let queue = Arc::clone(&queue);
                thread::spawn(move || (0..EACH).for_each(|_| emit(&queue, "x")))
            })
            .collect();
        sayers.into_iter().for_each(|thread| thread.join().unwrap());
        queue.end();
        let taken: usize = takers.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert_eq!((taken, queue.lost()), (4 * EACH, 0));
    }
}

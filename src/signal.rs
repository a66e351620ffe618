//! Tells a reader that something waits for it: a descriptor for poll(2), which a writer makes readable at most once until
//! the reader has found nothing left.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::sys;

/// An eventfd, and whether it is readable.
#[derive(Debug)]
pub(crate) struct Signal {
    event: OwnedFd,
    /// `event` is readable, or about to be.
    is_raised: AtomicBool,
    has_ended: AtomicBool,
}

impl Signal {
    pub(crate) fn new() -> io::Result<Signal> {
        Ok(Signal {
            event: sys::event_fd()?,
            is_raised: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
        })
    }

    /// Something waits.
    pub(crate) fn raise(&self) {
        if !self.is_raised.swap(true, Ordering::AcqRel) {
            sys::signal(self.event.as_fd());
        }
    }

    /// Nothing seems to wait. The caller looks once more after this, and raises the signal again if there is something:
    /// what came before has signalled in vain. Without an effect once nothing more will come.
    pub(crate) fn lower(&self) {
        if !self.has_ended() {
            sys::clear(self.event.as_fd());
            // Not a store: what was written before another's swap must be seen by the caller.
            self.is_raised.swap(false, Ordering::AcqRel);
            if self.has_ended() {
                self.raise();
            }
        }
    }

    /// Nothing more will come: readable for ever.
    pub(crate) fn end(&self) {
        self.has_ended.store(true, Ordering::Release);
        self.raise();
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    /// Waits until it is raised, at most `timeout` (`None`: for ever).
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> io::Result<bool> {
        sys::wait_readable(self.event.as_fd(), timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_readable(signal: &Signal) -> bool {
        signal.wait(Some(Duration::ZERO)).unwrap()
    }

    #[test]
    fn a_signal_stays_until_it_is_lowered_and_the_end_stays_for_ever() {
        let signal = Signal::new().unwrap();
        assert!(!is_readable(&signal));
        signal.raise();
        signal.raise();
        assert!(is_readable(&signal));
        signal.lower();
        assert!(!is_readable(&signal));
        signal.end();
        signal.lower();
        assert!(is_readable(&signal) && signal.has_ended());
    }
}

//! What a child of fork(2) does with the copy of an engine that it finds itself with.
//!
//! It has none of the engine's threads, and what those were changing is half changed for ever. All that can be done is to
//! close the copies of the descriptors, so that peers see it when the parent closes theirs. Nothing is told to the
//! kernel beyond that: the epoll instance, the sockets and the files of unix sockets are the parent's.

use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use super::{Core, Engine};
use crate::driver::hybrid::Hybrid;
use crate::sys::{self, Descriptors};

/// What one driver has open.
pub(super) struct Copies {
    sockets: Arc<Descriptors>,
    poll: RawFd,
    waker: RawFd,
}

impl Copies {
    pub(super) fn of(driver: &Hybrid) -> Copies {
        Copies { sockets: Arc::clone(driver.descriptors()), poll: driver.poll_fd(), waker: driver.waker_fd() }
    }

    fn list(&self) -> Vec<RawFd> {
        let mut found = self.sockets.list();
        found.extend([self.poll, self.waker]);
        found
    }
}

impl Core {
    fn copies(&self) -> Vec<RawFd> {
        let mut found: Vec<_> = self.copies.iter().flat_map(Copies::list).collect();
        let mailboxes = self.shared.mailboxes.iter();
        found.extend(mailboxes.flat_map(|mailbox| mailbox.sockets(AsRawFd::as_raw_fd)));
        found
    }
}

impl Engine {
    /// For a child of fork(2), in place of dropping the engine: closes the child's copies of the engine's descriptors.
    /// The parent's engine goes on undisturbed. The memory stays taken, and no destructor of a transform runs.
    ///
    /// A connection that the parent's engine was just accepting may stay open in the child until it ends.
    pub fn abandon(self) {
        let engine = ManuallyDrop::new(self);
        let mut copies = engine.core.get().map(Core::copies).unwrap_or_default();
        // Somebody may have held it when the child was made; nobody ever lets go of it here.
        if let Ok(control) = engine.control.try_lock() {
            copies.extend(control.waiting.iter().map(|waiting| waiting.socket.as_raw_fd()));
            copies.extend(control.listeners.iter().filter_map(|listener| listener.file_descriptor()));
        }
        copies.extend(engine.services.events.queue_fd().map(|fd| fd.as_raw_fd()));
        copies.sort_unstable();
        copies.dedup();
        copies.into_iter().for_each(sys::close_copy);
    }
}

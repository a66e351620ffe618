//! What a child of fork(2) does with the copy of an engine that it finds itself with.
//!
//! It has none of the engine's threads, and what those were changing is half changed for ever. All that can be done is to
//! close the copies of the descriptors, so that peers see it when the parent closes theirs. Nothing else is done in the
//! kernel: the epoll instance, the sockets and the files of unix sockets are the parent's.

use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, RawFd};

use super::inherited_fds::InheritedFds;
use super::state::{Core, Engine};
use crate::sys;

impl Core {
    fn inherited_fds(&self) -> Vec<RawFd> {
        let mut found: Vec<_> = self.inherited_fds.iter().flat_map(InheritedFds::list).collect();
        let mailboxes = self.shared.mailboxes.iter();
        found.extend(mailboxes.flat_map(|mailbox| mailbox.sockets(AsRawFd::as_raw_fd)));
        found
    }
}

impl Engine {
    /// For a child of fork(2), in place of dropping the engine: closes the child's copies of the engine's descriptors.
    /// The parent's engine goes on undisturbed. The memory stays taken, and no destructor of a transform runs. Taps and
    /// queues of events live for themselves: [`Tap::abandon`](crate::Tap::abandon),
    /// [`EventQueue::abandon`](crate::EventQueue::abandon).
    ///
    /// A connection that the parent's engine was just accepting may stay open in the child until it ends.
    pub fn abandon(self) {
        let engine = ManuallyDrop::new(self);
        let mut inherited = engine.core.get().map(Core::inherited_fds).unwrap_or_default();
        // Another thread of the parent may have held the lock at the fork; in the child nothing ever unlocks it.
        if let Ok(control) = engine.control.try_lock() {
            inherited.extend(control.waiting.iter().map(|waiting| waiting.socket.as_raw_fd()));
            inherited.extend(control.listeners.iter().filter_map(|listener| listener.file_descriptor()));
        }
        // As what is sorted elsewhere too: each type that is sorted takes code of its own.
        let mut inherited: Vec<u64> = inherited.into_iter().map(|fd| fd as u64).collect();
        inherited.sort_unstable();
        inherited.dedup();
        inherited.into_iter().for_each(|fd| sys::close_copy(fd as RawFd));
    }
}

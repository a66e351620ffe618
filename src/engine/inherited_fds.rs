//! The descriptors of a driver, as a child of fork(2) finds them.

use std::os::fd::RawFd;
use std::sync::Arc;

use crate::driver::hybrid::Hybrid;
use crate::sys::Descriptors;

/// The descriptors of one driver, which a child of fork(2) inherits.
pub(super) struct InheritedFds {
    sockets: Arc<Descriptors>,
    poll: RawFd,
    waker: RawFd,
}

impl InheritedFds {
    pub(super) fn of(driver: &Hybrid) -> InheritedFds {
        InheritedFds {
            sockets: Arc::clone(driver.descriptors()),
            poll: driver.poll_fd(),
            waker: driver.waker_fd(),
        }
    }

    pub(super) fn list(&self) -> Vec<RawFd> {
        let mut found = self.sockets.list();
        found.extend([self.poll, self.waker]);
        found
    }
}

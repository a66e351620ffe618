//! Which taps are open.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::channel::{Channel, Settings};
use crate::error::{Error, Result};
use crate::lock::lock;

/// The open taps of an engine.
#[derive(Default)]
pub(crate) struct Taps {
    /// 0: no tap is open. Changes with every tap that is opened or closed.
    pub(super) version: AtomicU64,
    pub(super) open: Mutex<Open>,
}

#[derive(Default)]
pub(super) struct Open {
    pub(super) channels: Vec<Arc<Channel>>,
    last_version: u64,
    notify: Option<Arc<Notify>>,
    has_ended: bool,
}

/// Makes every worker look which taps are open.
type Notify = dyn Fn() + Send + Sync;

impl Taps {
    pub(super) fn open(&self, settings: Settings) -> Result<Arc<Channel>> {
        let channel = Arc::new(Channel::new(settings)?);
        let mut open = lock(&self.open);
        if open.has_ended {
            return Err(Error::State("the engine has ended"));
        }
        open.channels.push(Arc::clone(&channel));
        self.changed(open);
        Ok(channel)
    }

    pub(super) fn close(&self, channel: &Arc<Channel>) {
        let mut open = lock(&self.open);
        open.channels.retain(|other| !Arc::ptr_eq(other, channel));
        self.changed(open);
    }

    fn changed(&self, mut open: MutexGuard<'_, Open>) {
        open.last_version += 1;
        let version = if open.channels.is_empty() { 0 } else { open.last_version };
        self.version.store(version, Ordering::SeqCst);
        let notify = open.notify.clone();
        drop(open);
        if let Some(notify) = notify {
            notify();
        }
    }

    /// What makes every worker look which taps are open, once there are workers.
    pub(crate) fn set_notify(&self, notify: impl Fn() + Send + Sync + 'static) {
        lock(&self.open).notify = Some(Arc::new(notify));
    }

    /// Nothing more will come.
    pub(crate) fn end(&self) {
        let mut open = lock(&self.open);
        open.has_ended = true;
        open.channels.iter().for_each(|channel| channel.signal.end());
    }
}

impl fmt::Debug for Taps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Taps").field("version", &self.version).finish_non_exhaustive()
    }
}

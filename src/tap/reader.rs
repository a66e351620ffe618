//! The end of a tap that its owner has.

use std::fmt;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::channel::{Channel, Settings};
use super::record::TapRecord;
use super::registry::Taps;
use crate::error::{Error, Result};
use crate::limits::TAP_NAP;
use crate::lock::lock;
use crate::sys;

/// An open tap; see [`Engine::tap`](crate::Engine::tap). Dropping it closes it.
pub struct Tap {
    channel: Arc<Channel>,
    taps: Arc<Taps>,
}

impl Tap {
    pub(crate) fn open(taps: &Arc<Taps>, settings: Settings) -> Result<Tap> {
        Ok(Tap { channel: taps.open(settings)?, taps: Arc::clone(taps) })
    }

    /// Calls `take` with each record that waits, in their order, until it returns false: that record, and those behind it,
    /// wait for the next call. It must not call the tap. Waits for the first one for at most `timeout` (`None`: until the engine has ended). Returns
    /// how many were taken.
    ///
    /// While records keep coming, a call that waits sleeps for up to a millisecond and then takes many at once, so that
    /// the workers need not wake it for each.
    ///
    /// Fails with [`Error::State`] when the engine has ended and all were taken, with `Interrupted` when a signal came while it
    /// waited, and with `OutOfMemory` where there is no memory for the next record, which waits. Of several threads that call it, each record goes to one.
    pub fn read(
        &self,
        timeout: Option<Duration>,
        mut take: impl FnMut(&TapRecord<'_>) -> bool,
    ) -> Result<usize> {
        let Channel { signal, reader, .. } = &*self.channel;
        let no_memory = |error| Error::system("read a record of a tap")(error);
        let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let has_ended = signal.has_ended();
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let mut reader = lock(reader);
            if let Some(taken) = self.channel.drain(&mut reader, &mut take).map_err(no_memory)? {
                reader.is_busy = true;
                return Ok(taken);
            }
            if has_ended {
                return Err(Error::State("the engine has ended and its tap is empty"));
            }
            let was_busy = std::mem::take(&mut reader.is_busy);
            if was_busy && left != Some(Duration::ZERO) {
                // The signal stays raised meanwhile, so that workers make no system call.
                drop(reader);
                thread::sleep(left.map_or(TAP_NAP, |left| left.min(TAP_NAP)));
                continue;
            }
            signal.lower();
            if let Some(taken) = self.channel.drain(&mut reader, &mut take).map_err(no_memory)? {
                // What came before that moment has signalled in vain.
                signal.raise();
                reader.is_busy = true;
                return Ok(taken);
            }
            drop(reader);
            if left == Some(Duration::ZERO) {
                return Ok(0);
            }
            signal.wait(left).map_err(Error::system("wait for the records of a tap"))?;
        }
    }

    /// A descriptor that is readable while records wait, at the latest when the worker's turn ends that wrote them, and for
    /// ever once the engine has ended. It belongs to the tap. [`read`](Tap::read) until it returns 0.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.channel.signal.fd()
    }

    /// How many records found no room.
    pub fn lost(&self) -> u64 {
        self.channel.ring.lost()
    }

    #[cfg(test)]
    pub(super) fn weak(&self) -> std::sync::Weak<Channel> {
        Arc::downgrade(&self.channel)
    }

    /// For a child of fork(2), in place of dropping it: closes the child's copy of the descriptor and nothing else.
    pub fn abandon(self) {
        let tap = ManuallyDrop::new(self);
        sys::close_copy(tap.fd().as_raw_fd());
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.taps.close(&self.channel);
    }
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tap").field("lost", &self.lost()).finish_non_exhaustive()
    }
}

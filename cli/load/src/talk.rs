//! What a loop needs of one connection, of whatever kind.

use std::time::Instant;

use rustix::io::Errno;

use crate::plan::ns;
use crate::script::Script;
use crate::tally::{Counts, Tally};

/// One connection: messages go out, their answers come in and are compared.
///
/// Readiness is told once a change, so [`receive`](Talk::receive) takes all that is there, and a
/// [`send`](Talk::send) that the kernel refuses is tried again when it says so.
pub(crate) trait Talk {
    /// One more message is due: now, or when its schedule says.
    fn grant(&mut self, now: u64);

    /// Sends what is due, as far as the kernel and the limit of messages in flight let it.
    fn send(&mut self, turn: &mut Turn<'_>) -> Result<(), Broken>;

    /// The kernel has room again: what it refused may be tried once more.
    fn unblock(&mut self);

    /// Takes what has come into `buffer`, compares it, and grants the next messages where answers bring them.
    /// `to_end`: until the kernel says that there is no more.
    fn receive(&mut self, to_end: bool, buffer: &mut [u8], turn: &mut Turn<'_>) -> Result<(), Broken>;

    /// Gives up what was not answered in time, where answers can be lost.
    fn expire(&mut self, turn: &mut Turn<'_>);

    /// Whether something waits to be sent or answered.
    fn is_busy(&self) -> bool;

    /// Nothing is sent or answered any more.
    fn give_up(&mut self, now: u64, tally: &mut Tally);
}

/// What connections share while one of them is served.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    pub(crate) script: &'a Script,
    pub(crate) tally: &'a mut Tally,
    pub(crate) clock: Clock,
    /// The time when it was last looked at.
    pub(crate) now: u64,
    /// An answer brings the next message, until then.
    pub(crate) refill_until: u64,
    pub(crate) lost_after: u64,
}

impl Turn<'_> {
    pub(crate) fn look_at_clock(&mut self) {
        self.now = self.clock.now();
    }

    pub(crate) fn refills(&self) -> bool {
        self.now < self.refill_until
    }
}

/// Nanoseconds since the connections were made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(pub(crate) Instant);

impl Clock {
    pub(crate) fn now(self) -> u64 {
        ns(self.0.elapsed())
    }
}

/// How a connection came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The server ended it.
    Ended,
    Reset,
    /// Nobody is there (any more).
    Refused,
    Failed(Errno),
}

impl Broken {
    pub(crate) fn count(self, counts: &mut Counts) {
        match self {
            Broken::Ended => counts.ended += 1,
            Broken::Reset => counts.reset += 1,
            Broken::Refused => counts.refused += 1,
            Broken::Failed(_) => counts.failed += 1,
        }
    }
}

impl From<Errno> for Broken {
    fn from(error: Errno) -> Broken {
        match error {
            Errno::CONNRESET | Errno::PIPE | Errno::CONNABORTED | Errno::NOTCONN => Broken::Reset,
            Errno::CONNREFUSED | Errno::NOENT => Broken::Refused,
            error => Broken::Failed(error),
        }
    }
}

//! Time in a worker: one monotonic clock reading a turn, and deadlines in order.

use std::collections::BTreeSet;
use std::num::NonZeroU16;
use std::time::Duration;

use crate::slab::Token;

/// A point of a driver's monotonic clock, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Moment(u64);

impl Moment {
    /// No point at all: later than any other.
    pub(crate) const NEVER: Moment = Moment(u64::MAX);

    pub(crate) fn from_micros(micros: u64) -> Moment {
        Moment(micros)
    }

    pub(crate) fn as_micros(self) -> u64 {
        self.0
    }

    /// In nanoseconds.
    pub(crate) fn nanos(self) -> u64 {
        self.0.saturating_mul(1000)
    }

    pub(crate) fn after(self, duration: Duration) -> Moment {
        Moment(self.0.saturating_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
    }

    /// How long until `later`; zero when it has passed.
    pub(crate) fn until(self, later: Moment) -> Duration {
        Duration::from_micros(later.0.saturating_sub(self.0))
    }
}

/// Tells a worker's turns apart, of late: after 65,535 of them a number comes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TurnNumber(NonZeroU16);

impl TurnNumber {
    pub(crate) const FIRST: TurnNumber = TurnNumber(NonZeroU16::MIN);

    pub(crate) fn next(self) -> TurnNumber {
        self.0.checked_add(1).map_or(TurnNumber::FIRST, TurnNumber)
    }
}

/// Deadlines of sockets, at most one each. Arming and disarming is exact: a closed socket leaves nothing behind.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    by_deadline: BTreeSet<(Moment, Token)>,
}

impl Timers {
    /// Replaces the deadline that `armed` remembers by `deadline`.
    pub(crate) fn arm(&mut self, token: Token, armed: &mut Moment, deadline: Moment) {
        if *armed == deadline {
            return;
        }
        if *armed != Moment::NEVER {
            self.by_deadline.remove(&(*armed, token));
        }
        if deadline != Moment::NEVER {
            self.by_deadline.insert((deadline, token));
        }
        *armed = deadline;
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Moment {
        self.by_deadline.first().map_or(Moment::NEVER, |(deadline, _)| *deadline)
    }

    /// Takes one deadline that has passed. Its owner must then hold it for [`Moment::NEVER`].
    pub(crate) fn pop(&mut self, now: Moment) -> Option<Token> {
        let (deadline, _) = self.by_deadline.first()?;
        if *deadline > now { None } else { self.by_deadline.pop_first().map(|(_, token)| token) }
    }

    #[cfg(any(test, fuzzing))]
    pub(crate) fn is_empty(&self) -> bool {
        self.by_deadline.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_come_in_order_and_leave_nothing() {
        let mut timers = Timers::default();
        let (a, b) = (Token::new(1, 0), Token::new(2, 0));
        let (mut armed_a, mut armed_b) = (Moment::NEVER, Moment::NEVER);
        timers.arm(a, &mut armed_a, Moment(20));
        timers.arm(b, &mut armed_b, Moment(10));
        timers.arm(a, &mut armed_a, Moment(5));
        assert_eq!(timers.next(), Moment(5));
        assert_eq!(timers.pop(Moment(4)), None);
        assert_eq!(timers.pop(Moment(7)), Some(a));
        timers.arm(b, &mut armed_b, Moment::NEVER);
        assert!(timers.is_empty());
        assert_eq!(timers.next(), Moment::NEVER);
    }
}

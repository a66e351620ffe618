//! When the messages of one connection are, or were, due.

use std::collections::VecDeque;

/// Turn by turn over all connections: message `j` of connection `c` of `n` is due when `j * n + c` messages are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    pub(crate) ns_per_message: f64,
    pub(crate) connections: usize,
}

impl Schedule {
    pub(crate) fn due(&self, connection: usize, message: u64) -> u64 {
        ((message * self.connections as u64 + connection as u64) as f64 * self.ns_per_message) as u64
    }
}

/// The messages of one connection that are granted and not done with, oldest first.
#[derive(Debug)]
pub(crate) enum Due {
    /// A closed loop: there are as many as may be in flight.
    Listed(VecDeque<u64>),
    /// An open loop. There may be any number, so only their numbers are kept.
    Scheduled { schedule: Schedule, connection: usize, done: u64, granted: u64 },
}

impl Due {
    /// `schedule`: that of an open loop. `room`: messages in flight of a closed one.
    pub(crate) fn new(schedule: Option<Schedule>, connection: usize, room: usize) -> Due {
        match schedule {
            None => Due::Listed(VecDeque::with_capacity(room + 1)),
            Some(schedule) => Due::Scheduled { schedule, connection, done: 0, granted: 0 },
        }
    }

    /// One more is granted, at this time or, with a schedule, at the next of its own.
    pub(crate) fn grant(&mut self, now: u64) {
        match self {
            Due::Listed(list) => list.push_back(now),
            Due::Scheduled { granted, .. } => *granted += 1,
        }
    }

    /// When the oldest was due; it is done with.
    pub(crate) fn pop(&mut self) -> Option<u64> {
        match self {
            Due::Listed(list) => list.pop_front(),
            Due::Scheduled { schedule, connection, done, granted } => (*done < *granted).then(|| {
                *done += 1;
                schedule.due(*connection, *done - 1)
            }),
        }
    }

    pub(crate) fn len(&self) -> u64 {
        match self {
            Due::Listed(list) => list.len() as u64,
            Due::Scheduled { done, granted, .. } => granted - done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_says_when_each_was_due() {
        let schedule = Schedule { ns_per_message: 100.0, connections: 3 };
        let mut due = Due::new(Some(schedule), 1, 1);
        (0..3).for_each(|_| due.grant(0));
        assert_eq!(due.len(), 3);
        assert_eq!([due.pop(), due.pop(), due.pop(), due.pop()], [Some(100), Some(400), Some(700), None]);
        let mut listed = Due::new(None, 1, 1);
        listed.grant(7);
        assert_eq!((listed.len(), listed.pop(), listed.pop()), (1, Some(7), None));
    }
}

//! A channel from several threads to one, for answers to a thread that waits.
//!
//! It stands in for `std::sync::mpsc`, which keeps a block of memory for every thread that has waited once, until that
//! thread ends. The threads that wait here are the host's, and they would look to its leak checker as if they lost it.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::lock::lock;

/// A new channel. What the last sender sent can be received after it is gone.
pub(crate) fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared {
        state: Mutex::new(State { values: VecDeque::new(), senders: 1, has_receiver: true }),
        changed: Condvar::new(),
    });
    (Sender { shared: Arc::clone(&shared) }, Receiver { shared })
}

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<T> {
    values: VecDeque<T>,
    senders: usize,
    has_receiver: bool,
}

#[derive(Debug)]
pub(crate) struct Sender<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Sender<T> {
    /// Sends without waiting. A receiver that is gone does not miss it.
    pub(crate) fn send(&self, value: T) {
        let mut state = lock(&self.shared.state);
        if state.has_receiver {
            state.values.push_back(value);
            self.shared.changed.notify_one();
        }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        lock(&self.shared.state).senders += 1;
        Sender { shared: Arc::clone(&self.shared) }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = lock(&self.shared.state);
        state.senders -= 1;
        if state.senders == 0 {
            self.shared.changed.notify_one();
        }
    }
}

#[derive(Debug)]
pub(crate) struct Receiver<T> {
    shared: Arc<Shared<T>>,
}

/// Why there is nothing to receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nothing {
    /// Nothing has come in time.
    Yet,
    /// All senders are gone, and all that they sent has been received.
    Ever,
}

impl<T> Receiver<T> {
    /// What came first, waiting for it for at most `patience`.
    pub(crate) fn receive(&self, patience: Duration) -> Result<T, Nothing> {
        // A patience that no clock can count to is one without end.
        let until = Instant::now().checked_add(patience);
        let mut state = lock(&self.shared.state);
        loop {
            if let Some(value) = state.values.pop_front() {
                return Ok(value);
            }
            if state.senders == 0 {
                return Err(Nothing::Ever);
            }
            let left = until.map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Err(Nothing::Yet);
            }
            let woken = self.shared.changed.wait_timeout(state, left.min(LONGEST_WAIT));
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Longer ones are taken in parts.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let values = {
            let mut state = lock(&self.shared.state);
            state.has_receiver = false;
            std::mem::take(&mut state.values)
        };
        // They may hold senders of other channels, or of this one.
        drop(values);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::{Nothing, channel};

    #[test]
    fn all_that_was_sent_is_received_in_order_then_ever() {
        let (to, from) = channel();
        let other = to.clone();
        to.send(1);
        drop(to);
        assert_eq!(from.receive(Duration::ZERO), Ok(1));
        assert_eq!(from.receive(Duration::ZERO), Err(Nothing::Yet));
        other.send(2);
        drop(other);
        assert_eq!(from.receive(Duration::ZERO), Ok(2));
        assert_eq!(from.receive(Duration::MAX), Err(Nothing::Ever));
    }

    #[test]
    fn a_waiting_thread_hears_of_a_value_and_of_the_end() {
        let (to, from) = channel();
        let (ready, begun) = channel();
        let waits = thread::spawn(move || {
            ready.send(());
            (from.receive(Duration::MAX), from.receive(Duration::MAX))
        });
        assert_eq!(begun.receive(Duration::MAX), Ok(()));
        to.send(7);
        drop(to);
        assert_eq!(waits.join().expect("it ends"), (Ok(7), Err(Nothing::Ever)));
    }

    #[test]
    fn values_to_a_receiver_that_is_gone_are_dropped() {
        let (to, from) = channel();
        let held = std::sync::Arc::new(());
        to.send(std::sync::Arc::clone(&held));
        drop(from);
        to.send(std::sync::Arc::clone(&held));
        assert_eq!(std::sync::Arc::strong_count(&held), 1);
    }
}

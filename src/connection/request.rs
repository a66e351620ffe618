//! What a host may ask of a connection, and the room for what it sends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::limits::QUEUED_SEND_BYTES;

/// Something that the host asks of a connection.
#[derive(Debug)]
pub(crate) enum Request {
    Send(Unasked),
    /// Answer what has arrived, then end.
    ShutDown,
    /// Answer no more; send what waits, then end.
    Close,
    /// End at once.
    Reset,
    Pause,
    Resume,
}

/// Bytes of the host's for a peer that has not asked: of a stream the next bytes, else one record.
#[derive(Debug)]
pub(crate) struct Unasked {
    pub(crate) bytes: Vec<u8>,
    pub(crate) permit: Permit,
}

/// Room for what a host sends unasked, of one connection: all that the driver has not been given, wherever it waits.
#[derive(Debug)]
pub(crate) struct Account {
    waiting: AtomicUsize,
    most: usize,
}

impl Account {
    pub(crate) fn new(most: usize) -> Arc<Account> {
        Arc::new(Account { waiting: AtomicUsize::new(0), most })
    }

    /// Takes room for so many bytes, if there is as much.
    pub(crate) fn take(self: &Arc<Account>, bytes: usize) -> Option<Permit> {
        let cost = bytes.checked_add(QUEUED_SEND_BYTES)?;
        let has_room = |waiting: usize| waiting.checked_add(cost).filter(|sum| *sum <= self.most);
        self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, has_room).ok()?;
        Some(Permit { account: Arc::clone(self), cost })
    }
}

/// Room that was taken; it is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    account: Arc<Account>,
    cost: usize,
}

impl Permit {
    /// Adds another one of the same connection.
    pub(super) fn join(&mut self, mut other: Permit) {
        debug_assert!(Arc::ptr_eq(&self.account, &other.account), "one account a connection");
        self.cost += std::mem::take(&mut other.cost);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.account.waiting.fetch_sub(self.cost, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_taken_and_given_back_to_the_byte() {
        let account = Account::new(1000);
        let first = account.take(500).unwrap();
        assert!(account.take(500 - QUEUED_SEND_BYTES).is_none(), "each costs more than its bytes");
        let mut second = account.take(500 - 2 * QUEUED_SEND_BYTES).unwrap();
        assert!(account.take(0).is_none());
        drop(first);
        let third = account.take(400).unwrap();
        second.join(third);
        drop(second);
        assert_eq!(account.waiting.load(Ordering::Relaxed), 0);
        assert!(account.take(usize::MAX).is_none());
        assert!(account.take(1000 - QUEUED_SEND_BYTES).is_some());
    }
}

//! Answers that come later, from any thread.
//!
//! A function that cannot answer at once takes a *ticket*, and says so. Whoever knows the ticket's number may answer it,
//! once. The ticket itself stays with the connection or datagram that waits for the answer: when that is gone, so is the
//! ticket, and its number means nothing any more. Numbers are those of the process, so that no engine takes another one's.
//!
//! ```text
//! worker: issue ─> Ticket, kept with the message ──────────────────────────> answered, or given up: dropped
//! any thread:        number ─> claim ─> who waits for it ─> the worker's mailbox ─┘
//! ```

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::lock::lock;
use crate::slab::Token;

/// The tickets of one engine that wait for their answers.
#[derive(Debug, Default)]
pub(crate) struct Tickets {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: HashMap<u64, Waiting>,
    accounts: HashMap<Owner, Account>,
}

/// Who waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Owner {
    pub(crate) worker: usize,
    pub(crate) socket: Token,
}

#[derive(Debug)]
struct Waiting {
    owner: Owner,
    order: u64,
    answer_bytes_max: usize,
    /// The bytes of its answer, once it has one.
    answered_bytes: Option<usize>,
}

/// What one connection or socket has of tickets.
#[derive(Debug, Default)]
struct Account {
    /// The orders and numbers of its tickets.
    numbers: BTreeSet<(u64, u64)>,
    /// Bytes of answers that it has not taken over yet.
    bytes: usize,
    bytes_max: usize,
}

/// Why an answer is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unclaimed {
    /// No message waits for this answer, or not any more.
    Unknown,
    /// It is longer than an answer may be.
    TooLong,
    /// So many answers wait for earlier ones that this one has no room. The ticket remains.
    Full,
}

impl Tickets {
    /// Takes the right to answer a ticket. Who waits for it.
    ///
    /// The oldest ticket of a connection always has room: its answer is what the others wait for.
    pub(crate) fn claim(&self, number: u64, bytes: usize) -> Result<Owner, Unclaimed> {
        let mut state = lock(&self.state);
        let State { waiting, accounts } = &mut *state;
        let ticket = waiting.get_mut(&number).filter(|ticket| ticket.answered_bytes.is_none());
        let ticket = ticket.ok_or(Unclaimed::Unknown)?;
        let account = accounts.get_mut(&ticket.owner).ok_or(Unclaimed::Unknown)?;
        if bytes > ticket.answer_bytes_max {
            return Err(Unclaimed::TooLong);
        }
        let is_oldest = account.numbers.first() == Some(&(ticket.order, number));
        if !is_oldest && account.bytes.saturating_add(bytes) > account.bytes_max {
            return Err(Unclaimed::Full);
        }
        ticket.answered_bytes = Some(bytes);
        account.bytes += bytes;
        Ok(ticket.owner)
    }

    fn forget(&self, number: u64) {
        let mut state = lock(&self.state);
        let Some(Waiting { owner, order, answered_bytes, .. }) = state.waiting.remove(&number) else {
            return;
        };
        let Some(account) = state.accounts.get_mut(&owner) else { return };
        account.numbers.remove(&(order, number));
        account.bytes -= answered_bytes.unwrap_or(0);
        if account.numbers.is_empty() {
            state.accounts.remove(&owner);
        }
    }

    #[cfg(any(test, fuzzing))]
    pub(crate) fn count(&self) -> usize {
        lock(&self.state).waiting.len()
    }
}

/// Where a connection or datagram gets its tickets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TicketIssuer<'a> {
    pub(crate) tickets: &'a Arc<Tickets>,
    pub(crate) owner: Owner,
    /// Bytes of answers that may wait for earlier ones.
    pub(crate) waiting_bytes_max: usize,
    /// The order of the message's first ticket, where this is another one for the same message.
    pub(crate) order: Option<u64>,
}

impl TicketIssuer<'_> {
    /// Issues a ticket, for an answer of at most so many bytes.
    pub(crate) fn issue(&self, answer_bytes_max: usize) -> Ticket {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed) + 1;
        let (owner, order) = (self.owner, self.order.unwrap_or(number));
        let mut state = lock(&self.tickets.state);
        state.waiting.insert(number, Waiting { owner, order, answer_bytes_max, answered_bytes: None });
        let account = state.accounts.entry(owner).or_default();
        account.numbers.insert((order, number));
        account.bytes_max = self.waiting_bytes_max;
        drop(state);
        Ticket { tickets: Arc::clone(self.tickets), number, order }
    }
}

/// A message's right to an answer. Dropping it gives that up.
#[derive(Debug)]
pub(crate) struct Ticket {
    tickets: Arc<Tickets>,
    number: u64,
    order: u64,
}

impl Ticket {
    /// Where it stands among the tickets of its connection.
    pub(crate) fn order(&self) -> u64 {
        self.order
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.tickets.forget(self.number);
    }
}

/// An answer that has come: what the function would have answered.
#[derive(Debug)]
pub(crate) struct LateAnswer {
    pub(crate) ticket: u64,
    pub(crate) verdict: LateVerdict,
    pub(crate) bytes: Vec<u8>,
}

/// What is to become of a message whose answer came later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LateVerdict {
    Answer,
    Drop,
    Close,
    Reset,
    /// The code of a plugin's status.
    Fail(i32),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(socket: u32) -> Owner {
        Owner { worker: 0, socket: Token::new(socket, 0) }
    }

    fn issuer(tickets: &Arc<Tickets>, socket: u32) -> TicketIssuer<'_> {
        TicketIssuer { tickets, owner: owner(socket), waiting_bytes_max: 10, order: None }
    }

    #[test]
    fn a_ticket_is_answered_once_and_not_after_its_end() {
        let (tickets, others) = (Arc::new(Tickets::default()), Arc::new(Tickets::default()));
        let ticket = issuer(&tickets, 7).issue(100);
        assert_eq!(others.claim(ticket.number(), 1), Err(Unclaimed::Unknown), "another engine's");
        assert_eq!(tickets.claim(ticket.number(), 101), Err(Unclaimed::TooLong));
        assert_eq!(tickets.claim(ticket.number(), 1), Ok(owner(7)));
        assert_eq!(tickets.claim(ticket.number(), 1), Err(Unclaimed::Unknown), "twice");
        drop(ticket);
        let ticket = issuer(&tickets, 7).issue(100);
        let number = ticket.number();
        drop(ticket);
        assert_eq!(tickets.claim(number, 1), Err(Unclaimed::Unknown), "given up");
        assert_eq!((tickets.count(), lock(&tickets.state).accounts.len()), (0, 0));
    }

    #[test]
    fn answers_that_wait_for_earlier_ones_are_bounded_and_the_oldest_never_is() {
        let tickets = Arc::new(Tickets::default());
        let [first, second, third] = [(); 3].map(|()| issuer(&tickets, 1).issue(100));
        let elsewhere = issuer(&tickets, 2).issue(100);
        assert_eq!(tickets.claim(second.number(), 8), Ok(owner(1)));
        assert_eq!(tickets.claim(third.number(), 3), Err(Unclaimed::Full));
        assert_eq!(tickets.claim(elsewhere.number(), 3), Ok(owner(2)), "each has its own");
        assert_eq!(tickets.claim(first.number(), 100), Ok(owner(1)));
        drop((first, second));
        let again = TicketIssuer { order: Some(0), ..issuer(&tickets, 1) }.issue(100);
        assert_eq!(
            tickets.claim(third.number(), 100),
            Err(Unclaimed::Full),
            "a message before it waits again"
        );
        drop(again);
        assert_eq!(tickets.claim(third.number(), 100), Ok(owner(1)), "it is the oldest now");
    }
}

//! What a listener asks of its peers: who may come in, before anything of a connection is read, and how slow it may be.

mod pace;

pub(crate) use pace::Pace;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::peer::Peer;

/// Whom `max_per_peer` counts as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Party {
    V4(Ipv4Addr),
    /// The network part of an address: a host has the other 64 bits to itself (RFC 4291, section 2.5.1).
    V6Network([u8; 8]),
    User(u32),
}

impl Party {
    /// `user`: whose process a unix peer is.
    pub(crate) fn of(peer: &Peer, user: Option<u32>) -> Option<Party> {
        match peer {
            Peer::Ip(std::net::SocketAddr::V4(address)) => Some(Party::V4(*address.ip())),
            Peer::Ip(std::net::SocketAddr::V6(address)) => {
                let [a, b, c, d, e, f, g, h, ..] = address.ip().octets();
                Some(Party::V6Network([a, b, c, d, e, f, g, h]))
            }
            Peer::Path(_) | Peer::Abstract(_) | Peer::Unnamed => user.map(Party::User),
        }
    }
}

/// How many connections of a listener each party has. Used once when a connection begins and once when it ends, from
/// any worker.
#[derive(Debug)]
pub(crate) struct Seats {
    most: u32,
    taken: Mutex<HashMap<Party, u32>>,
}

/// One connection's part of them, which is free again once this is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    seats: Arc<Seats>,
    party: Party,
}

impl Seats {
    pub(crate) fn new(most: u32) -> Arc<Seats> {
        Arc::new(Seats { most, taken: Mutex::default() })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<Party, u32>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None`: this party has as many as it may have.
    pub(crate) fn take(self: &Arc<Self>, party: Party) -> Option<Box<Seat>> {
        let mut taken = self.taken();
        let count = taken.entry(party).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Box::new(Seat { seats: Arc::clone(self), party }))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.seats.taken().entry(self.party) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn party(address: &str) -> Party {
        Party::of(&Peer::Ip(address.parse().unwrap()), None).unwrap()
    }

    #[test]
    fn a_party_is_an_address_a_network_or_a_user() {
        assert_eq!(party("10.0.0.1:1"), party("10.0.0.1:2"));
        assert_ne!(party("10.0.0.1:1"), party("10.0.0.2:1"));
        assert_eq!(party("[2001:db8::1]:1"), party("[2001:db8:0:0:ffff::9]:1"));
        assert_ne!(party("[2001:db8::1]:1"), party("[2001:db8:0:1::1]:1"));
        assert_eq!(Party::of(&Peer::Unnamed, Some(7)), Some(Party::User(7)));
        assert_eq!(Party::of(&Peer::Unnamed, None), None);
    }

    #[test]
    fn seats_come_back_and_leave_nothing() {
        let seats = Seats::new(2);
        let (a, b) = (party("10.0.0.1:1"), party("10.0.0.2:1"));
        let first = seats.take(a).unwrap();
        let second = seats.take(a).unwrap();
        assert!(seats.take(a).is_none());
        let other = seats.take(b).unwrap();
        drop(first);
        let third = seats.take(a).unwrap();
        assert!(seats.take(a).is_none());
        drop((second, third, other));
        assert!(seats.taken().is_empty());
    }
}

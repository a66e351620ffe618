//! What a listener asks of its peers: who may come in, before anything of a connection is read, and how slow it may be.

mod amplification;
mod datagrams;
mod hash;
mod loops;
mod min_rate;
mod own;
mod prefixes;
mod rate;
mod slots;

pub(crate) use amplification::Amplification;
pub(crate) use datagrams::{DatagramGuard, DatagramRules};
pub(crate) use min_rate::MinRateMonitor;
pub(crate) use own::OwnAddresses;
pub use prefixes::Prefixes;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::peer::Peer;

/// Whom `max_per_peer` counts as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum PeerKey {
    V4(Ipv4Addr),
    /// The network part of an address: a host has the other 64 bits to itself (RFC 4291, section 2.5.1).
    V6Network([u8; 8]),
    User(u32),
}

impl PeerKey {
    /// `user`: whose process a unix peer is.
    pub(crate) fn of(peer: &Peer, user: Option<u32>) -> Option<PeerKey> {
        match peer {
            Peer::Ip(std::net::SocketAddr::V4(address)) => Some(PeerKey::V4(*address.ip())),
            Peer::Ip(std::net::SocketAddr::V6(address)) => {
                let [a, b, c, d, e, f, g, h, ..] = address.ip().octets();
                Some(PeerKey::V6Network([a, b, c, d, e, f, g, h]))
            }
            Peer::Path(_) | Peer::Abstract(_) | Peer::Unnamed => user.map(PeerKey::User),
        }
    }
}

/// How many connections of a listener each key has. Used once when a connection begins and once when it ends, from
/// any worker.
#[derive(Debug)]
pub(crate) struct PeerLimiter {
    most: u32,
    taken: Arc<Mutex<HashMap<PeerKey, u32>>>,
}

/// One connection's part of them, which is free again once this is dropped.
#[derive(Debug)]
pub(crate) struct PeerPermit {
    limiter: Arc<PeerLimiter>,
    key: PeerKey,
}

impl PeerLimiter {
    pub(crate) fn new(most: u32) -> Arc<PeerLimiter> {
        Arc::new(PeerLimiter { most, taken: Arc::default() })
    }

    /// The same connections under another limit.
    pub(crate) fn with_limit(&self, most: u32) -> Arc<PeerLimiter> {
        Arc::new(PeerLimiter { most, taken: Arc::clone(&self.taken) })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<PeerKey, u32>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None`: this key has as many as it may have.
    pub(crate) fn take(self: &Arc<Self>, key: PeerKey) -> Option<Box<PeerPermit>> {
        let mut taken = self.taken();
        let count = taken.entry(key).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Box::new(PeerPermit { limiter: Arc::clone(self), key }))
    }
}

impl Drop for PeerPermit {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.limiter.taken().entry(self.key) {
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

    fn key(address: &str) -> PeerKey {
        PeerKey::of(&Peer::Ip(address.parse().unwrap()), None).unwrap()
    }

    #[test]
    fn a_party_is_an_address_a_network_or_a_user() {
        assert_eq!(key("10.0.0.1:1"), key("10.0.0.1:2"));
        assert_ne!(key("10.0.0.1:1"), key("10.0.0.2:1"));
        assert_eq!(key("[2001:db8::1]:1"), key("[2001:db8:0:0:ffff::9]:1"));
        assert_ne!(key("[2001:db8::1]:1"), key("[2001:db8:0:1::1]:1"));
        assert_eq!(PeerKey::of(&Peer::Unnamed, Some(7)), Some(PeerKey::User(7)));
        assert_eq!(PeerKey::of(&Peer::Unnamed, None), None);
    }

    #[test]
    fn seats_come_back_and_leave_nothing() {
        let limiter = PeerLimiter::new(2);
        let (a, b) = (key("10.0.0.1:1"), key("10.0.0.2:1"));
        let first = limiter.take(a).unwrap();
        let second = limiter.take(a).unwrap();
        assert!(limiter.take(a).is_none());
        let other = limiter.take(b).unwrap();
        drop(first);
        let third = limiter.take(a).unwrap();
        assert!(limiter.take(a).is_none());
        drop((second, third, other));
        assert!(limiter.taken().is_empty());
    }
}

//! How many datagrams a network, and all of them together, may have answered (`rate`, `rate_total`): the generic cell
//! rate algorithm (ITU-T I.371), one moment a network.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::hash::HashKey;
use crate::options::{Rate, RateNetworks};
use crate::timer::Moment;

/// One limit, of which all sockets of a listener take. It keeps when the next datagram would be due if all came at the
/// rate; a burst may be so far ahead.
#[derive(Debug, Default)]
struct Cell {
    due_ns: AtomicU64,
}

/// A rate as times.
#[derive(Debug, Clone, Copy)]
struct RateTimes {
    interval_ns: u64,
    burst_ns: u64,
}

impl RateTimes {
    fn new(rate: Rate, burst: u32) -> RateTimes {
        let interval_ns = (rate.within.as_nanos() / u128::from(rate.count.max(1))).clamp(1, MAX_NS) as u64;
        RateTimes { interval_ns, burst_ns: interval_ns.saturating_mul(u64::from(burst.max(1)) - 1) }
    }
}

/// An interval longer than this is none.
const MAX_NS: u128 = Duration::from_secs(1 << 32).as_nanos();

impl Cell {
    /// Takes a datagram, if it may be taken now.
    fn take(&self, times: RateTimes, now_ns: u64) -> bool {
        let next = |due_ns: u64| {
            let due_ns = due_ns.max(now_ns);
            (due_ns - now_ns <= times.burst_ns).then(|| due_ns.saturating_add(times.interval_ns))
        };
        self.due_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }

    fn due_ns(&self) -> u64 {
        self.due_ns.load(Ordering::Relaxed)
    }
}

/// The limit of a listener, in all.
#[derive(Debug)]
pub(crate) struct TotalRate {
    cell: Cell,
    times: RateTimes,
}

impl TotalRate {
    /// A burst is what comes in two seconds.
    pub(crate) fn new(rate: Rate) -> TotalRate {
        TotalRate { cell: Cell::default(), times: RateTimes::new(rate, rate.default_burst()) }
    }

    pub(crate) fn take(&self, now: Moment) -> bool {
        self.cell.take(self.times, now.nanos())
    }
}

/// The limits of networks. The memory is fixed: if more networks are busy than have room, the one that is nearest to its
/// rate gives way, which makes room for a burst of it and no more.
#[derive(Debug)]
pub(crate) struct NetworkRate {
    key: HashKey,
    times: RateTimes,
    networks: RateNetworks,
    /// [`SETS`] of them.
    sets: Box<[[Slot; WAYS]]>,
}

#[derive(Debug, Default)]
struct Slot {
    /// 0 is nobody's.
    tag: AtomicU64,
    cell: Cell,
}

const SETS: usize = 4096;
const WAYS: usize = 4;

impl NetworkRate {
    pub(crate) fn new(rate: Rate, burst: u32, networks: RateNetworks) -> NetworkRate {
        let (key, times) = (HashKey::random(), RateTimes::new(rate, burst));
        let sets = (0..SETS).map(|_| Default::default()).collect();
        NetworkRate { key, times, networks, sets }
    }

    /// Takes a datagram from this address, if its network may have one answered now.
    pub(crate) fn take(&self, address: IpAddr, now: Moment) -> bool {
        let hash = self.key.of(self.networks.words(address));
        let set = &self.sets[hash as usize % SETS];
        let tag = hash | 1;
        let slot = match set.iter().find(|slot| slot.tag.load(Ordering::Relaxed) == tag) {
            Some(slot) => slot,
            None => {
                let [first, others @ ..] = set;
                let oldest = others.iter().fold(first, |oldest, slot| {
                    if slot.cell.due_ns() < oldest.cell.due_ns() { slot } else { oldest }
                });
                // Whoever takes it at the same moment has one limit with this one, for now.
                oldest.cell.due_ns.store(0, Ordering::Relaxed);
                oldest.tag.store(tag, Ordering::Relaxed);
                oldest
            }
        };
        slot.cell.take(self.times, now.nanos())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::from_micros(1_000_000_000 + millis * 1000)
    }

    fn rate(count: u32, within: Duration) -> Rate {
        Rate { count, within }
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let limit = NetworkRate::new(rate(10, Duration::from_secs(1)), 5, RateNetworks::default());
        let peer = "192.0.2.1".parse().unwrap();
        let taken = |now| (0..100).filter(|_| limit.take(peer, now)).count();
        assert_eq!(taken(at(0)), 5);
        assert_eq!(taken(at(99)), 0);
        assert_eq!(taken(at(100)), 1);
        assert_eq!(taken(at(400)), 3);
        assert_eq!(taken(at(60_000)), 5);
        // Just under the rate for ever.
        let steady = (0..1000).filter(|turn| limit.take(peer, at(120_000 + turn * 100))).count();
        assert_eq!(steady, 1000);
    }

    #[test]
    fn addresses_of_one_network_share_and_others_do_not() {
        let limit = NetworkRate::new(rate(1, Duration::from_secs(1)), 1, RateNetworks::default());
        let take = |address: &str| limit.take(address.parse().unwrap(), at(0));
        assert!(take("192.0.2.1"));
        assert!(!take("192.0.2.200"));
        assert!(!take("::ffff:192.0.2.7"));
        assert!(take("192.0.3.1"));
        assert!(take("2001:db8:0:1::1"));
        assert!(!take("2001:db8:0:2::1"));
        assert!(take("2001:db8:0:100::1"));
    }

    #[test]
    fn many_networks_cost_no_more_memory_and_a_busy_one_stays_limited() {
        let limit = NetworkRate::new(rate(1, Duration::from_secs(1)), 1, RateNetworks::default());
        let busy = "198.51.100.1".parse().unwrap();
        let mut answered = 0;
        for number in 0..100_000_u32 {
            let other = IpAddr::V4(std::net::Ipv4Addr::from_bits(number << 8));
            limit.take(other, at(0));
            answered += u32::from(limit.take(busy, at(0)));
        }
        // Once, and once for each time that four others with as late a moment came to its set meanwhile.
        assert!(answered < 100_000 / 1000, "{answered}");
    }

    #[test]
    fn the_total_is_one_limit() {
        let total = TotalRate::new(rate(100, Duration::from_secs(1)));
        assert_eq!((0..1000).filter(|_| total.take(at(0))).count(), 200);
        assert_eq!((0..1000).filter(|_| total.take(at(1000))).count(), 100);
    }
}

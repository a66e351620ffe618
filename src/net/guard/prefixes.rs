//! Which networks a listener serves: `allow` and `deny`.
//!
//! The longest prefix that holds an address decides; of two equal ones `deny` does. Addresses in no network are allowed
//! unless `allow` names any. The networks are turned into the places on the line of all addresses where the answer
//! changes, so a look-up is a search among sorted numbers, however many networks there are.

use std::net::IpAddr;

use crate::options::Network;

/// The networks of both families.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefixes {
    v4: Changes<u32>,
    v6: Changes<u128>,
}

impl Prefixes {
    /// `None`: everybody is allowed.
    pub fn new(allow: Option<&[Network]>, deny: &[Network]) -> Option<Prefixes> {
        if allow.is_none() && deny.is_empty() {
            return None;
        }
        let is_default_allowed = allow.is_none();
        let all = || {
            let allowed = allow.unwrap_or_default().iter().map(|network| (network, true));
            allowed.chain(deny.iter().map(|network| (network, false)))
        };
        let v4 = all().filter_map(|(network, is_allowed)| match (network.address(), network.last()) {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                Some(Rule { first: first.to_bits(), last: last.to_bits(), is_allowed })
            }
            _ => None,
        });
        let v6 = all().filter_map(|(network, is_allowed)| match (network.address(), network.last()) {
            (IpAddr::V6(first), IpAddr::V6(last)) => {
                Some(Rule { first: first.to_bits(), last: last.to_bits(), is_allowed })
            }
            _ => None,
        });
        Some(Prefixes {
            v4: Changes::new(v4.collect(), is_default_allowed),
            v6: Changes::new(v6.collect(), is_default_allowed),
        })
    }

    /// Whether an address is served. One that is IPv4 in IPv6's clothes counts as IPv4.
    pub fn allows(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => self.v4.at(address.to_bits()),
            IpAddr::V6(address) => self.v6.at(address.to_bits()),
        }
    }
}

/// All addresses from `first` to `last`.
#[derive(Debug, Clone, Copy)]
struct Rule<K> {
    first: K,
    last: K,
    is_allowed: bool,
}

/// An address as a number.
trait Number: Copy + Ord {
    /// `None`: there is no greater one.
    fn next(self) -> Option<Self>;
}

impl Number for u32 {
    fn next(self) -> Option<u32> {
        self.checked_add(1)
    }
}

impl Number for u128 {
    fn next(self) -> Option<u128> {
        self.checked_add(1)
    }
}

/// Where the answer changes, from one number to the next. `levels[0]` has all places, in order, and each level above it the
/// first of each block of the one below: a search reads one block a level.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Changes<K> {
    levels: Vec<Vec<K>>,
    /// The answer before the first place.
    is_first_allowed: bool,
}

const BLOCK: usize = 16;

impl<K: Number> Changes<K> {
    fn new(mut rules: Vec<Rule<K>>, is_default_allowed: bool) -> Changes<K> {
        // A wider network comes before those in it; of two equal ones the one that allows comes first.
        rules.sort_unstable_by(|a, b| {
            a.first.cmp(&b.first).then(b.last.cmp(&a.last)).then(b.is_allowed.cmp(&a.is_allowed))
        });
        let mut places: Vec<(K, bool)> = Vec::new();
        let mut set = |at: K, is_allowed: bool| {
            while places.last().is_some_and(|(last, _)| *last == at) {
                places.pop();
            }
            if places.last().map_or(is_default_allowed, |(_, before)| *before) != is_allowed {
                places.push((at, is_allowed));
            }
        };
        // The networks that hold the one at hand, widest first. Networks never overlap in part.
        let mut around: Vec<Rule<K>> = Vec::new();
        // Where a network ends, if addresses go on behind it, and the answer from there.
        let after = |left: Rule<K>, around: &[Rule<K>]| {
            let before = around.last().map_or(is_default_allowed, |rule| rule.is_allowed);
            left.last.next().map(|next| (next, before))
        };
        for rule in rules {
            while let Some(left) = around.pop_if(|outer| outer.last < rule.first) {
                after(left, &around).into_iter().for_each(|(next, is_allowed)| set(next, is_allowed));
            }
            set(rule.first, rule.is_allowed);
            around.push(rule);
        }
        while let Some(left) = around.pop() {
            after(left, &around).into_iter().for_each(|(next, is_allowed)| set(next, is_allowed));
        }
        let mut level: Vec<K> = places.into_iter().map(|(at, _)| at).collect();
        let mut levels = Vec::new();
        while level.len() > BLOCK {
            let above = level.iter().copied().step_by(BLOCK).collect();
            levels.push(std::mem::replace(&mut level, above));
        }
        levels.push(level);
        Changes { levels, is_first_allowed: is_default_allowed }
    }

    /// The answer for a number.
    fn at(&self, number: K) -> bool {
        let mut block = 0;
        let mut passed = 0;
        for level in self.levels.iter().rev() {
            let from = block * BLOCK;
            let keys = level.get(from..level.len().min(from + BLOCK)).unwrap_or_default();
            let count = keys.iter().map(|key| usize::from(*key <= number)).sum::<usize>();
            if count == 0 {
                // It is before the first of all.
                return self.is_first_allowed;
            }
            passed = from + count;
            block = passed - 1;
        }
        // Each place turns the answer over.
        self.is_first_allowed ^ (passed % 2 == 1)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use proptest::prelude::*;

    fn networks(text: &str) -> Vec<Network> {
        text.split_whitespace().map(|one| one.parse().unwrap()).collect()
    }

    fn prefixes(allow: &str, deny: &str) -> Prefixes {
        let (allow, deny) = (networks(allow), networks(deny));
        Prefixes::new((!allow.is_empty()).then_some(&allow[..]), &deny).unwrap()
    }

    /// The rule, word for word.
    fn is_allowed(allow: &[Network], deny: &[Network], address: IpAddr) -> bool {
        let address = address.to_canonical();
        let longest = |networks: &[Network]| {
            networks
                .iter()
                .filter(|network| network.holds(address))
                .map(|network| network.prefix_bits())
                .max()
        };
        match (longest(allow), longest(deny)) {
            (None, None) => allow.is_empty(),
            (allowed, denied) => allowed > denied,
        }
    }

    #[test]
    fn the_longest_prefix_decides_and_deny_at_a_tie() {
        let both = prefixes("10.0.0.0/8 10.1.2.0/24 ::/0", "10.1.0.0/16 10.1.2.3 10.0.0.0/8 2001:db8::/32");
        for (address, allowed) in [
            ("9.255.255.255", false),
            ("10.0.0.1", false),
            ("10.1.0.1", false),
            ("10.1.2.2", true),
            ("10.1.2.3", false),
            ("10.1.2.4", true),
            ("10.1.3.0", false),
            ("11.0.0.0", false),
            ("::ffff:10.1.2.2", true),
            ("::1", true),
            ("2001:db8::1", false),
            ("2001:db9::", true),
            ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", true),
        ] {
            assert_eq!(both.allows(address.parse().unwrap()), allowed, "{address}");
        }
        let denied = prefixes("", "255.255.255.255 0.0.0.0/32 ::/128");
        for (address, allowed) in
            [("255.255.255.255", false), ("0.0.0.0", false), ("0.0.0.1", true), ("::", false), ("::1", true)]
        {
            assert_eq!(denied.allows(address.parse().unwrap()), allowed, "{address}");
        }
        assert_eq!(Prefixes::new(None, &[]), None);
    }

    fn network() -> impl Strategy<Value = Network> {
        // Few addresses, so that networks hold each other.
        let v4 =
            (0_u32..64, 24_u8..=32).prop_map(|(low, bits)| (IpAddr::V4(Ipv4Addr::from_bits(low << 3)), bits));
        let v6 = (0_u128..64, 118_u8..=128)
            .prop_map(|(low, bits)| (IpAddr::V6(Ipv6Addr::from_bits(low << 4)), bits));
        prop_oneof![v4, v6].prop_map(|(address, bits)| Network::of(address, bits))
    }

    proptest! {
        #[test]
        fn a_search_finds_what_the_rule_says(
            allow in prop::collection::vec(network(), 0..40),
            deny in prop::collection::vec(network(), 1..40),
        ) {
            let found = Prefixes::new((!allow.is_empty()).then_some(&allow[..]), &deny).unwrap();
            for low in 0..600_u32 {
                for address in [IpAddr::V4(Ipv4Addr::from_bits(low)), IpAddr::V6(Ipv6Addr::from_bits(low.into()))] {
                    prop_assert_eq!(found.allows(address), is_allowed(&allow, &deny, address), "{}", address);
                }
            }
        }
    }
}

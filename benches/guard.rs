//! What `allow` and `deny` cost: one look-up, of addresses in random order. At most 60 ns with 100,000 networks.
#![allow(missing_docs, reason = "criterion's macros make undocumented items")]
#![allow(clippy::expect_used, reason = "a bench: what fails ends it")]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use resay::Prefixes;
use resay::options::Network;

/// Addresses that are looked up in turns: more than a cache of branches can learn.
const ADDRESSES: usize = 1 << 16;

fn guard(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("guard");
    for networks in [10, 1_000, 100_000] {
        for family in ["v4", "v6"] {
            let mut numbers = Numbers(7);
            let mut address = || {
                let number = numbers.next();
                match family {
                    "v4" => IpAddr::V4(Ipv4Addr::from_bits(number as u32)),
                    _ => IpAddr::V6(Ipv6Addr::from_bits(u128::from(number) << 64 | 1)),
                }
            };
            let deny: Vec<Network> = (0..networks)
                .map(|place| {
                    let bits = if family == "v4" { 16 + place % 17 } else { 32 + place % 33 };
                    format!("{}/{bits}", address()).parse().expect("a network")
                })
                .collect();
            let prefixes = Prefixes::new(None, &deny).expect("some are denied");
            let addresses: Vec<IpAddr> = (0..ADDRESSES).map(|_| address()).collect();
            let mut place = 0;
            group.bench_function(BenchmarkId::new(family, networks), |bencher| {
                bencher.iter(|| {
                    place = (place + 1) % ADDRESSES;
                    black_box(prefixes.allows(addresses[place]))
                });
            });
        }
    }
    group.finish();
}

/// A linear congruential generator (Knuth's MMIX), of which the upper half is used.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        let mut half = || {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            self.0 >> 32
        };
        half() << 32 | half()
    }
}

criterion_group!(benches, guard);
criterion_main!(benches);

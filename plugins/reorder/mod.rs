//! `reorder`: some datagrams are answered later, so that others overtake them.
//!
//! A share of the datagrams, as a seed decides, waits for a time of its own, at most `within`. Streams and seqpacket
//! connections keep their order and are refused.

use core::time::Duration;
use resay_plugin::dice::{self, Dice, Share, below};
use resay_plugin::{Call, Counter, Error, Io, OptionSpec, Peer, Process, Setup, Status, Table, Transform};

use crate::datagrams::{self, Session};

/// The table: bundled into the engine, and exported by `libreorder`.
pub static TABLE: Table = Table::process::<Reorder>(c"reorder")
    .version(resay_plugin::package_version!())
    .summary(c"some datagrams are answered later than others")
    .options(OPTIONS)
    .bound(1, 1, 0)
    .build();

const RATE: &str = "rate";
const WITHIN: &str = "within";
const OPTIONS: &[OptionSpec] = &[
    OptionSpec::rate(c"rate", c"the share of datagrams that are answered later").or(c"1%"),
    OptionSpec::duration(c"within", c"the longest time that an answer is held back").or(c"10ms"),
    dice::SEED,
];

#[derive(Debug)]
struct Reorder {
    share: Share,
    longest_us: u64,
    dice: Dice,
    reordered: Counter,
}

impl Transform for Reorder {
    type Session = Session;

    fn create(setup: &Setup<'_>) -> Result<Self, Error> {
        let within = setup.options.duration(WITHIN)?;
        if within.is_zero() {
            return Err(setup.options.refused(WITHIN, "longer than 0, or nothing would be overtaken"));
        }
        Ok(Self {
            share: Share::new(setup.options.rate(RATE)?),
            longest_us: u64::try_from(within.as_micros()).unwrap_or(u64::MAX),
            dice: Dice::of(&setup.options, b"reorder\0")?,
            reordered: setup.counter(c"reordered"),
        })
    }

    fn open(&self, call: Call<'_, Session>, peer: &Peer<'_>) -> Result<(), Error> {
        datagrams::open(call, peer, "reorder: a connection keeps its order")
    }
}

impl Process for Reorder {
    fn process(&self, call: Call<'_, Session>, io: &mut Io<'_>) -> Status {
        if let Err(status) = datagrams::echo(io) {
            return status;
        }
        let number = self.dice.roll();
        if self.share.hits(number) {
            call.host.add(self.reordered, 1);
            io.delay(Duration::from_micros(1 + below(self.longest_us, number)));
        }
        Status::Ok
    }
}

#[cfg(test)]
mod tests {
    use super::TABLE;
    use crate::datagrams::tests::{assert_only_datagrams, echoes};
    use resay_plugin::harness::{Harness, assert_refused};

    fn delays(options: &[(&str, &str)], n: usize) -> Vec<u128> {
        let reorder = Harness::new(&TABLE, options).unwrap();
        let delays = echoes(&reorder, n, |answer| answer.delay.as_micros());
        let later = delays.iter().filter(|delay| **delay > 0).count();
        assert_eq!(reorder.counter("reordered"), Some(later as u64));
        delays
    }

    #[test]
    fn a_share_waits_and_no_longer_than_it_may() {
        let delays = delays(&[("rate", "20%"), ("within", "5us")], 1000);
        let later = delays.iter().filter(|delay| **delay > 0).count();
        assert!((150..250).contains(&later), "{later}");
        assert_eq!(delays.iter().max(), Some(&5));
        assert!(super::tests::delays(&[("rate", "0")], 100).iter().all(|delay| *delay == 0));
        assert!(super::tests::delays(&[("rate", "1")], 100).iter().all(|delay| *delay > 0));
    }

    #[test]
    fn the_same_seed_is_the_same_run() {
        let run = |seed| delays(&[("rate", "30%"), ("seed", seed)], 100);
        assert_eq!(run("7"), run("7"));
        assert_ne!(run("7"), run("8"));
        assert_eq!(run("1"), delays(&[("rate", "30%")], 100));
    }

    #[test]
    fn only_datagrams() {
        assert_only_datagrams(&TABLE, "reorder: a connection keeps its order");
    }

    #[test]
    fn wrong_values_are_named() {
        let refused = [
            ("rate", "2", "a rate such as 5% or 0.05"),
            ("within", "0", "longer than 0, or nothing would be overtaken"),
            ("within", "1", "a duration such as 20ms (us, ms, s, m)"),
        ];
        assert_refused(&TABLE, &refused);
    }
}

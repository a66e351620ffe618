//! `duplicate`: some datagrams are answered twice.
//!
//! A share of the datagrams, as a seed decides. The copy leaves behind the answer, and counts as no message. Streams and
//! seqpacket connections deliver everything once and are refused.

use resay_plugin::dice::{self, Dice, Share};
use resay_plugin::{Call, Counter, Error, Io, OptionSpec, Peer, Process, Setup, Status, Table, Transform};

use crate::datagrams::{self, Session};

/// The table: bundled into the engine, and exported by `libduplicate`.
pub static TABLE: Table = Table::process::<Duplicate>(c"duplicate")
    .version(resay_plugin::package_version!())
    .summary(c"some datagrams are answered twice")
    .options(OPTIONS)
    .bound(1, 1, 0)
    .build();

const RATE: &str = "rate";
const OPTIONS: &[OptionSpec] =
    &[OptionSpec::rate(c"rate", c"the share of datagrams that are answered twice").or(c"1%"), dice::SEED];

#[derive(Debug)]
struct Duplicate {
    share: Share,
    dice: Dice,
    duplicated: Counter,
}

impl Transform for Duplicate {
    type Session = Session;

    fn create(setup: &Setup<'_>) -> Result<Self, Error> {
        Ok(Self {
            share: Share::new(setup.options.rate(RATE)?),
            dice: Dice::of(&setup.options, b"duplicat")?,
            duplicated: setup.counter(c"duplicated"),
        })
    }

    fn open(&self, call: Call<'_, Session>, peer: &Peer<'_>) -> Result<(), Error> {
        datagrams::open(call, peer, "duplicate: a connection delivers everything once")
    }
}

impl Process for Duplicate {
    fn process(&self, call: Call<'_, Session>, io: &mut Io<'_>) -> Status {
        if let Err(status) = datagrams::echo(io) {
            return status;
        }
        if self.share.hits(self.dice.roll()) {
            call.host.add(self.duplicated, 1);
            io.copies(1);
        }
        Status::Ok
    }
}

#[cfg(test)]
mod tests {
    use super::TABLE;
    use crate::datagrams::tests::{assert_only_datagrams, echoes};
    use resay_plugin::harness::{Harness, assert_refused};

    fn copies(options: &[(&str, &str)], n: usize) -> Vec<u32> {
        let duplicate = Harness::new(&TABLE, options).unwrap();
        let copies = echoes(&duplicate, n, |answer| answer.copies);
        assert_eq!(duplicate.counter("duplicated"), Some(copies.iter().map(|n| u64::from(*n)).sum()));
        copies
    }

    #[test]
    fn a_share_is_answered_twice() {
        let twice: u32 = copies(&[("rate", "20%")], 1000).iter().sum();
        assert!((150..250).contains(&twice), "{twice}");
        assert_eq!(copies(&[("rate", "0")], 100), [0; 100]);
        assert_eq!(copies(&[("rate", "1")], 100), [1; 100]);
    }

    #[test]
    fn the_same_seed_is_the_same_run() {
        let run = |seed| copies(&[("rate", "30%"), ("seed", seed)], 100);
        assert_eq!(run("7"), run("7"));
        assert_ne!(run("7"), run("8"));
        assert_eq!(run("1"), copies(&[("rate", "30%")], 100));
    }

    #[test]
    fn only_datagrams() {
        assert_only_datagrams(&TABLE, "duplicate: a connection delivers everything once");
    }

    #[test]
    fn wrong_values_are_named() {
        assert_refused(
            &TABLE,
            &[("rate", "2", "a rate such as 5% or 0.05"), ("seed", "x", "a whole number")],
        );
    }
}

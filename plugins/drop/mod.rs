//! `drop`: some messages get no answer: a share of them, as a seed decides, every n-th, the first ones, or certain ones.
//!
//! On a raw stream each read is a message: what it brought is missing from the answers. The same seed loses the same
//! messages: those of the instance are counted, whichever connection they come from.

use resay_plugin::dice::{self, Dice, Share};
use resay_plugin::{Call, Counter, Error, Map, OptionSpec, Options, Setup, Status, Table, Transform};

/// The table: bundled into the engine, and exported by `libdrop`.
pub static TABLE: Table = Table::map::<Drop>(c"drop")
    .version(resay_plugin::package_version!())
    .summary(c"some messages get no answer")
    .options(OPTIONS)
    .build();

const RATE: &str = "rate";
const EVERY: &str = "every";
const FIRST: &str = "first";
const ONLY: &str = "only";
/// Of a list of messages.
const ONLY_MAX: usize = 1024;
const OPTIONS: &[OptionSpec] = &[
    OptionSpec::rate(c"rate", c"the share of messages that get no answer").or(c"1%"),
    OptionSpec::integer(c"every", c"not a share but each n-th message gets no answer; 0: a share").or(c"0"),
    OptionSpec::integer(c"first", c"not a share but the first n messages get no answer; 0: a share").or(c"0"),
    OptionSpec::text(c"only", c"not a share but these messages, counted from 1: 1+2+5").or(c""),
    dice::SEED,
];

#[derive(Debug)]
struct Drop {
    which: Which,
    dice: Dice,
    dropped: Counter,
}

#[derive(Debug)]
enum Which {
    Share(Share),
    Every(u64),
    First(u64),
    /// In ascending order, counted from 0.
    Only(Box<[u64]>),
}

impl Which {
    fn read(options: &Options<'_>) -> Result<Self, Error> {
        let only = options.text(ONLY)?;
        let first: u64 = options.integer(FIRST)?;
        let every: u64 = options.integer(EVERY)?;
        let share = Share::new(options.rate(RATE)?);
        if !only.is_empty() {
            return match places(only) {
                Some(places) => Ok(Which::Only(places)),
                None => {
                    Err(options.refused(ONLY, "up to 1024 numbers of messages, counted from 1, as 1+2+5"))
                }
            };
        }
        Ok(match (first, every) {
            (0, 0) => Which::Share(share),
            (0, every) => Which::Every(every),
            (first, _) => Which::First(first),
        })
    }
}

/// The messages that a list names, counted from 0.
fn places(list: &str) -> Option<Box<[u64]>> {
    let place = |number: &str| number.trim().parse::<u64>().ok()?.checked_sub(1);
    let mut places = list.split(['+', ',']).map(place).collect::<Option<Vec<_>>>()?;
    places.sort_unstable();
    (places.len() <= ONLY_MAX).then(|| places.into())
}

impl Transform for Drop {
    type Session = ();

    fn create(setup: &Setup<'_>) -> Result<Self, Error> {
        let which = Which::read(&setup.options)?;
        let dice = Dice::of(&setup.options, b"drop\0\0\0\0")?;
        Ok(Self { which, dice, dropped: setup.counter(c"dropped") })
    }
}

impl Map for Drop {
    fn map(&self, call: Call<'_, ()>, _: &mut [u8]) -> Status {
        let place = self.dice.take(1);
        let hit = match &self.which {
            Which::Share(share) => share.hits(self.dice.at(place)),
            Which::Every(n) => place % n == n - 1,
            Which::First(n) => place < *n,
            Which::Only(places) => places.binary_search(&place).is_ok(),
        };
        if !hit {
            return Status::Ok;
        }
        call.host.add(self.dropped, 1);
        Status::Drop
    }
}

#[cfg(test)]
mod tests {
    use super::TABLE;
    use resay_plugin::abi::{RESAY_DROP, RESAY_OK};
    use resay_plugin::harness::Harness;

    /// Which of `n` messages are dropped.
    fn dropped(options: &[(&str, &str)], n: usize) -> Vec<usize> {
        let drop = Harness::new(&TABLE, options).unwrap();
        let mut session = drop.session().unwrap();
        let mut dropped = Vec::new();
        for number in 1..=n {
            let answer = session.message(b"hello");
            match answer.status {
                RESAY_OK => assert_eq!(answer.output, b"hello"),
                RESAY_DROP => dropped.push(number),
                status => panic!("{status}"),
            }
        }
        assert_eq!(drop.counter("dropped"), Some(dropped.len() as u64));
        dropped
    }

    #[test]
    fn every_so_many() {
        assert_eq!(dropped(&[("every", "3")], 10), [3, 6, 9]);
        assert_eq!(dropped(&[("every", "1")], 3), [1, 2, 3]);
        assert_eq!(dropped(&[("every", "2"), ("rate", "1%")], 4), [2, 4]);
        assert_eq!(dropped(&[("every", "18446744073709551615")], 3), []);
    }

    #[test]
    fn the_first_ones_and_certain_ones() {
        assert_eq!(dropped(&[("first", "2")], 5), [1, 2]);
        assert_eq!(dropped(&[("first", "1"), ("every", "2")], 5), [1]);
        assert_eq!(dropped(&[("only", "1+2+5")], 8), [1, 2, 5]);
        assert_eq!(dropped(&[("only", "5, 1,5"), ("first", "3")], 8), [1, 5]);
        assert_eq!(dropped(&[("only", "9")], 8), []);
        let longest = vec!["7"; super::ONLY_MAX].join("+");
        assert_eq!(dropped(&[("only", &longest)], 8), [7]);
    }

    #[test]
    fn a_share() {
        assert_eq!(dropped(&[("rate", "0")], 100), []);
        assert_eq!(dropped(&[("rate", "100%")], 100).len(), 100);
        for (options, fewest, most) in [
            (&[("rate", "10%")][..], 900, 1100),
            (&[("rate", "10%"), ("every", "0")], 900, 1100),
            (&[], 60, 140),
        ] {
            let n = dropped(options, 10_000).len();
            assert!((fewest..most).contains(&n), "{n}");
        }
    }

    #[test]
    fn the_same_seed_is_the_same_run() {
        let run = |seed| dropped(&[("rate", "0.2"), ("seed", seed)], 100);
        assert_eq!(run("7"), run("7"));
        assert_ne!(run("7"), run("8"));
        assert_eq!(run("1"), dropped(&[("rate", "20%")], 100));
    }

    #[test]
    fn a_recorded_run() {
        assert_eq!(dropped(&[("rate", "10%"), ("seed", "7")], 100), [12, 41, 42, 52, 78, 94]);
        assert_eq!(dropped(&[("rate", "10%")], 100), [5, 28, 32, 34, 40, 47, 54, 86, 97]);
    }

    #[test]
    fn messages_are_counted_over_all_connections_and_kinds() {
        let drop = Harness::new(&TABLE, &[("every", "2")]).unwrap();
        let statuses = [
            drop.session().unwrap().datagram(b"").status,
            drop.session().unwrap().datagram(b"").status,
            drop.session().unwrap().read(b"x").status,
            drop.session().unwrap().message(b"x").status,
        ];
        assert_eq!(statuses, [RESAY_OK, RESAY_DROP, RESAY_OK, RESAY_DROP]);
    }

    #[test]
    fn wrong_values_are_named() {
        for (options, expected) in [
            (&[("rate", "2")][..], "option 'rate' is '2', but must be a rate such as 5% or 0.05"),
            (&[("rate", "x"), ("every", "2")], "option 'rate' is 'x', but must be a rate such as 5% or 0.05"),
            (&[("every", "-1")], "option 'every' is '-1', but must be a number in the range of the option"),
            (
                &[("only", "1+0")],
                "option 'only' is '1+0', but must be up to 1024 numbers of messages, counted from 1, as 1+2+5",
            ),
        ] {
            assert_eq!(Harness::new(&TABLE, options).unwrap_err().text(), expected);
        }
        let too_long = vec!["7"; super::ONLY_MAX + 1].join("+");
        assert!(Harness::new(&TABLE, &[("only", &too_long)]).is_err());
    }
}

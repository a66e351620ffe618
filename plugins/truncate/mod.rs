//! `truncate`: some messages lose their end: all or a share of them, at a fixed place or at one that a seed decides.
//!
//! A frame stays a good frame, with a shorter message in it. On a raw stream each read is a message, so bytes are
//! missing in the middle; to end a stream early, use `close`.

use resay_plugin::dice::{self, Dice, Share, below};
use resay_plugin::{Call, Counter, Error, Io, OptionSpec, Process, Setup, Status, Table, Transform};

/// The table: bundled into the engine, and exported by `libtruncate`.
pub static TABLE: Table = Table::process::<Truncate>(c"truncate")
    .version(resay_plugin::package_version!())
    .summary(c"some messages lose their end")
    .options(OPTIONS)
    .bound(1, 1, 0)
    .build();

const AT: &str = "at";
const RANDOM: &[u8] = b"random";
const OPTIONS: &[OptionSpec] = &[
    OptionSpec::size(c"at", c"how many bytes stay, or random: from none to all but one").or(c"random"),
    OptionSpec::rate(c"rate", c"the share of messages that lose their end").or(c"100%"),
    dice::SEED,
];

#[derive(Debug)]
struct Truncate {
    /// `None`: anywhere.
    at: Option<usize>,
    share: Share,
    dice: Dice,
    truncated: Counter,
}

impl Transform for Truncate {
    type Session = ();

    fn create(setup: &Setup<'_>) -> Result<Self, Error> {
        let options = &setup.options;
        let at = if options.bytes(AT)? == RANDOM {
            None
        } else {
            let size = options.size(AT);
            Some(size.map_err(|_| options.refused(AT, "a size such as 64k (k, m, g), or random"))?)
        };
        Ok(Self {
            at,
            share: Share::new(options.rate("rate")?),
            dice: Dice::of(options, b"truncate")?,
            truncated: setup.counter(c"truncated"),
        })
    }
}

impl Process for Truncate {
    fn process(&self, call: Call<'_, ()>, io: &mut Io<'_>) -> Status {
        let input = io.input();
        if io.is_only_end() {
            return Status::Ok; // the end of a raw stream is no message
        }
        if io.lacks_room(input.len()) {
            return Status::MoreOut;
        }
        let number = self.dice.roll();
        let at = self.at.unwrap_or_else(|| below(input.len() as u64, number) as usize);
        let stays = match input.get(..at) {
            Some(stays) if self.share.hits(number) => stays,
            _ => input,
        };
        if stays.len() < input.len() {
            call.host.add(self.truncated, 1);
        }
        io.write(stays);
        io.consume(input.len());
        Status::Ok
    }
}

#[cfg(test)]
mod tests {
    use super::TABLE;
    use resay_plugin::harness::{Harness, assert_refused};

    fn truncate(options: &[(&str, &str)]) -> Harness {
        Harness::new(&TABLE, options).unwrap()
    }

    fn lens(options: &[(&str, &str)], n: usize) -> Vec<usize> {
        let truncate = truncate(options);
        let mut session = truncate.session().unwrap();
        let message: Vec<u8> = (0..10).collect();
        let mut lens = Vec::new();
        for _ in 0..n {
            let answer = session.message(&message).output;
            assert_eq!(answer, message[..answer.len()]);
            lens.push(answer.len());
        }
        let shorter = lens.iter().filter(|len| **len < message.len()).count();
        assert_eq!(truncate.counter("truncated"), Some(shorter as u64));
        lens
    }

    #[test]
    fn at_a_fixed_place() {
        for (at, expected) in [("0", 0), ("1", 1), ("9", 9), ("10", 10), ("11", 10), ("1k", 10)] {
            assert_eq!(lens(&[("at", at)], 2), [expected; 2]);
        }
    }

    #[test]
    fn anywhere_but_always_somewhere() {
        let lens = lens(&[], 10_000);
        for len in 0..10 {
            let n = lens.iter().filter(|l| **l == len).count();
            assert!((850..1150).contains(&n), "{len}: {n}");
        }
        assert_eq!(truncate(&[]).message(b"").unwrap(), b"");
        assert_eq!(truncate(&[]).message(b"a").unwrap(), b"");
    }

    #[test]
    fn a_share() {
        assert_eq!(lens(&[("rate", "0")], 10), [10; 10]);
        let shorter = lens(&[("rate", "25%"), ("at", "3")], 10_000).iter().filter(|len| **len == 3).count();
        assert!((2300..2700).contains(&shorter), "{shorter}");
    }

    #[test]
    fn the_same_seed_is_the_same_run() {
        let run = |seed| lens(&[("rate", "50%"), ("seed", seed)], 100);
        assert_eq!(run("7"), run("7"));
        assert_ne!(run("7"), run("8"));
        assert_eq!(run("1"), lens(&[("rate", "50%")], 100));
    }

    #[test]
    fn a_recorded_run() {
        let recorded = [10, 8, 6, 9, 7, 10, 3, 10, 7, 7, 10, 8, 0, 0, 9, 4, 10, 10, 10, 10];
        assert_eq!(lens(&[("rate", "50%"), ("seed", "7")], 20), recorded);
    }

    #[test]
    fn asking_for_room_decides_nothing() {
        let roomy = lens(&[("rate", "50%")], 50);
        let truncate = truncate(&[("rate", "50%")]).with_room(9);
        let mut session = truncate.session().unwrap();
        assert!(roomy.iter().all(|len| session.message(&[0; 10]).output.len() == *len));
    }

    #[test]
    fn every_kind_of_message() {
        let truncate = truncate(&[("at", "2")]);
        let mut session = truncate.session().unwrap();
        assert_eq!(session.datagram(b"abc").output, b"ab");
        assert_eq!(session.read(b"abc").output, b"ab");
        assert_eq!(session.read(&[7; 70_000]).output, [7; 2]);
        assert_eq!(session.end().output, b"");
    }

    #[test]
    fn wrong_values_are_named() {
        let refused = [
            ("at", "rand", "a size such as 64k (k, m, g), or random"),
            ("at", "-1", "a size such as 64k (k, m, g), or random"),
            ("rate", "x", "a rate such as 5% or 0.05"),
            ("seed", "1.5", "a whole number"),
        ];
        assert_refused(&TABLE, &refused);
    }
}

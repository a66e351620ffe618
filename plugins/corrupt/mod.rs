//! `corrupt`: some bytes come back wrong: a share of all bytes, or one byte in a share of the messages, as a seed
//! decides. The length stays.
//!
//! By the byte, what happens does not depend on how a raw stream's reads fall: the n-th byte of the instance meets
//! the same fault. By the message, each read of a raw stream is one.

use resay_plugin::dice::{self, Dice, Share, below};
use resay_plugin::{Call, Counter, Error, Map, OptionSpec, Setup, Status, Table, Transform};

/// The table: bundled into the engine, and exported by `libcorrupt`.
pub static TABLE: Table = Table::map::<Corrupt>(c"corrupt")
    .version(resay_plugin::package_version!())
    .summary(c"some bytes come back wrong")
    .options(OPTIONS)
    .build();

const OPTIONS: &[OptionSpec] = &[
    OptionSpec::rate(c"rate", c"the share of bytes, or of messages, that are hit").or(c"1%"),
    OptionSpec::choice(c"per", c"byte|message", c"rate counts bytes, or messages in which one byte is hit")
        .or(c"byte"),
    OptionSpec::choice(
        c"mode",
        c"flip|random|zero",
        c"what becomes of a byte: one bit turns, another byte, or 0",
    )
    .or(c"flip"),
    dice::SEED,
];

#[derive(Debug)]
struct Corrupt {
    share: Share,
    per: Per,
    mode: Mode,
    dice: Dice,
    corrupted: Counter,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Per {
    Byte,
    Message,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Flip,
    Random,
    Zero,
}

impl Transform for Corrupt {
    type Session = ();

    fn create(setup: &Setup<'_>) -> Result<Self, Error> {
        let options = &setup.options;
        Ok(Self {
            share: Share::new(options.rate("rate")?),
            per: options.choice("per", &[("byte", Per::Byte), ("message", Per::Message)])?,
            mode: options
                .choice("mode", &[("flip", Mode::Flip), ("random", Mode::Random), ("zero", Mode::Zero)])?,
            dice: Dice::of(options, b"corrupt\0")?,
            corrupted: setup.counter(c"corrupted_bytes"),
        })
    }
}

impl Map for Corrupt {
    fn map(&self, call: Call<'_, ()>, data: &mut [u8]) -> Status {
        let mut corrupted = 0;
        match self.per {
            Per::Byte => {
                let first = self.dice.take(data.len() as u64);
                for (place, byte) in (first..).zip(data) {
                    let number = self.dice.at(place);
                    if self.share.hits(number) {
                        *byte = self.mode.hit(*byte, number);
                        corrupted += 1;
                    }
                }
            }
            Per::Message => {
                let number = self.dice.roll();
                let place = below(data.len() as u64, number) as usize;
                if self.share.hits(number)
                    && let Some(byte) = data.get_mut(place)
                {
                    *byte = self.mode.hit(*byte, number);
                    corrupted = 1;
                }
            }
        }
        if corrupted > 0 {
            call.host.add(self.corrupted, corrupted);
        }
        Status::Ok
    }
}

impl Mode {
    /// What a byte becomes. The number's lower 11 bits decide; the others have decided that it is hit.
    fn hit(self, byte: u8, number: u64) -> u8 {
        match self {
            Mode::Flip => byte ^ 1 << (number & 7),
            // 1 to 255, so that it is always another byte.
            Mode::Random => byte ^ (1 + (number & 0x7ff) % 255) as u8,
            Mode::Zero => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::TABLE;
    use resay_plugin::harness::{Harness, assert_refused};

    fn corrupt(options: &[(&str, &str)]) -> Harness {
        Harness::new(&TABLE, options).unwrap()
    }

    fn wrong(before: &[u8], after: &[u8]) -> Vec<usize> {
        assert_eq!(before.len(), after.len());
        (0..before.len()).filter(|at| before[*at] != after[*at]).collect()
    }

    #[test]
    fn a_share_of_the_bytes() {
        let data = vec![0x55; 100_000];
        for (rate, fewest, most) in
            [("0", 0, 0), ("1%", 850, 1150), ("0.5", 49_000, 51_000), ("1", 100_000, 100_000)]
        {
            for mode in ["flip", "random", "zero"] {
                let corrupt = corrupt(&[("rate", rate), ("mode", mode)]);
                let n = wrong(&data, &corrupt.message(&data).unwrap()).len();
                assert!((fewest..=most).contains(&n), "{rate} {mode}: {n}");
                assert_eq!(corrupt.counter("corrupted_bytes"), Some(n as u64));
            }
        }
    }

    #[test]
    fn one_byte_in_a_share_of_the_messages() {
        let corrupt = corrupt(&[("rate", "25%"), ("per", "message")]);
        let mut session = corrupt.session().unwrap();
        let (mut hit, mut places) = (0, [0; 10]);
        for _ in 0..10_000 {
            let answer = session.message(&[7; 10]).output;
            match wrong(&[7; 10], &answer)[..] {
                [] => {}
                [place] => {
                    hit += 1;
                    places[place] += 1;
                }
                _ => panic!("{answer:?}"),
            }
        }
        assert!((2300..2700).contains(&hit), "{hit}");
        assert!(places.iter().all(|n| (170..330).contains(n)), "{places:?}");
        assert_eq!(session.message(b"").output, b"");
    }

    #[test]
    fn what_becomes_of_a_byte() {
        let flip = corrupt(&[("rate", "1"), ("mode", "flip")]).message(&[0; 1000]).unwrap();
        assert!(flip.iter().all(|byte| byte.count_ones() == 1));
        for bit in 0..8 {
            assert!(flip.contains(&(1 << bit)), "{bit}");
        }
        let random = corrupt(&[("rate", "1"), ("mode", "random")]).message(&[9; 20_000]).unwrap();
        for byte in 0..=255 {
            assert_eq!(random.contains(&byte), byte != 9, "{byte}");
        }
        assert_eq!(corrupt(&[("rate", "1"), ("mode", "zero")]).message(b"abc").unwrap(), [0; 3]);
    }

    #[test]
    fn the_same_seed_is_the_same_run() {
        for per in ["byte", "message"] {
            let run = |seed| {
                let corrupt = corrupt(&[("rate", "20%"), ("per", per), ("seed", seed)]);
                let mut session = corrupt.session().unwrap();
                (0..50).map(|_| session.message(&[0; 20]).output).collect::<Vec<_>>()
            };
            assert_eq!(run("7"), run("7"));
            assert_ne!(run("7"), run("8"));
        }
    }

    #[test]
    fn a_recorded_run() {
        let hits = |mode, per, n| {
            let corrupt = corrupt(&[("rate", "20%"), ("mode", mode), ("per", per), ("seed", "7")]);
            let mut session = corrupt.session().unwrap();
            let mut hits = Vec::new();
            for message in 0..n {
                let answer = session.message(&[0x55; 8]).output;
                hits.extend(wrong(&[0x55; 8], &answer).into_iter().map(|at| (message, at, answer[at])));
            }
            hits
        };
        assert_eq!(hits("flip", "byte", 3), [(0, 6, 0x45), (1, 1, 0x15), (2, 3, 0x57), (2, 4, 0x45)]);
        assert_eq!(hits("random", "byte", 3), [(0, 6, 200), (1, 1, 99), (2, 3, 114), (2, 4, 235)]);
        assert_eq!(hits("flip", "message", 21), [(6, 4, 0x45), (9, 0, 0x15), (19, 5, 0x57), (20, 0, 0x45)]);
    }

    #[test]
    fn by_the_byte_a_split_changes_nothing() {
        let data: Vec<u8> = (0..100).collect();
        let options = [("rate", "10%")];
        let whole = corrupt(&options).message(&data).unwrap();
        assert_ne!(whole, data);
        for at in 0..=data.len() {
            assert_eq!(corrupt(&options).stream(&[&data[..at], &data[at..]]).unwrap(), whole, "{at}");
        }
        let bytes: Vec<&[u8]> = data.chunks(1).collect();
        assert_eq!(corrupt(&options).stream(&bytes).unwrap(), whole);
    }

    #[test]
    fn wrong_values_are_named() {
        let refused = [
            ("rate", "101%", "a rate such as 5% or 0.05"),
            ("per", "bit", "byte or message"),
            ("mode", "swap", "flip, random or zero"),
            ("seed", "x", "a whole number"),
        ];
        assert_refused(&TABLE, &refused);
    }
}

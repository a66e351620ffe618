//! Random numbers that are the same for each run with one seed: for repeatable faults.
//!
//! Each number depends only on the seed and on its place in the sequence (SplitMix64). So threads share one counter and
//! no lock, and the decision for the n-th message does not depend on the thread or on other calls. The same seed gives
//! the same numbers in every release.
//!
//! ```
//! use resay_plugin::dice::{Dice, Share, below};
//!
//! let (dice, again) = (Dice::new(7, b"example\0"), Dice::new(7, b"example\0"));
//! let tenth = Share::new(0.1);
//! let hit: Vec<bool> = (0..100).map(|_| tenth.hits(dice.roll())).collect();
//! assert!((0..100).all(|place| tenth.hits(again.at(place)) == hit[place as usize]));
//! assert!(below(6, dice.roll()) < 6);
//! ```

use crate::error::Error;
use crate::options::{OptionSpec, Options};
use core::sync::atomic::{AtomicU64, Ordering};

/// The option that seeds [`Dice::of`], for the table's [options](crate::Draft::options).
pub const SEED: OptionSpec = OptionSpec::integer(c"seed", c"repeats a run").or(c"1");

/// From one state of the generator to the next: 2^64 divided by the golden ratio, made odd.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
/// Of a number, as many bits as a rate is compared with.
const RATE_BITS: u32 = 53;

/// A sequence of numbers, and the number of places taken.
///
/// It belongs to the instance: messages take places in their order, whichever session they come from.
#[derive(Debug)]
pub struct Dice {
    start: u64,
    taken: AtomicU64,
}

impl Dice {
    /// The sequence of a seed. Transforms with the same seed and different `salt`, such as their names, get different
    /// sequences.
    pub fn new(seed: u64, salt: &[u8; 8]) -> Self {
        Self { start: mixed(seed ^ mixed(u64::from_le_bytes(*salt))), taken: AtomicU64::new(0) }
    }

    /// The sequence of the seed in the option [`SEED`].
    pub fn of(options: &Options<'_>, salt: &[u8; 8]) -> Result<Self, Error> {
        Ok(Self::new(options.integer("seed")?, salt))
    }

    /// Takes the next `n` places of the sequence, and returns the first of them. Wait-free.
    #[inline]
    pub fn take(&self, n: u64) -> u64 {
        self.taken.fetch_add(n, Ordering::Relaxed)
    }

    /// The number at a place, taken or not: all values are equally likely.
    #[inline]
    pub fn at(&self, place: u64) -> u64 {
        mixed(self.start.wrapping_add(place.wrapping_mul(STEP)))
    }

    /// Takes the next place, and returns its number.
    #[inline]
    pub fn roll(&self) -> u64 {
        self.at(self.take(1))
    }
}

/// SplitMix64 (Steele, Lea and Flood: Fast Splittable Pseudorandom Number Generators, 2014): the same seed, the same
/// numbers, one after the other. For a single owner; [`Dice`] is for several threads.
#[derive(Debug, Clone)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// The generator in the state `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number: all values are equally likely.
    #[inline]
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mixed(self.0)
    }
}

/// A share of all numbers, chosen by a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share(u64);

impl Share {
    /// `rate` is from 0, never, to 1, always, as [`Options::rate`] gives it.
    pub fn new(rate: f64) -> Self {
        Self((rate * (1u64 << RATE_BITS) as f64) as u64)
    }

    /// Whether a number is in the share. It uses the upper bits: the lower 11 may decide something else.
    #[inline]
    pub fn hits(self, number: u64) -> bool {
        number >> (u64::BITS - RATE_BITS) < self.0
    }
}

/// A number below `end` (0 for 0), made of another; all are equally likely, as far as 64 bits go. It does not
/// depend on whether a [`Share`] hits that other number.
#[inline]
pub fn below(end: u64, number: u64) -> u64 {
    ((u128::from(mixed(number)) * u128::from(end)) >> 64) as u64
}

/// Each bit of the result depends on every bit of the number, and no two numbers have the same result.
#[inline]
fn mixed(mut number: u64) -> u64 {
    number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers() {
        let numbers = |seed, salt| (0..8).map(|place| Dice::new(seed, salt).at(place)).collect::<Vec<_>>();
        assert_eq!(numbers(7, b"a transf"), numbers(7, b"a transf"));
        assert_ne!(numbers(7, b"a transf"), numbers(8, b"a transf"));
        assert_ne!(numbers(7, b"a transf"), numbers(7, b"b transf"));
    }

    #[test]
    fn the_numbers_of_every_release() {
        // SplitMix64, published with the state 0: its first number is that of place 1 here.
        let dice = Dice { start: 0, taken: AtomicU64::new(1) };
        assert_eq!([dice.roll(), dice.roll()], [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4]);
        let mut alone = SplitMix64::new(0);
        assert_eq!([alone.roll(), alone.roll()], [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4]);
    }

    #[test]
    fn places_are_taken_once() {
        let dice = Dice::new(1, b"a transf");
        assert_eq!((dice.take(1), dice.take(5), dice.take(0), dice.take(1)), (0, 1, 6, 6));
        assert_eq!((dice.roll(), dice.take(1)), (dice.at(7), 8));
    }

    #[test]
    fn numbers_below() {
        let dice = Dice::new(1, b"a transf");
        let mut seen = [0; 10];
        for place in 0..10_000 {
            seen[below(10, dice.at(place)) as usize] += 1;
        }
        assert!(seen.iter().all(|n| (850..1150).contains(n)), "{seen:?}");
        assert_eq!((below(0, 9), below(1, u64::MAX)), (0, 0));
    }

    #[test]
    fn shares_are_about_right_and_the_ends_exactly() {
        let dice = Dice::new(1, b"a transf");
        for (rate, fewest, most) in
            [(0.0, 0, 0), (0.01, 850, 1150), (0.5, 49_000, 51_000), (1.0, 100_000, 100_000)]
        {
            let share = Share::new(rate);
            let hits = (0..100_000).filter(|place| share.hits(dice.at(*place))).count();
            assert!((fewest..=most).contains(&hits), "{rate}: {hits}");
        }
        assert!(Share::new(1.0).hits(u64::MAX) && !Share::new(0.0).hits(0));
    }
}

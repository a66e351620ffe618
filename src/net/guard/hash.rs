//! A quick hash with a key, for tables whose slots nobody outside may choose.

use std::hash::{BuildHasher, RandomState};

/// The key, drawn anew for each table.
#[derive(Debug, Clone, Copy)]
pub(super) struct HashKey([u64; 2]);

impl HashKey {
    pub(super) fn random() -> HashKey {
        let state = RandomState::new();
        HashKey([state.hash_one(0), state.hash_one(1)].map(|half| half | 1))
    }

    /// Mixes words, in their order.
    pub(super) fn of(self, words: impl IntoIterator<Item = u64>) -> u64 {
        let HashKey([first, second]) = self;
        words.into_iter().fold(first, |hash, word| fold(hash ^ word, second))
    }
}

/// Both halves of a product: each bit of a factor has its say in them.
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ GOLDEN) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

/// 2^64 divided by the golden ratio, so that a word of zeros counts too.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_their_order_count() {
        let key = HashKey::random();
        let hashes: std::collections::HashSet<_> =
            [vec![0], vec![1], vec![0, 0], vec![0, 1], vec![1, 0]].map(|words| key.of(words)).into();
        assert_eq!(hashes.len(), 5);
        assert_eq!(key.of([7]), key.of([7]));
    }

    #[test]
    fn slots_are_used_evenly() {
        let key = HashKey::random();
        let mut counts = [0_u32; 64];
        for number in 0..64_000_u64 {
            counts[(key.of([number]) % 64) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (800..1_200).contains(count)), "{counts:?}");
    }
}

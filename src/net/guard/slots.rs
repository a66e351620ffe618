//! A table of fixed size for what is remembered for a few seconds, by a hash with a key that nobody outside knows.
//!
//! A slot that is needed and not free is taken from a neighbour at random: whatever comes in turns, nothing is displaced
//! by the same other one every time.

use std::time::Duration;

/// Sets of [`WAYS`] slots.
#[derive(Debug)]
pub(super) struct Slots<V> {
    sets: Box<[[Slot<V>; WAYS]]>,
    memory_ms: u32,
    /// State of a linear congruential generator.
    dice: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot<V> {
    /// 0 is nobody's.
    tag: u32,
    when_ms: u32,
    value: V,
}

const WAYS: usize = 4;

impl<V: Copy + Default> Slots<V> {
    /// `count`: slots, a multiple of [`WAYS`]. What was not touched for `memory` is forgotten.
    pub(super) fn new(count: usize, memory: Duration) -> Slots<V> {
        let memory_ms = u32::try_from(memory.as_millis()).unwrap_or(u32::MAX);
        Slots { sets: vec![[Slot::default(); WAYS]; (count / WAYS).max(1)].into(), memory_ms, dice: 1 }
    }

    /// What is remembered under a hash. It is not touched.
    pub(super) fn get(&mut self, hash: u64, now_ms: u32) -> Option<&mut V> {
        let memory_ms = self.memory_ms;
        let set = self.set(hash)?;
        let found = set.iter_mut().find(|slot| slot.tag == tag(hash) && slot.age_ms(now_ms) <= memory_ms);
        found.map(|slot| &mut slot.value)
    }

    /// The same, touched now, or what is new under this hash.
    pub(super) fn entry(&mut self, hash: u64, now_ms: u32) -> Option<&mut V> {
        self.dice = self.dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (memory_ms, chosen) = (self.memory_ms, self.dice as usize >> 24);
        let set = self.set(hash)?;
        let is_mine = |slot: &Slot<V>| slot.tag == tag(hash);
        let is_free = |slot: &Slot<V>| slot.tag == 0 || slot.age_ms(now_ms) > memory_ms;
        let place = set.iter().position(is_mine).or_else(|| set.iter().position(is_free));
        let slot = set.get_mut(place.unwrap_or(chosen % WAYS))?;
        if !is_mine(slot) || is_free(slot) {
            *slot = Slot { tag: tag(hash), when_ms: now_ms, value: V::default() };
        }
        slot.when_ms = now_ms;
        Some(&mut slot.value)
    }

    fn set(&mut self, hash: u64) -> Option<&mut [Slot<V>; WAYS]> {
        let count = self.sets.len();
        self.sets.get_mut(hash as usize % count)
    }
}

impl<V> Slot<V> {
    fn age_ms(&self, now_ms: u32) -> u32 {
        now_ms.wrapping_sub(self.when_ms)
    }
}

fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32 | 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_touched_is_forgotten() {
        let mut slots = Slots::<u32>::new(16, Duration::from_secs(5));
        let hash = 7 << 32 | 3;
        assert_eq!(slots.get(hash, 0), None);
        *slots.entry(hash, 0).unwrap() += 1;
        *slots.entry(hash, 5000).unwrap() += 1;
        assert_eq!(slots.get(hash, 10_000), Some(&mut 2));
        assert_eq!(slots.get(hash, 10_001), None);
        assert_eq!(slots.entry(hash, 10_001), Some(&mut 0));
        // Milliseconds wrap after 49 days.
        *slots.entry(hash, u32::MAX).unwrap() += 1;
        assert_eq!(slots.get(hash, 4), Some(&mut 1));
    }

    #[test]
    fn whatever_comes_in_turns_is_found_again_some_time() {
        let mut slots = Slots::<u32>::new(WAYS, Duration::from_secs(5));
        let hashes: Vec<u64> = (1..=2 * WAYS as u64).map(|number| number << 33).collect();
        let mut found = 0;
        for _ in 0..1000 {
            for &hash in &hashes {
                found += u32::from(slots.get(hash, 0).is_some());
                slots.entry(hash, 0).unwrap();
            }
        }
        assert!(found > 500, "{found}");
    }
}

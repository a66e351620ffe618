//! A sparse array whose memory follows its use: chunks of 64 places, allocated with the first value in one and freed
//! with the last. A `Vec` that doubles holds up to twice what it needs, and keeps that when a burst is over.

const CHUNK: usize = 64;
/// A list of so many chunks is kept when the last value goes.
const KEPT_CHUNKS: usize = 16;

/// Values under numbers.
#[derive(Debug)]
pub(crate) struct Chunks<T> {
    chunks: Vec<Option<Box<Chunk<T>>>>,
    len: usize,
    /// The last chunk that became empty, so that one value that comes and goes allocates nothing.
    spare: Option<Box<Chunk<T>>>,
    /// No chunk before this one has a free place.
    first_free: usize,
}

#[derive(Debug)]
struct Chunk<T> {
    /// A bit for each place that has a value.
    used: u64,
    places: [Option<T>; CHUNK],
}

impl<T> Chunks<T> {
    pub(crate) fn new() -> Chunks<T> {
        Chunks { chunks: Vec::new(), len: 0, spare: None, first_free: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        self.chunks.get(index / CHUNK)?.as_ref()?.places[index % CHUNK].as_ref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.chunks.get_mut(index / CHUNK)?.as_mut()?.places[index % CHUNK].as_mut()
    }

    /// Puts a value under a number; gives back the one that was there.
    pub(crate) fn put(&mut self, index: usize, value: T) -> Option<T> {
        let number = index / CHUNK;
        if self.chunks.len() <= number {
            self.chunks.resize_with(number + 1, || None);
        }
        let spare = &mut self.spare;
        let chunk = self.chunks[number].get_or_insert_with(|| spare.take().unwrap_or_else(Chunk::new));
        let before = chunk.places[index % CHUNK].replace(value);
        chunk.used |= 1 << (index % CHUNK);
        self.len += usize::from(before.is_none());
        before
    }

    /// Puts a value under the lowest number that is free.
    pub(crate) fn insert(&mut self, value: T) -> usize {
        let has_room =
            |chunk: &Option<Box<Chunk<T>>>| chunk.as_ref().is_none_or(|chunk| chunk.used != u64::MAX);
        let later = self.chunks.get(self.first_free..).unwrap_or_default();
        let number =
            later.iter().position(has_room).map_or(self.chunks.len(), |place| self.first_free + place);
        self.first_free = number;
        let used = self.chunks.get(number).and_then(Option::as_ref).map_or(0, |chunk| chunk.used);
        let index = number * CHUNK + used.trailing_ones() as usize;
        self.put(index, value);
        index
    }

    pub(crate) fn take(&mut self, index: usize) -> Option<T> {
        let place = self.chunks.get_mut(index / CHUNK)?;
        let chunk = place.as_mut()?;
        let value = chunk.places[index % CHUNK].take()?;
        chunk.used &= !(1 << (index % CHUNK));
        if chunk.used == 0 {
            self.spare = place.take();
            if self.len == 1 && self.chunks.len() > KEPT_CHUNKS {
                self.chunks = Vec::new();
            }
        }
        self.len -= 1;
        self.first_free = self.first_free.min(index / CHUNK);
        Some(value)
    }

    /// The numbers that have a value, in order.
    pub(crate) fn indices(&self) -> Vec<usize> {
        let mut found = Vec::with_capacity(self.len);
        for (number, chunk) in self.chunks.iter().enumerate() {
            let used = chunk.as_ref().map_or(0, |chunk| chunk.used);
            let places = (0..CHUNK).filter(|place| used & (1 << place) != 0);
            found.extend(places.map(|place| number * CHUNK + place));
        }
        found
    }
}

impl<T> Chunk<T> {
    fn new() -> Box<Chunk<T>> {
        Box::new(Chunk { used: 0, places: [const { None }; CHUNK] })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test: what is not there fails it")]

    use super::*;

    #[test]
    fn memory_follows_use() {
        let mut chunks = Chunks::new();
        let indices: Vec<_> = (0..200).map(|value| chunks.insert(value)).collect();
        assert_eq!(indices, (0..200).collect::<Vec<_>>());
        assert_eq!(chunks.indices(), indices);
        (64..128).for_each(|index| assert_eq!(chunks.take(index), Some(index)));
        assert!(chunks.chunks[1].is_none() && chunks.spare.is_some());
        assert_eq!((chunks.get(64), chunks.get(63)), (None, Some(&63)));
        assert_eq!(chunks.take(64), None);
        *chunks.get_mut(0).unwrap() = 7;
        assert_eq!(chunks.put(0, 8), Some(7));
        // The lowest place that is free is taken first.
        assert_eq!((chunks.insert(1), chunks.insert(2)), (64, 65));
        chunks.put(100_000, 3);
        chunks.indices().into_iter().for_each(|index| assert!(chunks.take(index).is_some()));
        assert!(chunks.is_empty() && chunks.chunks.is_empty());
    }
}

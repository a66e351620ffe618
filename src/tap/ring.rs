//! A bounded ring of records: any number of writers, which never wait, and one reader.
//!
//! ```text
//!   read                        reserved
//!    v                              v
//! ...| record | record | (written) |  free ...
//!    ^ its first word is 0 until all of it is there
//! ```
//!
//! It consists of words, since those can be written and read by several threads without unsafe code. A writer reserves the
//! place of its record with one compare-and-swap and stores the first word last. The reader takes a record when that word
//! is not 0, and leaves zeros behind: bytes of a peer can never pass for the first word of a record.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{bug, sys};

const WORD_BYTES: usize = size_of::<u64>();

/// Words of a record before its bytes. The first has the number of all of them in its lower half, and is never 0.
pub(super) const HEAD_WORDS: usize = 9;

/// What of a record the ring fills in: the number of records that were lost before it.
pub(super) const LOST_WORD: usize = 1;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Ring {
    words: Box<[AtomicU64]>,
    writers: Writers,
    /// How far the reader is.
    read: ReadUpTo,
}

/// What the writers change, on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Writers {
    /// Words that were ever reserved.
    reserved: AtomicU64,
    /// `read`, when one of them last looked.
    read: AtomicU64,
    lost: AtomicU64,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct ReadUpTo(AtomicU64);

impl Ring {
    /// A ring of at least so many bytes; `None`: there is not so much memory.
    pub(super) fn new(bytes: usize) -> Option<Ring> {
        let words = bytes.div_ceil(WORD_BYTES).max(HEAD_WORDS).next_power_of_two();
        let words = sys::zeroed_words(words)?.into_boxed_slice();
        Some(Ring { words, writers: Writers::default(), read: ReadUpTo::default() })
    }

    /// Writes a record: its head, whose first word says in its upper half what the caller likes, and its parts. One that
    /// finds no room is counted.
    pub(super) fn write(&self, mut head: [u64; HEAD_WORDS], parts: [&[u8]; 3]) {
        let words = HEAD_WORDS + parts.iter().map(|part| part.len().div_ceil(WORD_BYTES)).sum::<usize>();
        let Some(at) = self.reserve(words as u64) else {
            self.writers.lost.fetch_add(1, Ordering::Relaxed);
            return;
        };
        head[0] |= words as u64;
        head[LOST_WORD] = self.lost();
        let (before, behind) = self.spans(at, words);
        if behind.is_empty() {
            let mut rest = store(before.split_at(1).1, &head[1..]);
            parts.into_iter().for_each(|part| rest = store_bytes(rest, part));
        } else {
            let mut place = at + 1;
            head[1..].iter().for_each(|word| self.put(&mut place, *word));
            parts.into_iter().for_each(|part| self.put_bytes(&mut place, part));
        }
        self.word(at).store(head[0], Ordering::Release);
    }

    /// Writes what goes on at the beginning of the ring, word by word.
    #[cold]
    fn put_bytes(&self, place: &mut u64, bytes: &[u8]) {
        let (whole, rest) = bytes.as_chunks::<WORD_BYTES>();
        whole.iter().for_each(|bytes| self.put(place, u64::from_ne_bytes(*bytes)));
        if !rest.is_empty() {
            self.put(place, last_word(rest));
        }
    }

    fn put(&self, place: &mut u64, word: u64) {
        self.word(*place).store(word, Ordering::Relaxed);
        *place += 1;
    }

    fn reserve(&self, words: u64) -> Option<u64> {
        let room = self.words.len() as u64;
        if words > room {
            return None;
        }
        let mut at = self.writers.reserved.load(Ordering::Relaxed);
        loop {
            // `at` may be old and `read` new: then the exchange fails.
            let wanted = at + words;
            if wanted.saturating_sub(self.writers.read.load(Ordering::Acquire)) > room {
                let read = self.read.0.load(Ordering::Acquire);
                self.writers.read.fetch_max(read, Ordering::AcqRel);
                if wanted.saturating_sub(read) > room {
                    return None;
                }
            }
            match self.writers.reserved.compare_exchange_weak(at, wanted, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => return Some(at),
                Err(now) => at = now,
            }
        }
    }

    /// Records that found no room.
    pub(super) fn lost(&self) -> u64 {
        self.writers.lost.load(Ordering::Relaxed)
    }

    /// Takes the record at `at` into `bytes`, and moves `at` behind it. Whether there is a whole one; it stays where there is
    /// no memory for it. For one thread at a time.
    pub(super) fn take(&self, at: &mut u64, bytes: &mut Vec<u8>) -> io::Result<bool> {
        let first = self.word(*at).load(Ordering::Acquire);
        if first == 0 {
            return Ok(false);
        }
        let words = (first & u64::from(u32::MAX)) as usize;
        bytes.try_reserve((words * WORD_BYTES).saturating_sub(bytes.len()))?;
        // What is there already is written over.
        bytes.resize(words * WORD_BYTES, 0);
        let (before, behind) = self.spans(*at, words);
        let (to, to_rest) = bytes.as_chunks_mut::<WORD_BYTES>().0.split_at_mut(before.len());
        load(before, to);
        load(behind, to_rest);
        *at += words as u64;
        self.read.0.store(*at, Ordering::Release);
        Ok(true)
    }

    /// Whether somebody is writing the record at `at`, or has written it.
    pub(super) fn is_reserved(&self, at: u64) -> bool {
        self.writers.reserved.load(Ordering::Acquire) != at
    }

    fn word(&self, place: u64) -> &AtomicU64 {
        // The length is a power of two.
        let index = place as usize & (self.words.len() - 1);
        &self.words[index]
    }

    /// So many words from `place` on, which may go on at the beginning.
    fn spans(&self, place: u64, count: usize) -> (&[AtomicU64], &[AtomicU64]) {
        let index = place as usize & (self.words.len() - 1);
        let before = count.min(self.words.len() - index);
        (bug::part(&self.words, index..index + before), bug::part(&self.words, ..count - before))
    }
}

/// Writes words to the first places; gives the others.
#[inline]
fn store<'a>(places: &'a [AtomicU64], words: &[u64]) -> &'a [AtomicU64] {
    let (first, rest) = places.split_at(words.len().min(places.len()));
    first.iter().zip(words).for_each(|(place, word)| place.store(*word, Ordering::Relaxed));
    rest
}

/// The same with bytes, of which the last word may lack some.
#[inline]
fn store_bytes<'a>(places: &'a [AtomicU64], bytes: &[u8]) -> &'a [AtomicU64] {
    let (whole, last) = bytes.as_chunks::<WORD_BYTES>();
    let (first, rest) = places.split_at(whole.len().min(places.len()));
    for (place, bytes) in first.iter().zip(whole) {
        place.store(u64::from_ne_bytes(*bytes), Ordering::Relaxed);
    }
    match rest.split_first() {
        Some((place, rest)) if !last.is_empty() => {
            place.store(last_word(last), Ordering::Relaxed);
            rest
        }
        _ => rest,
    }
}

fn last_word(bytes: &[u8]) -> u64 {
    let mut word = [0; WORD_BYTES];
    word.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    u64::from_ne_bytes(word)
}

/// Takes words out, and leaves zeros.
#[inline]
fn load(places: &[AtomicU64], to: &mut [[u8; WORD_BYTES]]) {
    for (place, to) in places.iter().zip(to) {
        *to = place.load(Ordering::Relaxed).to_ne_bytes();
        place.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::thread;

    fn write(ring: &Ring, mark: u64, bytes: &[u8]) {
        let mut head = [u64::MAX; HEAD_WORDS];
        (head[0], head[2]) = (mark << 32, mark);
        ring.write(head, [bytes, &[], bytes]);
    }

    fn word(record: &[u8], place: usize) -> u64 {
        u64::from_ne_bytes(record[8 * place..8 * place + 8].try_into().unwrap())
    }

    #[test]
    fn records_come_back_whole_across_the_end_of_the_ring() {
        let ring = Ring::new(64 * WORD_BYTES).unwrap();
        let (mut at, mut record) = (0, Vec::new());
        assert!(!ring.take(&mut at, &mut record).unwrap() && !ring.is_reserved(at));
        for round in 1..500_u64 {
            let bytes: Vec<u8> = (0..round as usize % 60).map(|byte| (byte as u64 ^ round) as u8).collect();
            write(&ring, round, &bytes);
            assert!(ring.is_reserved(at));
            assert!(ring.take(&mut at, &mut record).unwrap());
            assert_eq!((word(&record, 0) >> 32, word(&record, 2)), (round, round));
            let padded = bytes.len().next_multiple_of(8);
            let body = &record[8 * HEAD_WORDS..];
            assert_eq!(body.len(), 2 * padded);
            assert_eq!((&body[..bytes.len()], &body[padded..padded + bytes.len()]), (&bytes[..], &bytes[..]));
            assert!(!ring.take(&mut at, &mut record).unwrap());
        }
        assert_eq!(ring.lost(), 0);
    }

    #[test]
    fn what_finds_no_room_is_counted_and_the_next_record_says_so() {
        let ring = Ring::new(4 * HEAD_WORDS * WORD_BYTES).unwrap();
        let fit = ring.words.len() / HEAD_WORDS;
        for mark in 0..fit + 3 {
            write(&ring, mark as u64, &[]);
        }
        write(&ring, 0, &[0; 4096]);
        assert_eq!(ring.lost(), 4);
        let (mut at, mut record) = (0, Vec::new());
        for mark in 0..fit {
            assert!(ring.take(&mut at, &mut record).unwrap());
            assert_eq!((word(&record, 2), word(&record, LOST_WORD)), (mark as u64, 0));
        }
        assert!(!ring.take(&mut at, &mut record).unwrap());
        write(&ring, 77, &[]);
        assert!(ring.take(&mut at, &mut record).unwrap());
        assert_eq!((word(&record, 2), word(&record, LOST_WORD)), (77, 4));
    }

    #[test]
    fn several_writers_lose_nothing_and_keep_their_order() {
        const EACH: u64 = 20_000;
        const WRITERS: u64 = 3;
        let ring = Arc::new(Ring::new(1 << 14).unwrap());
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let ring = Arc::clone(&ring);
                thread::spawn(move || {
                    for number in 0..EACH {
                        let bytes = vec![writer as u8; number as usize % 50];
                        write(&ring, writer << 24 | number, &bytes);
                    }
                })
            })
            .collect();
        let (mut at, mut record) = (0, Vec::new());
        let (mut taken, mut last) = (0, [None; WRITERS as usize]);
        loop {
            let is_over = writers.iter().all(thread::JoinHandle::is_finished);
            if !ring.take(&mut at, &mut record).unwrap() {
                if is_over {
                    break;
                }
                thread::yield_now();
                continue;
            }
            taken += 1;
            let mark = word(&record, 2);
            let (writer, number) = ((mark >> 24) as usize, mark & 0xff_ffff);
            assert_eq!(word(&record, 0) >> 32, mark);
            assert!(last[writer].is_none_or(|last| last < number), "{writer}: {number} after {last:?}");
            last[writer] = Some(number);
            let body = &record[8 * HEAD_WORDS..];
            let length = number as usize % 50;
            assert!(body[..length].iter().all(|byte| *byte == writer as u8));
        }
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        assert_eq!(taken + ring.lost(), WRITERS * EACH);
        assert!(taken > 0);
    }
}

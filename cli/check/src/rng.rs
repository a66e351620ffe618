//! Random input from a seed, and the time that a probe has for it.

use resay_plugin::dice::SplitMix64;
use std::time::{Duration, Instant};

/// What is made up from a seed.
#[derive(Debug, Clone)]
pub(crate) struct Rng(SplitMix64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Rng {
        Rng(SplitMix64::new(seed))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0.roll()
    }

    /// A number below `end`; 0 where that is 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        if end == 0 { 0 } else { self.next() % end }
    }

    /// So many bytes of some kind: noise, text, lines, one byte repeated, text that is not UTF-8.
    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        const TEXT: &[u8] =
            "Hello, World! The quick brown fox — größer, ŉ, ﬃ, 日本語 — 0123456789abcdef\r\n".as_bytes();
        let kind = self.below(5);
        let offset = self.below(TEXT.len() as u64) as usize;
        let fill = self.next() as u8;
        match kind {
            0 => (0..len).map(|_| self.next() as u8).collect(),
            1 => TEXT.iter().cycle().take(len).copied().collect(),
            2 => (0..len).map(|_| b"0123456789abcdefABCDEF \n"[self.below(24) as usize]).collect(),
            3 => vec![fill; len],
            _ => TEXT.iter().cycle().skip(offset).take(len).copied().collect(),
        }
    }

    /// Lines of plain ASCII.
    pub(crate) fn text(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| b"etaoin shrdlu ETAOIN SHRDLU\n0123456789"[self.below(38) as usize]).collect()
    }

    /// A length that loops like to get wrong.
    pub(crate) fn length(&mut self, max: usize) -> usize {
        const EDGES: &[usize] =
            &[0, 1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 255, 256, 4096];
        let length = match self.below(3) {
            0 => EDGES[self.below(EDGES.len() as u64) as usize],
            1 => self.below(300) as usize,
            _ => self.below(max as u64 + 1) as usize,
        };
        length.min(max)
    }
}

/// How long a probe may look for new cases.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    end: Instant,
}

impl Budget {
    pub(crate) fn new(budget: Duration) -> Budget {
        Budget { end: Instant::now() + budget }
    }

    pub(crate) fn is_left(&self) -> bool {
        Instant::now() < self.end
    }
}

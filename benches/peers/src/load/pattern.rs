//! Endless bytes.

/// A prime, so that messages of no size repeat with it; more than any burst has bytes.
pub(super) const PATTERN_BYTES: usize = 131_071;

/// A pattern twice in a row, so that any piece of it is one slice.
pub(super) struct Pattern {
    messages: Vec<u8>,
    answers: Vec<u8>,
}

impl Pattern {
    /// `shouts`: answers are in capitals.
    pub(super) fn new(shouts: bool) -> Pattern {
        // Numerical Recipes' linear congruential generator: any would do that mixes letters and the rest.
        let mut state = 1u32;
        let once: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .take(PATTERN_BYTES)
        .collect();
        let messages = [once.as_slice(), &once].concat();
        let answers = if shouts { messages.to_ascii_uppercase() } else { messages.clone() };
        Pattern { messages, answers }
    }

    pub(super) fn message(&self, at: usize, len: usize) -> &[u8] {
        &self.messages[at..at + len]
    }

    pub(super) fn answer(&self, at: usize, len: usize) -> &[u8] {
        &self.answers[at..at + len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pattern_is_endless() {
        let pattern = Pattern::new(true);
        assert_eq!(pattern.message(0, 100), pattern.message(PATTERN_BYTES, 100));
        assert_eq!(
            pattern.answer(PATTERN_BYTES - 1, 64),
            pattern.message(PATTERN_BYTES - 1, 64).to_ascii_uppercase()
        );
        assert_ne!(pattern.message(0, 64), pattern.message(7919, 64));
    }
}

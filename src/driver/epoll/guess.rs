//! Who is probably ready next. In a foreign loop every turn follows a wait of that loop's, and to ask epoll which socket it
//! was is one more system call a message. Where the same stream has been alone twice in a row, it is read without asking, a
//! bounded number of times. What epoll has noted of it meanwhile is not told later: a poll of an epoll instance, or a wait for
//! it, looks at each noted socket again, also at those that are registered for edges.

use crate::driver::Token;

/// Turns in a row that are served by a guess. Other sockets wait for so many messages of one.
pub(super) const GUESSES_MAX: u8 = 8;

/// Who may be guessed to be ready next.
#[derive(Debug, Default)]
pub(super) struct Guess {
    /// The stream that was ready when nobody else was.
    lone: Option<Token>,
    /// Whether that was so twice in a row.
    is_likely: bool,
    /// Guesses since epoll was last asked.
    made: u8,
    /// This turn is one.
    is_this_turn: bool,
}

impl Guess {
    /// The stream that is probably ready.
    pub(super) fn likely(&self) -> Option<Token> {
        self.lone.filter(|_| self.is_likely && self.made < GUESSES_MAX)
    }

    /// This turn reads it without asking.
    pub(super) fn make(&mut self) {
        self.made += 1;
        self.is_this_turn = true;
    }

    /// Whether nobody was asked for this turn.
    pub(super) fn is_this_turn(&self) -> bool {
        self.is_this_turn
    }

    /// Epoll was asked: `lone` is the stream that was ready when nobody else was.
    pub(super) fn note(&mut self, lone: Option<Token>) {
        let is_likely = lone.is_some() && lone == self.lone;
        *self = Guess { lone, is_likely, ..Guess::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twice_alone_is_likely_for_a_while() {
        let (one, other) = (Token::new(1, 0), Token::new(2, 0));
        let mut guess = Guess::default();
        for alone in [Some(one), Some(other), None, None, Some(one)] {
            guess.note(alone);
            assert_eq!((guess.likely(), guess.is_this_turn()), (None, false), "{alone:?}");
        }
        guess.note(Some(one));
        for _ in 0..GUESSES_MAX {
            assert_eq!(guess.likely(), Some(one));
            guess.make();
            assert!(guess.is_this_turn());
        }
        assert_eq!(guess.likely(), None, "others have waited for long enough");
        guess.note(Some(one));
        assert_eq!((guess.likely(), guess.is_this_turn()), (Some(one), false));
    }
}

//! A chain as text, apart from its quoted values: where stages and lists of chains may be split.

use std::str::CharIndices;

/// The characters that stand outside quoted values, with their places.
#[derive(Debug, Clone)]
pub(crate) struct Unquoted<'a> {
    characters: CharIndices<'a>,
    quote: Option<char>,
}

impl<'a> Unquoted<'a> {
    pub(crate) fn new(text: &'a str) -> Unquoted<'a> {
        Unquoted { characters: text.char_indices(), quote: None }
    }

    /// Whether a quoted value has begun and not ended yet.
    pub(crate) fn is_within_quotes(&self) -> bool {
        self.quote.is_some()
    }
}

impl Iterator for Unquoted<'_> {
    type Item = (usize, char);

    fn next(&mut self) -> Option<(usize, char)> {
        loop {
            let (at, letter) = self.characters.next()?;
            match (self.quote, letter) {
                (Some('"'), '\\') => {
                    self.characters.next();
                }
                (Some(open), _) if open == letter => self.quote = None,
                (Some(_), _) => {}
                (None, '"' | '\'') => self.quote = Some(letter),
                (None, _) => return Some((at, letter)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_what_is_in_them_are_left_out() {
        let table = [
            ("a,b", "a,b", false),
            ("a:t='x,\"y',b", "a:t=,b", false),
            (r#"a:t="x\",y",b"#, "a:t=,b", false),
            (r#"a:t="x\\",b"#, "a:t=,b", false),
            (r"a:t='x\',b", "a:t=,b", false),
            ("a:t='x,", "a:t=", true),
            (r#"a:t="x\"#, "a:t=", true),
        ];
        for (text, outside, is_within) in table {
            let mut unquoted = Unquoted::new(text);
            assert_eq!(unquoted.by_ref().map(|(_, letter)| letter).collect::<String>(), outside, "{text}");
            assert_eq!(unquoted.is_within_quotes(), is_within, "{text}");
        }
    }
}

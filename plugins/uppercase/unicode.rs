//! All letters of UTF-8 text: a character may become up to three, and a read may end inside one.

use core::str;
use resay_plugin::{Call, Error, Io, Process, Setup, Status, Transform};

/// The option that chooses this mode.
pub(crate) const OPTION: &str = "unicode";
/// Output per input, at worst: two bytes (U+0390) become six. A test looks at every character.
pub(crate) const BOUND: (u32, u32, u32) = (3, 1, 0);

/// The most bytes that the capitals of one character take.
const CAPITALS_BYTES_MAX: usize = 6;

#[derive(Debug)]
pub(crate) struct Unicode;

impl Transform for Unicode {
    type Session = ();

    fn create(_: &Setup<'_>) -> Result<Self, Error> {
        Ok(Unicode)
    }
}

impl Process for Unicode {
    fn process(&self, _: Call<'_, ()>, io: &mut Io<'_>) -> Status {
        let input = io.input();
        let unfinished = if io.is_last() { 0 } else { unfinished(input) };
        for chunk in input[..input.len() - unfinished].utf8_chunks() {
            if !uppercase(chunk.valid(), io) || !unchanged(chunk.invalid(), io) {
                return Status::MoreOut;
            }
        }
        if unfinished == 0 { Status::Ok } else { Status::MoreIn }
    }
}

/// Writes the capitals of `text`; false where the room ends, with all before it consumed.
fn uppercase(mut text: &str, io: &mut Io<'_>) -> bool {
    while !text.is_empty() {
        let ascii = ascii_prefix(text.as_bytes());
        let fits = ascii.min(io.room());
        let out = &mut io.spare()[..fits];
        out.copy_from_slice(&text.as_bytes()[..fits]);
        out.make_ascii_uppercase();
        io.produce(fits);
        io.consume(fits);
        if fits < ascii {
            io.need(1);
            return false;
        }
        text = &text[ascii..];
        let letters = text.chars().take_while(|letter| !letter.is_ascii());
        let mut consumed = 0;
        for letter in letters {
            let mut capitals = [0; CAPITALS_BYTES_MAX];
            let mut len = 0;
            for capital in letter.to_uppercase() {
                len += capital.encode_utf8(&mut capitals[len..]).len();
            }
            if !io.write_all(&capitals[..len]) {
                io.need(len);
                return false;
            }
            io.consume(letter.len_utf8());
            consumed += letter.len_utf8();
        }
        text = &text[consumed..];
    }
    true
}

/// How many bytes of ASCII lead, found a block at a time.
fn ascii_prefix(bytes: &[u8]) -> usize {
    const BLOCK_BYTES: usize = 32;
    let blocks = bytes.chunks_exact(BLOCK_BYTES).take_while(|block| block.is_ascii()).count() * BLOCK_BYTES;
    blocks + bytes[blocks..].iter().take_while(|byte| byte.is_ascii()).count()
}

/// Writes what is no text as it is; false where the room ends.
fn unchanged(bytes: &[u8], io: &mut Io<'_>) -> bool {
    let fits = io.write(bytes);
    io.consume(fits);
    io.need(bytes.len() - fits);
    fits == bytes.len()
}

/// How many bytes at the end are the beginning of a character that more input may complete: 0 to 3.
fn unfinished(input: &[u8]) -> usize {
    let last = input.len().min(3);
    // At most one of these ends begins with a character's first byte that the rest follows rightly.
    (1..=last)
        .find(|&n| {
            let end = &input[input.len() - n..];
            matches!(str::from_utf8(end), Err(error) if error.valid_up_to() == 0 && error.error_len().is_none())
        })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uppercase::TABLE;
    use resay_plugin::harness::Harness;

    fn unicode() -> Harness {
        Harness::new(&TABLE, &[("unicode", "1")]).unwrap()
    }

    fn all_chars() -> impl Iterator<Item = char> {
        (0..=char::MAX as u32).filter_map(char::from_u32)
    }

    /// Text that grows, shrinks, is broken and is cut off, and what becomes of it.
    const MIXED: &[u8] =
        b"a\xc3\x9fz \xce\x90 \xe1\xbe\xb7 \xf0\x90\x90\xa8 \xff\xc3 \xe2\x82 \xf0\x9f\x98 \xed\xa0\x80 \xc3";

    /// By the standard library alone.
    fn expected(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for chunk in bytes.utf8_chunks() {
            out.extend(chunk.valid().chars().flat_map(char::to_uppercase).collect::<String>().into_bytes());
            out.extend(chunk.invalid());
        }
        out
    }

    #[test]
    fn every_character() {
        let unicode = unicode();
        let text: String = all_chars().collect();
        assert_eq!(unicode.message(text.as_bytes()).unwrap(), expected(text.as_bytes()));
        for letter in all_chars().filter(|letter| !letter.to_uppercase().eq([*letter])) {
            let text = letter.to_string();
            assert_eq!(unicode.message(text.as_bytes()).unwrap(), expected(text.as_bytes()), "{letter:?}");
        }
    }

    #[test]
    fn long_runs_of_ascii() {
        let unicode = unicode();
        for len in (0..70).chain([1000]) {
            let text = ["a".repeat(len), "ß".repeat(2), "z".repeat(len)].concat();
            assert_eq!(unicode.message(text.as_bytes()).unwrap(), expected(text.as_bytes()), "{len}");
        }
    }

    #[test]
    fn the_bound_is_the_worst_case() {
        let len = |letter: char| letter.to_uppercase().map(char::len_utf8).sum::<usize>();
        let worst =
            all_chars().max_by(|&a, &b| (len(a) * b.len_utf8()).cmp(&(len(b) * a.len_utf8()))).unwrap();
        let (mul, div, add) = BOUND;
        assert_eq!(
            (len(worst), 0),
            (worst.len_utf8() * mul as usize / div as usize, add),
            "{worst:?} is the worst"
        );
        assert_eq!(all_chars().map(len).max(), Some(CAPITALS_BYTES_MAX));
    }

    #[test]
    fn split_anywhere_is_the_same() {
        let unicode = unicode();
        let whole = expected(MIXED);
        assert_eq!(unicode.message(MIXED).unwrap(), whole);
        unicode.assert_splits(MIXED, &whole);
        for room in 0..8 {
            Harness::new(&TABLE, &[("unicode", "1")]).unwrap().with_room(room).assert_splits(MIXED, &whole);
        }
    }

    #[test]
    fn a_split_character_waits_and_nothing_else_does() {
        let unicode = unicode();
        for letter in ["ß", "ὒ", "𐐨"] {
            for at in 1..letter.len() {
                let mut session = unicode.session().unwrap();
                assert_eq!(session.read(&[b"a", &letter.as_bytes()[..at]].concat()).output, b"A");
                let rest = session.read(&letter.as_bytes()[at..]);
                assert_eq!((rest.status, rest.output), (0, letter.to_uppercase().into_bytes()));
            }
        }
        for finished in [&b"\xff"[..], b"\x80", b"a\xc0", b"\xe0\x80", b"\xed\xa0", b"\xf5", b"\xc3\xc3\x28"]
        {
            assert_eq!(super::unfinished(finished), 0, "{finished:?}");
        }
    }

    #[test]
    fn what_is_cut_off_passes_as_it_is() {
        let unicode = unicode();
        for cut in [&b"a\xc3"[..], b"a\xe1\xbd", b"a\xf0\x90\x90"] {
            let expected = [b"A", &cut[1..]].concat();
            assert_eq!(unicode.message(cut).unwrap(), expected);
            assert_eq!(unicode.stream(&[cut]).unwrap(), expected);
        }
    }

    #[test]
    fn every_pair_of_bytes_passes_or_grows_as_text() {
        let unicode = unicode();
        for first in 0x80..=255 {
            for second in 0..=255 {
                let bytes = [first, second];
                assert_eq!(unicode.message(&bytes).unwrap(), expected(&bytes), "{bytes:?}");
                assert_eq!(unicode.stream(&[&bytes[..1], &bytes[1..]]).unwrap(), expected(&bytes));
            }
        }
    }
}

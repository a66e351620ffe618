//! `reverse`: the bytes of a message come back last first; with `unit=chars`, the characters of UTF-8 text.
//!
//! On a raw stream, which has no messages, each read is reversed as it came: what one read brings is up to the
//! network. Where that matters, frame the stream.

use resay_plugin::{Call, Error, Map, OptionSpec, Setup, Status, Table, Transform};

/// The table: bundled into the engine, and exported by `libreverse`.
pub static TABLE: Table = Table::map::<Reverse>(c"reverse")
    .version(resay_plugin::package_version!())
    .summary(c"messages come back last byte first")
    .options(OPTIONS)
    .build();

const UNIT: &str = "unit";
const OPTIONS: &[OptionSpec] = &[OptionSpec::choice(
    c"unit",
    c"bytes|chars",
    c"what keeps its inner order: each byte, or each character of UTF-8 text",
)
.or(c"bytes")];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reverse {
    Bytes,
    Chars,
}

impl Transform for Reverse {
    type Session = ();

    fn create(setup: &Setup<'_>) -> Result<Self, Error> {
        setup.options.choice(UNIT, &[("bytes", Reverse::Bytes), ("chars", Reverse::Chars)])
    }
}

impl Map for Reverse {
    fn map(&self, _: Call<'_, ()>, data: &mut [u8]) -> Status {
        data.reverse();
        if *self == Reverse::Chars {
            mend_chars(data);
        }
        Status::Ok
    }
}

/// Turns each character of text whose bytes were reversed round again: its first byte now stands behind the
/// others. A byte that belongs to no character stands for itself.
fn mend_chars(data: &mut [u8]) {
    let mut continuations = 0;
    for at in 0..data.len() {
        let others = match data[at] {
            0x80..=0xbf => {
                continuations += 1;
                continue;
            }
            0xc2..=0xdf => 1,
            0xe0..=0xef => 2,
            0xf0..=0xf4 => 3,
            _ => 0,
        };
        if others <= continuations {
            data[at - others..=at].reverse();
        }
        continuations = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::TABLE;
    use resay_plugin::harness::{Harness, assert_refused};

    #[test]
    fn bytes() {
        let reverse = Harness::new(&TABLE, &[]).unwrap();
        for (message, expected) in
            [(&b""[..], &b""[..]), (b"a", b"a"), (b"abc", b"cba"), (b"\xc3\x9f", b"\x9f\xc3")]
        {
            assert_eq!(reverse.message(message).unwrap(), expected);
        }
        let long: Vec<u8> = (0..70_000u32).map(|i| (i / 3) as u8).collect();
        assert_eq!(reverse.message(&long).unwrap(), long.iter().rev().copied().collect::<Vec<u8>>());
    }

    #[test]
    fn each_read_of_a_raw_stream() {
        let reverse = Harness::new(&TABLE, &[]).unwrap();
        assert_eq!(reverse.stream(&[b"abc", b"", b"de"]).unwrap(), b"cbaed");
    }

    #[test]
    fn characters() {
        let reverse = Harness::new(&TABLE, &[("unit", "chars")]).unwrap();
        for text in ["", "a", "ß", "aß", "Größe: 5 €, 𐐨!", "\u{80}\u{7ff}\u{800}\u{ffff}\u{10000}\u{10ffff}"]
        {
            let expected: String = text.chars().rev().collect();
            assert_eq!(reverse.message(text.as_bytes()).unwrap(), expected.as_bytes(), "{text}");
        }
        let every: String = (0..=char::MAX as u32).filter_map(char::from_u32).collect();
        let expected: String = every.chars().rev().collect();
        assert!(reverse.message(every.as_bytes()).unwrap() == expected.as_bytes());
    }

    #[test]
    fn what_is_no_text_stands_for_itself() {
        let reverse = Harness::new(&TABLE, &[("unit", "chars")]).unwrap();
        for (message, expected) in [
            (&b"a\xffb"[..], &b"b\xffa"[..]),
            (b"a\x80\x81", b"\x81\x80a"),
            (b"\xc3\x9f\x80", b"\x80\xc3\x9f"), // a continuation too many
            (b"\xe2\x82", b"\x82\xe2"),         // cut off
            (b"x\xc3", b"\xc3x"),
        ] {
            assert_eq!(reverse.message(message).unwrap(), expected, "{message:?}");
        }
    }

    #[test]
    fn a_wrong_unit_is_named() {
        assert_refused(&TABLE, &[("unit", "words", "bytes or chars")]);
    }
}

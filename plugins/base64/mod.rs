//! `base64`: bytes come back as base64 text, or with `mode=decode` text as bytes (RFC 4648).
//!
//! Encoding writes no line ends. Decoding is strict: bits that no byte uses must be zero, the padding must be there
//! with `padding=1` and must not with `padding=0`. Blanks (space, tab, CR, LF) are skipped between groups of four
//! characters, where MIME and PEM break their lines. A short group ends a text, and another may follow; without
//! padding it is a blank that ends it. A raw stream is read as a whole, however its reads fall.

mod decode;
mod encode;
mod format;

use format::{Mode, mode};
use resay_plugin::{Draft, OptionSpec, Table, Transform};

/// The table: bundled into the engine, and exported by `libbase64`.
pub static TABLE: Table = {
    let (mul, div, add) = encode::BOUND;
    described(Table::process::<encode::Encode>(c"base64"))
        .bound(mul, div, add)
        .select(|options| match mode(options) {
            Ok(Mode::Decode) => Some(&DECODE_TABLE),
            _ => None,
        })
        .build()
};

static DECODE_TABLE: Table = {
    let (mul, div, add) = decode::BOUND;
    described(Table::process::<decode::Decode>(c"base64")).bound(mul, div, add).build()
};

const OPTIONS: &[OptionSpec] = &[
    OptionSpec::choice(c"mode", c"encode|decode", c"bytes to text, or text to bytes").or(c"encode"),
    OptionSpec::choice(c"alphabet", c"standard|url", c"the last two characters: + and /, or - and _")
        .or(c"standard"),
    OptionSpec::bool(c"padding", c"whether = fills the last group of four").or(c"1"),
];

/// What the two tables have in common.
const fn described<T: Transform>(draft: Draft<T>) -> Draft<T> {
    draft
        .version(resay_plugin::package_version!())
        .summary(c"bytes as base64 text, and back")
        .options(OPTIONS)
}

#[cfg(test)]
mod tests {
    use super::TABLE;
    use resay_plugin::harness::Harness;

    #[test]
    fn test_vectors_of_the_rfc() {
        let encoder = Harness::new(&TABLE, &[]).unwrap();
        let decoder = Harness::new(&TABLE, &[("mode", "decode")]).unwrap();
        let bare = Harness::new(&TABLE, &[("padding", "0")]).unwrap();
        let bare_decoder = Harness::new(&TABLE, &[("mode", "decode"), ("padding", "0")]).unwrap();
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            let unpadded = text.trim_end_matches('=');
            assert_eq!(encoder.message(bytes.as_bytes()).unwrap(), text.as_bytes());
            assert_eq!(decoder.message(text.as_bytes()).unwrap(), bytes.as_bytes());
            assert_eq!(bare.message(bytes.as_bytes()).unwrap(), unpadded.as_bytes());
            assert_eq!(bare_decoder.message(unpadded.as_bytes()).unwrap(), bytes.as_bytes());
        }
    }

    #[test]
    fn there_and_back_split_anywhere() {
        let bytes: Vec<u8> = (0..=255).rev().collect();
        for alphabet in ["standard", "url"] {
            for padding in ["1", "0"] {
                let options = [("alphabet", alphabet), ("padding", padding)];
                let encoder = Harness::new(&TABLE, &options).unwrap();
                let decoder = Harness::new(&TABLE, &[&options[..], &[("mode", "decode")]].concat()).unwrap();
                for len in 0..=bytes.len() {
                    let bytes = &bytes[..len];
                    let text = encoder.message(bytes).unwrap();
                    assert_eq!(decoder.message(&text).unwrap(), bytes);
                    for at in [0, 1, 2, 3, len / 2, len.saturating_sub(1)].map(|at| at.min(len)) {
                        assert_eq!(encoder.stream(&[&bytes[..at], &bytes[at..]]).unwrap(), text);
                    }
                    for at in [0, 1, 2, 3, len, text.len().saturating_sub(1)].map(|at| at.min(text.len())) {
                        assert_eq!(decoder.stream(&[&text[..at], &text[at..]]).unwrap(), bytes);
                    }
                }
            }
        }
    }

    #[test]
    fn the_alphabets_differ() {
        let bytes = b"\xfb\xff\xfe";
        for (alphabet, text) in [("standard", "+//+"), ("url", "-__-")] {
            let encoder = Harness::new(&TABLE, &[("alphabet", alphabet)]).unwrap();
            assert_eq!(encoder.message(bytes).unwrap(), text.as_bytes());
            let decoder = Harness::new(&TABLE, &[("alphabet", alphabet), ("mode", "decode")]).unwrap();
            assert_eq!(decoder.message(text.as_bytes()).unwrap(), bytes);
            let other = if alphabet == "url" { "+//+" } else { "-__-" };
            assert!(decoder.message(other.as_bytes()).is_err());
        }
    }

    #[test]
    fn wrong_values_are_named() {
        for (key, value, expected) in [
            ("mode", "encod", "encode or decode"),
            ("alphabet", "mime", "standard or url"),
            ("padding", "2", "1, 0, true or false"),
        ] {
            for mode in ["encode", "decode"] {
                let options =
                    if key == "mode" { vec![(key, value)] } else { vec![("mode", mode), (key, value)] };
                let error = Harness::new(&TABLE, &options).unwrap_err();
                assert_eq!(error.text(), format!("option '{key}' is '{value}', but must be {expected}"));
            }
        }
    }
}

//! `hex`: bytes come back as hexadecimal digits, or with `mode=decode` digits as bytes (RFC 4648, base 16).
//!
//! Encoding writes small letters and no line ends. Decoding takes both cases and skips blanks (space, tab, CR, LF)
//! between pairs of digits, not within one; anything else is bad data, and so is half a pair at the end. A raw
//! stream is one text from its beginning to its end, however its reads fall.

use resay_plugin::{
    Call, Draft, Error, Io, Level, OptionSpec, Options, Process, Setup, Status, Table, Transform,
    with_widest_vectors,
};

/// The table: bundled into the engine, and exported by `libhex`.
pub static TABLE: Table = described(Table::process::<Encode>(c"hex"))
    .bound(2, 1, 0)
    .select(|options| match mode(options) {
        Ok(Mode::Decode) => Some(&DECODE_TABLE),
        _ => None,
    })
    .build();

/// Two digits make a byte; a digit that an earlier read left is part of the input.
static DECODE_TABLE: Table = described(Table::process::<Decode>(c"hex")).bound(1, 2, 0).build();

const MODE: &str = "mode";
const OPTIONS: &[OptionSpec] =
    &[OptionSpec::choice(c"mode", c"encode|decode", c"bytes to digits, or digits to bytes").or(c"encode")];

#[derive(Debug, Clone, Copy)]
enum Mode {
    Encode,
    Decode,
}

fn mode(options: &Options<'_>) -> Result<Mode, Error> {
    options.choice(MODE, &[("encode", Mode::Encode), ("decode", Mode::Decode)])
}

/// What the two tables have in common.
const fn described<T: Transform>(draft: Draft<T>) -> Draft<T> {
    draft
        .version(resay_plugin::package_version!())
        .summary(c"bytes as hexadecimal digits, and back")
        .options(OPTIONS)
}

#[derive(Debug)]
struct Encode;

impl Transform for Encode {
    type Session = ();

    fn create(setup: &Setup<'_>) -> Result<Self, Error> {
        mode(&setup.options)?; // a value that is no mode chose this table
        Ok(Encode)
    }
}

impl Process for Encode {
    fn process(&self, _: Call<'_, ()>, io: &mut Io<'_>) -> Status {
        /// Shorter data is done before the processor is asked what it can.
        const WIDE_BYTES_MIN: usize = 64;
        let input = io.input();
        let fits = input.len().min(io.room() / 2);
        let out = &mut io.spare()[..2 * fits];
        if fits < WIDE_BYTES_MIN {
            encode(&input[..fits], out);
        } else {
            with_widest_vectors(|| encode(&input[..fits], out));
        }
        io.consume(fits);
        io.produce(2 * fits);
        if fits < input.len() {
            io.need(2);
            return Status::MoreOut;
        }
        Status::Ok
    }
}

/// A loop without branches, for the compiler to vectorise.
#[inline(always)]
fn encode(input: &[u8], out: &mut [u8]) {
    for (byte, pair) in input.iter().zip(out.chunks_exact_mut(2)) {
        pair[0] = digit(byte >> 4);
        pair[1] = digit(byte & 0xf);
    }
}

#[inline(always)]
fn digit(value: u8) -> u8 {
    const LETTERS_AFTER_DIGITS: u8 = b'a' - b'9' - 1;
    value + b'0' + u8::from(value > 9) * LETTERS_AFTER_DIGITS
}

#[derive(Debug)]
struct Decode;

impl Transform for Decode {
    type Session = ();

    fn create(_: &Setup<'_>) -> Result<Self, Error> {
        Ok(Decode)
    }
}

impl Process for Decode {
    fn process(&self, call: Call<'_, ()>, io: &mut Io<'_>) -> Status {
        let input = io.input();
        let Decoded { used, made, stopped } = decode(input, io.spare());
        io.consume(used);
        io.produce(made);
        match stopped {
            Stopped::AtEnd => Status::Ok,
            Stopped::NoRoom => {
                io.need(1);
                Status::MoreOut
            }
            Stopped::HalfPair if !io.is_last() => Status::MoreIn,
            Stopped::HalfPair => {
                call.host.log(Level::Debug, format_args!("the digits end with half a pair"));
                Status::BadData
            }
            Stopped::BadPair => {
                let pair = &input[used..input.len().min(used + 2)];
                call.host.log(Level::Debug, format_args!("\"{}\" is no pair of digits", pair.escape_ascii()));
                Status::BadData
            }
        }
    }
}

/// How far a decoding came, and why not further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Decoded {
    used: usize,
    made: usize,
    stopped: Stopped,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stopped {
    AtEnd,
    NoRoom,
    HalfPair,
    BadPair,
}

fn decode(input: &[u8], out: &mut [u8]) -> Decoded {
    let (mut used, mut made) = (0, 0);
    let stopped = loop {
        match input[used..] {
            [] => break Stopped::AtEnd,
            [b' ' | b'\t' | b'\r' | b'\n', ..] => used += 1,
            [first] if value(first).is_some() => break Stopped::HalfPair,
            [first, second, ..] => {
                let (Some(high), Some(low)) = (value(first), value(second)) else { break Stopped::BadPair };
                let Some(place) = out.get_mut(made) else { break Stopped::NoRoom };
                *place = high << 4 | low;
                used += 2;
                made += 1;
            }
            [_] => break Stopped::BadPair,
        }
    };
    Decoded { used, made, stopped }
}

#[inline(always)]
fn value(digit: u8) -> Option<u8> {
    const VALUES: [u8; 256] = {
        let mut values = [NONE; 256];
        let mut value = 0;
        while value < 16 {
            let digit = b"0123456789abcdef"[value as usize];
            values[digit as usize] = value;
            values[digit.to_ascii_uppercase() as usize] = value;
            value += 1;
        }
        values
    };
    const NONE: u8 = 0xff;
    let value = VALUES[usize::from(digit)];
    (value != NONE).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::{Decoded, Stopped, TABLE, decode};
    use resay_plugin::abi::RESAY_E_DATA;
    use resay_plugin::harness::{Harness, assert_refused};

    fn encoder() -> Harness {
        Harness::new(&TABLE, &[]).unwrap()
    }

    fn decoder() -> Harness {
        Harness::new(&TABLE, &[("mode", "decode")]).unwrap()
    }

    /// By formatting.
    fn digits(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn test_vectors_of_the_rfc() {
        for (bytes, text) in [
            ("", ""),
            ("f", "66"),
            ("fo", "666F"),
            ("foo", "666F6F"),
            ("foob", "666F6F62"),
            ("fooba", "666F6F6261"),
            ("foobar", "666F6F626172"),
        ] {
            assert_eq!(encoder().message(bytes.as_bytes()).unwrap(), text.to_lowercase().as_bytes());
            assert_eq!(decoder().message(text.as_bytes()).unwrap(), bytes.as_bytes());
        }
    }

    #[test]
    fn every_length_there_and_back() {
        let (encoder, decoder) = (encoder(), decoder());
        for len in (0..300).chain([1000, 70_000]) {
            let bytes: Vec<u8> = (0..len as u32).map(|i| (i * 7 + i / 3) as u8).collect();
            let text = encoder.message(&bytes).unwrap();
            assert_eq!(text, digits(&bytes).as_bytes());
            assert_eq!(decoder.message(&text).unwrap(), bytes);
        }
    }

    #[test]
    fn split_anywhere_is_the_same() {
        let (encoder, decoder) = (encoder(), decoder());
        let bytes = b"\x00\xff resay \x80";
        let text = b"00 ff\r\n207265736179\t2080 \n";
        for (harness, input) in [(&encoder, &bytes[..]), (&decoder, &text[..])] {
            harness.assert_splits(input, &harness.message(input).unwrap());
        }
        assert_eq!(decoder.message(text).unwrap(), bytes);
    }

    #[test]
    fn any_room_will_do_for_a_session() {
        for (options, input, expected) in [
            (&[][..], &b"\x00\xff\x8a"[..], &b"00ff8a"[..]),
            (&[("mode", "decode")], b"00ff 8a", b"\x00\xff\x8a"),
        ] {
            for room in 0..8 {
                let hex = Harness::new(&TABLE, options).unwrap().with_room(room);
                assert_eq!(hex.message(input).unwrap(), expected, "{room}");
                hex.assert_splits(input, expected);
            }
        }
    }

    #[test]
    fn any_room_will_do() {
        let text = b"00ff 8a";
        for room in 0..5 {
            let (mut used, mut bytes) = (0, Vec::new());
            let mut out = vec![0; room];
            loop {
                let decoded = decode(&text[used..], &mut out);
                used += decoded.used;
                bytes.extend_from_slice(&out[..decoded.made]);
                match decoded.stopped {
                    Stopped::NoRoom if room == 0 => break assert_eq!(decoded.used, 0),
                    Stopped::NoRoom => assert_eq!(decoded.made, room),
                    stopped => break assert_eq!((stopped, &bytes[..]), (Stopped::AtEnd, &b"\0\xff\x8a"[..])),
                }
            }
        }
        assert_eq!(decode(b" 4", &mut []), Decoded { used: 1, made: 0, stopped: Stopped::HalfPair });
    }

    #[test]
    fn both_cases_and_blanks_between_pairs() {
        assert_eq!(decoder().message(b" aB\tCd\r\nEf ").unwrap(), b"\xab\xcd\xef");
        assert_eq!(decoder().message(b" \n").unwrap(), b"");
    }

    #[test]
    fn bad_data() {
        let decoder = decoder();
        for bad in [&b"a"[..], b"abc", b"a b", b"0x41", b"g0", b"4g", b"41,42", b"\xff\xff", b"z"] {
            assert_eq!(decoder.session().unwrap().message(bad).status, RESAY_E_DATA, "{bad:?}");
            assert!(decoder.stream(&[bad]).is_err(), "{bad:?}");
            for at in 0..bad.len() {
                assert!(decoder.stream(&[&bad[..at], &bad[at..]]).is_err(), "{bad:?}");
            }
        }
        assert!(decoder.log().contains(&"\"4g\" is no pair of digits".to_owned()), "{:?}", decoder.log());
    }

    #[test]
    fn a_wrong_mode_is_named() {
        assert_refused(&TABLE, &[("mode", "both", "encode or decode")]);
    }
}

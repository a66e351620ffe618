//! Text to bytes. Four characters make three bytes; what is left of a read waits for more.

use super::format::{Alphabet, Format, PAD, STANDARD, URL};
use resay_plugin::{Call, Error, Io, Level, Process, Setup, Status, Transform};

/// Four characters make three bytes; up to three that an earlier read left are part of the input.
pub(crate) const BOUND: (u32, u32, u32) = (3, 4, 0);

/// What a character stands for: 0 to 63, or neither.
type Values = [u8; 256];
const NONE: u8 = 0xff;
const STANDARD_VALUES: Values = values(STANDARD);
const URL_VALUES: Values = values(URL);

const fn values(alphabet: Alphabet) -> Values {
    let mut values = [NONE; 256];
    let mut value = 0;
    while value < 64 {
        values[alphabet[value as usize] as usize] = value;
        value += 1;
    }
    values
}

#[derive(Debug)]
pub(crate) struct Decode {
    values: &'static Values,
    is_padded: bool,
}

impl Transform for Decode {
    type Session = ();

    fn create(setup: &Setup<'_>) -> Result<Self, Error> {
        let Format { is_url, is_padded } = Format::read(setup)?;
        Ok(Self { values: if is_url { &URL_VALUES } else { &STANDARD_VALUES }, is_padded })
    }
}

impl Process for Decode {
    fn process(&self, call: Call<'_, ()>, io: &mut Io<'_>) -> Status {
        let input = io.input();
        let is_last = io.is_last();
        let Decoded { used, made, stopped } = self.decode(input, io.spare(), is_last);
        io.consume(used);
        io.produce(made);
        match stopped {
            Stopped::AtEnd => Status::Ok,
            Stopped::Unfinished => Status::MoreIn,
            Stopped::NoRoom => {
                io.need(3);
                Status::MoreOut
            }
            Stopped::Bad => {
                let group = input[used..input.len().min(used + 4)].escape_ascii();
                call.host.log(Level::Debug, format_args!("\"{group}\" is no group of base64"));
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
    /// Up to three characters are the beginning of a group that more input may finish.
    Unfinished,
    NoRoom,
    Bad,
}

impl Decode {
    fn decode(&self, input: &[u8], out: &mut [u8], is_last: bool) -> Decoded {
        let (mut used, mut made) = (0, 0);
        let stopped = loop {
            let rest = &input[used..];
            match rest {
                [] => break Stopped::AtEnd,
                [b' ' | b'\t' | b'\r' | b'\n', ..] => {
                    used += 1;
                    continue;
                }
                _ => {}
            }
            let (len, bytes, n) = match self.group(rest, is_last) {
                Ok(Group { len, bytes, n }) => (len, bytes, n),
                Err(stopped) => break stopped,
            };
            let Some(place) = out.get_mut(made..made + n) else { break Stopped::NoRoom };
            place.copy_from_slice(&bytes[..n]);
            used += len;
            made += n;
        };
        Decoded { used, made, stopped }
    }

    /// The group at the beginning of `rest`, which is not empty and begins with no blank.
    #[inline]
    fn group(&self, rest: &[u8], is_last: bool) -> Result<Group, Stopped> {
        let value = |character: u8| self.values[usize::from(character)];
        if let [a, b, c, d, ..] = *rest {
            let (a, b, c, d) = (value(a), value(b), value(c), value(d));
            // NONE alone has the upper bits.
            if (a | b | c | d) < 64 {
                let bits = u32::from_be_bytes([0, a, b, c]);
                let bits = (bits >> 16 & 63) << 18 | (bits >> 8 & 63) << 12 | (bits & 63) << 6 | u32::from(d);
                let [_, first, second, third] = bits.to_be_bytes();
                return Ok(Group { len: 4, bytes: [first, second, third], n: 3 });
            }
        }
        self.short_group(rest, is_last)
    }

    /// A group that ends a text: of two or three characters, and padding where there must be some.
    #[cold]
    fn short_group(&self, rest: &[u8], is_last: bool) -> Result<Group, Stopped> {
        let group = &rest[..rest.len().min(4)];
        let characters =
            group.iter().take_while(|character| self.values[usize::from(**character)] != NONE).count();
        let behind = &group[characters..];
        let ends = match behind {
            [] => {
                if !is_last {
                    return Err(Stopped::Unfinished);
                }
                !self.is_padded
            }
            [b' ' | b'\t' | b'\r' | b'\n', ..] => !self.is_padded,
            pads if self.is_padded && characters >= 2 && pads.iter().all(|pad| *pad == PAD) => {
                if group.len() < 4 && !is_last {
                    return Err(Stopped::Unfinished);
                }
                group.len() == 4
            }
            _ => false,
        };
        let mut values = [0; 3];
        for (value, character) in values.iter_mut().zip(&group[..characters]) {
            *value = self.values[usize::from(*character)];
        }
        let [a, b, c] = values;
        let bytes = [a << 2 | b >> 4, b << 4 | c >> 2, c << 6];
        let n = characters.saturating_sub(1);
        // The bits that fill the last character up make no byte.
        if !ends || n == 0 || bytes[n] != 0 {
            return Err(Stopped::Bad);
        }
        Ok(Group { len: if self.is_padded { 4 } else { characters }, bytes, n })
    }
}

/// `n` bytes that `len` characters stand for.
struct Group {
    len: usize,
    bytes: [u8; 3],
    n: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base64::TABLE;
    use resay_plugin::abi::RESAY_E_DATA;
    use resay_plugin::harness::Harness;

    fn decoder(padding: &'static str) -> Harness {
        Harness::new(&TABLE, &[("mode", "decode"), ("padding", padding)]).unwrap()
    }

    #[test]
    fn split_anywhere_is_the_same() {
        for (padding, text, bytes) in [
            ("1", &b" Zm9v\r\nYmE=\nZg==\tZm9v \n"[..], &b"foobaffoo"[..]),
            ("0", b" Zm9v\r\nYmE\nZg\tZm9v \n", b"foobaffoo"),
            ("0", b"Zm9vYg", b"foob"),
            ("1", b"Zg==Zg==", b"ff"),
        ] {
            assert_eq!(decoder(padding).message(text).unwrap(), bytes);
            decoder(padding).assert_splits(text, bytes);
            for room in 0..4 {
                decoder(padding).with_room(room).assert_splits(text, bytes);
            }
        }
    }

    #[test]
    fn any_room_will_do() {
        let decode = Decode { values: &STANDARD_VALUES, is_padded: true };
        let text = b"Zm9v YmE= Zg==";
        for room in 3..12 {
            let (mut used, mut bytes) = (0, Vec::new());
            let mut out = vec![0; room];
            loop {
                let decoded = decode.decode(&text[used..], &mut out, true);
                used += decoded.used;
                bytes.extend_from_slice(&out[..decoded.made]);
                if decoded.stopped != Stopped::NoRoom {
                    break assert_eq!((decoded.stopped, &bytes[..]), (Stopped::AtEnd, &b"foobaf"[..]));
                }
                assert!(decoded.made > 0);
            }
        }
    }

    #[test]
    fn bad_data() {
        for (padding, bad) in [
            ("1", &b"Z"[..]),
            ("1", b"Zg"),   // no padding
            ("1", b"Zg="),  // half of it
            ("1", b"Zg=g"), // in the middle
            ("1", b"="),
            ("1", b"Z==="),
            ("1", b"===="),
            ("1", b"Zm9v="), // too much
            ("1", b"Zh=="),  // bits that no byte uses
            ("1", b"Zm9="),
            ("1", b"Zm 9v"), // a blank inside a group
            ("1", b"Zm9-"),  // of the other alphabet
            ("1", b"Zm9v\0"),
            ("1", b"\xff\xff\xff\xff"),
            ("0", b"Z"),
            ("0", b"Z "),
            ("0", b"Zg=="), // padding
            ("0", b"Zh"),
            ("0", b"Zm9vZ"),
        ] {
            let decoder = decoder(padding);
            assert_eq!(decoder.session().unwrap().message(bad).status, RESAY_E_DATA, "{bad:?}");
            for at in 0..=bad.len() {
                assert!(decoder.stream(&[&bad[..at], &bad[at..]]).is_err(), "{bad:?} at {at}");
            }
        }
    }

    #[test]
    fn what_waits_is_short() {
        let decode = Decode { values: &STANDARD_VALUES, is_padded: true };
        for text in [&b"Zm9v    Zg="[..], b"Zm9", b"Z", b"    Zg"] {
            let decoded = decode.decode(text, &mut [0; 64], false);
            assert_eq!(decoded.stopped, Stopped::Unfinished);
            assert!(text.len() - decoded.used <= 3);
        }
    }
}

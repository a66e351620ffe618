//! Percent-encoding: pieces of a URL that know where they stand, decoded and not, and names as they are written.

use std::fmt;

use crate::options::ValueFault;

/// Of parts of a URL: a fault's `at` is an offset in the whole URL.
pub(super) type Parsed<T> = Result<T, ValueFault>;

/// One `key=value` of a query, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
    pub(super) key_origin: Vec<usize>,
    pub(super) value_origin: Vec<usize>,
}

impl Pair {
    /// The place in the URL of byte `offset` of the key; its length gives the key's end.
    pub fn key_at(&self, offset: usize) -> usize {
        origin_at(&self.key_origin, offset)
    }

    /// The place in the URL of byte `offset` of the value; its length gives the value's end.
    pub fn value_at(&self, offset: usize) -> usize {
        origin_at(&self.value_origin, offset)
    }
}

/// A piece of the URL that knows where it stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) at: usize,
    pub(super) text: &'a str,
}

impl<'a> Part<'a> {
    pub(super) fn end(self) -> usize {
        self.at + self.text.len()
    }

    pub(super) fn strip_prefix(self, prefix: &str) -> Option<Part<'a>> {
        let text = self.text.strip_prefix(prefix)?;
        Some(Part { at: self.at + prefix.len(), text })
    }

    pub(super) fn split_once(self, separator: char) -> Option<(Part<'a>, Part<'a>)> {
        self.text.split_once(separator).map(|halves| self.halves(halves))
    }

    pub(super) fn rsplit_once(self, separator: char) -> Option<(Part<'a>, Part<'a>)> {
        self.text.rsplit_once(separator).map(|halves| self.halves(halves))
    }

    /// The two halves of this part, whatever stood between them.
    fn halves(self, (before, after): (&'a str, &'a str)) -> (Part<'a>, Part<'a>) {
        let after = Part { at: self.end() - after.len(), text: after };
        (Part { at: self.at, text: before }, after)
    }
}

/// A percent-decoded piece. `origin` has the place in the URL of each byte, and of the end.
#[derive(Debug)]
pub(super) struct Decoded<'a> {
    part: Part<'a>,
    pub(super) bytes: Vec<u8>,
    origin: Vec<usize>,
}

impl Decoded<'_> {
    /// The place in the URL of the character that byte `offset` belongs to.
    pub(super) fn at(&self, offset: usize) -> usize {
        let mut at = origin_at(&self.origin, offset);
        while at > self.part.at && !self.part.text.is_char_boundary(at - self.part.at) {
            at -= 1;
        }
        at
    }

    pub(super) fn into_text(self) -> Parsed<(String, Vec<usize>)> {
        match std::str::from_utf8(&self.bytes) {
            Ok(text) => Ok((text.to_owned(), self.origin)),
            Err(error) => Err(ValueFault::new(self.at(error.valid_up_to()), "this is not UTF-8")),
        }
    }
}

fn origin_at(origin: &[usize], offset: usize) -> usize {
    origin.get(offset).or(origin.last()).copied().unwrap_or_default()
}

pub(super) fn decode(part: Part<'_>) -> Parsed<Decoded<'_>> {
    let mut decoded = Decoded { part, bytes: Vec::new(), origin: Vec::new() };
    let mut raw = part.text.bytes().zip(part.at..);
    while let Some((byte, at)) = raw.next() {
        let byte = match byte {
            b'%' => match (raw.next().and_then(hex_digit), raw.next().and_then(hex_digit)) {
                (Some(high), Some(low)) => high << 4 | low,
                _ => {
                    return Err(ValueFault::new(
                        at,
                        "two hexadecimal digits follow a %; a literal % is written %25",
                    ));
                }
            },
            byte => byte,
        };
        decoded.bytes.push(byte);
        decoded.origin.push(at);
    }
    decoded.origin.push(part.end());
    Ok(decoded)
}

fn hex_digit((byte, _): (u8, usize)) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Letters that mean themselves anywhere in a URL (RFC 3986).
pub(super) fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

pub(super) fn write_escaped(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '?' | '%' | '#' => write_hex(f, letter.encode_utf8(&mut [0; 4]).as_bytes())?,
                _ if letter.is_control() => write_hex(f, letter.encode_utf8(&mut [0; 4]).as_bytes())?,
                _ => fmt::Write::write_char(f, letter)?,
            }
        }
        write_hex(f, chunk.invalid())?;
    }
    Ok(())
}

fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "%{byte:02X}"))
}

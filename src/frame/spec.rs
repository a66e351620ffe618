//! The names of framings: `raw`, `lines`, `delim:0d0a`, `len16be`, `fixed:64`.

use std::fmt;
use std::str::FromStr;

use crate::values::{ValueFault, bytes_within, nearest};

/// Where one message of a stream ends and the next begins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Frame {
    /// `raw`: a message is whatever one read returned.
    #[default]
    Raw,
    /// `lines`: up to a line feed.
    Lines,
    /// `delim:HEX`: up to these bytes, at least one.
    Delimiter(Vec<u8>),
    /// `len8`: a length of one byte goes before.
    Len8,
    /// `len16be`: a length of two bytes, the high one first.
    Len16Be,
    /// `len16le`: a length of two bytes, the low one first.
    Len16Le,
    /// `len32be`: a length of four bytes, the high one first.
    Len32Be,
    /// `len32le`: a length of four bytes, the low one first.
    Len32Le,
    /// `varint`: a length in groups of seven bits, the low one first.
    Varint,
    /// `fixed:N`: every message has N bytes, at least one.
    Fixed(usize),
}

impl Frame {
    /// Reads a frame as the option `frame` takes it.
    pub fn parse(text: &str) -> Result<Frame, ValueFault> {
        let (name, argument) = match text.split_once(':') {
            Some((name, argument)) => (name, Some(argument)),
            None => (text, None),
        };
        let frame = match (name, argument) {
            ("delim", argument) => return parse_delimiter(argument, text.len()),
            ("fixed", argument) => return parse_fixed(argument, text.len()),
            ("raw", _) => Frame::Raw,
            ("lines", _) => Frame::Lines,
            ("len8", _) => Frame::Len8,
            ("len16be", _) => Frame::Len16Be,
            ("len16le", _) => Frame::Len16Le,
            ("len32be", _) => Frame::Len32Be,
            ("len32le", _) => Frame::Len32Le,
            ("varint", _) => Frame::Varint,
            ("len16" | "len32", _) => {
                return Err(ValueFault::new(
                    name.len(),
                    format!("the order of the bytes is missing: {name}be or {name}le"),
                ));
            }
            _ => return Err(ValueFault::new(0, unknown_frame(name))),
        };
        match argument {
            Some(_) => Err(ValueFault::new(name.len(), format!("{name} takes nothing after it"))),
            None => Ok(frame),
        }
    }
}

impl FromStr for Frame {
    type Err = ValueFault;

    fn from_str(text: &str) -> Result<Frame, ValueFault> {
        Frame::parse(text)
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Frame::Raw => f.write_str("raw"),
            Frame::Lines => f.write_str("lines"),
            Frame::Delimiter(bytes) => {
                f.write_str("delim:")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            Frame::Len8 => f.write_str("len8"),
            Frame::Len16Be => f.write_str("len16be"),
            Frame::Len16Le => f.write_str("len16le"),
            Frame::Len32Be => f.write_str("len32be"),
            Frame::Len32Le => f.write_str("len32le"),
            Frame::Varint => f.write_str("varint"),
            Frame::Fixed(bytes) => write!(f, "fixed:{bytes}"),
        }
    }
}

fn unknown_frame(name: &str) -> String {
    match nearest(name, FRAMES.iter().copied()) {
        Some(meant) => format!("unknown frame {name:?}, did you mean {meant:?}?"),
        None => format!("unknown frame {name:?}; there are {}", FRAMES.join(", ")),
    }
}

fn parse_delimiter(argument: Option<&str>, end: usize) -> Result<Frame, ValueFault> {
    let hex = argument.unwrap_or_default();
    let start = end - hex.len();
    if hex.is_empty() {
        return Err(ValueFault::new(end, "the delimiter is missing: delim:0d0a"));
    }
    if let Some((offset, _)) = hex.char_indices().find(|(_, letter)| !letter.is_ascii_hexdigit()) {
        return Err(ValueFault::new(start + offset, "a delimiter is written in hexadecimal digits"));
    }
    let mut bytes = Vec::with_capacity(hex.len() / 2);
    let mut high = None;
    for digit in hex.chars().filter_map(|letter| letter.to_digit(16)) {
        match high.take() {
            None => high = Some(digit),
            Some(high) => bytes.push((high << 4 | digit) as u8),
        }
    }
    if high.is_some() {
        return Err(ValueFault::new(end, "a digit is missing: two for each byte"));
    }
    if bytes.len() > DELIMITER_BYTES_MAX {
        let at = start + 2 * DELIMITER_BYTES_MAX;
        return Err(ValueFault::new(at, format!("a delimiter has at most {DELIMITER_BYTES_MAX} bytes")));
    }
    Ok(Frame::Delimiter(bytes))
}

fn parse_fixed(argument: Option<&str>, end: usize) -> Result<Frame, ValueFault> {
    let size = argument.unwrap_or_default();
    if size.is_empty() {
        return Err(ValueFault::new(end, "the size is missing: fixed:64"));
    }
    bytes_within(size, 1).map(Frame::Fixed).map_err(|fault| fault.shifted(end - size.len()))
}

const FRAMES: &[&str] =
    &["raw", "lines", "delim:HEX", "len8", "len16be", "len16le", "len32be", "len32le", "varint", "fixed:N"];
pub(crate) const DELIMITER_BYTES_MAX: usize = 64;

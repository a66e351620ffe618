//! Messages behind their length.

use super::found::{Found, TooLong};
use crate::buffer;
use crate::bug;

/// How a length is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    /// One byte.
    U8,
    U16Be,
    U16Le,
    U32Be,
    U32Le,
    /// Base 128, least significant group first, the high bit says that more follow (protobuf, LEB128).
    Varint,
}

/// A 64-bit number has at most this many groups of seven bits.
const VARINT_BYTES_MAX: usize = 10;

impl Length {
    /// Bytes of the length, where they are always as many.
    fn width(self) -> Option<usize> {
        match self {
            Length::U8 => Some(1),
            Length::U16Be | Length::U16Le => Some(2),
            Length::U32Be | Length::U32Le => Some(4),
            Length::Varint => None,
        }
    }

    /// The length at the start of `window` and the bytes it takes; `None`: not all of it is there.
    fn read(self, window: &[u8], max: usize) -> Result<Option<(usize, usize)>, TooLong> {
        let (length, width) = match (self, window) {
            (Length::U8, &[a, ..]) => (u64::from(a), 1),
            (Length::U16Be, &[a, b, ..]) => (u64::from(u16::from_be_bytes([a, b])), 2),
            (Length::U16Le, &[a, b, ..]) => (u64::from(u16::from_le_bytes([a, b])), 2),
            (Length::U32Be, &[a, b, c, d, ..]) => (u64::from(u32::from_be_bytes([a, b, c, d])), 4),
            (Length::U32Le, &[a, b, c, d, ..]) => (u64::from(u32::from_le_bytes([a, b, c, d])), 4),
            (Length::Varint, window) => match read_varint(window, max)? {
                Some(found) => found,
                None => return Ok(None),
            },
            _ => return Ok(None),
        };
        match usize::try_from(length) {
            Ok(length) if length <= max => Ok(Some((length, width))),
            _ => Err(TooLong { max }),
        }
    }

    pub(super) fn find(self, window: &[u8], max: usize) -> Result<Option<Found>, TooLong> {
        let Some((length, width)) = self.read(window, max)? else { return Ok(None) };
        let end = width + length;
        Ok((window.len() >= end).then_some(Found { body: width..end, len: end }))
    }

    /// Makes room for the length of the message that follows.
    pub(super) fn open(self, out: &mut Vec<u8>) {
        buffer::append(out, bug::part(&[0; VARINT_BYTES_MAX], ..self.width().unwrap_or(0)));
    }

    /// Writes the length of the message that was appended since [`open`](Self::open), which was at `mark`. How wide it is.
    pub(super) fn close(self, out: &mut Vec<u8>, mark: usize) -> Result<usize, TooLong> {
        // Without memory for the room there is nothing to be filled: it is given up anyway.
        let Some(length) = (out.len() - mark).checked_sub(self.width().unwrap_or(0)) else { return Ok(0) };
        let too_long = |max: u32| TooLong { max: max as usize };
        match self {
            Length::U8 => {
                let length = u8::try_from(length).map_err(|_| too_long(u8::MAX.into()))?;
                fill(out, mark, &[length]);
            }
            Length::U16Be | Length::U16Le => {
                let length = u16::try_from(length).map_err(|_| too_long(u16::MAX.into()))?;
                let bytes = if self == Length::U16Be { length.to_be_bytes() } else { length.to_le_bytes() };
                fill(out, mark, &bytes);
            }
            Length::U32Be | Length::U32Le => {
                let length = u32::try_from(length).map_err(|_| too_long(u32::MAX))?;
                let bytes = if self == Length::U32Be { length.to_be_bytes() } else { length.to_le_bytes() };
                fill(out, mark, &bytes);
            }
            Length::Varint => {
                // How wide it is shows only now.
                let (bytes, width) = write_varint(length as u64);
                if buffer::try_append(out, bug::part(&bytes, ..width)) {
                    bug::part_mut(out, mark..).rotate_right(width);
                } else {
                    bug::out_of_memory();
                }
                return Ok(width);
            }
        }
        Ok(self.width().unwrap_or(0))
    }
}

fn fill(out: &mut [u8], at: usize, bytes: &[u8]) {
    match out.get_mut(at..at + bytes.len()) {
        Some(place) => place.copy_from_slice(bytes),
        None => bug::found("the room that was made for a length"),
    }
}

fn read_varint(window: &[u8], max: usize) -> Result<Option<(u64, usize)>, TooLong> {
    let mut value: u64 = 0;
    for (index, &byte) in window.iter().take(VARINT_BYTES_MAX).enumerate() {
        let group = u64::from(byte & 0x7f);
        let shifted = group << (7 * index);
        if shifted >> (7 * index) != group {
            return Err(TooLong { max });
        }
        value |= shifted;
        if byte & 0x80 == 0 {
            return Ok(Some((value, index + 1)));
        }
    }
    if window.len() < VARINT_BYTES_MAX { Ok(None) } else { Err(TooLong { max }) }
}

fn write_varint(mut value: u64) -> ([u8; VARINT_BYTES_MAX], usize) {
    let mut bytes = [0; VARINT_BYTES_MAX];
    let mut width = 0;
    for place in &mut bytes {
        width += 1;
        *place = value as u8 & 0x7f;
        value >>= 7;
        if value == 0 {
            break;
        }
        *place |= 0x80;
    }
    (bytes, width)
}

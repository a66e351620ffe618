//! Where messages begin and end, once more: the model's own reading of the framings, simple and slow.

use std::ops::Range;

/// A framing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    Raw,
    /// Up to these bytes; `carriage_return`: one before them belongs to the end.
    Until {
        end: &'static [u8],
        carriage_return: bool,
    },
    /// Behind a length of so many bytes.
    Length {
        width: usize,
        is_big_endian: bool,
    },
    Varint,
    Fixed(usize),
}

/// One message of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unit {
    /// Where its frame ends in the input.
    pub(super) end: usize,
    pub(super) body: Range<usize>,
    pub(super) state: UnitState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnitState {
    Whole,
    /// Longer than allowed: nothing of it or behind it is answered.
    TooLong,
    /// The input ends within it. Whether it is answered all the same, once the peer has ended.
    Unfinished {
        counts: bool,
    },
}

impl Frame {
    /// All of them with the names that options give them.
    pub(super) fn named(name: &str) -> Frame {
        match name {
            "raw" => Frame::Raw,
            "lines" => Frame::Until { end: b"\n", carriage_return: true },
            "delim:0d0a" => Frame::Until { end: b"\r\n", carriage_return: false },
            "delim:3b" => Frame::Until { end: b";", carriage_return: false },
            "len8" => Frame::Length { width: 1, is_big_endian: true },
            "len16be" => Frame::Length { width: 2, is_big_endian: true },
            "len16le" => Frame::Length { width: 2, is_big_endian: false },
            "len32be" => Frame::Length { width: 4, is_big_endian: true },
            "len32le" => Frame::Length { width: 4, is_big_endian: false },
            "varint" => Frame::Varint,
            "fixed:24" => Frame::Fixed(24),
            _ => panic!("the model does not know {name}"),
        }
    }

    /// The messages of all that a client sends.
    pub(super) fn units(&self, input: &[u8], longest: usize) -> Vec<Unit> {
        let mut units: Vec<Unit> = Vec::new();
        let mut from = 0;
        while from < input.len() {
            let unit = self.first(&input[from..], longest);
            let unit =
                Unit { end: from + unit.end, body: from + unit.body.start..from + unit.body.end, ..unit };
            from = unit.end;
            let is_last = unit.state == UnitState::TooLong;
            units.push(unit);
            if is_last {
                break;
            }
        }
        units
    }

    fn first(&self, rest: &[u8], longest: usize) -> Unit {
        let unfinished =
            |counts| Unit { end: rest.len(), body: 0..rest.len(), state: UnitState::Unfinished { counts } };
        let of_length = |head: usize, length: usize| {
            if length > longest {
                return Unit { end: rest.len(), body: 0..0, state: UnitState::TooLong };
            }
            if rest.len() < head + length {
                return unfinished(false);
            }
            Unit { end: head + length, body: head..head + length, state: UnitState::Whole }
        };
        match *self {
            Frame::Raw => unfinished(true),
            Frame::Fixed(length) => of_length(0, length),
            Frame::Until { end, carriage_return } => {
                let Some(at) = (0..rest.len()).find(|&at| rest[at..].starts_with(end)) else {
                    if rest.len() > longest + end.len() {
                        return Unit { end: rest.len(), body: 0..0, state: UnitState::TooLong };
                    }
                    return unfinished(rest.len() <= longest);
                };
                let is_carriage_return = carriage_return && at > 0 && rest[at - 1] == b'\r';
                let body = 0..at - usize::from(is_carriage_return);
                let state = if body.len() > longest { UnitState::TooLong } else { UnitState::Whole };
                Unit { end: at + end.len(), body, state }
            }
            Frame::Length { width, is_big_endian } => {
                let Some(head) = rest.get(..width) else { return unfinished(false) };
                let add = |sum: usize, byte: &u8| sum * 256 + usize::from(*byte);
                let length =
                    if is_big_endian { head.iter().fold(0, add) } else { head.iter().rev().fold(0, add) };
                of_length(width, length)
            }
            Frame::Varint => {
                let Some(width) = rest.iter().position(|byte| *byte < 128).map(|at| at + 1) else {
                    return unfinished(false);
                };
                let groups = rest[..width].iter().rev();
                of_length(width, groups.fold(0, |sum, byte| sum * 128 + usize::from(byte % 128)))
            }
        }
    }

    /// The frame around an answer; `like` is what stood behind the request's message, where there is a request. `None`:
    /// the frame cannot say how long the answer is.
    pub(super) fn encode(&self, answer: &[u8], like: Option<&[u8]>) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        match *self {
            Frame::Raw | Frame::Fixed(_) => {}
            Frame::Until { end, .. } => return Some([answer, like.unwrap_or(end)].concat()),
            Frame::Length { width, is_big_endian } => {
                let mut length = answer.len();
                for _ in 0..width {
                    out.push((length % 256) as u8);
                    length /= 256;
                }
                if length > 0 {
                    return None;
                }
                if is_big_endian {
                    out.reverse();
                }
            }
            Frame::Varint => {
                let mut length = answer.len();
                while length >= 128 {
                    out.push((length % 128) as u8 + 128);
                    length /= 128;
                }
                out.push(length as u8);
            }
        }
        out.extend_from_slice(answer);
        Some(out)
    }

    /// Bytes before the answer in its frame.
    pub(super) fn head_bytes(&self, answer: usize) -> usize {
        match self {
            Frame::Length { width, .. } => *width,
            Frame::Varint => self.encode(&vec![0; answer], None).map_or(0, |frame| frame.len() - answer),
            _ => 0,
        }
    }
}

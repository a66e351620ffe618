//! What the transforms of the simulation do, as plain functions: the transforms themselves and the model of the right
//! answer both ask these, and share nothing else.

use std::fmt;

/// What a transform of the simulation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    // For messages:
    /// In place, remembers nothing.
    Map,
    /// In place, counts the messages of a connection, and carries that over a swap.
    CountedMap,
    /// Into other memory, remembers nothing.
    Plain,
    /// Into other memory, counts, carries over.
    Counted,
    /// Counts, and cannot carry over.
    Keeps,
    /// Counts, carries over, says something first.
    Greets,
    /// Counts, carries over, may block.
    Blocks,
    /// A function of the host's.
    Function,
    // For raw streams, whose reads fall anywhere:
    /// In place, remembers nothing.
    Bytes,
    /// In place, depends on how many bytes came before, carries over.
    Position,
    /// Each byte twice.
    Double,
    /// Without each `q`.
    Thin,
    /// As it is, but later; with an odd key, only calls with an odd number of bytes are.
    Late,
    /// Each three bytes backwards; leaves what is less unread.
    Triples,
    /// As it is, and `END` at the end.
    Trailer,
    /// As it is, behind `hello\n`.
    Hello,
    /// As it is, and may block.
    Slow,
    /// As it is up to a byte, at which it closes, resets or fails.
    Ends,
}

/// All of them: those for messages, then those for raw streams.
pub(super) const ALL_KINDS: [Kind; 18] = [
    Kind::Map,
    Kind::CountedMap,
    Kind::Plain,
    Kind::Counted,
    Kind::Keeps,
    Kind::Greets,
    Kind::Blocks,
    Kind::Function,
    Kind::Bytes,
    Kind::Position,
    Kind::Double,
    Kind::Thin,
    Kind::Late,
    Kind::Triples,
    Kind::Trailer,
    Kind::Hello,
    Kind::Slow,
    Kind::Ends,
];
pub(super) const MESSAGE_KINDS: &[Kind] = ALL_KINDS.split_at(8).0;
pub(super) const RAW_KINDS: &[Kind] = ALL_KINDS.split_at(8).1;

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Map => "sim-map",
            Kind::CountedMap => "sim-counted-map",
            Kind::Plain => "sim-plain",
            Kind::Counted => "sim-counted",
            Kind::Keeps => "sim-keeps",
            Kind::Greets => "sim-greets",
            Kind::Blocks => "sim-blocks",
            Kind::Function => "sim-function",
            Kind::Bytes => "raw-bytes",
            Kind::Position => "raw-position",
            Kind::Double => "raw-double",
            Kind::Thin => "raw-thin",
            Kind::Late => "raw-late",
            Kind::Triples => "raw-triples",
            Kind::Trailer => "raw-trailer",
            Kind::Hello => "raw-hello",
            Kind::Slow => "raw-slow",
            Kind::Ends => "raw-ends",
        }
    }

    /// It answers where the message stood.
    pub(super) fn is_map(self) -> bool {
        matches!(self, Kind::Map | Kind::CountedMap | Kind::Bytes | Kind::Position)
    }

    pub(super) fn remembers(self) -> bool {
        use Kind::{Blocks, Counted, CountedMap, Ends, Greets, Keeps, Position};
        matches!(self, CountedMap | Counted | Keeps | Greets | Blocks | Position | Ends)
    }

    pub(super) fn carries_over(self) -> bool {
        self.remembers() && !matches!(self, Kind::Keeps | Kind::Ends)
    }

    pub(super) fn may_block(self) -> bool {
        matches!(self, Kind::Blocks | Kind::Slow)
    }

    pub(super) fn greets(self) -> bool {
        matches!(self, Kind::Greets | Kind::Hello)
    }

    /// It may answer with another length.
    pub(super) fn changes_length(self) -> bool {
        matches!(self, Kind::Double | Kind::Thin | Kind::Trailer) || self.greets()
    }
}

/// One stage of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stage {
    pub(super) kind: Kind,
    /// Of the messages, it obeys those that name this number.
    pub(super) index: u8,
    /// Tells the answers of one chain from those of another.
    pub(super) key: u8,
    /// For `Late` milliseconds, for `Ends` the byte.
    pub(super) param: u64,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stage { kind, index, key, param } = self;
        match kind {
            Kind::Function => write!(f, "{}-{index}-{key}", kind.name()),
            _ => write!(f, "{}:kind={},index={index},key={key},param={param}", kind.name(), *kind as u8),
        }
    }
}

/// What becomes of a message at a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Answer,
    Drop,
    Close,
    Reset,
    Fail,
}

/// A stage's answer to a message: in parts, each with milliseconds that it is held back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Acted {
    pub(super) parts: Vec<(Vec<u8>, u64)>,
    pub(super) verdict: Verdict,
}

impl Acted {
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.parts.iter().flat_map(|(bytes, _)| bytes).copied().collect()
    }

    pub(super) fn delay_ms(&self) -> u64 {
        self.parts.iter().map(|(_, delay_ms)| *delay_ms).max().unwrap_or(0)
    }
}

/// A message that says what is to be done with it begins with: a letter for what, the digit of the stage, a letter for
/// how much, a place for each stage's count, and the sender's number for it.
pub(super) const HEAD: usize = 12;
pub(super) const GREETING: &[u8] = b"HX.____0000 welcome";
pub(super) const HELLO_TEXT: &[u8] = b"hello\n";

/// The answer of `stage` to the message that comes after `seen` others.
pub(super) fn act(stage: &Stage, seen: u64, message: &[u8]) -> Acted {
    let mut out = message.to_vec();
    out.iter_mut().skip(HEAD).for_each(|byte| *byte = rotated(*byte, u64::from(stage.key)));
    let whole = |out: Vec<u8>, delay_ms, verdict| Acted { parts: vec![(out, delay_ms)], verdict };
    if out.len() < HEAD {
        return whole(out, 0, Verdict::Answer);
    }
    out[3 + usize::from(stage.index)] = b'A' + (seen % 26) as u8;
    // What all stages delay waits for the sum.
    let is_for_all = out[0] == b'W' && out[1] == b'*';
    if out[1] != b'0' + stage.index && !is_for_all {
        return whole(out, 0, Verdict::Answer);
    }
    let delay_ms = u64::from(out[2].saturating_sub(b'a')) * 7;
    let has_room = !stage.kind.is_map();
    let has_time = has_room && stage.kind != Kind::Function;
    match out[0] {
        b'D' => whole(out, 0, Verdict::Drop),
        b'C' => whole(out, 0, Verdict::Close),
        b'R' => whole(out, 0, Verdict::Reset),
        b'F' => whole(out, 0, Verdict::Fail),
        b'G' if has_room => whole([&out[..], &out].concat(), 0, Verdict::Answer),
        b'S' if has_room => whole(out[..HEAD.max(out.len() / 2)].to_vec(), 0, Verdict::Answer),
        b'W' if has_time => whole(out, delay_ms, Verdict::Answer),
        b'P' if has_time && stage.kind.remembers() => {
            let (one, two) = (out.len() / 3, out.len() / 3 * 2);
            let parts = [(0..one, delay_ms), (one..two, 0), (two..out.len(), 2 * delay_ms)];
            let parts = parts.map(|(range, delay_ms)| (out[range].to_vec(), delay_ms)).to_vec();
            Acted { parts, verdict: Verdict::Answer }
        }
        _ => whole(out, 0, Verdict::Answer),
    }
}

/// What a stage of a raw stream remembers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Memory {
    /// Bytes, or messages, so far.
    pub(super) seen: u64,
    /// Bytes that are not read yet.
    pub(super) tail: Vec<u8>,
}

/// The answer of a stage to the next bytes of a raw stream.
pub(super) fn answer_next(
    stage: &Stage,
    memory: &mut Memory,
    input: &[u8],
    is_end: bool,
) -> (Vec<u8>, Verdict) {
    let key = u64::from(stage.key);
    let before = memory.seen;
    if stage.kind.remembers() {
        memory.seen += input.len() as u64;
    }
    let out = match stage.kind {
        Kind::Bytes => input.iter().map(|byte| rotated(*byte, key)).collect(),
        Kind::Position => {
            let shifted = input.iter().zip(before..);
            shifted.map(|(byte, place)| rotated(*byte, key + place % 5)).collect()
        }
        Kind::Double => input.iter().flat_map(|byte| [*byte; 2]).collect(),
        Kind::Thin => input.iter().copied().filter(|byte| *byte != b'q').collect(),
        Kind::Trailer if is_end => [input, b"END"].concat(),
        Kind::Triples => {
            memory.tail.extend_from_slice(input);
            let whole = memory.tail.len() / 3 * 3;
            let rest = memory.tail.split_off(whole);
            let triples = std::mem::replace(&mut memory.tail, rest);
            let mut out: Vec<u8> = triples.chunks(3).flat_map(|three| three.iter().rev()).copied().collect();
            if is_end {
                out.append(&mut memory.tail);
            }
            out
        }
        Kind::Ends if before + input.len() as u64 >= stage.param => {
            let verdict = [Verdict::Close, Verdict::Reset, Verdict::Fail][usize::from(stage.key % 3)];
            return (input[..stage.param.saturating_sub(before) as usize].to_vec(), verdict);
        }
        _ => input.to_vec(),
    };
    (out, Verdict::Answer)
}

/// How long `Late` holds back what a call brought.
pub(super) fn lateness_ms(stage: &Stage, bytes: usize) -> u64 {
    if stage.key.is_multiple_of(2) || !bytes.is_multiple_of(2) { stage.param } else { 0 }
}

/// A letter so many places on.
fn rotated(byte: u8, by: u64) -> u8 {
    match byte {
        b'a'..=b'z' => b'a' + ((u64::from(byte - b'a') + by) % 26) as u8,
        _ => byte,
    }
}

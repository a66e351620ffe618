//! The right answer to what a client has sent, found without the engine's framing, chain or connection.
//!
//! A chain may be swapped between any two messages, so there may be several right answers. The model follows all of
//! them at once through what was really answered, and forgets those that differ.

use super::case::Case;
use super::frames::{Unit, UnitState};
use super::stages::{self, GREETING, HELLO_TEXT, Memory, Stage, Verdict};
use crate::driver::simulator::Client;

/// How what a client was answered can be explained.
#[derive(Debug, Default)]
pub(super) struct Explained {
    /// It ends within the answer to some message.
    pub(super) is_cut: bool,
    /// It is all of the answers to the first so many messages, or to the messages within so many bytes of a raw stream.
    pub(super) open_until: Option<usize>,
    /// It is all that was to be answered before a message that ended the connection in such a way.
    pub(super) ended: Vec<Ending>,
    /// Such a message comes behind answers that are lost.
    pub(super) ended_later: Vec<Ending>,
    /// It is all there is to answer, to the end of the client's side.
    pub(super) is_finished: bool,
    /// With one chain: answers that must not leave early, by where they begin, milliseconds and where their message ends.
    pub(super) due: Vec<(usize, u64, usize)>,
    /// With one chain: messages that got no answer because a transform said so.
    pub(super) dropped: u64,
    pub(super) messages: u64,
    /// With one chain: messages whose answer the kernel has taken to its end.
    pub(super) whole: u64,
}

/// How a message ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Close,
    Reset,
    Fail,
    TooLong,
}

impl From<Verdict> for Ending {
    fn from(verdict: Verdict) -> Ending {
        match verdict {
            Verdict::Close => Ending::Close,
            Verdict::Reset => Ending::Reset,
            Verdict::Fail => Ending::Fail,
            Verdict::Answer | Verdict::Drop => unreachable!("that ends nothing"),
        }
    }
}

impl Explained {
    pub(super) fn is_right(&self) -> bool {
        self.is_cut || self.open_until.is_some() || !self.ended.is_empty() || self.is_finished
    }
}

/// One way in which it may have happened.
#[derive(Debug, Clone)]
struct Path {
    chain: usize,
    memories: Vec<Memory>,
    /// How much of the answers is explained, in bytes, or records.
    at: usize,
    /// The answers ended before this; what follows is only of interest for how it ends.
    is_lost: bool,
}

/// What a chain made of a message.
struct Output {
    parts: Vec<(Vec<u8>, u64)>,
    verdict: Verdict,
    /// Some stage has asked for the end, whatever those behind it said.
    closes: bool,
}

impl Output {
    fn bytes(&self) -> Vec<u8> {
        self.parts.iter().flat_map(|(bytes, _)| bytes).copied().collect()
    }
}

/// How an answer compares with what was really answered.
enum Compared {
    Same(usize),
    /// What was answered ends within it.
    Cut,
    Different,
}

/// The explanation for one client.
pub(super) struct Model<'a> {
    case: &'a Case,
    client: &'a Client,
    /// From when on no chain before this one is right.
    binding_from: &'a [Option<u64>],
    explained: Explained,
}

impl<'a> Model<'a> {
    /// As many of the case's chains have been the listener's as there are moments at which all workers `noticed` them.
    pub(super) fn explain(
        case: &'a Case,
        client: &'a Client,
        noticed: &[Option<u64>],
        binding_from: &'a [Option<u64>],
    ) -> Explained {
        let chains = noticed.len();
        let mut model = Model { case, client, binding_from, explained: Explained::default() };
        let mut paths = Vec::new();
        // A stream that opens later than that begins with no chain before.
        let is_known = |noticed: &Option<u64>| noticed.is_some_and(|at| client.accepted_at > at);
        for chain in noticed.iter().rposition(is_known).unwrap_or(0)..chains {
            let memories = vec![Memory::default(); case.chains[chain].len()];
            let path = Path { chain, memories, at: 0, is_lost: false };
            paths.extend(model.greet(path));
        }
        model.follow(paths, chains);
        model.explained
    }

    fn greet(&mut self, mut path: Path) -> Option<Path> {
        let chain = &self.case.chains[path.chain];
        for (stage, _) in chain.iter().enumerate().filter(|(_, stage)| stage.kind.greets()) {
            let text = if self.case.is_raw() { HELLO_TEXT } else { GREETING };
            let output = run(chain, &mut path.memories, stage + 1, text, false, self.case.is_raw());
            let answer = self.case.encode(&output.bytes(), None)?;
            path = self.take(path, &answer)?;
            if output.verdict != Verdict::Answer {
                self.end(&path, output.verdict.into());
                return None;
            }
        }
        Some(path)
    }

    fn follow(&mut self, mut paths: Vec<Path>, chains: usize) {
        let input = &self.client.input()[..self.client.taken];
        let units = self.units(input, chains);
        for unit in &units {
            paths.iter().for_each(|path| self.note_open(path, unit.end.saturating_sub(1)));
            paths = self.switched(paths, chains, unit.end);
            if let UnitState::Unfinished { counts } = unit.state {
                // Nothing comes behind it.
                let counts = counts && self.client.fin_arrived;
                return paths.into_iter().for_each(|path| self.last(path, unit, counts));
            }
            paths = paths.into_iter().filter_map(|path| self.step(path, unit)).collect();
        }
        paths = self.switched(paths, chains, input.len());
        for path in paths {
            self.note_open(&path, usize::MAX);
            if self.client.fin_arrived {
                self.finish(path);
            }
        }
    }

    fn units(&self, input: &[u8], chains: usize) -> Vec<Unit> {
        let whole = |body: std::ops::Range<usize>| Unit { end: body.end, body, state: UnitState::Whole };
        if self.case.has_records() {
            let lengths = self.client.records.iter().take(self.client.records_taken).map(Vec::len);
            let mut from = 0;
            return lengths
                .map(|length| {
                    from += length;
                    let state = if length > self.case.message_bytes_max {
                        UnitState::TooLong
                    } else {
                        UnitState::Whole
                    };
                    Unit { end: from, body: from - length..from, state }
                })
                .collect();
        }
        if self.case.is_raw() {
            // Where reads fall must not matter; where chains change may be anywhere.
            if chains > 1 {
                return (0..input.len()).map(|at| whole(at..at + 1)).collect();
            }
            let mut from = 0;
            let reads = self.client.reads.iter().map(|(upto, _)| {
                let read = from..*upto;
                from = *upto;
                whole(read)
            });
            return reads.collect();
        }
        self.case.frame.units(input, self.case.message_bytes_max)
    }

    /// All paths, and what they are if the connection changes its chain now.
    fn switched(&self, paths: Vec<Path>, chains: usize, upto: usize) -> Vec<Path> {
        if chains == 1 {
            return paths;
        }
        let mut all: Vec<Path> = Vec::new();
        let mut waiting = paths;
        while let Some(path) = waiting.pop() {
            for chain in path.chain + 1..chains {
                let (from, to) = (&self.case.chains[path.chain], &self.case.chains[chain]);
                if let Some(memories) = carry(from, &path.memories, to) {
                    waiting.push(Path { chain, memories, ..path });
                }
            }
            let is_known = |known: &Path| {
                (known.chain, known.at, known.is_lost, &known.memories)
                    == (path.chain, path.at, path.is_lost, &path.memories)
            };
            if !all.iter().any(is_known) {
                all.push(path);
            }
        }
        let binding = self.binding_chain(upto);
        all.retain(|path| path.chain >= binding);
        all
    }

    /// The chain that a message must be answered with that ends at `upto` of the input, or one after it.
    fn binding_chain(&self, upto: usize) -> usize {
        let Some((_, read_at)) = self.client.reads.iter().find(|(read, _)| *read >= upto) else { return 0 };
        let binds = |from: &Option<u64>| from.is_some_and(|from| *read_at >= from);
        self.binding_from.iter().rposition(binds).unwrap_or(0)
    }

    fn step(&mut self, mut path: Path, unit: &Unit) -> Option<Path> {
        if unit.state == UnitState::TooLong {
            self.end(&path, Ending::TooLong);
            return None;
        }
        let chain = &self.case.chains[path.chain];
        let body = &self.client.input()[unit.body.clone()];
        let output = run(chain, &mut path.memories, 0, body, false, self.case.is_raw());
        self.explained.messages += 1;
        self.answer(path, output, unit)
    }

    fn answer(&mut self, path: Path, output: Output, unit: &Unit) -> Option<Path> {
        let tail = &self.client.input()[unit.body.end..unit.end];
        let bytes = output.bytes();
        let mut verdict = output.verdict;
        if self.case.is_raw() && matches!(verdict, Verdict::Reset | Verdict::Fail) {
            // How much of it had been answered depends on the reads.
            let rest = &self.client.answered[path.at..];
            if path.is_lost || bytes.starts_with(rest) {
                self.end(&Path { at: self.answered(), ..path }, verdict.into());
            }
            return None;
        }
        if verdict == Verdict::Drop {
            self.explained.dropped += 1;
            if output.closes {
                self.end(&path, Ending::Close);
                return None;
            }
            return Some(path);
        }
        let answer = self.case.encode(&bytes, Some(tail));
        if answer.is_none() {
            verdict = Verdict::Fail;
        }
        if matches!(verdict, Verdict::Reset | Verdict::Fail) {
            self.end(&path, verdict.into());
            return None;
        }
        if self.case.has_records() && !path.is_lost {
            // A record waits for the last of its parts.
            let longest = output.parts.iter().map(|(_, delay_ms)| *delay_ms).max().unwrap_or(0);
            self.explained.due.push((path.at, longest, unit.end));
        } else if !path.is_lost {
            let mut at = path.at + self.case.frame.head_bytes(bytes.len());
            for (part, delay_ms) in &output.parts {
                if *delay_ms > 0 && !part.is_empty() {
                    self.explained.due.push((at, *delay_ms, unit.end));
                }
                at += part.len();
            }
        }
        let path = self.take(path, &answer.unwrap_or_default())?;
        self.explained.whole += u64::from(!path.is_lost);
        if verdict == Verdict::Close {
            self.end(&path, verdict.into());
            return None;
        }
        Some(path)
    }

    /// A message that has no end, for the client has ended its side, or may still go on.
    fn last(&mut self, mut path: Path, unit: &Unit, counts: bool) {
        self.note_open(&path, usize::MAX);
        if counts {
            let chain = &self.case.chains[path.chain];
            let body = &self.client.input()[unit.body.clone()];
            let output = run(chain, &mut path.memories, 0, body, false, false);
            self.explained.messages += 1;
            let Some(after) = self.answer(path, output, unit) else { return };
            path = after;
        } else {
            // It is lost.
            self.explained.messages += 1;
        }
        self.explained.is_finished |= self.is_all(&path);
    }

    /// The client's side has ended.
    fn finish(&mut self, mut path: Path) {
        let chain = &self.case.chains[path.chain];
        if self.case.is_raw() && chain.iter().any(|stage| !stage.kind.is_map()) {
            let output = run(chain, &mut path.memories, 0, &[], true, true);
            let Some(after) = self.take(path, &output.bytes()) else { return };
            path = after;
            if output.verdict != Verdict::Answer {
                return self.end(&path, output.verdict.into());
            }
        }
        self.explained.is_finished |= self.is_all(&path);
    }

    fn answered(&self) -> usize {
        if self.case.has_records() { self.client.answered_records.len() } else { self.client.answered.len() }
    }

    fn note_open(&mut self, path: &Path, upto: usize) {
        if self.is_all(path) {
            self.explained.open_until = self.explained.open_until.max(Some(upto));
        }
    }

    fn end(&mut self, path: &Path, ending: Ending) {
        if self.is_all(path) {
            self.explained.ended.push(ending);
        } else if path.is_lost {
            self.explained.ended_later.push(ending);
        }
    }

    /// All that was answered is explained, and nothing is missing.
    fn is_all(&self, path: &Path) -> bool {
        path.at == self.answered() && !path.is_lost
    }

    /// Takes an answer off what was really answered.
    fn take(&mut self, path: Path, answer: &[u8]) -> Option<Path> {
        if path.is_lost {
            return Some(path);
        }
        match self.compare(path.at, answer) {
            Compared::Same(at) => Some(Path { at, ..path }),
            Compared::Cut => {
                self.explained.is_cut = true;
                Some(Path { is_lost: true, ..path })
            }
            Compared::Different => None,
        }
    }

    fn compare(&self, at: usize, answer: &[u8]) -> Compared {
        if self.case.has_records() {
            return match self.client.answered_records.get(at) {
                None => Compared::Cut,
                Some(record) if record == answer => Compared::Same(at + 1),
                Some(_) => Compared::Different,
            };
        }
        let rest = &self.client.answered[at..];
        if rest.starts_with(answer) {
            Compared::Same(at + answer.len())
        } else if answer.starts_with(rest) {
            Compared::Cut
        } else {
            Compared::Different
        }
    }
}

/// What a chain makes of a message, or of the next bytes of a raw stream.
fn run(
    chain: &[Stage],
    memories: &mut [Memory],
    from: usize,
    message: &[u8],
    is_end: bool,
    is_raw: bool,
) -> Output {
    let mut output = Output { parts: vec![(message.to_vec(), 0)], verdict: Verdict::Answer, closes: false };
    for (stage, memory) in chain.iter().zip(memories).skip(from) {
        let (parts, verdict) = if is_raw {
            let (bytes, verdict) = stages::answer_next(stage, memory, &output.bytes(), is_end);
            // Where it depends on the calls, it may be none.
            let is_late = stage.kind == stages::Kind::Late && stage.key.is_multiple_of(2);
            let delay_ms = if is_late { stage.param } else { 0 };
            (vec![(bytes, delay_ms)], verdict)
        } else {
            let acted = stages::act(stage, memory.seen, &output.bytes());
            memory.seen += u64::from(stage.kind.remembers());
            (acted.parts, acted.verdict)
        };
        let longest = output.parts.iter().map(|(_, delay_ms)| *delay_ms).max().unwrap_or(0);
        output.parts = if stage.kind.is_map() {
            // In place: what was to come in parts still does.
            let mut bytes = parts.into_iter().flat_map(|(bytes, _)| bytes);
            let cut =
                |(part, delay_ms): &(Vec<u8>, u64)| (bytes.by_ref().take(part.len()).collect(), *delay_ms);
            output.parts.iter().map(cut).collect()
        } else {
            parts.into_iter().map(|(bytes, delay_ms)| (bytes, delay_ms + longest)).collect()
        };
        match verdict {
            Verdict::Answer => {}
            Verdict::Close => (output.verdict, output.closes) = (Verdict::Close, true),
            verdict => {
                output.verdict = verdict;
                return output;
            }
        }
    }
    output
}

/// What the transforms of another chain remember after a swap; `None` where the connection has to stay.
pub(super) fn carry(from: &[Stage], memories: &[Memory], to: &[Stage]) -> Option<Vec<Memory>> {
    if memories.iter().any(|memory| !memory.tail.is_empty()) {
        return None;
    }
    let mut carried = vec![Memory::default(); to.len()];
    let mut is_taken = vec![false; to.len()];
    for (stage, memory) in from.iter().zip(memories).filter(|(stage, _)| stage.kind.remembers()) {
        let place = (0..to.len()).find(|&place| to[place].kind == stage.kind && !is_taken[place])?;
        if !stage.kind.carries_over() {
            return None;
        }
        is_taken[place] = true;
        carried[place] = memory.clone();
    }
    Some(carried)
}

/// A chain's answer to one message that comes alone, with the milliseconds that it waits.
pub(super) fn answer(chain: &[Stage], message: &[u8]) -> (Vec<u8>, u64, Verdict) {
    let mut memories = vec![Memory::default(); chain.len()];
    let output = run(chain, &mut memories, 0, message, false, false);
    let delay_ms = output.parts.iter().map(|(_, delay_ms)| *delay_ms).max().unwrap_or(0);
    (output.bytes(), delay_ms, output.verdict)
}

//! What is sent to a transform, and what came of it, so that two runs can be compared.

use crate::drive::{Answer, Breach, Desk, How, Instance, Kept, Subject};
use crate::promise::Promise;
use crate::words::status_text;
use resay_plugin::abi;
use resay_plugin::dice::SplitMix64;
use std::time::{Duration, Instant};

/// What is made up from a seed.
#[derive(Debug, Clone)]
pub(crate) struct Rng(SplitMix64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Rng {
        Rng(SplitMix64::new(seed))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0.roll()
    }

    /// A number below `end`; 0 where that is 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        if end == 0 { 0 } else { self.next() % end }
    }

    /// So many bytes of some kind: noise, text, lines, one byte repeated, text that is not UTF-8.
    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        const TEXT: &[u8] =
            "Hello, World! The quick brown fox — größer, ŉ, ﬃ, 日本語 — 0123456789abcdef\r\n".as_bytes();
        let kind = self.below(5);
        let offset = self.below(TEXT.len() as u64) as usize;
        let fill = self.next() as u8;
        match kind {
            0 => (0..len).map(|_| self.next() as u8).collect(),
            1 => TEXT.iter().cycle().take(len).copied().collect(),
            2 => (0..len).map(|_| b"0123456789abcdefABCDEF \n"[self.below(24) as usize]).collect(),
            3 => vec![fill; len],
            _ => TEXT.iter().cycle().skip(offset).take(len).copied().collect(),
        }
    }

    /// Lines of plain ASCII.
    pub(crate) fn text(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| b"etaoin shrdlu ETAOIN SHRDLU\n0123456789"[self.below(38) as usize]).collect()
    }

    /// A length that loops like to get wrong.
    pub(crate) fn length(&mut self, max: usize) -> usize {
        const EDGES: &[usize] =
            &[0, 1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 255, 256, 4096];
        let length = match self.below(3) {
            0 => EDGES[self.below(EDGES.len() as u64) as usize],
            1 => self.below(300) as usize,
            _ => self.below(max as u64 + 1) as usize,
        };
        length.min(max)
    }
}

/// How long a probe may look for new cases.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    end: Instant,
}

impl Budget {
    pub(crate) fn new(budget: Duration) -> Budget {
        Budget { end: Instant::now() + budget }
    }

    pub(crate) fn is_left(&self) -> bool {
        Instant::now() < self.end
    }
}

/// What one session is sent.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) mode: Mode,
    pub(crate) parts: Vec<Vec<u8>>,
}

/// How messages reach a transform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Framed messages of a stream.
    Messages,
    /// Reads of a raw stream, then its end.
    Stream,
    /// Datagrams: a session for each.
    Datagrams,
}

impl Mode {
    /// Those that a table's needs leave.
    pub(crate) fn of(table: &crate::table::Table) -> &'static [Mode] {
        if table.fields.needs & abi::RESAY_NEED_MESSAGES == 0 {
            &[Mode::Messages, Mode::Stream, Mode::Datagrams]
        } else {
            &[Mode::Messages, Mode::Datagrams]
        }
    }

    pub(crate) fn kind(self) -> u32 {
        if self == Mode::Datagrams { abi::RESAY_DATAGRAM } else { abi::RESAY_STREAM }
    }
}

impl Plan {
    pub(crate) fn random(rng: &mut Rng, mode: Mode, parts: u64, bytes_max: usize) -> Plan {
        let parts = (0..1 + rng.below(parts))
            .map(|_| {
                let length = rng.length(bytes_max);
                rng.bytes(length)
            })
            .collect();
        Plan { mode, parts }
    }

    /// Sends it all in a session of its own, or one for each datagram.
    pub(crate) fn run(&self, instance: &Instance<'_>, desk: &mut Desk, how: &How) -> Kept<Trace> {
        let mut trace = Trace::new(self.mode);
        match self.mode {
            Mode::Datagrams => {
                for part in &self.parts {
                    let mut session = instance.session(desk, abi::RESAY_DATAGRAM)?;
                    trace.add(session.message(desk, how, part)?);
                }
            }
            Mode::Messages | Mode::Stream => {
                let mut session = instance.session(desk, abi::RESAY_STREAM)?;
                session.greeting.take().into_iter().for_each(|greeting| trace.add(greeting));
                for part in &self.parts {
                    let answer = match self.mode {
                        Mode::Stream => session.read(desk, how, part)?,
                        _ => session.message(desk, how, part)?,
                    };
                    trace.add(answer);
                }
                if self.mode == Mode::Stream {
                    trace.add(session.end(desk, how)?);
                }
            }
        }
        Ok(trace)
    }

    /// The same in an instance of its own.
    pub(crate) fn run_fresh(&self, subject: &Subject, desk: &mut Desk, how: &How) -> Kept<Trace> {
        self.run(&subject.create()?, desk, how)
    }
}

/// What came back. Of a raw stream only the bytes count, not in which call they came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trace {
    mode: Mode,
    pub(crate) parts: Vec<Answer>,
    /// This host's limits were hit: nothing to compare.
    pub(crate) is_cut: bool,
}

impl Trace {
    pub(crate) fn new(mode: Mode) -> Trace {
        Trace { mode, parts: Vec::new(), is_cut: false }
    }

    pub(crate) fn add(&mut self, answer: Answer) {
        self.is_cut |= answer.status.is_none() && self.parts.last().is_none_or(|last| last.status.is_some());
        match self.parts.last_mut() {
            Some(last) if self.mode == Mode::Stream => {
                last.output.extend(answer.output);
                let is_open = [Some(abi::RESAY_OK), Some(abi::RESAY_MORE_IN)].contains(&last.status);
                if is_open {
                    last.status = answer.status;
                }
            }
            _ => self.parts.push(answer),
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.parts.iter().map(|part| part.output.len()).sum()
    }

    /// Where two differ; `None`: nowhere.
    pub(crate) fn difference(&self, other: &Trace) -> Option<String> {
        if self.is_cut || other.is_cut {
            return None;
        }
        if self.parts.len() != other.parts.len() {
            return Some(format!("{} answers where there were {}", other.parts.len(), self.parts.len()));
        }
        self.parts.iter().zip(&other.parts).enumerate().find_map(|(index, (one, two))| {
            let what = difference(&one.output, &two.output).or_else(|| {
                let text = |status: Option<i32>| status.map_or("the limit".to_owned(), status_text);
                (one.status != two.status)
                    .then(|| format!("{} where it was {}", text(two.status), text(one.status)))
            })?;
            Some(format!("answer {index}: {what}"))
        })
    }
}

/// Where two runs of bytes differ first.
pub(crate) fn difference(expected: &[u8], found: &[u8]) -> Option<String> {
    let at = expected.iter().zip(found).position(|(one, two)| one != two);
    match at {
        Some(at) => Some(format!(
            "byte {at} of {} is {:#04x} where it was {:#04x}",
            found.len(),
            found[at],
            expected[at]
        )),
        None => (expected.len() != found.len())
            .then(|| format!("{} bytes where there were {}", found.len(), expected.len())),
    }
}

/// Whether answers repeat, so that runs can be compared at all; `Some`: why not. Random transforms, and those that
/// look at a clock, break no promise.
pub(crate) fn unsteady(subject: &Subject, desk: &mut Desk, seed: u64) -> Kept<Option<String>> {
    let mut rng = Rng::new(seed ^ 0x5eed);
    for mode in &subject.modes {
        let plans: Vec<Plan> = (0..8).map(|_| Plan::random(&mut rng, *mode, 6, 2000)).collect();
        let one = subject.create()?;
        let two = subject.create()?;
        for plan in &plans {
            let first = plan.run(&one, desk, &How::default())?;
            if let Some(what) = first.difference(&plan.run(&two, desk, &How::default())?) {
                return Ok(Some(format!(
                    "two fresh instances answer differently ({what}), so nothing to compare"
                )));
            }
            // The same input again, in a session of its own: what an instance did before must not matter.
            if let Some(what) = first.difference(&plan.run(&one, desk, &How::default())?) {
                let why = "an instance answers differently the second time";
                return Ok(Some(format!("{why} ({what}), so nothing to compare")));
            }
            if let Some(what) = first.difference(&plan.run(&two, desk, &How::default())?) {
                return Ok(Some(format!("answers change by themselves ({what}), so nothing to compare")));
            }
        }
    }
    Ok(None)
}

/// How often a difference is looked at before it is believed.
const CONFIRMATIONS: usize = 4;

/// Compares a run with another that should give the same. What differs must differ again while the first repeats:
/// else the transform is one whose answers change by themselves.
pub(crate) fn compare(
    promise: Promise,
    what: &str,
    mut expected: impl FnMut() -> Kept<Trace>,
    mut found: impl FnMut() -> Kept<Trace>,
) -> Kept<()> {
    let first = expected()?;
    let Some(mut difference) = first.difference(&found()?) else { return Ok(()) };
    for _ in 0..CONFIRMATIONS {
        if first.difference(&expected()?).is_some() {
            return Ok(());
        }
        match first.difference(&found()?) {
            Some(another) => difference = another,
            None => return Ok(()),
        }
    }
    Err(Breach::of(promise, format!("{what}: {difference}")))
}

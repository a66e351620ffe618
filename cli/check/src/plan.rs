//! Whole sessions: what is sent, what comes back, and whether two runs of the same are equal.

use crate::drive::{Arena, How, Instance, Reply, Subject};
use crate::mode::Mode;
use crate::promise::Promise;
use crate::rng::Rng;
use crate::verdict::{Check, Violation};
use crate::words::status_text;
use resay_plugin::abi;

/// What one session is sent.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) mode: Mode,
    pub(crate) parts: Vec<Vec<u8>>,
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
    pub(crate) fn run(&self, instance: &Instance<'_>, arena: &mut Arena, how: &How) -> Check<Trace> {
        let mut trace = Trace::new(self.mode);
        match self.mode {
            Mode::Datagrams => {
                for part in &self.parts {
                    let mut session = instance.session(arena, abi::RESAY_DATAGRAM)?;
                    trace.add(session.message(arena, how, part)?);
                }
            }
            Mode::Messages | Mode::Stream => {
                let mut session = instance.session(arena, abi::RESAY_STREAM)?;
                session.greeting.take().into_iter().for_each(|greeting| trace.add(greeting));
                for part in &self.parts {
                    let answer = match self.mode {
                        Mode::Stream => session.read(arena, how, part)?,
                        _ => session.message(arena, how, part)?,
                    };
                    trace.add(answer);
                }
                if self.mode == Mode::Stream {
                    trace.add(session.end(arena, how)?);
                }
            }
        }
        Ok(trace)
    }

    /// The same in an instance of its own.
    pub(crate) fn run_fresh(&self, subject: &Subject, arena: &mut Arena, how: &How) -> Check<Trace> {
        self.run(&subject.create()?, arena, how)
    }
}

/// What came back. Of a raw stream only the bytes count, not the calls that returned them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trace {
    mode: Mode,
    pub(crate) parts: Vec<Reply>,
    /// This host's limits were reached: nothing to compare.
    pub(crate) is_cut: bool,
}

impl Trace {
    pub(crate) fn new(mode: Mode) -> Trace {
        Trace { mode, parts: Vec::new(), is_cut: false }
    }

    pub(crate) fn add(&mut self, answer: Reply) {
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
            return Some(format!("{} replies instead of {}", other.parts.len(), self.parts.len()));
        }
        self.parts.iter().zip(&other.parts).enumerate().find_map(|(index, (one, two))| {
            let what = difference(&one.output, &two.output).or_else(|| {
                let text = |status: Option<i32>| status.map_or("the limit".to_owned(), status_text);
                (one.status != two.status)
                    .then(|| format!("{} instead of {}", text(two.status), text(one.status)))
            })?;
            Some(format!("reply {index}: {what}"))
        })
    }
}

/// Where two runs of bytes differ first.
pub(crate) fn difference(expected: &[u8], found: &[u8]) -> Option<String> {
    let at = expected.iter().zip(found).position(|(one, two)| one != two);
    match at {
        Some(at) => Some(format!(
            "byte {at} of {} is {:#04x} instead of {:#04x}",
            found.len(),
            found[at],
            expected[at]
        )),
        None => (expected.len() != found.len())
            .then(|| format!("{} bytes instead of {}", found.len(), expected.len())),
    }
}

/// Why runs cannot be compared; `None`: replies repeat. Transforms that use random numbers or a clock violate no
/// promise.
pub(crate) fn nondeterminism(subject: &Subject, arena: &mut Arena, seed: u64) -> Check<Option<String>> {
    let mut rng = Rng::new(seed ^ 0x5eed);
    for mode in &subject.modes {
        let plans: Vec<Plan> = (0..8).map(|_| Plan::random(&mut rng, *mode, 6, 2000)).collect();
        let one = subject.create()?;
        let two = subject.create()?;
        for plan in &plans {
            let first = plan.run(&one, arena, &How::default())?;
            if let Some(what) = first.difference(&plan.run(&two, arena, &How::default())?) {
                return Ok(Some(format!("two new instances reply differently ({what}): nothing to compare")));
            }
            // The same input again, in a session of its own: what an instance did before must not matter.
            if let Some(what) = first.difference(&plan.run(&one, arena, &How::default())?) {
                let why = "an instance replies differently the second time";
                return Ok(Some(format!("{why} ({what}): nothing to compare")));
            }
            if let Some(what) = first.difference(&plan.run(&two, arena, &How::default())?) {
                return Ok(Some(format!("its replies change by themselves ({what}): nothing to compare")));
            }
        }
    }
    Ok(None)
}

/// How often a difference is confirmed.
const CONFIRMATIONS: usize = 4;

/// Compares a run with another that should be equal. A difference must be there again while the first run repeats:
/// otherwise the transform's replies change by themselves.
pub(crate) fn compare(
    promise: Promise,
    what: &str,
    mut expected: impl FnMut() -> Check<Trace>,
    mut found: impl FnMut() -> Check<Trace>,
) -> Check<()> {
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
    Err(Violation::of(promise, format!("{what}: {difference}")))
}

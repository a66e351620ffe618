//! What is said, over and over, and what is to be answered: prepared before anything is measured.
//!
//! A script has some thousand distinct messages at most, one behind the other as they go over the wire, and all their
//! answers likewise. So what is sent is always a piece of the one and what is received is compared with a piece of the
//! other. Each message begins with its number, in digits, so that answers can be told apart.

use std::path::PathBuf;

use resay::options::Frame;
use resay::{DryRun, DryRunOutput};
use resay_plugin::dice::SplitMix64;

use crate::error::ScriptError;
use crate::frame;
use crate::plan::Plan;

/// Messages and their answers.
#[derive(Debug)]
pub struct Script {
    wire: Vec<u8>,
    wire_len: usize,
    answers: Vec<u8>,
    /// Where each answer ends.
    answer_ends: Vec<usize>,
    /// What comes before the first answer, a piece a greeting.
    pub(crate) greetings: Vec<Vec<u8>>,
    pub(crate) frame: Frame,
    /// Any message may be the first of a connection.
    starts_anywhere: bool,
    depends_on_reads: bool,
}

/// Bytes of all messages together, about: little enough for a processor's cache.
const SCRIPT_BYTES: usize = 256 << 10;
/// Messages of a script. A multiple of 12, so that encodings that take bytes by threes and fours come round.
const MESSAGES_MAX: usize = 3072;
const MESSAGES_MIN: usize = 12;
/// The same of messages that are so long, so that there is memory for them.
const LONG_BYTES: usize = 1 << 20;
const LONG_MESSAGES: usize = 3;
/// Datagrams are told apart by their message, so there are many of them in any case.
const DATAGRAMS_MIN: usize = 384;
/// Digits of the number that a message begins with.
const NUMBER_BYTES: usize = 8;

impl Script {
    /// Asks the chain of the plan, with plugins from these directories, what it answers.
    pub fn new(plan: &Plan, plugin_directories: &[PathBuf]) -> Result<Script, ScriptError> {
        let is_framed = plan.is_stream() && plan.frame != Frame::Raw;
        let bodies = messages(plan);
        let mut wire = Vec::new();
        for body in &bodies {
            frame::write(&plan.frame, body, &mut wire)?;
        }
        let wire_len = wire.len() / bodies.len().max(1);
        if wire_len == 0 && !plan.kind.is_datagram() {
            return Err(ScriptError::Empty { kind: plan.kind.scheme() });
        }
        let create = || DryRun::new(&plan.expect, plugin_directories, plan.kind, is_framed);
        let mut chain = create()?;
        let mut script = Script {
            wire,
            wire_len,
            answers: Vec::new(),
            answer_ends: Vec::new(),
            greetings: Vec::new(),
            frame: plan.frame.clone(),
            starts_anywhere: plan.kind.is_datagram() || chain.chain().is_empty(),
            depends_on_reads: false,
        };
        for greeting in chain.greetings() {
            let mut framed = Vec::new();
            frame::write(&plan.frame, greeting, &mut framed)?;
            script.greetings.push(framed);
        }
        for body in &bodies {
            let answer = expected_answer(&mut chain, body, &plan.expect)?;
            frame::write(&plan.frame, &answer, &mut script.answers)?;
            script.answer_ends.push(script.answers.len());
        }
        script.check(plan, &bodies, &mut chain)?;
        if plan.is_stream() && !is_framed && bodies.len() > 1 {
            // Two messages in one read.
            let together = expected_answer(&mut create()?, &bodies[..2].concat(), &plan.expect)?;
            script.depends_on_reads =
                script.answers.get(..script.answer_ends[1]) != Some(together.as_slice());
        }
        Ok(script)
    }

    /// What the measurement relies on: each message has an answer of its own, and the same one each time.
    fn check(&self, plan: &Plan, bodies: &[Vec<u8>], chain: &mut DryRun) -> Result<(), ScriptError> {
        if !plan.kind.is_datagram()
            && let Some(silent) = (0..self.len()).find(|&index| self.answer(index).is_empty())
        {
            return Err(ScriptError::Silent {
                chain: plan.expect.clone(),
                message: silent,
                bytes: plan.message_bytes,
                kind: plan.kind.scheme(),
            });
        }
        for (index, body) in bodies.iter().enumerate() {
            let mut again = Vec::new();
            frame::write(&plan.frame, &expected_answer(chain, body, &plan.expect)?, &mut again)?;
            if again != self.answer(index) {
                return Err(ScriptError::Unsteady { chain: plan.expect.clone() });
            }
        }
        Ok(())
    }

    /// Whether answers may differ from these through no fault of the server's: the chain answers what one read of a raw
    /// stream brings, and what that is, is up to the network.
    pub fn depends_on_reads(&self) -> bool {
        self.depends_on_reads
    }

    /// How many messages there are.
    pub(crate) fn len(&self) -> usize {
        self.answer_ends.len()
    }

    /// The message that a connection begins with: each another one, so that an answer to somebody else is noticed.
    pub(crate) fn first_of(&self, connection: usize) -> usize {
        if self.starts_anywhere { connection.wrapping_mul(97) % self.len().max(1) } else { 0 }
    }

    /// Bytes of every message with its frame.
    pub(crate) fn wire_len(&self) -> usize {
        self.wire_len
    }

    /// One of them, in its frame.
    pub fn message(&self, index: usize) -> &[u8] {
        self.messages(index, 1)
    }

    /// So many of them, one behind the other, from this one on.
    pub(crate) fn messages(&self, index: usize, count: usize) -> &[u8] {
        self.wire.get(index * self.wire_len..(index + count) * self.wire_len).unwrap_or_default()
    }

    /// All messages from this one on to the last.
    pub(crate) fn messages_from(&self, index: usize) -> &[u8] {
        self.wire.get(index * self.wire_len..).unwrap_or_default()
    }

    fn answer_start(&self, index: usize) -> usize {
        index.checked_sub(1).and_then(|before| self.answer_ends.get(before)).copied().unwrap_or(0)
    }

    pub(crate) fn answer_len(&self, index: usize) -> usize {
        self.answer_ends.get(index).map_or(0, |end| end - self.answer_start(index))
    }

    pub(crate) fn answer(&self, index: usize) -> &[u8] {
        let end = self.answer_ends.get(index).copied().unwrap_or(0);
        self.answers.get(self.answer_start(index)..end).unwrap_or_default()
    }

    /// All answers from this one on to the last.
    pub(crate) fn answers_from(&self, index: usize) -> &[u8] {
        self.answers.get(self.answer_start(index)..).unwrap_or_default()
    }

    /// The longest answer.
    pub fn answer_bytes_max(&self) -> usize {
        (0..self.len()).map(|index| self.answer_len(index)).max().unwrap_or(0)
    }
}

fn expected_answer(chain: &mut DryRun, body: &[u8], expect: &str) -> Result<Vec<u8>, ScriptError> {
    let what = match chain.process(body) {
        Ok(DryRunOutput::Answer(answer)) => return Ok(answer),
        Ok(DryRunOutput::Nothing) => "drops messages".to_owned(),
        Ok(DryRunOutput::Last(_)) => "ends the connection".to_owned(),
        Ok(DryRunOutput::Reset) => "resets the connection".to_owned(),
        Ok(_) => "does not answer".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(ScriptError::NoAnswer { chain: expect.to_owned(), what })
}

/// Distinct messages of printable characters, none of which is in a delimiter.
fn messages(plan: &Plan) -> Vec<Vec<u8>> {
    let forbidden: &[u8] = match &plan.frame {
        Frame::Delimiter(bytes) => bytes,
        _ => b"\r\n",
    };
    let letters: Vec<u8> = (b'0'..=b'9')
        .chain(b'A'..=b'Z')
        .chain(b'a'..=b'z')
        .filter(|byte| !forbidden.contains(byte))
        .collect();
    let digits: Vec<u8> =
        (b'0'..=b'9').chain(b'!'..=b'/').filter(|byte| !forbidden.contains(byte)).take(10).collect();
    let (size, number_len) = (plan.message_bytes, plan.message_bytes.min(NUMBER_BYTES));
    let distinct = 10usize.saturating_pow(number_len as u32);
    let least = if plan.kind.is_datagram() { DATAGRAMS_MIN } else { MESSAGES_MIN };
    let wanted = match size {
        LONG_BYTES.. => LONG_MESSAGES,
        _ => (SCRIPT_BYTES / size.max(1)).clamp(least, MESSAGES_MAX).next_multiple_of(MESSAGES_MIN),
    };
    let mut random = SplitMix64::new(plan.seed);
    (0..wanted.min(distinct))
        .map(|number| {
            let mut message = Vec::with_capacity(size);
            for place in (0..number_len).rev() {
                let digit = number / 10usize.pow(place as u32) % 10;
                message.extend(digits.get(digit));
            }
            message.resize_with(size, || one_of(&mut random, &letters));
            message
        })
        .collect()
}

fn one_of(random: &mut SplitMix64, bytes: &[u8]) -> u8 {
    let place = random.roll() % bytes.len().max(1) as u64;
    bytes.get(place as usize).copied().unwrap_or(b'x')
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use resay::SocketKind;

    use super::*;
    use crate::tests::plan;

    #[test]
    fn messages_are_distinct_and_their_answers_those_of_the_chain() {
        for (size, at_least) in [(1, 10), (2, 100), (64, 1000), (65_000, 384)] {
            let script = Script::new(&Plan { message_bytes: size, ..plan(SocketKind::Udp) }, &[]).unwrap();
            let all: BTreeSet<_> = (0..script.len()).map(|index| script.message(index)).collect();
            assert_eq!(all.len(), script.len());
            assert!(all.len() >= at_least, "{size}: {}", all.len());
            assert!((0..script.len()).all(|index| script.answer(index) == script.message(index)));
        }
        let upper = Plan { expect: "uppercase | hex".into(), ..plan(SocketKind::Tcp) };
        let script = Script::new(&upper, &[]).unwrap();
        let hex: String =
            script.message(7).iter().map(|b| format!("{:02x}", b.to_ascii_uppercase())).collect();
        assert_eq!(script.answer(7), hex.as_bytes());
        assert_eq!(script.answers_from(script.len() - 1).len(), 128);
        assert!(!script.depends_on_reads());
    }

    #[test]
    fn frames_stand_around_messages_and_answers() {
        let framed = Plan { expect: "reverse".into(), frame: Frame::Lines, ..plan(SocketKind::Tcp) };
        let script = Script::new(&framed, &[]).unwrap();
        let (message, answer) = (script.message(3), script.answer(3));
        assert!(message.ends_with(b"\n") && answer.ends_with(b"\n"));
        let back: Vec<u8> = answer[..64].iter().rev().copied().collect();
        assert_eq!(back, message[..64]);
        // Bytes of a delimiter are in no message.
        let digits = Plan { frame: Frame::Delimiter(b"0123".to_vec()), ..plan(SocketKind::Tcp) };
        let script = Script::new(&digits, &[]).unwrap();
        assert!(!script.message(0)[..64].iter().any(|byte| b"0123".contains(byte)));
    }

    #[test]
    fn what_cannot_be_checked_is_refused() {
        for (expect, message_bytes, what) in [
            ("drop:rate=100%", 64, "drops messages"),
            ("corrupt:rate=10%,seed=1", 64, "differently"),
            ("hex:mode=decode", 9, "cannot be checked"),
            ("base64", 1, "no answer of its own"),
            ("identity", 0, "0 bytes"),
        ] {
            let plan = Plan { expect: expect.into(), message_bytes, ..plan(SocketKind::Tcp) };
            let error = Script::new(&plan, &[]).unwrap_err().to_string();
            assert!(error.contains(what), "{expect}: {error}");
        }
        let script = Script::new(&Plan { expect: "reverse".into(), ..plan(SocketKind::Tcp) }, &[]).unwrap();
        assert!(script.depends_on_reads(), "what a raw read brings is reversed");
    }
}

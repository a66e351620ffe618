//! A chain run without sockets: what it answers, for those who have to know beforehand, such as a load generator that
//! checks every answer.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::buffer;
use crate::bug;
use crate::chain::{
    Chain, ChainContext, ChainOutcome, DATAGRAM, Generation, Scratch, StreamContext, StreamInput, WHOLE,
};
use crate::error::{Error, Result};
use crate::event::Events;
use crate::limits::STREAM_MESSAGE_BYTES_MAX;
use crate::peer::{Peer, SocketKind};
use crate::transform::library::{CallContext, Callee, Conversation, Counters, LocalEnd, Services, Session};
use crate::transform::registry::Registry;
use crate::transform::spec::ChainSpec;

/// One conversation with a chain, message after message, on the calling thread. Delays are not waited for, and
/// transforms that may block do so.
///
/// ```
/// use resay::{DryRun, DryRunOutput, SocketKind};
///
/// let mut chain = DryRun::new("uppercase | hex", &[], SocketKind::Udp, false)?;
/// assert_eq!(chain.process(b"hi")?, DryRunOutput::Answer(b"4849".to_vec()));
/// # Ok::<(), resay::Error>(())
/// ```
pub struct DryRun {
    spec: String,
    generation: Arc<Generation>,
    local: LocalEnd,
    /// Those of `resay_io`.
    flags: u32,
    /// `None`: a datagram's, which is opened for each.
    session: Option<Session>,
    scratch: Scratch,
    /// What the transforms of a raw stream have not read yet.
    unread: Option<Box<StreamInput>>,
    greetings: Vec<Vec<u8>>,
}

/// What a chain makes of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DryRunOutput {
    /// These bytes, without a frame; none is an answer too.
    Answer(Vec<u8>),
    /// These bytes, and then the connection ends.
    Last(Vec<u8>),
    /// No answer.
    Nothing,
    /// The connection is reset.
    Reset,
}

/// Bytes of one answer.
const ANSWER_BYTES_MAX: usize = 64 * STREAM_MESSAGE_BYTES_MAX;

impl DryRun {
    /// Creates the transforms of `chain`, which are looked up as an engine does, in `directories` before the usual
    /// ones, and opens a conversation as on a socket of this `kind`. `is_framed`: a stream's messages have frames of
    /// their own; else a message is what one read brings.
    pub fn new(chain: &str, directories: &[PathBuf], kind: SocketKind, is_framed: bool) -> Result<DryRun> {
        let callees = DryRun::look_up(&mut Registry::new(directories.to_vec()), chain)?;
        DryRun::of(callees, kind, is_framed).map_err(|error| error.in_text(chain))
    }

    /// What the stages of a chain are, by a registry.
    pub(crate) fn look_up(registry: &mut Registry, chain: &str) -> Result<(ChainSpec, Vec<Callee>)> {
        let spec = ChainSpec::parse(chain)?;
        let callees = registry.find_all(&spec).map_err(|error| error.in_text(chain))?;
        Ok((spec, callees))
    }

    /// Creates the transforms of a chain.
    pub(crate) fn of(
        (spec, callees): (ChainSpec, Vec<Callee>),
        kind: SocketKind,
        is_framed: bool,
    ) -> Result<DryRun> {
        let services = Services {
            events: Arc::new(Events::default()),
            counters: Arc::new(Counters::new()),
            times: Arc::default(),
        };
        let chain = Chain::create(&spec, &callees, &services)?;
        let is_raw = matches!(kind, SocketKind::Tcp | SocketKind::UnixStream) && !is_framed;
        if let Some(id) = chain.needs_messages()
            && is_raw
        {
            let reason = "needs whole messages; a raw stream has none".to_owned();
            return Err(Error::Transform { id: id.to_owned(), reason, place: None });
        }
        let generation = chain.generations(1)?.pop().ok_or(Error::State("a chain has a generation"))?;
        let flags = match kind {
            _ if kind.is_datagram() => DATAGRAM,
            _ if is_raw => 0,
            _ => WHOLE,
        };
        let mut dry_run = DryRun {
            spec: chain.spec().to_owned(),
            generation,
            local: LocalEnd {
                kind,
                url: String::new(),
                listener: 0,
                address: Peer::Unnamed,
                answer_bytes_max: ANSWER_BYTES_MAX,
            },
            flags,
            session: None,
            scratch: Scratch::default(),
            unread: None,
            greetings: Vec::new(),
        };
        if !kind.is_datagram() {
            dry_run.greet()?;
        }
        Ok(dry_run)
    }

    /// The chain, canonical; empty for the plain echo.
    pub fn chain(&self) -> &str {
        &self.spec
    }

    /// What the server sends when a connection opens: one message for each transform that greets.
    pub fn greetings(&self) -> &[Vec<u8>] {
        &self.greetings
    }

    /// Runs one message, without a frame, through the chain. Fails as the transform does.
    pub fn process(&mut self, message: &[u8]) -> Result<DryRunOutput> {
        let session = match self.session.take() {
            Some(session) => session,
            None => self.open()?,
        };
        if session.refusal().is_some() {
            return Ok(DryRunOutput::Nothing);
        }
        let (session, output) = self.run(session, None, message)?;
        if !self.is_datagram() {
            self.session = Some(session);
        }
        Ok(output)
    }

    fn greet(&mut self) -> Result<()> {
        let mut session = self.open()?;
        for stage in self.generation.greeters().collect::<Vec<_>>() {
            if self.generation.is_function(stage) && !session.has_begun(stage) {
                continue;
            }
            let (back, output) = self.run(session, Some(stage), &[])?;
            session = back;
            match output {
                DryRunOutput::Answer(text) => self.greetings.push(text),
                DryRunOutput::Nothing => {}
                DryRunOutput::Last(_) | DryRunOutput::Reset => {
                    return Err(self.failed(stage, "ends each connection when it begins"));
                }
            }
        }
        self.session = Some(session);
        Ok(())
    }

    fn is_datagram(&self) -> bool {
        self.local.kind.is_datagram()
    }

    fn open(&self) -> Result<Session> {
        let conversation = self.conversation();
        Session::open(self.generation.stages(), &conversation)
            .map_err(|(stage, fault)| self.failed(stage, fault))
    }

    fn conversation(&self) -> Conversation<'_> {
        let id = u64::from(!self.is_datagram());
        Conversation { local: &self.local, peer: &Peer::Unnamed, proxied: None, id }
    }

    /// Sends a message through, or asks a stage for its greeting.
    fn run(
        &mut self,
        mut session: Session,
        greeter: Option<usize>,
        message: &[u8],
    ) -> Result<(Session, DryRunOutput)> {
        let mut message = buffer::try_copy(message).ok_or_else(|| self.out_of_memory())?;
        let (mut out, mut delays) = (Vec::new(), Vec::new());
        let is_raw = self.flags == 0 && !self.generation.is_in_place();
        let conversation = Conversation {
            local: &self.local,
            peer: &Peer::Unnamed,
            proxied: None,
            id: u64::from(!self.is_datagram()),
        };
        let call = CallContext { conversation, issuer: None };
        let outcome = if is_raw {
            let mut cx = StreamContext {
                session: &mut session,
                call,
                out: &mut out,
                out_len_max: usize::MAX,
                unread_max: ANSWER_BYTES_MAX,
                scratch: &mut self.scratch,
                delays: &mut delays,
                at_end: false,
            };
            let outcome = match greeter {
                Some(stage) => self.generation.stream_greeting(stage, &mut self.unread, &mut cx),
                None => self.generation.stream(&mut message, &mut self.unread, &mut cx),
            };
            outcome.outcome
        } else {
            let mut cx = ChainContext {
                session: &mut session,
                call,
                out: &mut out,
                out_max: ANSWER_BYTES_MAX,
                flags: self.flags,
                scratch: &mut self.scratch,
                delays: &mut delays,
                delay_us: 0,
                waiting_stages: 0,
                deferred: None,
            };
            match greeter {
                Some(stage) => self.generation.greet(stage, &mut cx),
                None => self.generation.run(&mut message, &mut cx),
            }
        };
        let is_short = bug::is_tainted();
        if let Some(bugs) = bug::take() {
            return Err(self.failed(self.generation.last_stage(), bugs));
        }
        if is_short {
            return Err(self.out_of_memory());
        }
        let answer = match self.scratch.replaced() {
            Some(replaced) if self.generation.is_in_place() && greeter.is_none() => {
                buffer::try_copy(replaced).ok_or_else(|| self.out_of_memory())?
            }
            _ if self.generation.is_in_place() && greeter.is_none() => message,
            _ => out,
        };
        let output = match outcome {
            ChainOutcome::Answer => DryRunOutput::Answer(answer),
            ChainOutcome::Close => DryRunOutput::Last(answer),
            ChainOutcome::DropAndClose if !self.is_datagram() => DryRunOutput::Last(Vec::new()),
            ChainOutcome::Drop | ChainOutcome::DropAndClose | ChainOutcome::Later { .. } => {
                DryRunOutput::Nothing
            }
            ChainOutcome::Reset => DryRunOutput::Reset,
            ChainOutcome::Failed { stage, fault } => return Err(self.failed(stage, fault)),
        };
        Ok((session, output))
    }

    fn out_of_memory(&self) -> Error {
        self.failed(self.generation.last_stage(), "out of memory")
    }

    fn failed(&self, stage: usize, reason: impl fmt::Display) -> Error {
        Error::Transform {
            id: self.generation.stage_id(stage).to_owned(),
            reason: reason.to_string(),
            place: None,
        }
    }
}

impl fmt::Debug for DryRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DryRun")
            .field("chain", &self.spec)
            .field("kind", &self.local.kind)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(chain: &str, kind: SocketKind, is_framed: bool, messages: &[&[u8]]) -> Vec<DryRunOutput> {
        let mut dry_run = DryRun::new(chain, &[], kind, is_framed).unwrap();
        messages.iter().map(|message| dry_run.process(message).unwrap()).collect()
    }

    fn answer(text: &[u8]) -> DryRunOutput {
        DryRunOutput::Answer(text.to_vec())
    }

    #[test]
    fn a_stream_is_one_conversation_and_datagrams_are_many() {
        // Three bytes become four letters; on a raw stream what is over waits for the next read.
        let raw = all("base64", SocketKind::Tcp, false, &[b"ab", b"cd", b"ef"]);
        assert_eq!(raw.concat_answers(), b"YWJjZGVm");
        for (kind, is_framed) in [(SocketKind::Udp, false), (SocketKind::Tcp, true)] {
            let each = all("base64", kind, is_framed, &[b"ab", b"cd"]);
            assert_eq!(each, [answer(b"YWI="), answer(b"Y2Q=")], "{kind:?}");
        }
        assert_eq!(all("", SocketKind::UnixSeqpacket, false, &[b"", b"x"]), [answer(b""), answer(b"x")]);
    }

    #[test]
    fn what_is_no_answer_is_told_apart() {
        assert_eq!(all("drop:rate=100%", SocketKind::Udp, false, &[b"x"]), [DryRunOutput::Nothing]);
        let mut decode = DryRun::new("hex:mode=decode", &[], SocketKind::Udp, false).unwrap();
        assert!(decode.process(b"no digits").unwrap_err().to_string().contains("hex"));
        let unknown = DryRun::new("none-such", &[], SocketKind::Tcp, false).unwrap_err();
        assert!(unknown.to_string().contains("none-such"), "{unknown}");
    }

    trait Concat {
        fn concat_answers(&self) -> Vec<u8>;
    }

    impl Concat for Vec<DryRunOutput> {
        fn concat_answers(&self) -> Vec<u8> {
            self.iter()
                .flat_map(|output| match output {
                    DryRunOutput::Answer(text) => text.clone(),
                    other => panic!("{other:?}"),
                })
                .collect()
        }
    }
}

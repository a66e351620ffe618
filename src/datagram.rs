//! Admission and answer of one datagram. Sans-IO.
//!
//! A datagram is a conversation of its own: its session is fresh, and what a peer leaves is never seen by another.
//!
//! An empty datagram is a message of 0 bytes, as RFC 768 has it: it passes through the chain as any other, and its answer,
//! which may be empty too, is sent. [`refuse`] and [`answer`] do not ask for its length.

#[cfg(test)]
mod tests;
mod unread;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::Duration;

use crate::buffer;
use crate::bug;
use crate::chain::{
    ChainContext, ChainOutcome, DATAGRAM, Deferred, DeferredAnswer, DelayedRange, Generation,
};
use crate::context::{Context, Reply};
use crate::driver::{Datagram, RecvBuf};
use crate::later::{LateAnswer, LateVerdict, Ticket, TicketIssuer};
use crate::limits::{DATAGRAM_COPIES_MAX, DELAYED_DATAGRAM_BYTES_MAX, DELAYED_DATAGRAMS_MAX};
use crate::peer::Peer;
use crate::stats::{Block, DropReason};
use crate::sys::{LocalAddr, ReplyTo};
use crate::tap::TapOutcome;
use crate::timer::Moment;
use crate::transform::library::{CallContext, Conversation, Fault, Session};

pub(crate) use unread::{Kernel, UnreadAnswers};

/// Whether [`refuse`] needs no asking.
#[inline]
pub(crate) fn is_plain(datagram: &Datagram) -> bool {
    datagram.plain_port != 0 && !datagram.truncated && datagram.to != LocalAddr::Group
}

/// Why a datagram must not even reach a transform, if so.
pub(crate) fn refuse(from: &Peer, to: LocalAddr, truncated: bool) -> Option<DropReason> {
    if truncated {
        return Some(DropReason::TooLong);
    }
    if to == LocalAddr::Group {
        return Some(DropReason::GroupDestination);
    }
    match from {
        Peer::Ip(address) if !is_answerable(address) => Some(DropReason::BadSource),
        Peer::Ip(_) | Peer::Abstract(_) => None,
        // A relative name means a file in the sender's directory; here it would be one in ours.
        Peer::Path(path) if path.as_os_str().as_bytes().first() == Some(&b'/') => None,
        Peer::Path(_) | Peer::Unnamed => Some(DropReason::Unnamed),
    }
}

fn is_answerable(address: &SocketAddr) -> bool {
    let ip_answerable = match address.ip() {
        IpAddr::V4(ip) => !(ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast()),
        IpAddr::V6(ip) => !(ip.is_unspecified() || ip.is_multicast()),
    };
    address.port() != 0 && ip_answerable
}

/// The conversation that the datagrams of one socket take turns in; its memory is zeroed for each.
#[derive(Debug, Default)]
pub(crate) struct DatagramSession {
    session: Option<Session>,
}

/// What became of a datagram.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) reply: Reply,
    /// How long an owned reply is to be held back.
    pub(crate) delay: Duration,
    /// How many more times an owned reply is to be sent.
    pub(crate) copies: u32,
    pub(crate) fault: Option<(usize, Fault)>,
    /// The answer comes later.
    pub(crate) later: Option<DeferredDatagram>,
    /// Why there is no reply.
    pub(crate) dropped: Option<DropReason>,
}

impl Outcome {
    const NOTHING: Outcome = Outcome {
        reply: Reply::Nothing,
        delay: Duration::ZERO,
        copies: 0,
        fault: None,
        later: None,
        dropped: None,
    };

    /// Of a datagram that gets no answer, which is counted.
    fn dropped(reason: DropReason, stats: &Block) -> Outcome {
        stats.dropped(reason, 1);
        Outcome { dropped: Some(reason), ..Outcome::NOTHING }
    }

    fn failed(at: (usize, Fault), stats: &Block) -> Outcome {
        stats.transform_errors.add(1);
        Outcome { fault: Some(at), ..Outcome::dropped(DropReason::TransformFailed, stats) }
    }

    /// Of a datagram that a chain has not answered, and will not.
    #[cold]
    fn unanswered(outcome: ChainOutcome, stats: &Block) -> Outcome {
        match outcome {
            ChainOutcome::Failed { stage, fault } => Outcome::failed((stage, fault), stats),
            ChainOutcome::Later { .. } => {
                bug::found_aside("a ticket for what is answered later");
                Outcome::dropped(DropReason::Undelivered, stats)
            }
            _ => Outcome::dropped(DropReason::ByTransform, stats),
        }
    }

    /// Bytes of an owned reply.
    pub(crate) fn reply_bytes(&self) -> usize {
        if let Reply::Owned(bytes) = &self.reply { bytes.len() } else { 0 }
    }

    /// It was not answered because the answer would have been too long for an unproven peer.
    pub(crate) fn is_amplified(&self) -> bool {
        self.dropped == Some(DropReason::Amplified)
    }

    /// What a tap hears of it.
    pub(crate) fn for_taps(&self) -> TapOutcome {
        match self.dropped {
            None => TapOutcome::Answered,
            Some(reason @ DropReason::TransformFailed) => TapOutcome::Failed(reason),
            Some(reason) => TapOutcome::Dropped(reason),
        }
    }
}

/// A datagram that has come as far as a function whose answer comes later.
#[derive(Debug)]
pub(crate) struct DeferredDatagram {
    generation: Arc<Generation>,
    session: Session,
    stage: usize,
    ticket: Ticket,
    message_bytes: usize,
    delay_us: u64,
}

impl DeferredDatagram {
    /// The number of its ticket.
    pub(crate) fn ticket(&self) -> u64 {
        self.ticket.number()
    }

    pub(crate) fn generation(&self) -> &Arc<Generation> {
        &self.generation
    }
}

/// Answers of one socket that leave later, at most [`DELAYED_DATAGRAMS_MAX`], with [`DELAYED_DATAGRAM_BYTES_MAX`] bytes.
/// Each is kept in memory of its own length, so that they cost what they say.
#[derive(Debug, Default)]
pub(crate) struct DelayedDatagrams {
    /// By the moment they are due; those of one moment in the order in which they came.
    answers: BTreeMap<(Moment, u64), DelayedDatagram>,
    bytes: usize,
    last: u64,
}

/// Where an answer goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AnswerTo {
    pub(crate) to: ReplyTo,
    /// Who is behind the proxy there, if one is.
    pub(crate) behind: Option<SocketAddr>,
}

impl AnswerTo {
    /// `from`: whose the datagram is; `is_proxied`: a proxy has said so.
    pub(crate) fn new(to: ReplyTo, from: &Peer, is_proxied: bool) -> AnswerTo {
        let behind = if let Peer::Ip(address) = from { Some(*address) } else { None };
        AnswerTo { to, behind: behind.filter(|_| is_proxied) }
    }
}

/// One of them.
#[derive(Debug)]
pub(crate) struct DelayedDatagram {
    pub(crate) to: AnswerTo,
    pub(crate) bytes: Box<[u8]>,
    /// How many answers it is: none, if it is the copy of one.
    pub(crate) answers: usize,
}

impl DelayedDatagrams {
    /// Keeps an answer, in memory of its own length, and then its copies. Whether there was room for the answer.
    pub(crate) fn keep(&mut self, due: Moment, to: AnswerTo, bytes: &[u8], copies: u32) -> bool {
        let is_kept = self.insert(due, to, bytes, 1);
        if is_kept {
            self.keep_copies(due, to, bytes, copies);
        }
        is_kept
    }

    /// Keeps copies of an answer, to be sent behind it, as far as there is room.
    pub(crate) fn keep_copies(&mut self, due: Moment, to: AnswerTo, bytes: &[u8], copies: u32) {
        (0..copies).all(|_| self.insert(due, to, bytes, 0));
    }

    fn insert(&mut self, due: Moment, to: AnswerTo, bytes: &[u8], answers: usize) -> bool {
        if !self.has_room(bytes.len()) {
            return false;
        }
        let Some(copy) = buffer::try_copy(bytes) else { return false };
        self.bytes += bytes.len();
        self.last += 1;
        self.answers.insert((due, self.last), DelayedDatagram { to, bytes: copy.into(), answers });
        true
    }

    /// Whether an answer of so many bytes may be kept.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        self.answers.len() < DELAYED_DATAGRAMS_MAX && self.bytes + bytes <= DELAYED_DATAGRAM_BYTES_MAX
    }

    /// Takes one answer that is due.
    pub(crate) fn take_due(&mut self, now: Moment) -> Option<DelayedDatagram> {
        if self.next() > now {
            return None;
        }
        let (_, datagram) = self.answers.pop_first()?;
        self.bytes -= datagram.bytes.len();
        Some(datagram)
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Moment {
        self.answers.first_key_value().map_or(Moment::NEVER, |((due, _), _)| *due)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    /// How many answers they are; a copy of one is none.
    pub(crate) fn answers(&self) -> usize {
        self.answers.values().map(|datagram| datagram.answers).sum()
    }
}

impl DatagramSession {
    /// Whether datagrams may take the way of most: the chain works in place, hears of no peers, and is in use already.
    #[inline]
    pub(crate) fn is_fast(&self, cx: &Context<'_>) -> bool {
        let stages = cx.current.stages();
        let is_known = |session: &Session| Arc::ptr_eq(session.stages(), stages);
        cx.current.is_fast() && !stages.has_sessions() && self.session.as_ref().is_some_and(is_known)
    }

    /// That way: sends one admitted datagram through the chain. Whether it is now its own answer; if not, there is none.
    #[inline]
    pub(crate) fn answer_in_place(
        &mut self,
        message: &mut [u8],
        cx: &Context<'_>,
    ) -> Result<bool, (usize, Fault)> {
        let Some(session) = &mut self.session else { return Ok(false) };
        match session.map_all(message) {
            Ok(()) => Ok(true),
            Err(stopped) => {
                let (stage, status) = *stopped.0;
                match ChainOutcome::of(stage, status) {
                    None | Some(ChainOutcome::Answer | ChainOutcome::Close) => Ok(true),
                    Some(outcome) => Outcome::unanswered(outcome, cx.stats).fault.map_or(Ok(false), Err),
                }
            }
        }
    }

    /// Sends one admitted datagram, all of `recv_buf`, through the chain.
    pub(crate) fn answer(
        &mut self,
        recv_buf: RecvBuf<'_>,
        conversation: Conversation<'_>,
        cx: &mut Context<'_>,
    ) -> Outcome {
        let generation = cx.current;
        let peer = conversation.peer;
        let session = match self.session_for(&conversation, cx) {
            Ok(Some(session)) => session,
            Ok(None) => return Outcome::dropped(DropReason::ByTransform, cx.stats),
            Err(fault) => return Outcome::failed(fault, cx.stats),
        };
        let RecvBuf { buffer, start } = recv_buf;
        let message = bug::part_mut(buffer, start..);
        let message_bytes = message.len();
        let mut out = if generation.is_in_place() { Vec::new() } else { cx.pool.take(message.len()) };
        let mut delays = Vec::new();
        let mut chain = ChainContext {
            session,
            call: CallContext { conversation, issuer: cx.issuer.as_ref() },
            out: &mut out,
            out_max: cx.limits.local.answer_bytes_max,
            flags: DATAGRAM,
            scratch: cx.scratch,
            delays: &mut delays,
            delay_us: 0,
            waiting_stages: 0,
            deferred: None,
        };
        let outcome = generation.run(message, &mut chain);
        let (in_place_us, deferred) = (chain.delay_us, chain.deferred);
        if bug::is_tainted() {
            bug::give_up();
            cx.pool.put(out);
            return Outcome::dropped(DropReason::Undelivered, cx.stats);
        }
        if matches!(outcome, ChainOutcome::Answer | ChainOutcome::Close) {
            let replaced = cx.scratch.replaced().filter(|_| generation.is_in_place());
            match replaced.or((in_place_us > 0).then_some(&*message)) {
                Some(answer) => match cx.pool.try_copy_of(answer) {
                    Some(copy) => out = copy,
                    None => return Outcome::dropped(DropReason::Undelivered, cx.stats),
                },
                None if generation.is_in_place() => {
                    return Outcome { reply: Reply::InRecvBuf(start..buffer.len()), ..Outcome::NOTHING };
                }
                None => {}
            }
            return reply(peer, out, message_bytes, &delays, in_place_us, cx);
        }
        cx.pool.put(out);
        if let Some(Deferred { stage, answer: DeferredAnswer::ToCome(ticket), delay_us }) = deferred
            && let Some(session) = self.session.take()
        {
            let generation = Arc::clone(generation);
            let later = DeferredDatagram { generation, session, stage, ticket, message_bytes, delay_us };
            return Outcome { later: Some(later), ..Outcome::NOTHING };
        }
        Outcome::unanswered(outcome, cx.stats)
    }

    /// `None`: a function has refused to begin.
    fn session_for(
        &mut self,
        peer: &Conversation<'_>,
        cx: &Context<'_>,
    ) -> Result<Option<&mut Session>, (usize, Fault)> {
        let stages = cx.current.stages();
        let known = self.session.take().filter(|session| Arc::ptr_eq(session.stages(), stages));
        let session = match known {
            Some(mut session) => {
                session.renew(peer)?;
                session
            }
            None => Session::open(stages, peer)?,
        };
        let session = self.session.insert(session);
        Ok(if session.refusal().is_some() { None } else { Some(session) })
    }
}

/// Goes on with a datagram whose answer has come.
pub(crate) fn resume(
    message: DeferredDatagram,
    answer: LateAnswer,
    conversation: Conversation<'_>,
    cx: &mut Context<'_>,
) -> Outcome {
    // The ticket counts the bytes until this is done.
    let DeferredDatagram { generation, mut session, stage, ticket, message_bytes, delay_us } = message;
    let mut bytes = answer.bytes;
    let peer = conversation.peer;
    let failed = match answer.verdict {
        LateVerdict::Answer | LateVerdict::Close => None,
        LateVerdict::Drop | LateVerdict::Reset => Some(ChainOutcome::Drop),
        LateVerdict::Fail(code) => Some(ChainOutcome::Failed { stage, fault: Fault::Status(code) }),
    };
    let mut out = cx.pool.take(bytes.len());
    let mut delays = Vec::new();
    let issuer = cx.issuer.map(|issuer| TicketIssuer { order: Some(ticket.order()), ..issuer });
    let mut chain = ChainContext {
        session: &mut session,
        call: CallContext { conversation, issuer: issuer.as_ref() },
        out: &mut out,
        out_max: cx.limits.local.answer_bytes_max,
        flags: DATAGRAM,
        scratch: cx.scratch,
        delays: &mut delays,
        delay_us: 0,
        waiting_stages: 0,
        deferred: None,
    };
    let outcome = failed.unwrap_or_else(|| generation.resume(stage, &mut bytes, &mut chain));
    let deferred = chain.deferred;
    if bug::is_tainted() {
        bug::give_up();
        return Outcome::dropped(DropReason::Undelivered, cx.stats);
    }
    cx.pool.put(bytes);
    if matches!(outcome, ChainOutcome::Answer | ChainOutcome::Close) {
        return reply(peer, out, message_bytes, &delays, delay_us, cx);
    }
    cx.pool.put(out);
    if let Some(Deferred { stage, answer: DeferredAnswer::ToCome(ticket), delay_us: more_us }) = deferred {
        let delay_us = delay_us.saturating_add(more_us);
        let later = DeferredDatagram { generation, session, stage, ticket, message_bytes, delay_us };
        return Outcome { later: Some(later), ..Outcome::NOTHING };
    }
    Outcome::unanswered(outcome, cx.stats)
}

/// Lets an answer out, if it is not too long for its request. `delay_us`: beside the ranges.
fn reply(
    peer: &Peer,
    out: Vec<u8>,
    message_bytes: usize,
    ranges: &[DelayedRange],
    delay_us: u64,
    cx: &mut Context<'_>,
) -> Outcome {
    let copies = cx.scratch.copies.min(DATAGRAM_COPIES_MAX);
    let sent_bytes = out.len().saturating_mul(1 + copies as usize);
    if !cx.limits.amplification.allows(peer, message_bytes, sent_bytes) {
        cx.pool.put(out);
        return Outcome::dropped(DropReason::Amplified, cx.stats);
    }
    // One datagram, one answer: ranges of it all wait for the last.
    let longest_us = ranges.iter().map(|range| range.delay_us).max().unwrap_or(0);
    let delay = Duration::from_micros(longest_us.saturating_add(delay_us));
    Outcome { reply: Reply::Owned(out), delay, copies, ..Outcome::NOTHING }
}

//! One stream or seqpacket peer: framer, session, backlog, closing. Sans-IO: bytes come in, what is to be done
//! comes out; the worker does it.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::buffer::Pool;
use crate::chain::{END_OF_STREAM, Generation, Piece, Ran, Scratch, Tails, WHOLE, Way};
use crate::driver::RecvBuf;
use crate::frame::{Found, Framer};
use crate::limits::{QUEUED_SEND_BYTES, READ_BYTES_MAX};
use crate::net::guard::Pace;
use crate::net::guard::Seat;
use crate::options::MinRate;
use crate::peer::Peer;
use crate::stats::{Block, CloseReason, DropReason};
use crate::timer::Moment;
use crate::transform::library::{Fault, Session, SessionPeer};

/// What a connection is bound by; the same for all of a listener.
#[derive(Debug)]
pub(crate) struct Terms {
    pub(crate) framer: Framer,
    /// Each receive is one message, each answer one record (seqpacket).
    pub(crate) records: bool,
    /// Answer bytes of one message.
    pub(crate) answer_bytes_max: usize,
    /// Bytes of an answer for each byte of a datagram.
    pub(crate) amplify: usize,
    /// One read.
    pub(crate) read_bytes_max: usize,
    pub(crate) min_rate: Option<MinRate>,
    /// Answers that wait for the peer; no read is begun that could take them over it.
    pub(crate) high_water_bytes: usize,
}

/// What a worker lends a connection for one step.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) terms: &'a Terms,
    pub(crate) pool: &'a mut Pool,
    pub(crate) scratch: &'a mut Scratch,
    pub(crate) stats: &'a Block,
}

/// The answer to what was received.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) bytes: Reply,
    /// How owned bytes are to leave in time; empty: at once.
    pub(crate) pieces: Vec<Piece>,
    pub(crate) end: Option<End>,
}

impl Answer {
    pub(crate) fn nothing(end: Option<End>) -> Answer {
        Answer { bytes: Reply::Nothing, pieces: Vec::new(), end }
    }
}

/// Bytes to send.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Nothing,
    /// A part of the buffer that was lent.
    InRecvBuf(Range<usize>),
    Owned(Vec<u8>),
}

/// The connection is to end, once what is to be sent before has been sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) reason: CloseReason,
    /// The stage and what it did, where a transform is the reason.
    pub(crate) fault: Option<(usize, Fault)>,
    /// With a reset, and at once.
    pub(crate) reset: bool,
}

impl End {
    pub(crate) fn because(reason: CloseReason) -> End {
        End { reason, fault: None, reset: false }
    }

    fn failed(stage: usize, fault: Fault) -> End {
        End { reason: CloseReason::TransformFailed, fault: Some((stage, fault)), reset: false }
    }
}

/// How far the end of a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Open,
    /// No more is answered; what is queued is sent, then our side ends.
    Flushing(CloseReason),
    /// Our side has ended; the peer's input is thrown away until it ends too.
    Lingering(CloseReason),
}

/// One connected peer.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) id: u64,
    /// The listener's place in the worker.
    pub(crate) listener: u32,
    pub(crate) peer: Peer,
    pub(crate) phase: Phase,
    /// The peer has ended its side.
    pub(crate) peer_ended: bool,
    pub(crate) paused: bool,
    /// A send is with the driver.
    pub(crate) sending: bool,
    pub(crate) last_received: Moment,
    /// Since when it is read on, or has the last answer that was held back: until then its silence is not its own.
    pub(crate) read_since: Moment,
    /// When the peer was last seen to take something, and how much it had not taken then.
    pub(crate) last_progress: Moment,
    pub(crate) unsent_then: usize,
    /// How long a lingering connection is read on.
    pub(crate) linger_until: Moment,
    /// A change of the chain may still be followed.
    pub(crate) may_switch: bool,
    /// How long it may stay with a chain that is not its listener's any more.
    pub(crate) swap_until: Moment,
    /// Where the listener has a `min_rate`.
    pub(crate) pace: Option<Box<Pace>>,
    /// Its part of `max_per_peer`.
    pub(crate) seat: Option<Box<Seat>>,
    /// The deadline that is armed for this connection.
    pub(crate) deadline: Moment,
    generation: Arc<Generation>,
    session: Session,
    /// An unfinished frame, of which `scanned` bytes hold no end.
    tail: Vec<u8>,
    scanned: usize,
    tails: Tails,
    backlog: VecDeque<Vec<u8>>,
    /// Answers that transforms want to leave later.
    held: VecDeque<Held>,
    /// Bytes held, in the backlog and with the driver.
    queued_bytes: usize,
    /// In how many sends they will leave.
    queued_sends: usize,
}

/// What a connection has left behind: its last user may be whoever drops this.
#[derive(Debug)]
pub(crate) struct Left {
    _session: Session,
    _generation: Arc<Generation>,
}

#[derive(Debug)]
struct Held {
    due: Moment,
    bytes: Vec<u8>,
}

impl Connection {
    pub(crate) fn new(
        id: u64,
        listener: u32,
        peer: Peer,
        generation: Arc<Generation>,
        session: Session,
        now: Moment,
    ) -> Connection {
        Connection {
            id,
            listener,
            peer,
            phase: Phase::Open,
            peer_ended: false,
            paused: false,
            sending: false,
            last_received: now,
            read_since: now,
            last_progress: now,
            unsent_then: 0,
            linger_until: Moment::NEVER,
            may_switch: true,
            swap_until: Moment::NEVER,
            pace: None,
            seat: None,
            deadline: Moment::NEVER,
            generation,
            session,
            tail: Vec::new(),
            scanned: 0,
            tails: Tails::default(),
            backlog: VecDeque::new(),
            held: VecDeque::new(),
            queued_bytes: 0,
            queued_sends: 0,
        }
    }

    pub(crate) fn generation(&self) -> &Arc<Generation> {
        &self.generation
    }

    /// Goes on with another generation, between two messages and with what the transforms remember, or notes why it
    /// stays: for now, or for good.
    pub(crate) fn switch(&mut self, to: &Arc<Generation>, peer: &SessionPeer<'_>) -> Option<Left> {
        // Input that a transform has in hand belongs to the chain that it was given to.
        if self.phase != Phase::Open || !self.tails.is_empty() {
            return None;
        }
        let Some(session) = self.session.carry(to.stages(), peer) else {
            self.may_switch = false;
            return None;
        };
        self.tails = Tails::default();
        self.swap_until = Moment::NEVER;
        let generation = std::mem::replace(&mut self.generation, Arc::clone(to));
        Some(Left { _session: std::mem::replace(&mut self.session, session), _generation: generation })
    }

    /// Bytes arrived: `lent.buffer[lent.start..]`.
    pub(crate) fn received(&mut self, lent: RecvBuf<'_>, cx: &mut Context<'_>) -> Answer {
        let RecvBuf { buffer, start } = lent;
        cx.stats.bytes_in.add((buffer.len() - start) as u64);
        if let Some(pace) = &mut self.pace {
            pace.count(buffer.len() - start);
        }
        if self.phase != Phase::Open {
            return Answer::nothing(None);
        }
        // One window over the unfinished tail and what arrived: in front of it, where there is room, else
        // behind the tail in memory of its own.
        if self.tail.len() <= start {
            let from = start - self.tail.len();
            if let Some(place) = buffer.get_mut(from..start) {
                place.copy_from_slice(&self.tail);
            }
            cx.pool.put(std::mem::take(&mut self.tail));
            let window = buffer.get_mut(from..).unwrap_or_default();
            let digest = self.digest(window, false, cx);
            self.keep(window.get(digest.used..).unwrap_or_default(), cx.pool);
            digest.into_answer(cx, |in_place, _| Reply::InRecvBuf(from..from + in_place))
        } else {
            let mut window = std::mem::take(&mut self.tail);
            window.extend_from_slice(buffer.get(start..).unwrap_or_default());
            let digest = self.digest(&mut window, false, cx);
            if digest.used == 0 {
                self.scanned = window.len();
                self.tail = window;
                return digest.into_answer(cx, |_, _| Reply::Nothing);
            }
            self.keep(window.get(digest.used..).unwrap_or_default(), cx.pool);
            digest.into_answer_of(window, cx)
        }
    }

    /// A record was longer than one read may be: its end is lost, so it is not answered.
    pub(crate) fn truncated(&mut self, cx: &mut Context<'_>) -> Answer {
        if self.phase == Phase::Open {
            cx.stats.messages_in.add(1);
            cx.stats.dropped(DropReason::TooLong, 1);
        }
        Answer::nothing(Some(End::because(CloseReason::MessageTooLong)))
    }

    /// The peer has ended its side: what is unfinished is answered as far as it can be.
    pub(crate) fn ended(&mut self, cx: &mut Context<'_>) -> Answer {
        self.peer_ended = true;
        if self.phase != Phase::Open {
            return Answer::nothing(None);
        }
        let mut window = std::mem::take(&mut self.tail);
        let mut digest = self.digest(&mut window, true, cx);
        digest.end.get_or_insert(End::because(CloseReason::PeerEnded));
        digest.into_answer_of(window, cx)
    }

    /// Keeps an unfinished frame.
    fn keep(&mut self, rest: &[u8], pool: &mut Pool) {
        if !rest.is_empty() {
            self.tail = pool.copy_of(rest);
        }
        self.scanned = rest.len();
    }

    /// Answers all complete messages of a window; at the end of the stream also what is unfinished.
    fn digest(&mut self, window: &mut [u8], at_end: bool, cx: &mut Context<'_>) -> Digest {
        let mut digest =
            Digest { used: 0, in_place: 0, out: None, pieces: Vec::new(), answers: 0, end: None };
        if !self.generation.is_in_place() {
            digest.out = Some(cx.pool.take(window.len()));
        }
        if cx.terms.records {
            if !at_end {
                let record = Found { body: 0..window.len(), len: window.len() };
                self.step(window, &record, WHOLE, &mut digest, cx);
            }
            return digest;
        }
        let framer = &cx.terms.framer;
        let flags = if framer.has_messages() { WHOLE } else { 0 };
        let mut scanned = std::mem::take(&mut self.scanned);
        loop {
            let rest = window.get(digest.used..).unwrap_or_default();
            let found = match framer.find(rest, scanned) {
                Ok(Some(found)) => found,
                Ok(None) if at_end => match framer.find_last(rest) {
                    Some(found) => found,
                    None => {
                        if !rest.is_empty() {
                            cx.stats.messages_in.add(1);
                            cx.stats.dropped(DropReason::Undelivered, 1);
                        }
                        break;
                    }
                },
                Ok(None) => return digest,
                Err(_) => {
                    cx.stats.messages_in.add(1);
                    cx.stats.dropped(DropReason::TooLong, 1);
                    digest.end = Some(End::because(CloseReason::MessageTooLong));
                    digest.used = window.len();
                    return digest;
                }
            };
            scanned = 0;
            if !self.step(window, &found, flags, &mut digest, cx) {
                // What is behind the message that ended the connection gets no answer.
                digest.used = window.len();
                return digest;
            }
        }
        // The stream's end is told to transforms that may still have something in hand.
        if !framer.has_messages() && !self.generation.is_in_place() {
            let nothing = Found { body: digest.used..digest.used, len: 0 };
            self.step(window, &nothing, END_OF_STREAM, &mut digest, cx);
        }
        digest
    }

    /// Sends the message at `digest.used` of the window through the chain; whether the next one may follow.
    /// `found` counts from there.
    fn step(
        &mut self,
        window: &mut [u8],
        found: &Found,
        flags: u32,
        digest: &mut Digest,
        cx: &mut Context<'_>,
    ) -> bool {
        let framer = &cx.terms.framer;
        let is_message = flags != END_OF_STREAM;
        if is_message {
            cx.stats.messages_in.add(1);
        }
        let in_place = self.generation.is_in_place();
        let answered = digest.used;
        digest.used += found.len;
        let frame = window.get_mut(answered..digest.used).unwrap_or_default();
        let mut unused = Vec::new();
        let out = digest.out.as_mut().unwrap_or(&mut unused);
        let mut mark = if in_place { out.len() } else { framer.open(out) };
        let mut way = Way {
            session: &mut self.session,
            out,
            out_max: cx.terms.answer_bytes_max,
            flags,
            scratch: cx.scratch,
            tails: &mut self.tails,
            pieces: &mut digest.pieces,
        };
        let first_piece = way.pieces.len();
        let body = frame.get_mut(found.body.clone()).unwrap_or_default();
        let mut ran = self.generation.run(body, &mut way);
        if matches!(ran, Ran::Answer | Ran::Close)
            && let Some(out) = &mut digest.out
            && !in_place
        {
            let before = out.len();
            if framer.close(out, mark, frame, found).is_err() {
                ran = Ran::Failed { stage: self.generation.last_stage(), fault: Fault::TooLong };
                digest.pieces.truncate(first_piece);
            }
            frame_pieces(framer, &mut digest.pieces, first_piece, before, out.len());
            if cx.terms.records && digest.pieces.len() > first_piece {
                join_pieces(&mut digest.pieces, first_piece, out.len());
            }
        }
        let replaced = cx.scratch.replaced().filter(|_| in_place && matches!(ran, Ran::Answer | Ran::Close));
        if let Some(answer) = replaced {
            // The answers are no longer one piece of the window.
            let out = digest
                .out
                .get_or_insert_with(|| cx.pool.copy_of(window.get(..digest.in_place).unwrap_or_default()));
            let frame = window.get(answered..digest.used).unwrap_or_default();
            mark = framer.open(out);
            out.extend_from_slice(answer);
            if framer.close(out, mark, frame, found).is_err() {
                ran = Ran::Failed { stage: self.generation.last_stage(), fault: Fault::TooLong };
            }
        }
        if matches!(ran, Ran::Answer | Ran::Close) {
            digest.answers += usize::from(is_message);
            cx.stats.messages_out.add(u64::from(is_message));
            match &mut digest.out {
                Some(_) if replaced.is_some() => {}
                None => digest.in_place = digest.used,
                Some(out) if in_place => {
                    out.extend_from_slice(window.get(answered..digest.used).unwrap_or_default());
                }
                Some(_) => {}
            }
        } else if let Some(out) = &mut digest.out {
            out.truncate(mark);
        }
        digest.end = match ran {
            Ran::Answer => return true,
            Ran::Drop => {
                cx.stats.dropped(DropReason::ByTransform, u64::from(is_message));
                if digest.out.is_none() {
                    // The answers are no longer one piece of the window.
                    digest.out = Some(cx.pool.copy_of(window.get(..digest.in_place).unwrap_or_default()));
                }
                return true;
            }
            Ran::Close => Some(End::because(CloseReason::TransformClosed)),
            Ran::Reset => Some(End { reason: CloseReason::TransformClosed, fault: None, reset: true }),
            Ran::Failed { stage, fault } => {
                cx.stats.transform_errors.add(1);
                cx.stats.dropped(DropReason::TransformFailed, u64::from(is_message));
                Some(End::failed(stage, fault))
            }
        };
        false
    }

    /// The connection begins: its transforms hear of it, and may have something to say before they are asked.
    pub(crate) fn greet(&mut self, peer: &SessionPeer<'_>, cx: &mut Context<'_>) -> Answer {
        if let Err((stage, fault)) = self.session.begin(peer) {
            cx.stats.transform_errors.add(1);
            return Answer::nothing(Some(End::failed(stage, fault)));
        }
        let mut digest =
            Digest { used: 0, in_place: 0, out: None, pieces: Vec::new(), answers: 0, end: None };
        let generation = Arc::clone(&self.generation);
        let framer = &cx.terms.framer;
        let is_whole = cx.terms.records || framer.has_messages();
        for stage in generation.greetings() {
            let out = digest.out.get_or_insert_with(|| cx.pool.take(0));
            let mark = framer.open(out);
            let first_piece = digest.pieces.len();
            let mut way = Way {
                session: &mut self.session,
                out,
                out_max: cx.terms.answer_bytes_max,
                // Those behind the greeter see a message like any other.
                flags: if is_whole { WHOLE } else { 0 },
                scratch: cx.scratch,
                tails: &mut self.tails,
                pieces: &mut digest.pieces,
            };
            let mut ran = generation.greet(stage, &mut way);
            if matches!(ran, Ran::Answer | Ran::Close) {
                let before = out.len();
                match framer.close_unasked(out, mark) {
                    Ok(()) => frame_pieces(framer, &mut digest.pieces, first_piece, before, out.len()),
                    Err(_) => ran = Ran::Failed { stage: generation.last_stage(), fault: Fault::TooLong },
                }
            }
            if matches!(ran, Ran::Answer | Ran::Close) {
                digest.answers += 1;
                if cx.terms.records {
                    join_pieces(&mut digest.pieces, first_piece, out.len());
                }
            } else {
                out.truncate(mark);
                digest.pieces.truncate(first_piece);
            }
            digest.end = match ran {
                Ran::Answer | Ran::Drop => continue,
                Ran::Close => Some(End::because(CloseReason::TransformClosed)),
                Ran::Reset => Some(End { reason: CloseReason::TransformClosed, fault: None, reset: true }),
                Ran::Failed { stage, fault } => {
                    cx.stats.transform_errors.add(1);
                    Some(End::failed(stage, fault))
                }
            };
            break;
        }
        digest.into_answer(cx, |_, _| Reply::Nothing)
    }

    /// Puts an answer that is to leave later, in pieces, behind everything that waits. Each piece of a seqpacket
    /// answer is a record.
    pub(crate) fn hold(&mut self, bytes: Vec<u8>, pieces: &[Piece], now: Moment, cx: (&Terms, &mut Pool)) {
        let (terms, pool) = cx;
        let mut from = 0;
        let mut keep = |part: &[u8], delay_us: u64| {
            // In a stream, order comes first.
            let due = now.after(Duration::from_micros(delay_us));
            let due = self.held.back().map_or(due, |last| due.max(last.due));
            self.queued_bytes += part.len();
            self.queued_sends += 1;
            self.held.push_back(Held { due, bytes: pool.copy_of(part) });
        };
        for piece in pieces {
            let part = bytes.get(from..piece.end).unwrap_or_default();
            from = piece.end.max(from);
            if !part.is_empty() || terms.records {
                keep(part, piece.delay_us);
            }
        }
        let rest = bytes.get(from..).unwrap_or_default();
        if !rest.is_empty() || (terms.records && pieces.is_empty()) {
            keep(rest, 0);
        }
        pool.put(bytes);
    }

    /// A held answer whose time has come.
    pub(crate) fn release(&mut self, now: Moment) -> Option<Vec<u8>> {
        if self.held.front()?.due > now {
            return None;
        }
        let held = self.held.pop_front()?;
        if self.held.is_empty() {
            self.held = VecDeque::new();
        }
        self.queued_bytes -= held.bytes.len();
        self.queued_sends -= 1;
        Some(held.bytes)
    }

    /// When the next held answer is due.
    pub(crate) fn held_until(&self) -> Moment {
        self.held.front().map_or(Moment::NEVER, |held| held.due)
    }

    pub(crate) fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// Whether the driver could take a send now.
    pub(crate) fn can_send(&self) -> bool {
        !self.sending && self.backlog.is_empty()
    }

    /// Puts an answer behind those that wait already.
    pub(crate) fn queue(&mut self, bytes: &[u8], terms: &Terms, pool: &mut Pool) {
        self.queued_bytes += bytes.len();
        // Small answers of a stream share a buffer, and leave with one send.
        match self.backlog.back_mut() {
            Some(last) if !terms.records && last.len() + bytes.len() <= READ_BYTES_MAX => {
                last.extend_from_slice(bytes);
            }
            _ => {
                self.queued_sends += 1;
                self.backlog.push_back(pool.copy_of(bytes));
            }
        }
    }

    /// Counts bytes that the driver has taken over.
    pub(crate) fn handed_over(&mut self, bytes: usize) {
        self.queued_bytes += bytes;
        self.queued_sends += 1;
        self.sending = true;
        if let Some(pace) = &mut self.pace {
            pace.count(bytes);
        }
    }

    /// A send is finished: the next one, which counts as with the driver from now on.
    pub(crate) fn sent(&mut self, bytes: usize) -> Option<Vec<u8>> {
        self.queued_bytes = self.queued_bytes.saturating_sub(bytes);
        self.queued_sends = self.queued_sends.saturating_sub(1);
        let next = self.backlog.pop_front();
        if next.is_none() {
            // An idle connection holds no buffer.
            self.backlog = VecDeque::new();
        }
        self.sending = next.is_some();
        if let (Some(pace), Some(next)) = (&mut self.pace, &next) {
            pace.count(next.len());
        }
        next
    }

    pub(crate) fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// Bytes of answers that the kernel has not taken, of which `unsent` are with the driver.
    pub(crate) fn undelivered_bytes(&self, unsent: usize) -> usize {
        let held: usize = self.held.iter().map(|held| held.bytes.len()).sum();
        self.backlog.iter().map(Vec::len).sum::<usize>() + held + unsent
    }

    /// What waiting answers cost: an empty record is not free.
    fn queued_memory(&self) -> usize {
        self.queued_bytes + self.queued_sends * QUEUED_SEND_BYTES
    }

    /// Whether the peer owes something: the rest of a message that has come only in part, or to take its answers. While
    /// nothing is read, for answers that are held back, the rest of a message is not owed.
    pub(crate) fn is_unfinished(&self) -> bool {
        (!self.tail.is_empty() && !self.paused) || !self.can_send()
    }

    /// Whether all answers are with the kernel.
    pub(crate) fn is_flushed(&self) -> bool {
        self.can_send() && self.held.is_empty()
    }

    /// Whether a read must not be begun now: its answers might not fit under the high water.
    pub(crate) fn must_pause(&self, terms: &Terms) -> bool {
        // What is away with a transform that may block takes nothing along that is owed already.
        let is_owing = self.generation.is_offloaded() && !self.is_flushed();
        is_owing || self.queued_memory() + terms.read_bytes_max > terms.high_water_bytes
    }

    /// Whether a paused connection may be read again: at half of where it paused.
    pub(crate) fn may_resume(&self, terms: &Terms) -> bool {
        let pause_at = terms.high_water_bytes.saturating_sub(terms.read_bytes_max);
        let is_owing = self.generation.is_offloaded() && !self.is_flushed();
        !is_owing && self.queued_memory() <= pause_at / 2
    }
}

/// What became of a window.
#[derive(Debug)]
struct Digest {
    /// Bytes from the start that are done with.
    used: usize,
    /// Without `out`: bytes from the start that are the answer.
    in_place: usize,
    out: Option<Vec<u8>>,
    pieces: Vec<Piece>,
    /// How many messages were answered.
    answers: usize,
    end: Option<End>,
}

/// The frame of a message leaves with the message's own pieces, those from `first` on.
fn frame_pieces(framer: &Framer, pieces: &mut [Piece], first: usize, before: usize, after: usize) {
    let own = pieces.get_mut(first..).unwrap_or_default();
    if framer.moves_body() {
        own.iter_mut().for_each(|piece| piece.end += after - before);
    } else if let Some(last) = own.last_mut()
        && last.end == before
    {
        last.end = after;
    }
}

/// A record is one answer: its pieces, those from `first` on, all wait for the last.
fn join_pieces(pieces: &mut Vec<Piece>, first: usize, end: usize) {
    let delay_us = pieces.get(first..).unwrap_or_default().iter().map(|piece| piece.delay_us).max();
    pieces.truncate(first);
    pieces.push(Piece { end, delay_us: delay_us.unwrap_or(0) });
}

impl Digest {
    /// `in_place` makes the reply of an answer that is a part of the window.
    fn into_answer(self, cx: &mut Context<'_>, in_place: impl FnOnce(usize, &mut Pool) -> Reply) -> Answer {
        let bytes = match self.out {
            // Of a stream, an answer without bytes is nothing to send; of records, it is an empty record.
            Some(out) if out.is_empty() && !(cx.terms.records && self.answers > 0) => {
                cx.pool.put(out);
                Reply::Nothing
            }
            Some(out) => Reply::Owned(out),
            None if self.in_place == 0 && !(cx.terms.records && self.answers > 0) => Reply::Nothing,
            None => in_place(self.in_place, cx.pool),
        };
        Answer { bytes, pieces: self.pieces, end: self.end }
    }

    /// The same for a window that has memory of its own.
    fn into_answer_of(self, mut window: Vec<u8>, cx: &mut Context<'_>) -> Answer {
        if self.out.is_some() || self.answers == 0 {
            cx.pool.put(window);
            return self.into_answer(cx, |_, _| Reply::Nothing);
        }
        self.into_answer(cx, |in_place, _| {
            window.truncate(in_place);
            Reply::Owned(window)
        })
    }
}

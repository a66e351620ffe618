//! One stream or seqpacket peer. Sans-IO: everything comes in by methods, everything goes out as one [`Step`], which the
//! worker applies in one place; [`poll_timeout`](Connection::poll_timeout) says when `timeout` wants to be called.
//!
//! ```text
//! received, peer_ended, go_on ─┐                                  ┌─> send
//! sent, sending, failed ───────┤                                  ├─> pause or resume reading
//! timeout, swap, drained ──────┼─> phase, unread input, output ───┼─> shut down our side
//! opened, identified ──────────┘                                  └─> close, with a reason
//! ```
//!
//! - [`step`]: what is asked of the worker.
//! - [`fast`]: the path of most messages, on one screen.
//! - [`input`]: frames, the budget of a turn, unread input.
//! - [`output`]: the send queue, delayed answers.
//! - [`late`]: answers that come later, from elsewhere.
//! - [`lifecycle`]: phases, deadlines, the end.
//! - [`recording`]: what open taps hear of it.
//! - [`around`]: what stands before and around a stream.
//! - [`asked`]: what the host asks for; [`request`]: the words for it.

mod around;
mod asked;
mod batch;
mod begun;
mod deferred;
mod fast;
mod input;
mod late;
mod lifecycle;
mod output;
mod recording;
mod request;
mod step;
#[cfg(test)]
mod tests;
mod unread;

pub use around::{Around, Layer, Preface, PrefaceProgress};
pub(crate) use around::{FilterAround, MakeAround};
pub(crate) use output::Owed;
pub(crate) use request::{Account, Request, Unasked};
pub(crate) use step::{Closing, Rare, Reading, RetiredSession, Send, Step, TransformFault, Work, broken_by};

use std::sync::Arc;

use crate::buffer;
use crate::bug;
use crate::chain::Generation;
use crate::context::{ConnLimits, Context, Reply};
use crate::driver::{Close, RecvBuf};
use crate::limits::LATE_ANSWERS_MAX;
use crate::net::guard::{MinRateMonitor, PeerPermit};
use crate::peer::Peer;
use crate::proxy::Proxied;
use crate::stats::{CloseReason, DropReason};
use crate::tap::TapOutcome;
use crate::timer::{Moment, TurnNumber};
use crate::transform::library::Session;

use batch::{Batch, End, Mark};
use begun::Begun;
use output::{Chunk, Output};
use unread::Unread;

/// One connected peer.
#[derive(Debug)]
pub(crate) struct Connection {
    id: u64,
    peer: Peer,
    /// The listener's place in the worker.
    listener: u32,
    phase: Phase,
    flags: Flags,
    generation: Arc<Generation>,
    session: Session,
    /// When the peer was last heard of, or since when it is its turn: until then its silence is not its own.
    silent_since: Moment,
    /// Bytes that its peer has sent, and bytes that the kernel has taken for it.
    bytes_in: u64,
    bytes_out: u64,
    /// Open: how long it may stay with a chain that is not its listener's any more. Lingering: how long it is read on.
    /// Opening: how long that may take.
    until: Moment,
    unread: Option<Box<Unread>>,
    output: Output,
    /// Where the listener has a `min_rate`.
    monitor: Option<Box<MinRateMonitor>>,
    /// Its part of `max_per_peer`.
    permit: Option<Box<PeerPermit>>,
    /// What a proxy has told of it.
    /// What is told of it beside its address. Shared with what stands in its place while it is offloaded.
    proxied: Option<Arc<Proxied>>,
    around: Option<Box<Around>>,
}

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Something stands before or around the stream that is not complete.
    Opening,
    Open,
    /// No more is answered; what is queued is sent, then our side ends.
    Flushing(CloseReason),
    /// Our side has ended; the peer's input is thrown away until it ends too.
    Lingering(CloseReason),
}

#[derive(Debug, Clone, Copy, Default)]
struct Flags {
    /// The peer has ended its side.
    has_peer_ended: bool,
    /// It has said so through the layer, and the end of the socket is still to come.
    awaits_socket_end: bool,
    /// The socket has ended and the layer has not: what the peer sent may not be all.
    is_truncated: bool,
    /// It has records, a monitor, or something around it: not for the fast path.
    is_special: bool,
    /// The driver does not read.
    is_paused: bool,
    /// The connection is to end when its input is answered.
    is_drained: bool,
    /// A change of the chain may not be followed: the transforms cannot hand over what they remember.
    stays: bool,
    /// The host does not want it to be read; nor any of its listener's.
    is_held: bool,
    is_listener_held: bool,
    /// The host has asked for the end that a drain brings.
    is_shut_down: bool,
}

/// How far a connection is, as its host sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectionState {
    /// Both sides may send.
    Open,
    /// The peer has ended its side; what it sent is still being answered.
    HalfClosed,
    /// It answers no more: what waits is sent, then it ends.
    Ending,
}

impl Connection {
    /// `permit`: its part of `max_per_peer`, where that is counted before anything of it is read.
    pub(crate) fn new(
        id: u64,
        listener: u32,
        peer: Peer,
        (generation, session): (Arc<Generation>, Session),
        (permit, around): (Option<Box<PeerPermit>>, Option<Box<Around>>),
        limits: &ConnLimits,
        now: Moment,
    ) -> Connection {
        Connection {
            id,
            peer,
            listener,
            phase: Phase::Opening,
            flags: Flags {
                is_special: limits.records || limits.min_rate.is_some() || around.is_some(),
                ..Flags::default()
            },
            generation,
            session,
            silent_since: now,
            bytes_in: 0,
            bytes_out: 0,
            until: around.as_ref().map_or(Moment::NEVER, |around| now.after(around.within)),
            unread: None,
            output: Output::new(now),
            monitor: limits.min_rate.map(|rate| Box::new(MinRateMonitor::new(rate))),
            permit,
            proxied: None,
            around,
        }
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// What a proxy, or its layer, has told of it.
    pub(crate) fn proxied(&self) -> Option<&Arc<Proxied>> {
        self.proxied.as_ref()
    }

    pub(crate) fn listener(&self) -> u32 {
        self.listener
    }

    pub(crate) fn generation(&self) -> &Arc<Generation> {
        &self.generation
    }

    /// Of its chain.
    pub(crate) fn share(&self) -> u64 {
        self.generation.share()
    }

    pub(crate) fn silent_since(&self) -> Moment {
        self.silent_since
    }

    /// Bytes for the peer that the kernel has not taken.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.output.bytes() + self.held_bytes()
    }

    /// What the kernel has not taken.
    pub(crate) fn owed(&self) -> Owed {
        self.output.owed(self.held_bytes())
    }

    /// Bytes of input that are not answered.
    pub(crate) fn unread_bytes(&self) -> usize {
        self.unread.as_ref().map_or(0, |unread| unread.count())
    }

    /// What its unread input and its waiting answers take of memory.
    #[cfg(debug_assertions)]
    pub(crate) fn cost(&self) -> usize {
        self.output.cost() + self.unread.as_ref().map_or(0, |unread| unread.cost())
    }

    pub(crate) fn is_ending(&self) -> bool {
        matches!(self.phase, Phase::Flushing(_) | Phase::Lingering(_))
    }

    /// How far it is, as its host sees it.
    pub(crate) fn state(&self) -> ConnectionState {
        if self.is_ending() {
            ConnectionState::Ending
        } else if self.flags.has_peer_ended {
            ConnectionState::HalfClosed
        } else {
            ConnectionState::Open
        }
    }

    /// Whether the host has stopped its reading, or its listener's.
    pub(crate) fn is_paused_by_host(&self) -> bool {
        self.is_held()
    }

    /// Bytes that its peer has sent, and bytes that the kernel has taken for it.
    pub(crate) fn traffic(&self) -> (u64, u64) {
        (self.bytes_in, self.bytes_out)
    }

    /// Whether `go_on` has something to do: unread input, and room for its answers; or answers that may be sent now.
    pub(crate) fn wants_turn(&self, cx: &Context<'_>) -> bool {
        let has_unread = self.unread.as_ref().is_some_and(|unread| unread.has_more);
        self.output.has_next(cx.now) || (has_unread && self.has_room(cx))
    }

    /// Whether answers to unread input may be made: nothing waits, or half of what may is gone.
    fn has_room(&self, cx: &Context<'_>) -> bool {
        let may_answer = matches!(self.phase, Phase::Open) && !self.is_owing();
        let has_place = self.output.deferred_count() <= LATE_ANSWERS_MAX / 2;
        may_answer
            && has_place
            && (self.output.is_flushed() || self.output.cost() <= cx.limits.high_water_bytes / 2)
    }

    /// Transforms that may block are given one message at a time: what is with them takes nothing along that is owed.
    fn is_owing(&self) -> bool {
        self.generation.is_offloaded() && !self.output.is_flushed()
    }

    /// Whether messages, or a change of the chain before them, are for transforms that may block.
    fn must_offload(&self, cx: &Context<'_>) -> bool {
        // What waits for answers from elsewhere waits on its worker, and with its chain.
        let may_follow = || !self.flags.stays && self.output.deferred_count() == 0;
        !cx.may_block && (self.generation.is_offloaded() || (cx.current.is_offloaded() && may_follow()))
    }

    /// Does what `Step::offload` asked for, where it may block.
    pub(crate) fn perform(&mut self, work: Work, cx: &mut Context<'_>) -> Step {
        debug_assert!(cx.may_block, "work is performed off the worker");
        match work {
            Work::Open => self.open(cx),
            Work::Receive(mut bytes) => {
                let buffer = RecvBuf { buffer: &mut bytes, start: 0 };
                let mut step = self.received(buffer, cx);
                if let Send::RecvBuf(range) = step.send {
                    match buffer::try_copy(bug::part(&bytes, range)) {
                        Some(answer) => step.send = Send::Owned(answer),
                        None => return self.closing(CloseReason::SystemError, Close::Reset),
                    }
                }
                step
            }
            Work::GoOn => self.go_on(cx),
            Work::Swap => self.swap(cx),
            Work::SwapOrEnd => self.swap_or_end(cx),
        }
    }

    /// What the fast path is not for, or has not finished.
    #[inline(never)]
    fn received_in_general(&mut self, recv_buf: RecvBuf<'_>, begun: Begun, cx: &mut Context<'_>) -> Step {
        let RecvBuf { buffer, start } = recv_buf;
        self.silent_since = cx.now;
        let received = bug::part_mut(buffer, start..);
        if let Some(monitor) = &mut self.monitor {
            monitor.count(received.len());
        }
        if !begun.is_counted {
            self.bytes_in += received.len() as u64;
        }
        match self.phase {
            Phase::Open => {}
            Phase::Opening => return self.received_opening(received, cx),
            // What comes behind a handshake that failed was never a stream.
            Phase::Flushing(_) | Phase::Lingering(_) if !self.is_established() => return Step::default(),
            Phase::Flushing(_) | Phase::Lingering(_) => {
                cx.stats.bytes_in.add(received.len() as u64);
                cx.stats.dropped_bytes.add(received.len() as u64);
                return Step::default();
            }
        }
        if self.must_offload(cx) {
            return match buffer::try_copy(received) {
                Some(received) => Step::offload(Work::Receive(received)),
                None => self.closing(CloseReason::SystemError, Close::Reset),
            };
        }
        let retired = self.follow(cx);
        let mut step = if self.around.is_some() {
            self.received_layered(bug::part_mut(buffer, start..), cx)
        } else {
            if !begun.is_counted {
                cx.stats.bytes_in.add((buffer.len() - start) as u64);
            }
            self.received_plain(buffer, start, begun, cx)
        };
        if retired.is_some() {
            step.rare().retired = retired;
        }
        step
    }

    /// Whether nothing stands before the stream any more.
    fn is_established(&self) -> bool {
        let layer = self.around.as_deref().and_then(|around| around.layer.as_ref());
        layer.is_none_or(|layer| layer.is_established())
    }

    fn received_plain(
        &mut self,
        buffer: &mut [u8],
        start: usize,
        begun: Begun,
        cx: &mut Context<'_>,
    ) -> Step {
        let (mut begin, mut scanned) = (start, 0);
        if let Some(unread) = &mut self.unread {
            // One window over what is unread and what arrived: in front of that, where there is room, else behind the
            // unread in memory of its own.
            match start.checked_sub(unread.bytes.len()) {
                Some(before) if !unread.has_more => begin = before,
                _ => {
                    cx.pool.append(&mut unread.bytes, bug::part(buffer, start..));
                    return self.answer_unread(cx);
                }
            }
            match buffer.get_mut(begin..start) {
                Some(place) => place.copy_from_slice(&unread.bytes),
                None => bug::found("room in front of what was received"),
            }
            scanned = std::mem::take(&mut unread.scanned);
            cx.pool.put(std::mem::take(&mut unread.bytes));
        }
        let window = bug::part_mut(buffer, begin..);
        let mut batch = self.answer(window, scanned, begun, cx);
        self.keep(bug::part(window, batch.used..), batch.has_more, cx);
        let reply = batch.reply_in_recv_buf(begin, cx.limits.records, cx.pool);
        self.deliver(batch, reply, Some(buffer), cx)
    }

    /// Answers what is unread, in its own memory.
    fn answer_unread(&mut self, cx: &mut Context<'_>) -> Step {
        let (mut bytes, start, scanned) = match &mut self.unread {
            Some(unread) => {
                let scanned = std::mem::take(&mut unread.scanned);
                (std::mem::take(&mut unread.bytes), std::mem::take(&mut unread.start), scanned)
            }
            None => (Vec::new(), 0, 0),
        };
        let mut batch = self.answer(bug::part_mut(&mut bytes, start..), scanned, Begun::default(), cx);
        let end = start + batch.used;
        let left = bytes.len() - end;
        let (has_more, records) = (batch.has_more, cx.limits.records);
        if left > 0 && (has_more || end == 0) {
            // It stays where it is: what goes on turn after turn is not copied each time.
            let reply = batch.reply_copied(bug::part(&bytes, start..), records, cx.pool);
            let scanned = if has_more { 0 } else { left };
            let unread = self.unread.get_or_insert_default();
            (unread.bytes, unread.start, unread.scanned) = (bytes, end, scanned);
            unread.has_more = has_more;
            return self.deliver(batch, reply, None, cx);
        }
        self.keep(bug::part(&bytes, end..), has_more, cx);
        let reply = if start == 0 {
            batch.reply_in(bytes, records, cx.pool)
        } else {
            let reply = batch.reply_copied(bug::part(&bytes, start..), records, cx.pool);
            cx.pool.put(bytes);
            reply
        };
        self.deliver(batch, reply, None, cx)
    }

    /// Keeps what a batch has left.
    #[inline]
    fn keep(&mut self, rest: &[u8], has_more: bool, cx: &mut Context<'_>) {
        if rest.is_empty() && !has_more && self.unread.is_none() {
            return;
        }
        let unread = self.unread.get_or_insert_default();
        unread.has_more = has_more;
        if !rest.is_empty() {
            unread.bytes = cx.pool.copy_of(rest);
            unread.scanned = if has_more { 0 } else { rest.len() };
        }
        if unread.is_empty() {
            self.unread = None;
        }
    }

    /// A record was longer than one read may be: its end is lost, so it is not answered.
    pub(crate) fn truncated(&mut self, recv_buf: RecvBuf<'_>, cx: &mut Context<'_>) -> Step {
        let bytes = recv_buf.buffer.len() - recv_buf.start;
        cx.stats.bytes_in.add(bytes as u64);
        cx.stats.dropped_bytes.add(bytes as u64);
        self.bytes_in += bytes as u64;
        if self.phase != Phase::Open {
            return Step::default();
        }
        cx.stats.messages_in.add(1);
        cx.stats.dropped(DropReason::TooLong, 1);
        self.record_dropped(bug::part(recv_buf.buffer, recv_buf.start..), DropReason::TooLong, cx);
        let mut step = Step::default();
        self.begin_end(End::because(CloseReason::MessageTooLong), &mut step, cx);
        self.advance(step, cx)
    }

    /// The peer has ended its side: what is unread is answered as far as it can be.
    pub(crate) fn peer_ended(&mut self, cx: &mut Context<'_>) -> Step {
        let has_said_so = std::mem::replace(&mut self.flags.has_peer_ended, true);
        self.flags.awaits_socket_end = false;
        if self.phase == Phase::Open && !has_said_so {
            let layer = self.around.as_deref().and_then(|around| around.layer.as_ref());
            self.flags.is_truncated = layer.is_some_and(|layer| layer.says_ends());
        }
        match self.phase {
            Phase::Open if self.must_offload(cx) => Step::offload(Work::GoOn),
            Phase::Open if self.unread.as_ref().is_some_and(|unread| unread.has_more) => Step::default(),
            Phase::Open => self.answer_unread(cx),
            Phase::Opening => self.closing(CloseReason::PeerClosed, Close::Gently),
            Phase::Flushing(_) | Phase::Lingering(_) => self.advance(Step::default(), cx),
        }
    }

    /// There is room again, or a new turn: sends what is due, and answers what is unread.
    pub(crate) fn go_on(&mut self, cx: &mut Context<'_>) -> Step {
        let has_unread = self.unread.as_ref().is_some_and(|unread| unread.has_more);
        // Off the worker, it may be here to answer what the end of its stream has left.
        let is_at_end = cx.may_block && self.flags.has_peer_ended;
        if is_at_end || (has_unread && self.has_room(cx)) {
            if self.must_offload(cx) {
                return Step::offload(Work::GoOn);
            }
            return self.answer_unread(cx);
        }
        self.advance(Step::default(), cx)
    }

    /// Hands an answer on: to the driver, or behind what waits already. Then the end, if there is to be one.
    #[inline]
    fn deliver(
        &mut self,
        batch: Batch,
        reply: Reply,
        buffer: Option<&mut [u8]>,
        cx: &mut Context<'_>,
    ) -> Step {
        let Batch { delays, answers, end, deferred, .. } = batch;
        if bug::is_tainted() {
            let late = self.drop_deferred(&deferred, cx);
            cx.stats.dropped(DropReason::Undelivered, u64::from(answers + late));
            return self.closing(CloseReason::SystemError, Close::Reset);
        }
        let mut step = Step::default();
        let is_simple = delays.is_empty() && deferred.is_empty() && end.is_none();
        let is_at_once = is_simple && self.output.can_send() && !self.output.is_delaying();
        if is_at_once && self.around.is_none() {
            // The path of most answers.
            let bytes = match reply {
                Reply::Nothing => {
                    cx.stats.messages_out.add(u64::from(answers));
                    return self.advance(step, cx);
                }
                Reply::InRecvBuf(range) => {
                    let bytes = range.len();
                    step.send = Send::RecvBuf(range);
                    bytes
                }
                Reply::Owned(answer) => {
                    let bytes = answer.len();
                    step.send = Send::Owned(answer);
                    bytes
                }
            };
            self.begin_send(bytes, answers);
            return step;
        }
        let chunk = match (reply, buffer) {
            (Reply::Nothing, _) => None,
            (Reply::Owned(bytes), _) if is_at_once => {
                // Of most answers with a layer around them.
                self.send_chunk(Chunk::answers(bytes, answers), &mut step, cx);
                return step;
            }
            (Reply::Owned(bytes), _) => Some(Chunk::answers(bytes, answers)),
            (Reply::InRecvBuf(range), buffer) => {
                let bytes = bug::part(buffer.unwrap_or_default(), range);
                Some(Chunk::answers(cx.pool.copy_of(bytes), answers))
            }
        };
        let is_reset = end.as_ref().is_some_and(|end| end.is_reset);
        match chunk {
            Some(chunk) if is_reset => {
                let late = self.drop_deferred(&deferred, cx);
                cx.stats.undelivered_bytes.add(chunk.bytes.len() as u64);
                cx.stats.dropped(DropReason::Undelivered, u64::from(chunk.messages + late));
                cx.pool.put(chunk.bytes);
            }
            chunk if !deferred.is_empty() => {
                let chunk = chunk.unwrap_or_else(|| Chunk::answers(Vec::new(), answers));
                let answered = self.output.defer(chunk, &delays, deferred, cx.now, cx.limits, cx.pool);
                cx.stats.messages_out.add(u64::from(answered));
                step.rare().has_delays = true;
            }
            None => cx.stats.messages_out.add(u64::from(answers)),
            Some(chunk) if self.output.is_delaying() || !delays.is_empty() => {
                self.output.delay(chunk, &delays, cx.now, cx.limits, cx.pool);
                step.rare().has_delays = true;
            }
            Some(chunk) => self.output.queue(chunk, cx.limits, cx.pool),
        }
        if let Some(end) = end {
            self.begin_end(end, &mut step, cx);
        }
        self.advance(step, cx)
    }

    /// Records messages that are given up before they wait; how many they are.
    #[cold]
    fn drop_deferred(&self, deferred: &[Mark], cx: &mut Context<'_>) -> u32 {
        for Mark { message, .. } in deferred {
            self.record_deferred(message, TapOutcome::Dropped(DropReason::Undelivered), &[], cx);
        }
        let input_bytes: usize = deferred.iter().map(|mark| mark.message.input_bytes).sum();
        cx.stats.dropped_bytes.add(input_bytes as u64);
        deferred.iter().map(|mark| mark.message.messages).sum()
    }

    #[inline]
    fn begin_send(&mut self, bytes: usize, messages: u32) {
        self.output.begin(bytes, messages);
        if let Some(monitor) = &mut self.monitor {
            monitor.count(bytes);
        }
    }

    /// A send that was alone has left at once.
    #[inline]
    pub(crate) fn sent_at_once(&mut self, cx: &Context<'_>) {
        let (bytes, messages) = self.output.end();
        self.bytes_out += bytes as u64;
        cx.stats.bytes_out.add(bytes as u64);
        cx.stats.messages_out.add(u64::from(messages));
    }

    /// The send has left, at once or by now: the next one, or what its end makes possible. `None`: nothing waits.
    #[inline]
    pub(crate) fn sent(&mut self, cx: &mut Context<'_>) -> Option<Step> {
        self.sent_at_once(cx);
        if self.is_plain() {
            return None;
        }
        self.output.note_progress(cx.now);
        Some(self.advance(Step::default(), cx))
    }

    /// A send that was alone was submitted: how many bytes and messages count as sent when the turn is over.
    #[inline]
    pub(crate) fn submitted(&mut self, turn: TurnNumber) -> (usize, u32) {
        let (bytes, messages) = self.output.submit(turn);
        self.bytes_out += bytes as u64;
        (bytes, messages)
    }

    /// The turn in which it has submitted a send that it has not looked after since.
    #[inline]
    pub(crate) fn submitted_in(&self) -> Option<TurnNumber> {
        self.output.submitted_in()
    }

    /// The send that was submitted has left.
    #[inline]
    pub(crate) fn end_submitted(&mut self) {
        self.output.end_submitted();
    }

    /// The send that was submitted is to be waited for: how many bytes and messages do not count as sent yet.
    pub(crate) fn await_submitted(&mut self, unsent: usize, now: Moment) -> (usize, u32) {
        self.output.wait(unsent, now);
        let (bytes, messages) = self.output.await_submitted();
        self.bytes_out -= bytes as u64;
        (bytes, messages)
    }

    /// Whether a send is in flight.
    pub(crate) fn is_sending(&self) -> bool {
        self.output.is_sending()
    }

    /// Whether nothing but open: no input or output waits, and nothing is about to change.
    #[inline]
    fn is_plain(&self) -> bool {
        matches!(self.phase, Phase::Open)
            && self.output.is_flushed()
            && self.unread.is_none()
            && !self.flags.is_paused
            && !self.flags.is_drained
    }

    /// The driver has taken the send over; `unsent` bytes of it are not with the kernel.
    pub(crate) fn sending(&mut self, unsent: usize, cx: &mut Context<'_>) -> Step {
        self.output.wait(unsent, cx.now);
        self.advance(Step::default(), cx)
    }

    /// Delays that began with this step: so much of the turn had passed.
    pub(crate) fn schedule(&mut self, passed: std::time::Duration) {
        self.output.schedule(passed);
    }

    /// What must hold between two steps.
    #[cfg(debug_assertions)]
    pub(crate) fn check(&self, limits: &ConnLimits, current: &Arc<Generation>) {
        self.output.check();
        self.check_phase(limits, current);
        let unread = self.unread.as_ref();
        assert!(unread.is_none_or(|unread| !unread.is_empty()), "empty input is not kept");
        assert!(unread.is_none_or(|unread| unread.start + unread.scanned <= unread.bytes.len()));
        assert!(unread.is_none_or(|unread| unread.has_more || unread.start == 0));
        assert!(!self.is_ending() || unread.is_none(), "a connection that answers no more keeps no input");
        assert!(
            self.flags.has_peer_ended
                || self.phase != Phase::Open
                || unread.is_none_or(|unread| { !unread.has_more || self.flags.is_paused }),
            "nothing is read while there is unread input"
        );
        assert!(self.cost() <= limits.cost_max(), "{} bytes of memory", self.cost());
        assert!(!limits.records || unread.is_none(), "records are answered at once");
    }

    /// What each phase says about the rest.
    #[cfg(debug_assertions)]
    fn check_phase(&self, limits: &ConnLimits, current: &Arc<Generation>) {
        let Flags { has_peer_ended, is_paused, is_drained, .. } = self.flags;
        let has_more = self.unread.as_ref().is_some_and(|unread| unread.has_more);
        let (cost, read_below) = (self.output.cost(), limits.read_below_bytes());
        match self.phase {
            Phase::Opening => {
                assert!(self.around.is_some(), "what waits to be open waits for something");
                assert!(self.until != Moment::NEVER, "opening has a deadline");
                assert!(!has_more && !is_paused && !has_peer_ended && !is_drained);
            }
            Phase::Open => {
                let layer = self.around.as_ref().map(|around| (&around.preface, &around.layer));
                assert!(
                    layer.is_none_or(|(preface, layer)| {
                        preface.is_none() && layer.as_ref().is_some_and(|layer| layer.is_established())
                    }),
                    "what is around an open connection is a layer that both sides agree on"
                );
                assert!(
                    self.until == Moment::NEVER || !Arc::ptr_eq(&self.generation, current),
                    "a connection with its listener's chain has no deadline for a change"
                );
                assert!(has_more || !has_peer_ended, "behind the end of the peer's side all is answered");
                assert!(has_more || !is_drained, "a drained connection is open as long as there is input");
                let is_full = !self.output.is_flushed() && cost > read_below;
                let is_full = is_full || self.output.deferred_count() >= LATE_ANSWERS_MAX;
                assert!(
                    is_paused || !(has_more || self.is_owing() || is_full || self.is_held()),
                    "what may not read is paused: {cost} bytes of {read_below}"
                );
                assert!(
                    !is_paused
                        || has_more
                        || self.is_owing()
                        || self.is_held()
                        || cost > read_below / 2
                        || self.output.deferred_count() > LATE_ANSWERS_MAX / 2,
                    "what is paused has a reason: {cost} bytes of {read_below}"
                );
            }
            Phase::Flushing(_) => assert!(!self.output.is_flushed(), "our side ends with the last answer"),
            Phase::Lingering(_) => {
                assert!(self.output.is_flushed(), "nothing is sent behind the end of our side");
                assert!(
                    !is_paused && (!has_peer_ended || self.flags.awaits_socket_end),
                    "it waits for the peer's end alone"
                );
                assert!(self.until != Moment::NEVER, "nobody waits for ever");
            }
        }
    }
}

//! The life of a connection: opening, changes of the chain, deadlines, and the end.

use std::io;
use std::sync::Arc;

use super::around::PREFACE_BYTES_MAX;
use super::output::Chunk;
use super::{
    Around, Closing, Connection, End, Phase, PrefaceProgress, Reading, RetiredSession, Send, Session, Step,
    TransformFault, Work, broken_by,
};
use crate::bug;
use crate::context::{ConnLimits, Context};
use crate::driver::Close;
use crate::limits::{LATE_ANSWERS_MAX, LINGER, LINGER_DRAINING};
use crate::net::guard::PeerPermit;
use crate::proxy::Proxied;
use crate::stats::{CloseReason, DropReason};
use crate::timer::Moment;

/// What a layer is likely to put around a small answer.
const SEAL_BYTES: usize = 64;

impl Connection {
    /// The driver has the socket. Where nothing stands before or around the stream, it is open.
    pub(crate) fn accepted(&mut self, cx: &mut Context<'_>) -> Step {
        if self.around.is_some() { Step::default() } else { self.open(cx) }
    }

    /// The transforms hear of the connection, and may have something to send before they are asked.
    pub(super) fn open(&mut self, cx: &mut Context<'_>) -> Step {
        let mut step = self.begin_stream(cx);
        if self.is_held() && self.phase == Phase::Open && !std::mem::replace(&mut self.flags.is_paused, true)
        {
            // What leaves at once is followed by no decision about reading.
            step.rare().reading = Reading::Pause;
        }
        step
    }

    fn begin_stream(&mut self, cx: &mut Context<'_>) -> Step {
        if self.must_offload(cx) {
            return Step::offload(Work::Open);
        }
        self.phase = Phase::Open;
        self.until = Moment::NEVER;
        self.send_held(cx);
        let has_ended = self.note_layer_end();
        // What came while the stream was opening is answered in the next turn.
        let has_input = has_ended || self.unread.as_ref().is_some_and(|unread| !unread.bytes.is_empty());
        self.keep(&[], has_input, cx);
        let mut step = Step::default();
        if !Arc::ptr_eq(&self.generation, cx.current) {
            // The chain was changed meanwhile, and no transform of the old one has heard of the connection.
            match Session::unopened(cx.current.stages()) {
                Ok(session) => step.rare().retired = Some(self.replace_chain(session, cx)),
                Err((stage, fault)) => {
                    self.begin_end(End::failed(stage, fault), &mut step, cx);
                    return self.advance(step, cx);
                }
            }
        }
        let described = cx.limits.conversation(self.id, &self.peer, self.proxied.as_deref());
        if let Err((stage, fault)) = self.session.begin(&described) {
            cx.stats.transform_errors.add(1);
            self.begin_end(End::failed(stage, fault), &mut step, cx);
            return self.advance(step, cx);
        }
        if self.generation.greeters().next().is_none() {
            return self.advance(step, cx);
        }
        let mut batch = self.greetings(cx);
        self.keep(&[], batch.has_more || has_input, cx);
        let reply = batch.reply_in(Vec::new(), cx.limits.records, cx.pool);
        let retired = step.rare.and_then(|rare| rare.retired);
        let mut step = self.deliver(batch, reply, None, cx);
        if retired.is_some() {
            step.rare().retired = retired;
        }
        step
    }

    /// Bytes arrived before the stream is open.
    pub(super) fn received_opening(&mut self, received: &[u8], cx: &mut Context<'_>) -> Step {
        let unread = self.unread.get_or_insert_default();
        cx.pool.append(&mut unread.bytes, received);
        let Some(Around { preface: Some(preface), .. }) = self.around.as_deref_mut() else {
            return self.establish(cx);
        };
        match preface.received(&unread.bytes) {
            PrefaceProgress::NeedMore if unread.bytes.len() < PREFACE_BYTES_MAX => Step::default(),
            PrefaceProgress::NeedMore => self.refuse_preface("a preface of more than 4096 bytes"),
            PrefaceProgress::Refuse(why) => self.refuse_preface(why),
            PrefaceProgress::Done { used, peer } => {
                self.proxied = preface.proxied(&unread.bytes, &self.peer).map(Arc::from);
                unread.bytes.drain(..used.min(unread.bytes.len()));
                self.peer = peer.unwrap_or_else(|| self.peer.clone());
                if let Some(around) = &mut self.around {
                    around.preface = None;
                }
                let mut step = Step::default();
                step.rare().is_identified = true;
                step
            }
        }
    }

    fn refuse_preface(&mut self, why: &'static str) -> Step {
        self.never_open(CloseReason::PrefaceRefused, why)
    }

    fn never_open(&mut self, reason: CloseReason, why: &'static str) -> Step {
        let mut step = self.closing(reason, Close::Reset);
        step.rare().refused = Some((reason, why));
        step
    }

    /// The worker has let the peer in that the preface named.
    pub(crate) fn identified(&mut self, permit: Option<Box<PeerPermit>>, cx: &mut Context<'_>) -> Step {
        self.permit = permit;
        if let Some(within) = self.around.as_ref().and_then(|around| around.then) {
            self.until = cx.now.after(within);
        }
        self.establish(cx)
    }

    /// The worker has not let it in.
    pub(crate) fn refused(&mut self) -> Step {
        self.closing(CloseReason::PrefaceRefused, Close::Reset)
    }

    /// Goes on with the layer's handshake, and opens the stream when it is over.
    fn establish(&mut self, cx: &mut Context<'_>) -> Step {
        let Some(Around { layer: Some(layer), has_begun, .. }) = self.around.as_deref_mut() else {
            cx.stats.bytes_in.add(self.unread_bytes() as u64);
            return self.open(cx);
        };
        if !std::mem::replace(has_begun, true)
            && layer.begin(&cx.limits.conversation(self.id, &self.peer, self.proxied.as_deref())).is_err()
        {
            return self.closing(CloseReason::LayerFailed, Close::Reset);
        }
        let mut wire =
            self.unread.as_mut().map(|unread| std::mem::take(&mut unread.bytes)).unwrap_or_default();
        let mut step = Step::default();
        let plain = self.unseal(&mut wire, &mut step, cx);
        cx.pool.put(wire);
        // A layer may fail just when both sides have agreed.
        if self.phase != Phase::Opening || !self.is_established() {
            self.unread = None;
            cx.pool.put(plain);
            return self.advance(step, cx);
        }
        let facts =
            self.around.as_deref_mut().and_then(|around| around.layer.as_mut()).map(|layer| layer.facts());
        if let Some(facts) = facts.filter(|facts| !facts.is_empty()) {
            self.proxied = Some(Arc::new(Proxied::with_layer(self.proxied.as_deref(), facts)));
        }
        let unread = self.unread.get_or_insert_default();
        cx.stats.bytes_in.add(plain.len() as u64);
        cx.pool.append(&mut unread.bytes, &plain);
        cx.pool.put(plain);
        self.open(cx)
    }

    /// What the peer said through the layer; what the layer has to send for its own sake goes behind all that waits.
    fn unseal(&mut self, wire: &mut [u8], step: &mut Step, cx: &mut Context<'_>) -> Vec<u8> {
        let (mut plain, mut reply) = (cx.pool.take(wire.len()), cx.pool.take(0));
        let Some(Around { layer: Some(layer), .. }) = self.around.as_deref_mut() else {
            // What an open connection is left with around it has a layer.
            bug::found("a layer around the stream");
            return plain;
        };
        let received = layer.received(wire, &mut plain, &mut reply);
        if reply.is_empty() {
            cx.pool.put(reply);
        } else {
            self.output.queue(Chunk::wire(reply), cx.limits, cx.pool);
        }
        if received.is_err() {
            self.begin_end(End::because(CloseReason::LayerFailed), step, cx);
        }
        plain
    }

    /// Notes whether the peer has said through the layer that its side ends.
    fn note_layer_end(&mut self) -> bool {
        let layer = self.around.as_deref().and_then(|around| around.layer.as_ref());
        let has_ended = !self.flags.has_peer_ended && layer.is_some_and(|layer| layer.has_peer_ended());
        if has_ended {
            (self.flags.has_peer_ended, self.flags.awaits_socket_end) = (true, true);
        }
        has_ended
    }

    pub(super) fn received_layered(&mut self, wire: &mut [u8], cx: &mut Context<'_>) -> Step {
        let mut step = Step::default();
        let plain = self.unseal(wire, &mut step, cx);
        cx.stats.bytes_in.add(plain.len() as u64);
        if self.phase != Phase::Open {
            cx.stats.dropped_bytes.add(plain.len() as u64);
            return self.advance(step, cx);
        }
        if !self.note_layer_end() && plain.is_empty() {
            // A part of what the peer says, or something of the layer's own.
            cx.pool.put(plain);
            return self.advance(step, cx);
        }
        let unread = self.unread.get_or_insert_default();
        if unread.bytes.is_empty() {
            cx.pool.put(std::mem::replace(&mut unread.bytes, plain));
        } else {
            cx.pool.append(&mut unread.bytes, &plain);
            cx.pool.put(plain);
        }
        self.answer_unread(cx)
    }

    /// Follows a change of the chain, if there is one and it can.
    #[inline]
    pub(super) fn follow(&mut self, cx: &mut Context<'_>) -> Option<Box<RetiredSession>> {
        if Arc::ptr_eq(&self.generation, cx.current) || self.flags.stays {
            return None;
        }
        self.change_chain(cx)
    }

    /// Goes on with the listener's chain, between two messages and with what the transforms remember, or stays: for now,
    /// or for good.
    fn change_chain(&mut self, cx: &mut Context<'_>) -> Option<Box<RetiredSession>> {
        // Input that a transform has in hand belongs to the chain that it was given to.
        // So do messages whose answers come later.
        let has_stream = self.unread.as_ref().is_some_and(|unread| unread.stream.is_some());
        if self.phase != Phase::Open || has_stream || self.output.deferred_count() > 0 {
            return None;
        }
        let described = cx.limits.conversation(self.id, &self.peer, self.proxied.as_deref());
        let Some(session) = self.session.carry(cx.current.stages(), &described) else {
            self.flags.stays = true;
            return None;
        };
        self.until = Moment::NEVER;
        Some(self.replace_chain(session, cx))
    }

    fn replace_chain(&mut self, session: Session, cx: &Context<'_>) -> Box<RetiredSession> {
        let generation = std::mem::replace(&mut self.generation, Arc::clone(cx.current));
        let session = std::mem::replace(&mut self.session, session);
        Box::new(RetiredSession { _session: session, generation })
    }

    /// The listener's chain was changed.
    pub(crate) fn swap(&mut self, cx: &mut Context<'_>) -> Step {
        if self.phase != Phase::Open || Arc::ptr_eq(&self.generation, cx.current) {
            return Step::default();
        }
        self.flags.stays = false;
        if self.until == Moment::NEVER {
            self.until = cx.now.after(cx.limits.swap_timeout);
        }
        if self.must_offload(cx) {
            return Step::offload(Work::Swap);
        }
        let retired = self.follow(cx);
        let mut step = Step::default();
        step.rare().retired = retired;
        self.advance(step, cx)
    }

    /// Its time with a chain that was replaced is over.
    pub(super) fn swap_or_end(&mut self, cx: &mut Context<'_>) -> Step {
        // What kept it may be over.
        self.flags.stays = false;
        if self.must_offload(cx) {
            return Step::offload(Work::SwapOrEnd);
        }
        let retired = self.follow(cx);
        let mut step = Step::default();
        step.rare().retired = retired;
        if !Arc::ptr_eq(&self.generation, cx.current) {
            self.give_up_deferred(cx);
            self.begin_end(End::because(CloseReason::ChainReplaced), &mut step, cx);
        }
        self.advance(step, cx)
    }

    /// Nothing more that had arrived is left with the driver, and nothing new is taken.
    pub(crate) fn drained(&mut self, cx: &mut Context<'_>) -> Step {
        self.flags.is_drained = true;
        match self.phase {
            Phase::Opening if self.flags.is_shut_down => self.closing(CloseReason::ByHost, Close::Gently),
            Phase::Opening => self.closing(CloseReason::Drained, Close::Gently),
            _ => self.advance(Step::default(), cx),
        }
    }

    /// The socket is broken.
    pub(crate) fn failed(&mut self, error: io::Error) -> Step {
        Step::close(self.closing_after(error))
    }

    /// What the end of a connection is whose socket is broken.
    pub(crate) fn closing_after(&self, error: io::Error) -> Closing {
        let reason = match self.phase {
            Phase::Lingering(reason) => reason,
            _ => broken_by(&error),
        };
        Closing { reason, how: Close::Gently, error: Some(error) }
    }

    /// Everything ends now.
    pub(crate) fn stopped(&mut self, reason: CloseReason) -> Step {
        match self.phase {
            Phase::Lingering(reason) => self.closing(reason, Close::Gently),
            _ => self.closing(reason, Close::Gently),
        }
    }

    pub(super) fn closing(&mut self, reason: CloseReason, how: Close) -> Step {
        Step::close(Closing { reason, how, error: None })
    }

    /// Answers no more; what waits is sent, then the connection ends. With a reset, at once.
    pub(super) fn begin_end(&mut self, end: End, step: &mut Step, cx: &mut Context<'_>) {
        if let Some((stage, fault)) = end.fault {
            let generation = Arc::clone(&self.generation);
            step.rare().fault = Some(TransformFault { generation, stage, fault });
        }
        let is_truncated = self.flags.is_truncated && end.reason == CloseReason::PeerClosed;
        let reason = if is_truncated { CloseReason::LayerTruncated } else { end.reason };
        if matches!(self.phase, Phase::Opening | Phase::Open) {
            self.phase = Phase::Flushing(reason);
        }
        self.drop_unread(cx);
        if end.is_reset {
            step.rare().close = Some(Closing { reason: end.reason, how: Close::Reset, error: None });
        }
    }

    /// Input that nobody will answer.
    fn drop_unread(&mut self, cx: &mut Context<'_>) {
        let Some(unread) = self.unread.take() else { return };
        let stats = cx.stats;
        if unread.count() > 0 && unread.stream_messages == 0 {
            stats.messages_in.add(1);
            stats.dropped(DropReason::Undelivered, 1);
            // What stages have in hand is theirs.
            self.record_dropped(bug::part(&unread.bytes, unread.start..), DropReason::Undelivered, cx);
        }
        stats.dropped(DropReason::Undelivered, u64::from(unread.stream_messages));
        stats.dropped_bytes.add(unread.count() as u64);
    }

    /// After each change: the next send; reading on or not; the next step of the end.
    pub(super) fn advance(&mut self, mut step: Step, cx: &mut Context<'_>) -> Step {
        if step.is_closing() {
            return step;
        }
        if bug::is_tainted() {
            step.rare().close =
                Some(Closing { reason: CloseReason::SystemError, how: Close::Reset, error: None });
            return step;
        }
        if cx.sends_left > 0
            && let Some(chunk) = self.output.next(cx.now)
        {
            self.send_chunk(chunk, &mut step, cx);
            return step;
        }
        if self.flags.is_drained
            && self.phase == Phase::Open
            && !self.unread.as_ref().is_some_and(|unread| unread.has_more)
        {
            let by_host = self.flags.is_shut_down && !cx.is_draining;
            let reason = if by_host { CloseReason::ByHost } else { CloseReason::Drained };
            self.begin_end(End::because(reason), &mut step, cx);
        }
        match self.phase {
            Phase::Opening => {}
            Phase::Open => self.decide_reading(&mut step, cx),
            Phase::Flushing(reason) if self.output.is_flushed() => self.end_side(reason, &mut step, cx),
            Phase::Lingering(reason) if self.has_socket_ended() && self.output.is_flushed() => {
                step.rare().close = Some(Closing { reason, how: Close::Gently, error: None });
            }
            Phase::Flushing(_) => {}
            Phase::Lingering(_) => self.resume(&mut step),
        }
        step
    }

    /// Sends a chunk, in the words of the layer.
    pub(super) fn send_chunk(&mut self, chunk: Chunk, step: &mut Step, cx: &mut Context<'_>) {
        // A peer that waits for its answer is not silent: its time begins with the answer.
        self.silent_since = cx.now;
        // What a layer says for its own sake is nobody's answer.
        let bytes = if chunk.is_wire { 0 } else { chunk.bytes.len() };
        let messages = chunk.messages;
        match self.seal(chunk, cx) {
            Ok(wire) => {
                self.begin_send(bytes, messages);
                step.send = Send::Owned(wire);
            }
            Err(_) => {
                cx.stats.undelivered_bytes.add(bytes as u64);
                cx.stats.dropped(DropReason::Undelivered, u64::from(messages));
                let reason = CloseReason::LayerFailed;
                step.rare().close = Some(Closing { reason, how: Close::Reset, error: None });
            }
        }
    }

    /// Pauses reading at high water, and resumes it at half of that. `read_below_bytes` is the option `high_water` less the
    /// answers to one more read; the memory of the send queue is compared with it. Answers that come later pause by their number.
    fn decide_reading(&mut self, step: &mut Step, cx: &Context<'_>) {
        let read_below = cx.limits.read_below_bytes();
        let has_more = self.unread.as_ref().is_some_and(|unread| unread.has_more);
        if self.flags.is_paused {
            // A paused connection is read again at half of where it paused.
            let is_free =
                self.output.cost() <= read_below / 2 && self.output.deferred_count() <= LATE_ANSWERS_MAX / 2;
            if !has_more && !self.is_owing() && !self.is_held() && is_free {
                self.silent_since = cx.now;
                self.resume(step);
            }
        } else if has_more
            || self.is_held()
            || self.is_owing()
            || (!self.output.is_flushed() && self.output.cost() > read_below)
            || self.output.deferred_count() >= LATE_ANSWERS_MAX
        {
            self.flags.is_paused = true;
            step.rare().reading = Reading::Pause;
        }
    }

    fn resume(&mut self, step: &mut Step) {
        if std::mem::take(&mut self.flags.is_paused) {
            step.rare().reading = Reading::Resume;
        }
    }

    /// All answers are with the kernel: our side ends.
    fn end_side(&mut self, reason: CloseReason, step: &mut Step, cx: &mut Context<'_>) {
        if let Some(Around { layer: Some(layer), is_closed: is_closed @ false, .. }) =
            self.around.as_deref_mut()
            && layer.is_established()
        {
            *is_closed = true;
            let mut wire = cx.pool.take(0);
            layer.close(&mut wire);
            if !wire.is_empty() {
                self.begin_send(0, 0);
                step.send = Send::Owned(wire);
                return;
            }
        }
        if self.has_socket_ended() {
            step.rare().close = Some(Closing { reason, how: Close::Gently, error: None });
            return;
        }
        // Closing now would answer what the peer still sends with a reset, and the reset would take our last answers with
        // it: end our side, and read on until the peer ends too.
        self.phase = Phase::Lingering(reason);
        self.until = cx.now.after(if cx.is_draining { LINGER_DRAINING } else { LINGER });
        step.rare().shuts_down = true;
        self.resume(step);
    }

    fn has_socket_ended(&self) -> bool {
        self.flags.has_peer_ended && !self.flags.awaits_socket_end
    }

    /// What is to be sent for a chunk.
    fn seal(&mut self, chunk: Chunk, cx: &mut Context<'_>) -> Result<Vec<u8>, &'static str> {
        let Some(Around { layer: Some(layer), .. }) = self.around.as_deref_mut() else {
            return Ok(chunk.bytes);
        };
        if chunk.is_wire {
            return Ok(chunk.bytes);
        }
        let mut wire = cx.pool.take(chunk.bytes.len() + SEAL_BYTES);
        let sealed = layer.seal(&chunk.bytes, &mut wire);
        cx.pool.put(chunk.bytes);
        sealed.map(|()| wire)
    }

    /// Whether a connection of which nothing waits wants a deadline before `armed`, or is watched.
    #[inline]
    pub(crate) fn wants_deadline_before(&self, armed: Moment, limits: &ConnLimits) -> bool {
        self.monitor.is_some()
            || limits.idle_timeout.is_some_and(|timeout| self.silent_since.after(timeout) < armed)
            || self.until < armed
    }

    /// When `timeout` wants to be called, if nothing happens before.
    pub(crate) fn poll_timeout(&self, limits: &ConnLimits) -> Moment {
        if let Phase::Lingering(_) = self.phase {
            return self.until;
        }
        let mut deadline = self.output.delayed_until().min(self.output.stuck_at(limits.write_timeout));
        if let Some(monitor) = &self.monitor {
            deadline = deadline.min(monitor.until());
        }
        if matches!(self.phase, Phase::Opening | Phase::Open) {
            deadline = deadline.min(self.until);
        }
        if self.phase == Phase::Open
            && self.output.is_flushed()
            && !self.flags.is_paused
            && let Some(timeout) = limits.idle_timeout
        {
            deadline = deadline.min(self.silent_since.after(timeout));
        }
        deadline
    }

    /// Some time has passed; `unsent`: bytes of the send in flight that the kernel has not taken.
    pub(crate) fn timeout(&mut self, unsent: usize, cx: &mut Context<'_>) -> Step {
        let now = cx.now;
        let is_stuck = self.output.is_stuck(unsent, now, cx.limits.write_timeout);
        let is_too_slow = self.monitor.as_mut().is_some_and(|monitor| monitor.is_too_slow(unsent, now));
        if !is_too_slow && self.poll_timeout(cx.limits) > now {
            return self.advance(Step::default(), cx);
        }
        match self.phase {
            Phase::Lingering(reason) => self.closing(reason, Close::Gently),
            Phase::Opening => {
                let has_preface = self.around.as_ref().is_some_and(|around| around.preface.is_some());
                if has_preface {
                    self.never_open(CloseReason::PrefaceRefused, "its preface has not come in time")
                } else {
                    self.never_open(CloseReason::LayerFailed, "its handshake has not ended in time")
                }
            }
            _ if is_too_slow && !self.output.can_send() => self.closing(CloseReason::TooSlow, Close::Reset),
            _ if is_stuck => self.closing(CloseReason::WriteTimeout, Close::Reset),
            Phase::Open if is_too_slow => self.end(CloseReason::TooSlow, cx),
            Phase::Open if self.until <= now => self.swap_or_end(cx),
            Phase::Open if self.output.is_flushed() => self.end(CloseReason::IdleTimeout, cx),
            Phase::Open | Phase::Flushing(_) => self.advance(Step::default(), cx),
        }
    }

    fn end(&mut self, reason: CloseReason, cx: &mut Context<'_>) -> Step {
        let mut step = Step::default();
        self.begin_end(End::because(reason), &mut step, cx);
        self.advance(step, cx)
    }

    /// Whether there is a `min_rate`, so that `note_progress` wants to be called after each step.
    #[inline]
    pub(crate) fn has_monitor(&self) -> bool {
        self.monitor.is_some()
    }

    /// Says whether the peer owes something: the rest of a message that has come only in part, or to take its answers. A
    /// peer whose bytes are left in the kernel, or that was told of the end, owes nothing.
    pub(crate) fn note_progress(&mut self, unsent: usize, now: Moment) {
        let is_partial =
            !self.flags.is_paused && self.unread.as_ref().is_some_and(|unread| unread.count() > 0);
        let is_unfinished = match self.phase {
            Phase::Open => is_partial || !self.output.can_send(),
            Phase::Flushing(_) => !self.output.can_send(),
            Phase::Opening | Phase::Lingering(_) => false,
        };
        if let Some(monitor) = &mut self.monitor {
            monitor.note(is_unfinished, unsent, now);
        }
    }

    /// It comes back from where nothing was read: the peer gets its time again.
    pub(crate) fn resumed(&mut self, now: Moment) {
        self.silent_since = now;
        if let Some(monitor) = &mut self.monitor {
            monitor.note(false, 0, now);
        }
    }

    /// Its part of `max_per_peer` stays with the worker while it is away, to be given back whenever the peer goes.
    pub(crate) fn take_permit(&mut self) -> Option<Box<PeerPermit>> {
        self.permit.take()
    }

    pub(crate) fn put_permit(&mut self, permit: Option<Box<PeerPermit>>) {
        self.permit = permit;
    }

    /// The driver reads nothing of it while it is away.
    pub(crate) fn set_paused(&mut self) {
        self.flags.is_paused = true;
    }

    /// The connection is over: counts what of it was delivered and what was not. Answers the bytes that were not.
    pub(crate) fn close(&mut self, unsent: usize, cx: &mut Context<'_>) -> usize {
        self.permit = None;
        if self.phase == Phase::Opening {
            // What stands before a stream was not counted as the stream's.
            self.unread = None;
        }
        self.record_given_up(0, cx);
        self.drop_unread(cx);
        let (mut left, stats) = (self.output.abandon(unsent), cx.stats);
        left.bytes += self.held_bytes();
        stats.bytes_out.add(left.taken_bytes as u64);
        stats.messages_out.add(u64::from(left.taken_messages));
        stats.undelivered_bytes.add(left.bytes as u64);
        stats.dropped_bytes.add(left.input_bytes as u64);
        stats.dropped(DropReason::Undelivered, u64::from(left.messages));
        left.bytes
    }
}

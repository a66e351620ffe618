//! Answers that come later, from other threads.

use std::sync::Arc;

use super::datagram_socket::{DatagramSocket, LateDatagram};
use super::{ListenerState, Socket, Worker, log_transform_error, state_of};
use crate::bug;
use crate::chain::Generation;
use crate::connection::TransformFault;
use crate::context::Reply;
use crate::datagram::{self, AnswerTo, Outcome};
use crate::driver::{Driver, Token};
use crate::later::{LateAnswer, Owner, TicketIssuer, Tickets};
use crate::limits::{DELAYED_DATAGRAM_BYTES_MAX, LATE_ANSWERS_MAX};
use crate::peer::Peer;
use crate::stats::DropReason;
use crate::tap::{KeptMessage, Recorder, TapOutcome};
use crate::timer::Moment;

impl<D: Driver> Worker<D> {
    /// An answer has come. What it is for may be gone.
    pub(super) fn answered_late(&mut self, token: Token, answer: LateAnswer) {
        match self.sockets.get(token) {
            Some(Socket::Connection(_)) => {
                self.step(token, |connection, cx, _| connection.answered_late(answer, cx));
            }
            Some(Socket::Datagrams(_)) => self.datagram_answered_late(token, answer),
            Some(Socket::Listener { .. } | Socket::Offloaded(_)) | None => {}
        }
    }

    fn datagram_answered_late(&mut self, token: Token, answer: LateAnswer) {
        let Worker { index, driver, pool, scratch, recorder, sockets, listeners, shared, .. } = self;
        let Some(Socket::Datagrams(socket)) = sockets.get_mut(token) else { return };
        let Some(state) = state_of(listeners, socket.state) else { return };
        let Some(late) = socket.late.remove(&answer.ticket) else { return };
        let LateDatagram { to, from, proxied, message, kept } = late;
        let generation = Arc::clone(message.generation());
        let mut cx = state.context(pool, scratch, recorder, driver.read_clock());
        cx.issuer = issuer(&shared.tickets, (*index, token), socket.late.len());
        let came = cx.now;
        let conversation = cx.limits.conversation(0, &from, proxied.as_deref());
        let mut outcome = datagram::resume(message, answer, conversation, &mut cx);
        if let Some(message) = outcome.later.take() {
            socket.late.insert(message.ticket(), LateDatagram { to, from, proxied, message, kept });
            return;
        }
        self.deliver_later(token, LateOutcome { to, from, generation, kept, came, outcome });
    }

    /// Sends what has become of a datagram that was not answered when it came: now, or after its delay.
    pub(super) fn deliver_later(&mut self, token: Token, late: LateOutcome) {
        let Worker { driver, pool, recorder, sockets, listeners, shared, timers, .. } = self;
        let LateOutcome { to, from, generation, kept, came, outcome } = late;
        let now = driver.read_clock();
        let Some(Socket::Datagrams(socket)) = sockets.get_mut(token) else { return };
        let Some(state) = state_of(listeners, socket.state) else { return };
        if let Some(kept) = kept.filter(|_| recorder.is_on()) {
            let has_room = outcome.delay.is_zero() || socket.delayed.has_room(outcome.reply_bytes());
            let (for_taps, answer) = match &outcome.reply {
                _ if !has_room => (TapOutcome::Dropped(DropReason::QueueFull), &[][..]),
                Reply::Owned(bytes) => (outcome.for_taps(), bytes.as_slice()),
                Reply::Nothing | Reply::InRecvBuf(_) => (outcome.for_taps(), &[][..]),
            };
            recorder.keep_again(&kept);
            state.record_datagram(recorder, came, &from, for_taps, answer);
        }
        if outcome.is_amplified() {
            state.log_amplified(&shared.events, &from);
        }
        if let Some((stage, fault)) = outcome.fault {
            let fault = TransformFault { generation: Arc::clone(&generation), stage, fault };
            log_transform_error(&shared.events, state, &fault, 0, &from, now);
        }
        if !Arc::ptr_eq(&generation, &state.generation) {
            // It may be the last user of a chain that was replaced.
            shared.drop_in_background(generation.share(), Some(generation));
        }
        let sent = match outcome.reply {
            Reply::Owned(bytes) => {
                let sent = if outcome.delay.is_zero() {
                    socket.remember_late(&to, &bytes, now);
                    let sent = driver.send_to(token, &to.to, &bytes);
                    socket.delayed.keep_copies(now, to, &bytes, outcome.copies);
                    Some(sent)
                } else {
                    if !socket.delayed.keep(now.after(outcome.delay), to, &bytes, outcome.copies) {
                        state.stats.dropped(DropReason::QueueFull, 1);
                    }
                    None
                };
                pool.put(bytes);
                timers.arm(token, &mut socket.deadline, socket.delayed.next());
                sent
            }
            Reply::Nothing => None,
            Reply::InRecvBuf(_) => {
                bug::found_aside("an answer in memory of its own");
                None
            }
        };
        if let Some(sent) = sent {
            self.answered(token, 1, sent);
        }
        self.end_datagrams_if_done(token);
    }
}

/// What has become of a datagram that was not answered when it came.
pub(super) struct LateOutcome {
    pub(super) to: AnswerTo,
    pub(super) from: Peer,
    /// The chain that it went through, which may have been replaced since.
    pub(super) generation: Arc<Generation>,
    /// For taps, and the time that they are told.
    pub(super) kept: Option<KeptMessage>,
    pub(super) came: Moment,
    pub(super) outcome: Outcome,
}

/// Records the datagrams that a closing socket gives up.
pub(super) fn record_given_up(
    socket: &DatagramSocket,
    state: &ListenerState,
    now: Moment,
    recorder: &mut Recorder,
) {
    if recorder.is_on() {
        for (from, kept) in socket.unanswered() {
            recorder.keep_again(kept);
            state.record_datagram(recorder, now, from, TapOutcome::Dropped(DropReason::Undelivered), &[]);
        }
    }
}

/// Where the datagrams of a socket get their tickets, while not too many of them wait.
pub(super) fn issuer<'a>(
    tickets: &'a Arc<Tickets>,
    (worker, socket): (usize, Token),
    waiting: usize,
) -> Option<TicketIssuer<'a>> {
    let owner = Owner { worker, socket };
    let waiting_bytes_max = DELAYED_DATAGRAM_BYTES_MAX;
    (waiting < LATE_ANSWERS_MAX).then_some(TicketIssuer { tickets, owner, waiting_bytes_max, order: None })
}

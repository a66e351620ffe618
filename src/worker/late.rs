//! Answers that come later, from other threads.

use std::sync::Arc;

use super::datagram_socket::{DatagramSocket, LateDatagram};
use super::{ListenerState, Socket, Worker, log_transform_error, state_of};
use crate::connection::TransformFault;
use crate::context::Reply;
use crate::datagram;
use crate::driver::{Driver, Token};
use crate::later::{Desk, LateAnswer, Owner, Tickets};
use crate::limits::{DELAYED_DATAGRAM_BYTES_MAX, LATE_ANSWERS_MAX};
use crate::stats::DropReason;
use crate::tap::{Recorder, TapOutcome};
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
        let Worker { index, driver, pool, scratch, recorder, sockets, listeners, shared, timers, .. } = self;
        let Some(Socket::Datagrams(socket)) = sockets.get_mut(token) else { return };
        let Some(state) = state_of(listeners, socket.state) else { return };
        let Some(late) = socket.late.remove(&answer.ticket) else { return };
        let LateDatagram { to, from, message, kept } = late;
        let generation = Arc::clone(message.generation());
        let mut cx = state.context(pool, scratch, recorder, driver.read_clock());
        cx.desk = desk(&shared.tickets, (*index, token), socket.late.len());
        let now = cx.now;
        let outcome = datagram::resume(message, answer, &from, &mut cx);
        if outcome.later.is_none()
            && let Some(kept) = kept.as_ref().filter(|_| recorder.is_on())
        {
            let has_room = outcome.delay.is_zero() || socket.delayed.has_room(outcome.reply_bytes());
            let (for_taps, answer) = match &outcome.reply {
                _ if !has_room => (TapOutcome::Dropped(DropReason::QueueFull), &[][..]),
                Reply::Owned(bytes) => (outcome.for_taps(), bytes.as_slice()),
                Reply::Nothing | Reply::InRecvBuf(_) => (outcome.for_taps(), &[][..]),
            };
            recorder.keep_again(kept);
            state.record_datagram(recorder, now, &from, for_taps, answer);
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
        if let Some(message) = outcome.later {
            socket.late.insert(message.ticket(), LateDatagram { to, from, message, kept });
            return;
        }
        if let Reply::Owned(bytes) = &outcome.reply
            && outcome.copies > 0
        {
            socket.delayed.keep_copies(now.after(outcome.delay), to, bytes, outcome.copies);
            timers.arm(token, &mut socket.deadline, socket.delayed.next());
        }
        match outcome.reply {
            Reply::Owned(bytes) if outcome.delay.is_zero() => {
                socket.remember_late(&to, &bytes, now);
                let result = driver.send_to(token, &to, &bytes);
                pool.put(bytes);
                self.answered(token, 1, result);
            }
            Reply::Owned(bytes) => {
                let kept = socket.delayed.keep(now.after(outcome.delay), to, bytes);
                if kept.is_err() {
                    state.stats.dropped(DropReason::QueueFull, 1);
                }
                let (Ok(bytes) | Err(bytes)) = kept;
                pool.put(bytes);
                timers.arm(token, &mut socket.deadline, socket.delayed.next());
            }
            Reply::Nothing | Reply::InRecvBuf(_) => {}
        }
        self.end_datagrams_if_done(token);
    }
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
pub(super) fn desk<'a>(
    tickets: &'a Arc<Tickets>,
    (worker, socket): (usize, Token),
    waiting: usize,
) -> Option<Desk<'a>> {
    let owner = Owner { worker, socket };
    let waiting_bytes_max = DELAYED_DATAGRAM_BYTES_MAX;
    (waiting < LATE_ANSWERS_MAX).then_some(Desk { tickets, owner, waiting_bytes_max, order: None })
}

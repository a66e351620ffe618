//! What the host asks of a connection, at any time: to send something unasked, to stop and go on reading, to end.

use super::output::Chunk;
use super::request::{Request, Unasked};
use super::{Closing, Connection, End, Phase, Step};
use crate::context::Context;
use crate::driver::Close;
use crate::stats::CloseReason;

impl Connection {
    /// Does what the host asks. A connection that is ending is not asked for anything but to end at once.
    pub(crate) fn asked(&mut self, request: Request, cx: &mut Context<'_>) -> Step {
        match request {
            Request::Send(unasked) => self.send_unasked(unasked, cx),
            Request::ShutDown => {
                // What has arrived is to be read; the driver tells when that is all.
                self.flags.is_held = false;
                self.flags.is_listener_held = false;
                self.flags.is_shut_down = true;
                self.advance(Step::default(), cx)
            }
            Request::Close => match self.phase {
                Phase::Opening => self.closing(CloseReason::ByHost, Close::Gently),
                Phase::Open => {
                    let mut step = Step::default();
                    self.give_up_unanswered(cx);
                    self.begin_end(End::because(CloseReason::ByHost), &mut step, cx);
                    self.advance(step, cx)
                }
                // It may wait for answers that come later.
                Phase::Flushing(_) => {
                    self.give_up_unanswered(cx);
                    self.advance(Step::default(), cx)
                }
                Phase::Lingering(_) => Step::default(),
            },
            Request::Reset => {
                let reason = match self.phase {
                    Phase::Lingering(reason) => reason,
                    _ => CloseReason::ByHost,
                };
                Step::close(Closing { reason, how: Close::Reset, error: None })
            }
            Request::Pause => {
                // What has arrived is still to be read before an end in good order.
                self.flags.is_held = !self.flags.is_shut_down;
                self.advance(Step::default(), cx)
            }
            Request::Resume => {
                self.flags.is_held = false;
                self.advance(Step::default(), cx)
            }
        }
    }

    /// The host has stopped the listener's reading, or lets it go on.
    pub(crate) fn hold(&mut self, is_listener_held: bool, cx: &mut Context<'_>) -> Step {
        self.flags.is_listener_held = is_listener_held && !self.flags.is_shut_down;
        self.advance(Step::default(), cx)
    }

    /// It was accepted while its listener's reading is stopped.
    pub(crate) fn begin_held(&mut self) {
        self.flags.is_listener_held = true;
    }

    /// Everything is to end in good order: what has arrived is read, whatever the host has stopped.
    pub(crate) fn release(&mut self, cx: &mut Context<'_>) -> Step {
        self.flags.is_held = false;
        self.flags.is_listener_held = false;
        self.advance(Step::default(), cx)
    }

    /// The host does not want it to be read.
    pub(super) fn is_held(&self) -> bool {
        self.flags.is_held || self.flags.is_listener_held
    }

    /// Puts it behind everything that waits, delayed answers too: in a stream, order comes first.
    fn send_unasked(&mut self, unasked: Unasked, cx: &mut Context<'_>) -> Step {
        let chunk = Chunk::unasked(unasked);
        let mut step = Step::default();
        match (self.phase, self.around.as_deref_mut()) {
            (Phase::Opening, Some(around)) => {
                around.held.push(chunk);
                return step;
            }
            (Phase::Opening | Phase::Flushing(_) | Phase::Lingering(_), _) => {
                cx.stats.undelivered_bytes.add(chunk.bytes.len() as u64);
                return step;
            }
            (Phase::Open, _) if self.output.is_delaying() => {
                self.output.delay(chunk, &[], cx.now, cx.limits, cx.pool);
                step.rare().has_delays = true;
            }
            (Phase::Open, _) => self.output.queue(chunk, cx.limits, cx.pool),
        }
        self.advance(step, cx)
    }

    /// The stream is open: what was to be sent unasked meanwhile is the first of it. A preface has done what it was for.
    pub(super) fn send_held(&mut self, cx: &mut Context<'_>) {
        let Some(around) = self.around.as_deref_mut() else { return };
        for chunk in std::mem::take(&mut around.held) {
            self.output.queue(chunk, cx.limits, cx.pool);
        }
        if around.layer.is_none() {
            self.around = None;
        }
    }

    /// Bytes of what waits for the stream to be open.
    pub(super) fn held_bytes(&self) -> usize {
        let held = self.around.iter().flat_map(|around| &around.held);
        held.map(|chunk| chunk.bytes.len()).sum()
    }
}

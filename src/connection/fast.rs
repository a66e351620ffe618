//! The path of most messages: an open connection of which nothing waits, and a chain that works in place. What was read is
//! the answer, and goes back to the driver in the buffer in which it came.

use std::sync::Arc;

use super::{Connection, Send, Step};
use crate::chain::ChainOutcome;
use crate::context::Context;
use crate::driver::RecvBuf;
use crate::limits::{TURN_ANSWER_BYTES, TURN_MESSAGES};

/// How far a read was answered on this path. The general one goes on from there.
#[derive(Debug, Default)]
pub(super) struct Begun {
    /// The read is counted.
    pub(super) is_counted: bool,
    /// Bytes that are answered in place, and in how many messages.
    pub(super) used: usize,
    pub(super) messages: usize,
    /// The length of the frame behind them, of which a transform has said something else than that it goes on.
    pub(super) stopped: Option<Box<(usize, ChainOutcome)>>,
}

impl Connection {
    /// Bytes arrived: `buffer[start..]`.
    #[inline(always)]
    pub(crate) fn received(&mut self, recv_buf: RecvBuf<'_>, cx: &mut Context<'_>) -> Step {
        let RecvBuf { buffer, start } = recv_buf;
        let mut begun = Begun::default();
        if self.is_fast(cx)
            && let Some(window) = buffer.get_mut(start..)
        {
            self.silent_since = cx.now;
            cx.stats.bytes_in.add(window.len() as u64);
            begun.is_counted = true;
            self.answer_in_place(window, &mut begun, cx);
            if begun.used == window.len() {
                self.output.begin(begun.used, begun.messages as u32);
                let send = Send::RecvBuf(start..start + begun.used);
                return Step { send, is_alone: true, rare: None };
            }
        }
        self.received_in_general(RecvBuf { buffer, start }, begun, cx)
    }

    /// Whether this path may be taken.
    #[inline]
    fn is_fast(&self, cx: &Context<'_>) -> bool {
        self.is_plain()
            && !self.flags.is_special
            && Arc::ptr_eq(&self.generation, cx.current)
            && self.generation.is_fast()
    }

    #[inline]
    fn answer_in_place(&mut self, window: &mut [u8], begun: &mut Begun, cx: &mut Context<'_>) {
        if cx.limits.framer.has_messages() {
            return self.answer_frames_in_place(window, begun, cx);
        }
        cx.stats.messages_in.add(1);
        match self.session.map_all(window) {
            Ok(()) => (begun.used, begun.messages) = (window.len(), 1),
            Err((stage, status)) => begun.stop(window.len(), ChainOutcome::of(stage, status)),
        }
    }

    fn answer_frames_in_place(&mut self, window: &mut [u8], begun: &mut Begun, cx: &mut Context<'_>) {
        let answer_bytes_max = cx.limits.high_water_bytes.clamp(1, TURN_ANSWER_BYTES);
        while begun.messages < TURN_MESSAGES && begun.used < answer_bytes_max {
            let rest = window.get_mut(begun.used..).unwrap_or_default();
            // What is no whole message, or too long for one, is for the general path.
            let Ok(Some(found)) = cx.limits.framer.find(rest, 0) else { return };
            cx.stats.messages_in.add(1);
            let body = rest.get_mut(found.body).unwrap_or_default();
            if let Err((stage, status)) = self.session.map_all(body) {
                return begun.stop(found.len, ChainOutcome::of(stage, status));
            }
            begun.used += found.len;
            begun.messages += 1;
        }
    }
}

impl Begun {
    #[cold]
    fn stop(&mut self, frame_bytes: usize, outcome: Option<ChainOutcome>) {
        self.stopped = Some(Box::new((frame_bytes, outcome.unwrap_or(ChainOutcome::Answer))));
    }
}

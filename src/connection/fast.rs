//! The path of most messages: an open connection of which nothing waits, and a chain that works in place. What was read is
//! the answer, and goes back to the driver in the buffer in which it came.

use std::sync::Arc;

use super::Connection;
use super::begun::Begun;
use super::step::{Send, Step};
use crate::bug;
use crate::chain::WHOLE;
use crate::context::Context;
use crate::driver::RecvBuf;
use crate::limits::{TURN_ANSWER_BYTES, TURN_MESSAGES};
use crate::tap::TapOutcome;

impl Connection {
    /// Bytes arrived: `buffer[start..]`.
    #[inline(always)]
    pub(crate) fn received(&mut self, recv_buf: RecvBuf<'_>, cx: &mut Context<'_>) -> Step {
        if cx.recorder.is_on() {
            return self.received_and_recorded(recv_buf, cx);
        }
        self.received_fast::<false>(recv_buf, cx)
    }

    /// The same while a tap is open: code of its own, so that it takes nothing from the other.
    #[cold]
    #[inline(never)]
    fn received_and_recorded(&mut self, recv_buf: RecvBuf<'_>, cx: &mut Context<'_>) -> Step {
        self.received_fast::<true>(recv_buf, cx)
    }

    #[inline(always)]
    fn received_fast<const IS_RECORDED: bool>(
        &mut self,
        recv_buf: RecvBuf<'_>,
        cx: &mut Context<'_>,
    ) -> Step {
        let RecvBuf { buffer, start } = recv_buf;
        let end = buffer.len();
        let mut begun = Begun::default();
        if self.is_fast(cx)
            && let Some(window) = buffer.get_mut(start..)
        {
            self.silent_since = cx.now;
            self.bytes_in += window.len() as u64;
            cx.stats.bytes_in.add(window.len() as u64);
            let messages = if cx.limits.framer.has_messages() {
                self.answer_frames_in_place::<IS_RECORDED>(window, &mut begun, cx)
            } else {
                self.answer_read_in_place::<IS_RECORDED>(window, &mut begun, cx)
            };
            if let Some(messages) = messages {
                self.output.begin(end - start, messages);
                return Step { send: Send::RecvBuf(start..end), is_alone: true, rare: None };
            }
            begun.is_counted = true;
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

    /// Answers a read of a raw stream; how many messages that was, if nothing is left.
    #[inline]
    fn answer_read_in_place<const IS_RECORDED: bool>(
        &mut self,
        window: &mut [u8],
        begun: &mut Begun,
        cx: &mut Context<'_>,
    ) -> Option<u32> {
        cx.stats.messages_in.add(1);
        if IS_RECORDED {
            cx.recorder.keep(window);
        }
        match self.session.map_all(window) {
            Ok(()) => {
                if IS_RECORDED {
                    self.record(TapOutcome::Answered, 0, window, cx);
                }
                Some(1)
            }
            Err(stopped) => {
                let outcome = begun.stop(window.len(), stopped);
                if IS_RECORDED {
                    self.record_stopped(window, outcome, 0, cx);
                }
                None
            }
        }
    }

    /// The same for a read with messages of their own.
    fn answer_frames_in_place<const IS_RECORDED: bool>(
        &mut self,
        window: &mut [u8],
        begun: &mut Begun,
        cx: &mut Context<'_>,
    ) -> Option<u32> {
        let answer_bytes_max = cx.limits.high_water_bytes.clamp(1, TURN_ANSWER_BYTES);
        while begun.messages < TURN_MESSAGES && begun.used < answer_bytes_max {
            let rest = bug::part_mut(window, begun.used..);
            if rest.is_empty() {
                return Some(begun.messages as u32);
            }
            // What is no whole message, or too long for one, is for the general path.
            let Ok(Some(found)) = cx.limits.framer.find(rest, 0) else { return None };
            cx.stats.messages_in.add(1);
            let body = bug::part_mut(rest, found.body);
            if IS_RECORDED {
                cx.recorder.keep(body);
            }
            if let Err(stopped) = self.session.map_all(body) {
                let outcome = begun.stop(found.len, stopped);
                if IS_RECORDED {
                    self.record_stopped(body, outcome, WHOLE, cx);
                }
                return None;
            }
            if IS_RECORDED {
                self.record(TapOutcome::Answered, WHOLE, body, cx);
            }
            begun.used += found.len;
            begun.messages += 1;
        }
        (begun.used == window.len()).then_some(begun.messages as u32)
    }
}

//! Listeners and the connections that they bring.

use std::io;

use super::world::{Handle, World};
use super::{InRecvBuf, Simulator};
use crate::buffer::Outgoing;
use crate::driver::{Completion, Progress, Token};
use crate::limits::{ACCEPT_RETRY, HEADROOM_BYTES};

/// A listening socket.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) token: Token,
    pub(super) paused: bool,
    pub(super) draining: bool,
    /// The kernel accepts without being asked.
    pub(super) accepts_by_itself: bool,
    /// Nothing may be accepted before this: descriptors had run out.
    pub(super) rests_until: u64,
    pub(super) _handle: Handle,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) token: Token,
    pub(super) client: usize,
    pub(super) records: bool,
    pub(super) read_bytes_max: usize,
    pub(super) paused: bool,
    pub(super) draining: bool,
    pub(super) ended: bool,
    pub(super) failed: bool,
    pub(super) finished: bool,
    /// It was read in this turn, which is all that a turn may.
    pub(super) is_read: bool,
    pub(super) outgoing: Option<Outgoing>,
    /// It was submitted and the kernel has not seen it; the worker wants to hear of its end; the kernel has taken all of it.
    pub(super) is_submitted: bool,
    pub(super) is_reported: bool,
    pub(super) is_taken: bool,
    pub(super) _handle: Handle,
}

impl Simulator {
    pub(super) fn next_of_listener(&mut self, place: usize) -> Option<Completion<Handle>> {
        let world = &mut *self.world.borrow_mut();
        let listening = &mut self.listeners[place];
        let token = listening.token;
        if listening.paused {
            return None;
        }
        if world.has_waiting() && world.random.one_in(10) {
            let errno = world.random.pick(&[libc::EMFILE, libc::ECONNABORTED, libc::ENOBUFS]);
            if errno == libc::ECONNABORTED {
                world.meet("accept: aborted");
            } else {
                assert!(world.now >= listening.rests_until, "accepting before the listener has rested");
                listening.rests_until = world.now + ACCEPT_RETRY.as_micros() as u64;
                world.meet("accept: out of descriptors");
            }
            return Some(Completion::AcceptFailed { token, error: io::Error::from_raw_os_error(errno) });
        }
        if let Some((socket, peer)) = world.accept() {
            assert!(world.now >= listening.rests_until, "accepting before the listener has rested");
            return Some(Completion::Accepted { token, socket, peer });
        }
        let is_drained = std::mem::take(&mut listening.draining);
        listening.accepts_by_itself &= !is_drained;
        is_drained.then_some(Completion::Drained { token })
    }

    pub(super) fn next_of_stream(&mut self, place: usize) -> Option<Completion<Handle>> {
        let world = &mut *self.world.borrow_mut();
        let World { clients, random, now, waits, .. } = world;
        let slot = &mut self.slots[place];
        let token = slot.token;
        let client = &mut clients[slot.client];
        if !slot.is_submitted
            && let Some(mut outgoing) = slot.outgoing.take()
        {
            if std::mem::take(&mut slot.is_taken) {
                return Some(Completion::Sent { token, memory: outgoing.into_bytes() });
            }
            if client.was_reset {
                slot.outgoing = Some(outgoing);
                if std::mem::replace(&mut slot.failed, true) {
                    return None;
                }
                client.failed_at = Some(*waits);
                return Some(Completion::Failed { token, error: io::ErrorKind::BrokenPipe.into() });
            }
            let taken = client.take(outgoing.rest(), slot.records, *now, random);
            outgoing.advance(taken.unwrap_or(0));
            if outgoing.is_done() && taken.is_some() {
                return Some(Completion::Sent { token, memory: outgoing.into_bytes() });
            }
            slot.outgoing = Some(outgoing);
        }
        if slot.ended || slot.failed {
            return None;
        }
        // Of a broken connection kernels tell even those that do not read.
        // What had arrived before may still be read.
        let is_first = client.arrived > client.taken && !slot.paused && random.one_in(2);
        if client.was_reset && !is_first && (!slot.paused || random.one_in(3)) {
            slot.failed = true;
            client.failed_at = Some(*waits);
            return Some(Completion::Failed { token, error: io::ErrorKind::ConnectionReset.into() });
        }
        if slot.paused {
            return None;
        }
        let waiting = client.arrived - client.taken;
        let available = if slot.records {
            let end = client.ends.get(client.records_taken).filter(|&&end| end <= client.arrived);
            end.map(|end| end - client.taken)
        } else {
            (waiting > 0).then(|| 1 + random.below(waiting.min(slot.read_bytes_max)))
        };
        if available.is_some() && std::mem::replace(&mut slot.is_read, true) {
            return None;
        }
        if let Some(count) = available {
            client.records_taken += usize::from(slot.records);
            let truncated = count > slot.read_bytes_max;
            client.truncated_bytes += if truncated { count } else { 0 };
            let bytes = client.read(count, *now);
            lend(&mut self.buffer, &bytes[..count.min(slot.read_bytes_max)]);
            self.recv_buf = InRecvBuf::Stream { bytes: count.min(slot.read_bytes_max) };
            return Some(Completion::Received { token, truncated });
        }
        if client.fin_arrived {
            slot.ended = true;
            client.ended_at = Some(*now);
            return Some(Completion::Ended { token });
        }
        if std::mem::take(&mut slot.draining) {
            client.drained_at.get_or_insert(client.taken);
            return Some(Completion::Drained { token });
        }
        None
    }

    /// What was submitted goes to the kernel.
    pub(super) fn end_submitted(&mut self) {
        let world = &mut *self.world.borrow_mut();
        let World { clients, random, now, .. } = world;
        let mut met = Vec::new();
        for slot in &mut self.slots {
            if !std::mem::take(&mut slot.is_submitted) {
                continue;
            }
            let is_reported = std::mem::take(&mut slot.is_reported);
            let client = &mut clients[slot.client];
            let outgoing = slot.outgoing.as_mut().expect("what was submitted");
            let taken = if client.was_reset {
                None
            } else {
                client.take(outgoing.rest(), slot.records, *now, random)
            };
            outgoing.advance(taken.unwrap_or(0));
            let is_done = outgoing.is_done() && taken.is_some();
            if is_reported {
                // Whatever became of it is a completion.
                slot.is_taken = is_done;
                met.push("a submitted send that was waited for");
            } else if is_done {
                slot.outgoing = None;
                met.push("a submitted send");
            } else {
                self.unsent.push(slot.token);
                met.push("a submitted send that came short");
            }
        }
        met.into_iter().for_each(|what| world.meet(what));
    }

    /// A send that the kernel sees when the worker waits next.
    pub(super) fn begin_submitted(&mut self, token: Token, bytes: Vec<u8>) -> Progress {
        self.world.borrow_mut().stir();
        let slot = self.slots.iter_mut().find(|slot| slot.token == token).expect("a send to an open socket");
        assert!(slot.outgoing.is_none(), "one send at a time");
        assert!(!slot.finished, "nothing is sent after the end");
        slot.outgoing = Some(Outgoing::new(bytes));
        slot.is_submitted = true;
        Progress::Submitted
    }

    /// A send, with however much of it the kernel takes at once.
    pub(super) fn begin_send(&mut self, token: Token, bytes: Vec<u8>) -> Progress {
        let world = &mut *self.world.borrow_mut();
        world.stir();
        let slot = self.slots.iter_mut().find(|slot| slot.token == token).expect("a send to an open socket");
        assert!(slot.outgoing.is_none(), "one send at a time");
        assert!(!slot.finished, "nothing is sent after the end");
        let client = &mut world.clients[slot.client];
        if client.was_reset || slot.failed {
            world.meet("a send that failed");
            slot.failed = true;
            slot.outgoing = Some(Outgoing::new(bytes));
            return Progress::Failed(io::ErrorKind::BrokenPipe.into());
        }
        // What a ring sends is only taken later.
        let is_later = world.random.one_in(4);
        let taken =
            if is_later { None } else { client.take(&bytes, slot.records, world.now, &mut world.random) };
        if taken == Some(bytes.len()) {
            return Progress::Done(bytes);
        }
        let mut outgoing = Outgoing::new(bytes);
        outgoing.advance(taken.unwrap_or(0));
        slot.outgoing = Some(outgoing);
        Progress::Pending
    }
}

/// Puts bytes where the worker may have them. What was there before is overwritten, so that nobody relies on it.
pub(super) fn lend(buffer: &mut Vec<u8>, bytes: &[u8]) {
    buffer.clear();
    buffer.resize(HEADROOM_BYTES, b'#');
    buffer.extend_from_slice(bytes);
}

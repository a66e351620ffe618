//! What a stream has in flight.

use super::buffers::Buffers;
use crate::buffer::Outgoing;
use crate::driver::chunks::Chunks;
use crate::limits::RING_HEADROOM_BYTES;

/// What a stream has in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sending {
    Nothing,
    /// A part of a buffer of the ring. Where it `waits`, the socket has not taken all of it.
    Buffer {
        waits: bool,
        id: u16,
        start: u32,
        len: u32,
    },
    /// Memory of the worker's: its place in `Uring::owned`.
    Owned {
        place: u32,
    },
    /// The send failed; so many bytes of it the kernel did not take.
    Failed {
        unsent: u32,
    },
}

impl Sending {
    /// What is still to be sent.
    pub(super) fn rest<'a>(self, buffers: &'a mut Buffers, owned: &'a Chunks<Outgoing>) -> &'a [u8] {
        match self {
            Sending::Nothing | Sending::Failed { .. } => &[],
            Sending::Buffer { id, start, len, .. } => {
                let (start, end) = (start as usize, (start + len) as usize);
                let bytes = buffers.bytes(id, end.saturating_sub(RING_HEADROOM_BYTES));
                bytes.get(start..end).unwrap_or_default()
            }
            Sending::Owned { place } => owned.get(place as usize).map_or(&[], Outgoing::rest),
        }
    }

    /// How many bytes those are.
    pub(super) fn unsent(self, owned: &Chunks<Outgoing>) -> usize {
        match self {
            Sending::Nothing => 0,
            Sending::Buffer { len: unsent, .. } | Sending::Failed { unsent } => unsent as usize,
            Sending::Owned { place } => owned.get(place as usize).map_or(0, |owned| owned.rest().len()),
        }
    }
}

//! Memory between stages.

use resay_plugin::abi;

use super::stream_input::StreamInput;
use crate::bug;
use crate::limits::SCRATCH_BYTES_MAX;
use crate::transform::library::Fault;

/// A worker's memory for what lies between two stages.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(super) buffers: [Vec<u8>; 2],
    /// What `process` writes to: initialised once, so that a call costs no clearing of its room.
    pub(super) room: Vec<u8>,
    /// The buffer that holds the last message's answer, where a chain that works in place has not left it there.
    pub(super) replaced: Option<usize>,
    /// How many more times the last message's answer is to be sent, if it is a datagram.
    pub(crate) copies: u32,
    /// For streams that leave nothing unread.
    pub(super) stream: StreamInput,
}

impl Scratch {
    /// The answer to the last message, where a function made another one of it and nothing behind needed memory.
    pub(crate) fn replaced(&self) -> Option<&[u8]> {
        self.buffers.get(self.replaced?).map(Vec::as_slice)
    }

    /// Gives back what an unusually large message has needed.
    #[inline]
    pub(crate) fn trim(&mut self) {
        let [first, second] = &self.buffers;
        // Any of them is over the limit where all together are: it is a power of two.
        if (first.capacity() | second.capacity() | self.room.capacity()) > SCRATCH_BYTES_MAX {
            self.trim_large();
        }
    }

    #[cold]
    fn trim_large(&mut self) {
        for buffer in self.buffers.iter_mut().chain([&mut self.room]) {
            if buffer.capacity() > SCRATCH_BYTES_MAX {
                *buffer = Vec::new();
            }
        }
    }
}

/// Initialised memory of `bytes` bytes, whatever is in it. The error: there is not so much.
pub(super) fn room_of(room: &mut Vec<u8>, bytes: usize) -> Result<&mut [u8], Fault> {
    if room.len() < bytes {
        room.try_reserve(bytes - room.len()).map_err(|_| OUT_OF_MEMORY)?;
        room.resize(bytes, 0);
    }
    Ok(bug::part_mut(room, ..bytes))
}

/// As a stage says it that could not get memory of its own.
pub(super) const OUT_OF_MEMORY: Fault = Fault::Status(abi::RESAY_E_NOMEM);

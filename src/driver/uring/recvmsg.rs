//! Where things are in the buffer of a message: what the kernel is told beforehand, and what it has written.

use std::ops::Range;

use crate::driver::Token;
use crate::sys::ControlInfo;

/// What the kernel writes first (`struct io_uring_recvmsg_out`): the lengths of name, control messages and bytes, flags.
const HEAD_BYTES: usize = 16;

/// How much room names and control messages have in front of what is received. The kernel looks at it whenever it
/// receives, so it does not move.
pub(super) struct MsghdrTemplate {
    pub(super) header: Box<libc::msghdr>,
    name_bytes: usize,
    control_bytes: usize,
}

// SAFETY: the header points to nothing.
unsafe impl Send for MsghdrTemplate {}

impl MsghdrTemplate {
    pub(super) fn new(name_bytes: usize, control_bytes: usize) -> MsghdrTemplate {
        // SAFETY: msghdr is plain data for which all zero is valid.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_namelen = name_bytes as libc::socklen_t;
        header.msg_controllen = control_bytes as _;
        MsghdrTemplate { header: Box::new(header), name_bytes, control_bytes }
    }

    /// Finds its way in `buffer`, of which the kernel has filled what is behind `headroom`.
    pub(super) fn read(&self, buffer: &[u8], headroom: usize) -> Option<RecvmsgOut> {
        let head = buffer.get(headroom..)?.get(..HEAD_BYTES)?;
        let word = |place: usize| {
            let bytes = head.get(place * 4..)?.first_chunk()?;
            Some(u32::from_ne_bytes(*bytes))
        };
        let name_start = headroom + HEAD_BYTES;
        let control_start = name_start + self.name_bytes;
        let start = control_start + self.control_bytes;
        let end = (start + word(2)? as usize).min(buffer.len());
        (start <= end).then_some(RecvmsgOut {
            name: name_start..name_start + (word(0)? as usize).min(self.name_bytes),
            control: control_start..control_start + (word(1)? as usize).min(self.control_bytes),
            bytes: start..end,
            flags: word(3)? as i32,
        })
    }
}

/// Where things are in a buffer.
#[derive(Debug, Clone)]
pub(super) struct RecvmsgOut {
    pub(super) name: Range<usize>,
    pub(super) control: Range<usize>,
    pub(super) bytes: Range<usize>,
    pub(super) flags: i32,
}

/// What is received: `start..end` of the message in a buffer, which is cut every `segment_bytes`.
#[derive(Debug, Clone)]
pub(super) struct RecvMessage {
    pub(super) token: Token,
    pub(super) id: u16,
    /// All that the kernel has written.
    pub(super) len: usize,
    pub(super) message: RecvmsgOut,
    /// What its control messages say.
    pub(super) info: ControlInfo,
    pub(super) segment_bytes: usize,
    pub(super) start: usize,
    pub(super) end: usize,
    /// The first datagram was reported.
    pub(super) is_begun: bool,
}

impl std::fmt::Debug for MsghdrTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MsghdrTemplate({}, {})", self.name_bytes, self.control_bytes)
    }
}

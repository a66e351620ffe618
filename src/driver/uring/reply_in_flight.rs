//! An answer to a datagram while the kernel has it.

use std::ops::Range;

use super::recvmsg::RecvMessage;
use crate::driver::Token;
use crate::sys::ReplyTo;

/// An answer on its way: one datagram, or several as one.
#[derive(Debug)]
pub(super) struct ReplyInFlight {
    pub(super) token: Token,
    pub(super) received: RecvMessage,
    /// In the buffer, where it stands there.
    pub(super) part: Range<usize>,
    pub(super) memory: Vec<u8>,
    pub(super) is_in_place: bool,
    pub(super) count: usize,
    pub(super) segment_bytes: usize,
    pub(super) header: Option<SendMsg>,
    pub(super) is_second_try: bool,
}

/// What sendmsg(2) gets, in memory that does not move.
pub(super) struct SendMsg(Box<(libc::msghdr, libc::iovec, Option<ReplyTo>)>);

// SAFETY: the pointers in it are set before each use, to what lives until the send is over.
unsafe impl Send for SendMsg {}

impl SendMsg {
    pub(super) fn new() -> SendMsg {
        // SAFETY: msghdr and iovec are plain data for which all zero is valid.
        SendMsg(Box::new(unsafe { (std::mem::zeroed(), std::mem::zeroed(), None) }))
    }

    /// Says what is to be sent to whom. The bytes must stay where they are until that is over.
    pub(super) fn address(&mut self, reply_to: ReplyTo, bytes: &[u8]) -> *const libc::msghdr {
        let (header, part, kept) = &mut *self.0;
        *part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        *header = kept.insert(reply_to).header(part);
        header
    }
}

impl std::fmt::Debug for SendMsg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SendMsg({:?})", self.0.2)
    }
}

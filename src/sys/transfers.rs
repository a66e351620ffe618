//! Bytes, records and datagrams, one at a time.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use super::call::{transfer, wide};

// The calls that every message makes go by syscall(2): the C library's functions of these names are points at which
// a thread may be cancelled, which takes forty instructions a call. The numbers are widened as the kernel takes them.

/// recv(2): 0 is the end of the stream (or an empty `bytes`).
#[inline]
pub(crate) fn recv(fd: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<usize> {
    let (to, len) = (bytes.as_mut_ptr(), bytes.len());
    let nobody = ptr::null_mut::<libc::c_void>();
    // SAFETY: the pointer and the length are those of one writable slice, and nobody's address is asked for.
    transfer!(unsafe {
        libc::syscall(
            libc::SYS_recvfrom,
            wide(fd.as_raw_fd()),
            to,
            len,
            wide(libc::MSG_DONTWAIT),
            nobody,
            nobody,
        )
    })
}

/// send(2): how many bytes the kernel took.
#[inline]
pub(crate) fn send(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    const FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    let (from, len) = (bytes.as_ptr(), bytes.len());
    let nobody = ptr::null::<libc::c_void>();
    // SAFETY: the pointer and the length are those of one readable slice, and no address is given.
    transfer!(unsafe {
        libc::syscall(libc::SYS_sendto, wide(fd.as_raw_fd()), from, len, wide(FLAGS), nobody, wide(0))
    })
}

/// One record of a seqpacket connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Record {
    /// `len` bytes arrived; `truncated`: the record was longer than the buffer.
    Data { len: usize, truncated: bool },
    /// The peer has ended its side.
    End,
}

impl Record {
    /// What recv(2) of a stream means.
    pub(crate) fn of_stream(len: usize) -> Record {
        if len == 0 { Record::End } else { Record::Data { len, truncated: false } }
    }
}

/// recvmsg(2) on a unix stream: how many bytes came, and whether the read stopped where a descriptor was sent along
/// (which is not received), so that there may be more behind it.
pub(crate) fn recv_unix(fd: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<(usize, bool)> {
    recvmsg(fd, bytes).map(|(len, flags)| (len, flags & libc::MSG_CTRUNC != 0))
}

/// recvmsg(2) on a seqpacket socket that has `SO_PASSCRED` set (see [`tell_empty_records`](super::tell_empty_records)).
pub(crate) fn recv_record(fd: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<Record> {
    let (len, flags) = recvmsg(fd, bytes)?;
    if len == 0 && flags & libc::MSG_CTRUNC == 0 {
        return Ok(Record::End);
    }
    Ok(Record::Data { len, truncated: flags & libc::MSG_TRUNC != 0 })
}

/// recvmsg(2) of one datagram: how many bytes came, and whether there were more than fit.
pub(crate) fn recv_datagram(fd: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<(usize, bool)> {
    recvmsg(fd, bytes).map(|(len, flags)| (len, flags & libc::MSG_TRUNC != 0))
}

/// recvmsg(2) without room for a name or control data: the bytes and the flags.
fn recvmsg(fd: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<(usize, i32)> {
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: msghdr is plain data for which all zero is valid: no name, no control buffer.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = &mut part;
    message.msg_iovlen = 1;
    // SAFETY: `message` points to one iovec over a writable slice; both outlive the call.
    let n = transfer!(unsafe {
        libc::syscall(libc::SYS_recvmsg, wide(fd.as_raw_fd()), &raw mut message, wide(libc::MSG_DONTWAIT))
    })?;
    Ok((n, message.msg_flags))
}

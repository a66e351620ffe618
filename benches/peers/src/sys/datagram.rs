//! Many datagrams a call: recvmmsg(2), sendmmsg(2), and the runs of udp(7), `UDP_GRO` and `UDP_SEGMENT`.

use std::io;
use std::mem::{MaybeUninit, zeroed};
use std::os::fd::AsRawFd;
use std::ptr;

use super::syscall::syscall;

/// How many datagrams one call moves at most.
pub(crate) const BATCH: usize = 64;

/// Room for one control message with an int or less.
#[repr(C, align(8))]
struct Control([u8; CONTROL_BYTES]);

const CONTROL_BYTES: usize = 64;

/// Receives what there is, without waiting: up to [`BATCH`] datagrams, each to a slot of `slot_bytes` in `buffer`.
/// `lens` says how long each was; the result, how many.
pub(crate) fn receive_batch(
    socket: &impl AsRawFd,
    buffer: &mut [u8],
    slot_bytes: usize,
    lens: &mut [usize; BATCH],
) -> io::Result<usize> {
    let mut pieces = buffer
        .chunks_exact_mut(slot_bytes)
        .map(|slot| libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: slot_bytes });
    let mut slots: [libc::iovec; BATCH] =
        [const { libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 } }; BATCH];
    let mut count = 0;
    for (slot, piece) in slots.iter_mut().zip(&mut pieces) {
        *slot = piece;
        count += 1;
    }
    let mut headers = headers(&mut slots);
    let received = syscall!(recvmmsg(
        socket.as_raw_fd(),
        headers.as_mut_ptr(),
        count,
        libc::MSG_DONTWAIT,
        ptr::null_mut()
    ))? as usize;
    for (len, header) in lens.iter_mut().zip(&headers[..received]) {
        *len = header.msg_len as usize;
    }
    Ok(received)
}

/// Sends the slots of `slot_bytes` in `bytes`, up to [`BATCH`] of them, a datagram each, to whom the socket is connected
/// with. How many went.
pub(crate) fn send_batch(socket: &impl AsRawFd, bytes: &[u8], slot_bytes: usize) -> io::Result<usize> {
    let mut slots: [libc::iovec; BATCH] =
        [const { libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 } }; BATCH];
    let mut count = 0;
    for (slot, datagram) in slots.iter_mut().zip(bytes.chunks_exact(slot_bytes)) {
        // The kernel only reads what is sent.
        *slot = libc::iovec { iov_base: datagram.as_ptr().cast_mut().cast(), iov_len: slot_bytes };
        count += 1;
    }
    let mut headers = headers(&mut slots);
    let sent = syscall!(sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count, libc::MSG_DONTWAIT))?;
    Ok(sent as usize)
}

fn headers(slots: &mut [libc::iovec; BATCH]) -> [libc::mmsghdr; BATCH] {
    // SAFETY: integers and pointers, for which zero is a value.
    let mut headers: [libc::mmsghdr; BATCH] = unsafe { zeroed() };
    for (header, slot) in headers.iter_mut().zip(slots) {
        header.msg_hdr.msg_iov = slot;
        header.msg_hdr.msg_iovlen = 1;
    }
    headers
}

/// Lets the kernel hand over runs of datagrams of one size as one.
pub(crate) fn gather_runs(socket: &impl AsRawFd) -> io::Result<()> {
    let one: libc::c_int = 1;
    syscall!(setsockopt(
        socket.as_raw_fd(),
        libc::SOL_UDP,
        libc::UDP_GRO,
        (&raw const one).cast(),
        size_of::<libc::c_int>() as libc::socklen_t,
    ))?;
    Ok(())
}

/// Receives a run, without waiting: its bytes, and how long each datagram in it is but the last, which may be shorter.
pub(crate) fn receive_run(socket: &impl AsRawFd, buffer: &mut [u8]) -> io::Result<(usize, usize)> {
    let mut control = MaybeUninit::<Control>::zeroed();
    let mut piece = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: integers and pointers, for which zero is a value.
    let mut header: libc::msghdr = unsafe { zeroed() };
    header.msg_iov = &mut piece;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = CONTROL_BYTES as _;
    let received = syscall!(recvmsg(socket.as_raw_fd(), &mut header, libc::MSG_DONTWAIT))? as usize;
    let mut segment_bytes = received;
    // SAFETY: the kernel has filled the header and the control messages that it points to, which are still here.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(&header);
        while let Some(found) = message.as_ref() {
            if found.cmsg_level == libc::SOL_UDP && found.cmsg_type == libc::UDP_GRO {
                segment_bytes = libc::CMSG_DATA(message).cast::<libc::c_int>().read_unaligned() as usize;
            }
            message = libc::CMSG_NXTHDR(&header, message);
        }
    }
    Ok((received, segment_bytes))
}

/// Sends a run, which the kernel cuts into datagrams of `segment_bytes`, to whom the socket is connected with.
pub(crate) fn send_run(socket: &impl AsRawFd, bytes: &[u8], segment_bytes: u16) -> io::Result<()> {
    let mut control = MaybeUninit::<Control>::zeroed();
    // The kernel only reads what is sent.
    let mut piece = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: integers and pointers, for which zero is a value.
    let mut header: libc::msghdr = unsafe { zeroed() };
    header.msg_iov = &mut piece;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    // SAFETY: the control buffer has more room than one message with two bytes takes, and is aligned for it.
    unsafe {
        header.msg_controllen = libc::CMSG_SPACE(size_of::<u16>() as u32) as _;
        let message = libc::CMSG_FIRSTHDR(&header);
        (*message).cmsg_level = libc::SOL_UDP;
        (*message).cmsg_type = libc::UDP_SEGMENT;
        (*message).cmsg_len = libc::CMSG_LEN(size_of::<u16>() as u32) as _;
        libc::CMSG_DATA(message).cast::<u16>().write_unaligned(segment_bytes);
    }
    syscall!(sendmsg(socket.as_raw_fd(), &header, libc::MSG_DONTWAIT))?;
    Ok(())
}

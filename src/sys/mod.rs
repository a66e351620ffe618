//! Unsafe boundary: the few system calls that socket2 does not give in the form that the engine needs.
//!
//! Everything here is a thin, safe function over one call of the manual's section 2, takes descriptors
//! as [`BorrowedFd`], never blocks (`MSG_DONTWAIT`), and never raises SIGPIPE (`MSG_NOSIGNAL`; `write`
//! and `splice` would). No control buffer is ever passed when unix sockets are read, so descriptors that a peer
//! sends along (`SCM_RIGHTS`) are never received; where the kernel can, none can be sent.

mod datagram;
mod descriptors;
pub(crate) mod epoll;
mod files;
mod rights;
mod waiting;

pub(crate) use datagram::{
    Batch, CONTROL_BYTES, LocalAddr, NAME_BYTES, Received, Reply, ReplyTo, is_plain_source, read_control,
    read_sender, receive_coalesced, run,
};
pub(crate) use descriptors::{Descriptors, close_copy};
pub(crate) use files::{open_directory, open_entry, open_to_lock, path_of, rename, unlink, without_umask};
pub(crate) use rights::{keep_queued, refuse_descriptors, without_descriptors};
pub(crate) use waiting::{clear, event_fd, signal, wait_readable};

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::ptr;
use std::sync::{Mutex, PoisonError};

use crate::peer::Peer;

/// Turns the -1 of a system call into `io::Error::last_os_error()`, once.
macro_rules! syscall {
    ($call:expr) => {{
        let result = $call;
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
    }};
}
pub(crate) use syscall;

/// Turns the -1 of a transfer into an error, and repeats it where a signal interrupted it.
macro_rules! transfer {
    ($call:expr) => {{
        loop {
            let n = $call;
            if n >= 0 {
                break Ok(n as usize);
            }
            let error = io::Error::last_os_error();
            if error.raw_os_error() != Some(libc::EINTR) {
                break Err(error);
            }
        }
    }};
}
use transfer;

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

/// The monotonic clock, in microseconds from a point of its own.
#[inline]
pub(crate) fn monotonic_micros() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes to `now`, and cannot fail with a clock that every Linux has (clock_gettime(2)).
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1000
}

#[inline]
fn wide(number: i32) -> libc::c_long {
    libc::c_long::from(number)
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

/// recvmsg(2) on a seqpacket socket that has `SO_PASSCRED` set (see [`tell_empty_records`]).
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

/// Makes the kernel tell an empty record from the end of a seqpacket connection.
///
/// With `SO_PASSCRED` every record carries credentials; since no control buffer is passed, the kernel says
/// that it cut them off (`MSG_CTRUNC`) for each record and not for the end, which is no record (unix(7)).
pub(crate) fn tell_empty_records(fd: BorrowedFd<'_>) -> io::Result<()> {
    set_int(fd, libc::SOL_SOCKET, libc::SO_PASSCRED, 1)
}

/// Leaves urgent bytes (`MSG_OOB`) where they are in the stream; an echo owes them too.
pub(crate) fn keep_urgent_inline(fd: BorrowedFd<'_>) -> io::Result<()> {
    set_int(fd, libc::SOL_SOCKET, libc::SO_OOBINLINE, 1)
}

/// accept4(2): the new connection, non-blocking and close-on-exec, and its peer's name.
///
/// Whether the call waits is not its own affair but the description's, which others may share and change: a parent, a
/// child, another server. So it is looked at each time. What remains is somebody who changes it between the two calls.
pub(crate) fn accept(fd: BorrowedFd<'_>) -> io::Result<(OwnedFd, Peer)> {
    keep_nonblocking(fd)?;
    let mut name = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let mut len = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    // SAFETY: `name` has room for `len` bytes; the call writes at most that and says how much.
    let accepted = syscall!(unsafe {
        libc::accept4(
            fd.as_raw_fd(),
            name.as_mut_ptr().cast(),
            &mut len,
            libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC,
        )
    })?;
    // SAFETY: a descriptor that accept4 just made and that nobody else knows.
    let socket = unsafe { OwnedFd::from_raw_fd(accepted) };
    // SAFETY: sockaddr_storage is plain data and was zeroed.
    let name = unsafe { name.assume_init() };
    let is_unix = i32::from(name.ss_family) == libc::AF_UNIX;
    let socket = if is_unix { without_descriptors(socket)? } else { socket };
    Ok((socket, peer_of(&name, len as usize)))
}

fn keep_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes no pointer.
    let flags = syscall!(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    if flags & libc::O_NONBLOCK == 0 {
        // SAFETY: as above.
        syscall!(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) })?;
    }
    Ok(())
}

/// getpeername(2).
pub(crate) fn peer(fd: BorrowedFd<'_>) -> io::Result<Peer> {
    let mut name = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let mut len = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    // SAFETY: `name` has room for `len` bytes; the call writes at most that and says how much.
    syscall!(unsafe { libc::getpeername(fd.as_raw_fd(), name.as_mut_ptr().cast(), &mut len) })?;
    // SAFETY: sockaddr_storage is plain data and was zeroed.
    let name = unsafe { name.assume_init() };
    Ok(peer_of(&name, len as usize))
}

/// The name in a `sockaddr_storage` of which the kernel filled `len` bytes.
fn peer_of(name: &libc::sockaddr_storage, len: usize) -> Peer {
    let mut peer = Peer::Unnamed;
    read_peer(&mut peer, name, len);
    peer
}

/// The same into a peer that is there, in the memory that its name has.
fn read_peer(peer: &mut Peer, name: &libc::sockaddr_storage, len: usize) {
    let pointer: *const libc::sockaddr_storage = name;
    let ip = |ip: IpAddr, port| Peer::Ip(SocketAddr::new(ip, port));
    match i32::from(name.ss_family) {
        libc::AF_INET if len >= size_of::<libc::sockaddr_in>() => {
            // SAFETY: the family and the length say that this is a sockaddr_in.
            let v4 = unsafe { &*pointer.cast::<libc::sockaddr_in>() };
            let address = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            *peer = ip(IpAddr::V4(address), u16::from_be(v4.sin_port));
        }
        libc::AF_INET6 if len >= size_of::<libc::sockaddr_in6>() => {
            // SAFETY: the family and the length say that this is a sockaddr_in6.
            let v6 = unsafe { &*pointer.cast::<libc::sockaddr_in6>() };
            let address = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            let port = u16::from_be(v6.sin6_port);
            // ::ffff:a.b.c.d is a.b.c.d, before anybody looks at it.
            *peer = match address.to_ipv4_mapped() {
                Some(address) => ip(IpAddr::V4(address), port),
                None => Peer::Ip(SocketAddr::V6(SocketAddrV6::new(
                    address,
                    port,
                    v6.sin6_flowinfo,
                    v6.sin6_scope_id,
                ))),
            };
        }
        libc::AF_UNIX if len > size_of::<libc::sa_family_t>() => {
            let used = (len - size_of::<libc::sa_family_t>()).min(size_of::<libc::sockaddr_un>());
            let start = std::mem::offset_of!(libc::sockaddr_un, sun_path);
            let used = used.min(size_of::<libc::sockaddr_un>() - start);
            // SAFETY: the family says that this is a sockaddr_un, which a sockaddr_storage has room for; the path is
            // plain bytes, of which `used` lie within it.
            let bytes = unsafe { std::slice::from_raw_parts(pointer.cast::<u8>().add(start), used) };
            read_unix_name(peer, bytes);
        }
        _ => *peer = Peer::Unnamed,
    }
}

/// A name as it stands in `sun_path` (unix(7)).
fn read_unix_name(peer: &mut Peer, bytes: &[u8]) {
    if let Some((0, name)) = bytes.split_first() {
        let mut kept = match std::mem::replace(peer, Peer::Unnamed) {
            Peer::Abstract(kept) => kept,
            _ => Vec::new(),
        };
        kept.clear();
        kept.extend_from_slice(name);
        *peer = Peer::Abstract(kept);
        return;
    }
    let path = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    if path.is_empty() {
        *peer = Peer::Unnamed;
        return;
    }
    let mut kept = match std::mem::replace(peer, Peer::Unnamed) {
        Peer::Path(kept) => kept,
        _ => PathBuf::new(),
    };
    kept.as_mut_os_string().clear();
    kept.as_mut_os_string().push(OsStr::from_bytes(path));
    *peer = Peer::Path(kept);
}

/// connect(2) to AF_UNSPEC: a datagram socket is connected to nobody any more, and has no address of its own.
pub(crate) fn disconnect(fd: BorrowedFd<'_>) -> io::Result<()> {
    let nobody = libc::sockaddr { sa_family: libc::AF_UNSPEC as libc::sa_family_t, sa_data: [0; 14] };
    let len = size_of::<libc::sockaddr>() as libc::socklen_t;
    // SAFETY: one sockaddr of that length, which lives during the call.
    syscall!(unsafe { libc::connect(fd.as_raw_fd(), &nobody, len) }).map(drop)
}

/// setsockopt(2) with an `int`.
pub(crate) fn set_int(fd: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: the pointer and the size are those of one int.
    syscall!(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    })?;
    Ok(())
}

/// getsockopt(2) of an `int`.
pub(crate) fn get_int(fd: BorrowedFd<'_>, level: i32, name: i32) -> io::Result<i32> {
    let mut value: i32 = 0;
    let mut len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the pointer and the size are those of one int.
    syscall!(unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, (&raw mut value).cast(), &mut len) })?;
    Ok(value)
}

/// The effective user of the process that connected a unix socket, as it was then (`SO_PEERCRED`, unix(7)).
pub(crate) fn peer_user(fd: BorrowedFd<'_>) -> io::Result<u32> {
    let mut credentials = MaybeUninit::<libc::ucred>::zeroed();
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the pointer and the size are those of one ucred.
    syscall!(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            credentials.as_mut_ptr().cast(),
            &mut len,
        )
    })?;
    // SAFETY: plain data, zeroed and then filled.
    Ok(unsafe { credentials.assume_init() }.uid)
}

/// A descriptor that this process was handed as a number, for example by its parent. It must be open, and a
/// socket can be handed over once: a second owner would close what belongs to the first.
pub(crate) fn adopt(fd: RawFd) -> io::Result<OwnedFd> {
    /// The numbers that were handed over, and the sockets that they meant then.
    static ADOPTED: Mutex<BTreeMap<RawFd, u64>> = Mutex::new(BTreeMap::new());

    let mut status = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: `status` has room for one stat; where the descriptor is not open the call fails with EBADF.
    syscall!(unsafe { libc::fstat(fd, status.as_mut_ptr()) })?;
    // SAFETY: plain data, zeroed and then filled.
    let socket = unsafe { status.assume_init() }.st_ino;
    let mut adopted = ADOPTED.lock().unwrap_or_else(PoisonError::into_inner);
    if adopted.insert(fd, socket) == Some(socket) {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "it was handed over already"));
    }
    // SAFETY: the descriptor is open, and the caller hands it over; that it does so once was just seen.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The effective user of this process.
pub(crate) fn effective_user() -> u32 {
    // SAFETY: geteuid has no arguments and cannot fail.
    unsafe { libc::geteuid() }
}

/// Blocks every signal in the calling thread: signals belong to the host's threads (pthread_sigmask(3)). Those that a
/// thread brings upon itself stay open, for the host may have a handler that tells of crashes; blocked, they would
/// kill the process without it.
pub(crate) fn block_signals() {
    const FAULTS: [i32; 7] =
        [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT, libc::SIGTRAP, libc::SIGSYS];
    // SAFETY: sigset_t is plain data that sigfillset initialises; the old mask is not asked for. None of the calls
    // can fail with these arguments.
    unsafe {
        let mut blocked = MaybeUninit::<libc::sigset_t>::zeroed();
        libc::sigfillset(blocked.as_mut_ptr());
        for signal in FAULTS {
            libc::sigdelset(blocked.as_mut_ptr(), signal);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, blocked.as_ptr(), std::ptr::null_mut());
    }
}

//! Names of sockets as the kernel writes them.

use std::ffi::{CStr, OsStr};
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::call::syscall;
use crate::peer::Peer;

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

/// if_nametoindex(3): the number of a network interface.
pub(crate) fn interface_index(name: &CStr) -> io::Result<u32> {
    // SAFETY: NUL-terminated, and only read.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

/// The name in a `sockaddr_storage` of which the kernel filled `len` bytes.
pub(super) fn peer_of(name: &libc::sockaddr_storage, len: usize) -> Peer {
    let mut peer = Peer::Unnamed;
    read_peer(&mut peer, name, len);
    peer
}

/// The same into a peer that is there, in the memory that its name has.
pub(super) fn read_peer(peer: &mut Peer, name: &libc::sockaddr_storage, len: usize) {
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

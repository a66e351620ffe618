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
    name_by(fd, libc::getpeername)
}

/// getsockname(2): our own side.
pub(crate) fn local(fd: BorrowedFd<'_>) -> io::Result<Peer> {
    name_by(fd, libc::getsockname)
}

type GetName = unsafe extern "C" fn(i32, *mut libc::sockaddr, *mut libc::socklen_t) -> i32;

fn name_by(fd: BorrowedFd<'_>, call: GetName) -> io::Result<Peer> {
    let mut name = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let mut len = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    // SAFETY: one of the two calls above; `name` has room for `len` bytes, of which it writes at most that and says how much.
    syscall!(unsafe { call(fd.as_raw_fd(), name.as_mut_ptr().cast(), &mut len) })?;
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

/// Bytes of the longest name that [`sockaddr_of`] makes.
const SOCKADDR_BYTES_MAX: usize = size_of::<libc::sockaddr_un>();

/// The bytes of a sockaddr.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sockaddr {
    bytes: [u8; SOCKADDR_BYTES_MAX],
    len: usize,
}

impl std::ops::Deref for Sockaddr {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// None at all.
impl Default for Sockaddr {
    fn default() -> Sockaddr {
        Sockaddr { bytes: [0; SOCKADDR_BYTES_MAX], len: 0 }
    }
}

impl Sockaddr {
    fn new(family: i32) -> Sockaddr {
        let mut name = Sockaddr::default();
        name.push(&(family as libc::sa_family_t).to_ne_bytes());
        name
    }

    /// Appends bytes, as many as there is room for.
    fn push(&mut self, bytes: &[u8]) {
        let fits = bytes.len().min(SOCKADDR_BYTES_MAX - self.len);
        self.bytes[self.len..self.len + fits].copy_from_slice(&bytes[..fits]);
        self.len += fits;
    }
}

/// A peer's name as the kernel writes it (ip(7), ipv6(7), unix(7)); that of a peer without one is the family alone.
pub(crate) fn sockaddr_of(peer: &Peer) -> Sockaddr {
    match peer {
        Peer::Ip(SocketAddr::V4(address)) => {
            let mut name = Sockaddr::new(libc::AF_INET);
            name.push(&address.port().to_be_bytes());
            name.push(&address.ip().octets());
            name.push(&[0; 8]);
            name
        }
        Peer::Ip(SocketAddr::V6(address)) => {
            let mut name = Sockaddr::new(libc::AF_INET6);
            name.push(&address.port().to_be_bytes());
            // As the kernel gave it.
            name.push(&address.flowinfo().to_ne_bytes());
            name.push(&address.ip().octets());
            name.push(&address.scope_id().to_ne_bytes());
            name
        }
        Peer::Path(path) => {
            let mut name = Sockaddr::new(libc::AF_UNIX);
            name.push(path.as_os_str().as_bytes());
            name.push(&[0]);
            name
        }
        Peer::Abstract(bytes) => {
            let mut name = Sockaddr::new(libc::AF_UNIX);
            name.push(&[0]);
            name.push(bytes);
            name
        }
        Peer::Unnamed => Sockaddr::new(libc::AF_UNIX),
    }
}

/// The peer whose name these bytes are.
pub(crate) fn peer_of_sockaddr(bytes: &[u8]) -> Peer {
    let (name, len) = name_of(bytes);
    peer_of(&name, len)
}

/// The same into a peer that is there.
pub(crate) fn read_sender(peer: &mut Peer, bytes: &[u8]) {
    let (name, len) = name_of(bytes);
    read_peer(peer, &name, len);
}

/// A name as the kernel wrote it. For a path that fills all of `sun_path` it counts the NUL that has no room there, and
/// takes no name of that length back (unix(7), BUGS).
pub(super) fn name_of(bytes: &[u8]) -> (libc::sockaddr_storage, usize) {
    // SAFETY: sockaddr_storage is plain data for which all zero is valid.
    let mut name: libc::sockaddr_storage = unsafe { MaybeUninit::zeroed().assume_init() };
    let len = bytes.len().min(size_of::<libc::sockaddr_storage>());
    // SAFETY: both have `len` bytes, and they do not overlap: one is ours.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), (&raw mut name).cast::<u8>(), len) };
    let is_unix = i32::from(name.ss_family) == libc::AF_UNIX;
    (name, if is_unix { len.min(size_of::<libc::sockaddr_un>()) } else { len })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_comes_back_from_its_sockaddr() {
        let ip = |text: &str| Peer::Ip(text.parse().unwrap());
        let scoped = Peer::Ip(SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::LOCALHOST, 9, 7, 3)));
        for (peer, len) in [
            (ip("127.0.0.1:80"), 16),
            (ip("[::1]:443"), 28),
            (scoped, 28),
            (Peer::Path("/run/x.sock".into()), 2 + 11 + 1),
            (Peer::Path("x".repeat(107).into()), 110),
            (Peer::Abstract(b"a\0b".to_vec()), 2 + 1 + 3),
            (Peer::Unnamed, 2),
        ] {
            let name = sockaddr_of(&peer);
            assert_eq!((name.len(), peer_of_sockaddr(&name)), (len, peer));
        }
        assert_eq!(peer_of_sockaddr(&[]), Peer::Unnamed);
        assert_eq!(peer_of_sockaddr(&[0xff; 200]), Peer::Unnamed);
    }
}

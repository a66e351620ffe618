//! Addresses as C has them.

use std::os::unix::ffi::OsStrExt;

use crate::Peer;

/// A socket address. words holds a sockaddr of len bytes: a sockaddr_in, sockaddr_in6 or sockaddr_un. len is 0 if there is
/// none, as for a unix socket without a name.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct resay_address {
    /// Bytes of the sockaddr; 0: none.
    pub len: u32,
    /// 0.
    pub zero: u32,
    /// The sockaddr, in memory with the alignment of one. What is behind it is 0.
    pub words: [u64; 16],
}

impl resay_address {
    pub(super) const NONE: resay_address = resay_address { len: 0, zero: 0, words: [0; 16] };

    pub(super) fn of(peer: &Peer) -> resay_address {
        let family = |family: i32| (family as libc::sa_family_t).to_ne_bytes();
        let unix = |name: &[&[u8]]| [&family(libc::AF_UNIX)[..], &name.concat()].concat();
        let bytes = match peer {
            Peer::Ip(std::net::SocketAddr::V4(address)) => {
                let (port, ip) = (address.port().to_be_bytes(), address.ip().octets());
                [&family(libc::AF_INET)[..], &port, &ip, &[0; 8]].concat()
            }
            Peer::Ip(std::net::SocketAddr::V6(address)) => {
                let (port, ip) = (address.port().to_be_bytes(), address.ip().octets());
                let (flow, scope) = (address.flowinfo().to_ne_bytes(), address.scope_id().to_ne_bytes());
                [&family(libc::AF_INET6)[..], &port, &flow, &ip, &scope].concat()
            }
            Peer::Path(path) => unix(&[path.as_os_str().as_bytes(), b"\0"]),
            Peer::Abstract(name) => unix(&[b"\0", name]),
            Peer::Unnamed => return resay_address::NONE,
        };
        let mut address = resay_address::NONE;
        if bytes.len() > size_of_val(&address.words) {
            return address;
        }
        address.len = bytes.len() as u32;
        for (word, part) in address.words.iter_mut().zip(bytes.chunks(8)) {
            let mut all = [0; 8];
            for (to, from) in all.iter_mut().zip(part) {
                *to = *from;
            }
            *word = u64::from_ne_bytes(all);
        }
        address
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_of_the_socket_library() {
        for text in ["127.0.0.1:80", "[fe80::1%7]:443", "[::1]:65535"] {
            let ip: std::net::SocketAddr = text.parse().unwrap();
            let (ours, theirs) = (resay_address::of(&Peer::Ip(ip)), socket2::SockAddr::from(ip));
            assert_eq!(ours.len, theirs.len(), "{text}");
            // SAFETY: a sockaddr_storage is plain data, of which so many bytes are written.
            let theirs =
                unsafe { std::slice::from_raw_parts(theirs.as_ptr().cast::<u8>(), theirs.len() as usize) };
            assert_eq!(bytes(&ours), theirs, "{text}");
        }
        let path = resay_address::of(&Peer::Path("/run/x".into()));
        assert_eq!((path.len, &bytes(&path)[2..]), (9, &b"/run/x\0"[..]));
        let name = resay_address::of(&Peer::Abstract(b"x".to_vec()));
        assert_eq!((name.len, &bytes(&name)[2..]), (4, &b"\0x"[..]));
        assert_eq!(resay_address::of(&Peer::Unnamed), resay_address::NONE);
        assert_eq!(resay_address::of(&Peer::Path("x".repeat(200).into())), resay_address::NONE);
    }

    fn bytes(address: &resay_address) -> Vec<u8> {
        let all: Vec<u8> = address.words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        all[..address.len as usize].to_vec()
    }
}

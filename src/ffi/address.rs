//! Addresses as sockaddr structs.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::ptr;

use socket2::SockAddr;

use crate::Peer;

/// Words of an address: as much as a sockaddr_storage.
const WORDS: usize = 16;

/// A socket address. words begin with a struct sockaddr of len bytes, aligned to 8: sockaddr_in, sockaddr_in6 or sockaddr_un;
/// behind it are zeros. len 0: there is none, or it is not known. IPv4-mapped IPv6 addresses are IPv4 here.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct resay_address {
    pub len: u32,
    /// Reserved.
    pub zero: u32,
    pub words: [u64; 16],
}

impl resay_address {
    pub(super) const NONE: resay_address = resay_address { len: 0, zero: 0, words: [0; WORDS] };

    /// An address that may not be known.
    pub(super) fn of(peer: Option<&Peer>) -> resay_address {
        let address = match peer {
            None => return resay_address::NONE,
            Some(Peer::Ip(address)) => Some(SockAddr::from(*address)),
            Some(Peer::Path(path)) => SockAddr::unix(path).ok(),
            Some(Peer::Abstract(name)) => {
                SockAddr::unix(OsStr::from_bytes(&[&[0], name.as_slice()].concat())).ok()
            }
            Some(Peer::Unnamed) => None,
        };
        let mut found = resay_address::NONE;
        let Some(address) = address else {
            // Of a socket without a name the kernel says the family.
            let family = (libc::AF_UNIX as libc::sa_family_t).to_ne_bytes();
            found.len = family.len() as u32;
            let mut first = [0; size_of::<u64>()];
            first.iter_mut().zip(family).for_each(|(to, from)| *to = from);
            found.words[0] = u64::from_ne_bytes(first);
            return found;
        };
        let len = (address.len() as usize).min(size_of_val(&found.words));
        found.len = len as u32;
        // SAFETY: `address` has so many bytes, and the words have at least as many.
        unsafe {
            ptr::copy_nonoverlapping(
                address.as_ptr().cast::<u8>(),
                found.words.as_mut_ptr().cast::<u8>(),
                len,
            );
        }
        found
    }
}

const _: () = assert!(size_of::<resay_address>() == 8 + size_of::<libc::sockaddr_storage>());

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;

    #[test]
    fn addresses_are_as_the_kernel_writes_them() {
        let bytes = |address: &resay_address| -> Vec<u8> {
            let all: Vec<u8> = address.words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            assert!(all[address.len as usize..].iter().all(|byte| *byte == 0));
            all[..address.len as usize].to_vec()
        };
        let v4 = resay_address::of(Some(&Peer::Ip("1.2.3.4:258".parse().unwrap())));
        assert_eq!(v4.len as usize, size_of::<libc::sockaddr_in>());
        assert_eq!(bytes(&v4)[2..8], [1, 2, 1, 2, 3, 4]);
        let v6 = resay_address::of(Some(&Peer::Ip("[::1]:258".parse().unwrap())));
        assert_eq!((v6.len as usize, bytes(&v6)[23]), (size_of::<libc::sockaddr_in6>(), 1));
        let start = offset_of!(libc::sockaddr_un, sun_path);
        let path = resay_address::of(Some(&Peer::Path("/run/it".into())));
        assert_eq!(bytes(&path)[start..], *b"/run/it\0");
        let name = resay_address::of(Some(&Peer::Abstract(b"it".to_vec())));
        assert_eq!(bytes(&name)[start..], *b"\0it");
        let unnamed = resay_address::of(Some(&Peer::Unnamed));
        assert_eq!((unnamed.len, bytes(&unnamed)[0]), (2, libc::AF_UNIX as u8));
        assert_eq!(resay_address::of(None).len, 0);
    }
}

//! Which unix datagram sockets have something unread, by their names: sock_diag(7), UNIX DOMAIN SOCKETS.

use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStringExt;

use socket2::{Domain, Protocol, Socket, Type};

use crate::peer::Peer;

const NETLINK_SOCK_DIAG: i32 = 4;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const UDIAG_SHOW_NAME: u32 = 0x1;
const UDIAG_SHOW_RQLEN: u32 = 0x10;
const UNIX_DIAG_NAME: u16 = 0;
const UNIX_DIAG_RQLEN: u16 = 4;
/// `struct nlmsghdr`, and with `struct unix_diag_msg` behind it.
const HEADER_BYTES: usize = 16;
const MESSAGE_BYTES: usize = HEADER_BYTES + 16;

/// Asks the kernel for all unix sockets of this network namespace, and calls `each` for every datagram socket with a name:
/// whether something unread waits there. Ends after `sockets_max` of any kind, since a program may have very many.
pub(crate) fn unix_queues(sockets_max: usize, mut each: impl FnMut(Peer, bool)) -> io::Result<()> {
    let kind = Type::RAW.nonblocking().cloexec();
    let mut socket =
        Socket::new(Domain::from(libc::AF_NETLINK), kind, Some(Protocol::from(NETLINK_SOCK_DIAG)))?;
    socket.write_all(&request())?;
    let mut buffer = vec![0; 32 * 1024];
    let mut sockets = 0;
    // The kernel writes the next part when the one before is read, so there is nothing to wait for.
    while sockets < sockets_max {
        let len = socket.read(&mut buffer)?;
        let mut rest = &buffer[..len];
        while let Some((message, after)) = part(rest, u32_at(rest, 0).map(|len| len as usize)) {
            match u16_at(message, 4).map(i32::from) {
                Some(libc::NLMSG_DONE) => return Ok(()),
                Some(libc::NLMSG_ERROR) => {
                    let code = u32_at(message, HEADER_BYTES).unwrap_or(0) as i32;
                    return Err(io::Error::from_raw_os_error(-code));
                }
                _ => {}
            }
            sockets += 1;
            if let Some((peer, is_waiting)) = datagram_socket(message) {
                each(peer, is_waiting);
            }
            rest = after;
        }
        if len == 0 {
            break;
        }
    }
    Ok(())
}

/// `struct nlmsghdr` and `struct unix_diag_req`.
fn request() -> Vec<u8> {
    let mut bytes = Vec::new();
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    bytes.extend(40_u32.to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 8]);
    // The family, and any protocol.
    bytes.extend([libc::AF_UNIX as u8, 0, 0, 0]);
    // Sockets in any state, with any inode; what to show; no cookie.
    bytes.extend(u32::MAX.to_ne_bytes());
    bytes.extend(0_u32.to_ne_bytes());
    bytes.extend((UDIAG_SHOW_NAME | UDIAG_SHOW_RQLEN).to_ne_bytes());
    bytes.extend([0xff; 8]);
    bytes
}

/// Reads one answer, if it is of a datagram socket with a name.
fn datagram_socket(message: &[u8]) -> Option<(Peer, bool)> {
    // udiag_family and udiag_type stand first.
    if i32::from(*message.get(HEADER_BYTES + 1)?) != libc::SOCK_DGRAM {
        return None;
    }
    let (mut peer, mut is_waiting) = (None, None);
    let mut rest = message.get(MESSAGE_BYTES..)?;
    while let Some((attribute, after)) = part(rest, u16_at(rest, 0).map(usize::from)) {
        match u16_at(attribute, 2)? {
            UNIX_DIAG_NAME => peer = peer_of(attribute.get(4..)?),
            UNIX_DIAG_RQLEN => is_waiting = u32_at(attribute, 4).map(|len| len > 0),
            _ => {}
        }
        rest = after;
    }
    Some((peer?, is_waiting?))
}

fn peer_of(name: &[u8]) -> Option<Peer> {
    match name {
        [] => None,
        [0, name @ ..] => Some(Peer::Abstract(name.to_vec())),
        path => {
            let path = path.split(|byte| *byte == 0).next()?;
            Some(Peer::Path(std::ffi::OsString::from_vec(path.to_vec()).into()))
        }
    }
}

/// The first `len` bytes, and what comes after them and what fills them up to four.
fn part(bytes: &[u8], len: Option<usize>) -> Option<(&[u8], &[u8])> {
    let len = len.filter(|len| *len >= 4)?;
    let first = bytes.get(..len)?;
    Some((first, bytes.get(len.next_multiple_of(4)..).unwrap_or(&[])))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn what_waits_is_told_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let (full, empty) = (directory.path().join("full"), directory.path().join("empty"));
        let reader = UnixDatagram::bind(&full).unwrap();
        let other = UnixDatagram::bind(&empty).unwrap();
        other.send_to(b"unread", &full).unwrap();
        let mut found = BTreeMap::new();
        let asked = unix_queues(usize::MAX, |peer, is_waiting| {
            found.insert(peer, is_waiting);
        });
        if let Err(error) = asked {
            // Kernels without unix_diag are there, and do without.
            assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}");
            return;
        }
        assert_eq!(found.get(&Peer::Path(full.clone())), Some(&true));
        assert_eq!(found.get(&Peer::Path(empty)), Some(&false));
        reader.recv(&mut [0; 6]).unwrap();
        found.clear();
        unix_queues(usize::MAX, |peer, is_waiting| {
            found.insert(peer, is_waiting);
        })
        .unwrap();
        assert_eq!(found.get(&Peer::Path(full)), Some(&false));
        unix_queues(0, |_, _| panic!("none")).unwrap();
    }
}

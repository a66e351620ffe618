//! Options of sockets, and the other ends of peers.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::process::Command;

use socket2::{SockRef, Socket, Type};

use super::peer::Peer;

/// setsockopt(2) with an `int`.
pub(crate) fn try_set_option(socket: impl AsFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: the pointer and the size are those of one int.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// sendmsg(2) of a burst that the kernel cuts into datagrams.
pub(crate) fn send_cut(socket: &Socket, burst: &[u8], segment: usize) {
    let cut_into = |segment| try_set_option(socket, libc::SOL_UDP, libc::UDP_SEGMENT, segment).unwrap();
    cut_into(segment as i32);
    assert_eq!(socket.send(burst).unwrap(), burst.len());
    cut_into(0);
}

/// getsockopt(2) of an `int`; `None`: there is no such option.
pub(crate) fn option(socket: impl AsFd, level: i32, name: i32) -> Option<i32> {
    let mut value = 0_i32;
    let mut len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the pointer and the size are those of one int.
    let result = unsafe {
        libc::getsockopt(socket.as_fd().as_raw_fd(), level, name, (&raw mut value).cast(), &mut len)
    };
    (result == 0).then_some(value)
}

/// The flags of a description (`F_GETFL`).
pub(crate) fn status_flags(socket: impl AsFd) -> i32 {
    // SAFETY: takes no pointer.
    unsafe { libc::fcntl(socket.as_fd().as_raw_fd(), libc::F_GETFL) }
}

/// The engine's end of a peer's connection, where the engine is in this process; `None`: it has not accepted it. A unix peer
/// needs a name.
pub(crate) fn accepted_end(peer: &Peer) -> Option<BorrowedFd<'static>> {
    let name = peer.socket.local_addr().unwrap();
    let is_end = |fd: &i32| {
        // SAFETY: only asked about; where it is not open, or no socket, the answer is an error.
        let other = unsafe { BorrowedFd::borrow_raw(*fd) };
        SockRef::from(&other).peer_addr().is_ok_and(|peer| peer == name)
    };
    let numbers = std::fs::read_dir("/proc/self/fd").unwrap();
    let numbers = numbers.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let found = numbers.collect::<Vec<_>>().into_iter().find(is_end)?;
    // SAFETY: the engine keeps it open as long as the peer is connected, which is the caller's.
    Some(unsafe { BorrowedFd::borrow_raw(found) })
}

/// A socket of this kind that is bound, and listens if its kind does, as somebody else would open it.
pub(crate) fn opened(url: &str) -> Socket {
    let (domain, socket_type, address) = super::transport::address_of(url);
    let socket = Socket::new(domain, socket_type.cloexec(), None).unwrap();
    socket.bind(&address).unwrap();
    if socket_type != Type::DGRAM {
        socket.listen(64).unwrap();
    }
    socket
}

/// The URL of a socket on an IP address.
pub(crate) fn url_of(scheme: &str, socket: &Socket) -> String {
    format!("{scheme}://{}", socket.local_addr().unwrap().as_socket().unwrap())
}

/// Puts this process, which runs one test, and all threads that it starts from now on, into a network of its own, with
/// these commands of ip(8). An error: that is not allowed here, or there is no such program.
pub(crate) fn own_network(commands: &[&str]) -> Result<(), String> {
    // SAFETY: no pointers; this process runs one test, and only this thread of it moves.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        return Err(io::Error::last_os_error().to_string());
    }
    commands.iter().try_for_each(|line| ip(line))
}

/// One command of ip(8).
pub(crate) fn ip(line: &str) -> Result<(), String> {
    let output = Command::new("ip").args(line.split(' ')).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {line}: {}", String::from_utf8_lossy(&output.stderr)))
}

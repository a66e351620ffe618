//! Echo servers on other people's Rust runtimes: one program each in `bin/`, written the way that runtime's community
//! writes an echo, on one thread. `PROGRAM [BUFFER_BYTES] tcp|udp|unix PORT|PATH`; it serves until it is killed.
//!
//! | program | how |
//! |---|---|
//! | `tokio` | a task a connection on a current-thread runtime, read and `write_all` with a buffer in the task; 4 KiB, or what is asked for |
//! | `mio` | one event loop, edge-triggered, one buffer for all: read until it would block, write what came |
//! | `monoio`, `compio` | a task a connection, the buffer goes into the call and comes back; io_uring |

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;

/// Where to serve, by the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A TCP listener.
    Tcp(SocketAddr),
    /// A UDP socket.
    Udp(SocketAddr),
    /// A stream listener at a path that is free.
    Unix(PathBuf),
}

impl Place {
    /// Reads the last two arguments; tells what would be right and ends the process where they are something else.
    pub fn from_arguments() -> Place {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let place = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            [.., "tcp", port] => port.parse().ok().map(|port| Place::Tcp((Ipv4Addr::LOCALHOST, port).into())),
            [.., "udp", port] => port.parse().ok().map(|port| Place::Udp((Ipv4Addr::LOCALHOST, port).into())),
            [.., "unix", path] => Some(Place::Unix(path.into())),
            _ => None,
        };
        place.unwrap_or_else(|| {
            eprintln!("usage: PROGRAM tcp|udp PORT, or PROGRAM unix PATH");
            std::process::exit(2)
        })
    }
}

/// More than the longest UDP datagram.
pub const DATAGRAM_BYTES_MAX: usize = 65_536;
/// As much as the system lets us have: bursts of datagrams wait here.
const DATAGRAM_SOCKET_BYTES: usize = 4 << 20;

/// A socket for datagrams, non-blocking, with room for bursts.
pub fn datagram_socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    socket2::SockRef::from(&socket).set_recv_buffer_size(DATAGRAM_SOCKET_BYTES)?;
    Ok(socket)
}

/// Whether an accepted connection that failed is worth a word: peers that go away are none.
pub fn report(error: &io::Error) {
    use io::ErrorKind::{BrokenPipe, ConnectionReset};
    if !matches!(error.kind(), ConnectionReset | BrokenPipe) {
        eprintln!("connection: {error}");
    }
}

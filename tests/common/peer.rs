//! Peers: blocking clients.

use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use super::layer;
use super::transport::address_of;
use super::waiting::PATIENCE;

/// A blocking client: one socket, connected, with a deadline for every call.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) socket: Socket,
    stream: bool,
    /// What it says goes through a layer, like what it hears.
    is_layered: bool,
}

impl Peer {
    #[track_caller]
    pub(crate) fn connect(url: &str) -> Peer {
        match Peer::try_connect(url) {
            Ok(peer) => peer,
            Err(error) => panic!("connect to {url}: {error}"),
        }
    }

    pub(crate) fn try_connect(url: &str) -> io::Result<Peer> {
        Peer::connect_with(url, |_| Ok(()))
    }

    /// With options that must be set before connecting.
    pub(crate) fn connect_with(
        url: &str,
        prepare: impl FnOnce(&Socket) -> io::Result<()>,
    ) -> io::Result<Peer> {
        let (domain, socket_type, address) = address_of(url);
        let socket = Socket::new(domain, socket_type.cloexec(), None)?;
        if domain == Domain::UNIX && socket_type == Type::DGRAM {
            // A name that the system chooses, so that there is somebody to answer.
            socket.bind(&SockAddr::unix("")?)?;
        }
        prepare(&socket)?;
        socket.connect(&address)?;
        Peer::of(socket)
    }

    /// A peer on a socket that the test has made.
    pub(crate) fn of(socket: Socket) -> io::Result<Peer> {
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let stream = socket.r#type()? == Type::STREAM;
        let mut peer = Peer { socket, stream, is_layered: false };
        if stream && layer::is_on() {
            peer.try_send(layer::HELLO)?;
            let mut heard = Vec::new();
            while heard.len() < layer::HELLO.len() {
                let more = peer.try_recv(layer::HELLO.len() - heard.len())?;
                if more.is_empty() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                heard.extend(more);
            }
            assert_eq!(heard, layer::HELLO);
            peer.is_layered = true;
        }
        Ok(peer)
    }

    /// Sends as much as the system takes at once.
    pub(crate) fn try_send_some(&self, data: &[u8]) -> io::Result<usize> {
        let mut layered = Vec::new();
        if self.is_layered {
            layered.extend_from_slice(data);
            layer::flip(&mut layered);
        }
        let wire = if self.is_layered { &layered } else { data };
        self.socket.send_with_flags(wire, libc::MSG_NOSIGNAL)
    }

    /// Sends all of a stream's bytes, or one message.
    pub(crate) fn try_send(&self, data: &[u8]) -> io::Result<()> {
        let mut rest = data;
        loop {
            let sent = self.try_send_some(rest)?;
            rest = &rest[sent..];
            if rest.is_empty() {
                return Ok(());
            }
            assert!(self.stream, "one message was sent in parts");
        }
    }

    #[track_caller]
    pub(crate) fn send(&self, data: &[u8]) {
        if let Err(error) = self.try_send(data) {
            panic!("send {} bytes: {error}", data.len());
        }
    }

    /// What comes next, at most `max` bytes; of a message what is longer is cut off.
    pub(crate) fn try_recv(&self, max: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; max];
        let n = loop {
            match (&self.socket).read(&mut bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        bytes.truncate(n);
        if self.is_layered {
            layer::flip(&mut bytes);
        }
        Ok(bytes)
    }

    /// One message.
    #[track_caller]
    pub(crate) fn message(&self) -> Vec<u8> {
        match self.try_recv(300_000) {
            Ok(message) => message,
            Err(error) => panic!("receive a message: {error}"),
        }
    }

    /// Exactly so many bytes of a stream.
    #[track_caller]
    pub(crate) fn exactly(&self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count);
        while bytes.len() < count {
            match self.try_recv((count - bytes.len()).min(256 * 1024)) {
                Ok(more) if more.is_empty() => {
                    panic!("the stream ended after {} of {count} bytes", bytes.len())
                }
                Ok(more) => bytes.extend(more),
                Err(error) => panic!("after {} of {count} bytes: {error}", bytes.len()),
            }
        }
        bytes
    }

    /// So many bytes of a stream, or one message.
    #[track_caller]
    pub(crate) fn exactly_or_message(&self, count: usize) -> Vec<u8> {
        if self.stream { self.exactly(count) } else { self.message() }
    }

    /// Everything up to the end of a stream.
    pub(crate) fn try_to_end(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        loop {
            let more = self.try_recv(64 * 1024)?;
            if more.is_empty() {
                return Ok(bytes);
            }
            bytes.extend(more);
        }
    }

    #[track_caller]
    pub(crate) fn to_end(&self) -> Vec<u8> {
        match self.try_to_end() {
            Ok(bytes) => bytes,
            Err(error) => panic!("receive up to the end: {error}"),
        }
    }

    /// Sends a message and gives the answer, which has `count` bytes.
    #[track_caller]
    pub(crate) fn ask_for(&self, data: &[u8], count: usize) -> Vec<u8> {
        self.send(data);
        if self.stream { self.exactly(count) } else { self.message() }
    }

    /// The same, where the length stays.
    #[track_caller]
    pub(crate) fn ask(&self, data: &[u8]) -> Vec<u8> {
        self.ask_for(data, data.len())
    }

    /// Whether anything has arrived that was not read, without waiting.
    pub(crate) fn has_something(&self) -> bool {
        let mut one = [MaybeUninit::uninit()];
        match self.socket.recv_with_flags(&mut one, libc::MSG_PEEK | libc::MSG_DONTWAIT) {
            Ok(_) => true,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    pub(crate) fn half_close(&self) {
        self.socket.shutdown(std::net::Shutdown::Write).unwrap();
    }

    /// Ends the connection with a reset, where the transport has one.
    pub(crate) fn reset(self) {
        let _ = self.socket.set_linger(Some(Duration::ZERO));
    }
}

/// Sends and receives at the same time, so that neither side's buffers can fill for good.
#[track_caller]
pub(crate) fn exchange(peer: &Peer, data: &[u8], count: usize) -> Vec<u8> {
    thread::scope(|scope| {
        scope.spawn(|| peer.send(data));
        peer.exactly(count)
    })
}

/// Whether two byte strings are the same; if not, only the place of the first difference is printed.
#[track_caller]
pub(crate) fn assert_same(what: &str, expected: &[u8], found: &[u8]) {
    if expected == found {
        return;
    }
    let at = expected.iter().zip(found).take_while(|(a, b)| a == b).count();
    let (a, b) = (expected.len(), found.len());
    panic!("{what}: {a} bytes were expected and {b} came; the first difference is at byte {at}");
}

/// Bytes without a pattern that a shift could hide.
pub(crate) fn noise(count: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    (0..count).map(|_| next()).collect()
}

/// Sends a message with flags that `Peer::send` has not.
pub(crate) fn send_flags(peer: &Peer, data: &[u8], flags: i32) -> io::Result<usize> {
    peer.socket.send_with_flags(data, flags | libc::MSG_NOSIGNAL)
}

/// Sends `data` with a descriptor of ours along (`SCM_RIGHTS`).
pub(crate) fn send_descriptor(peer: &Peer, data: &[u8], descriptor: impl AsFd) {
    try_send_descriptor(peer, data, descriptor).unwrap();
}

/// The same; the kernel may refuse it.
pub(crate) fn try_send_descriptor(peer: &Peer, data: &[u8], descriptor: impl AsFd) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let fd = descriptor.as_fd().as_raw_fd();
    let mut control = [0_u64; 8];
    let mut part = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
    // SAFETY: the control buffer is aligned for cmsghdr and has room for one descriptor; the header and what it
    // points to live during the call.
    let sent = unsafe {
        let mut message: libc::msghdr = MaybeUninit::zeroed().assume_init();
        message.msg_iov = &mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(size_of::<i32>() as u32) as _;
        let header = libc::CMSG_FIRSTHDR(&message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(size_of::<i32>() as u32) as _;
        libc::CMSG_DATA(header).cast::<i32>().write_unaligned(fd);
        libc::sendmsg(peer.socket.as_raw_fd(), &message, libc::MSG_NOSIGNAL)
    };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    assert_eq!(sent, data.len() as isize);
    Ok(())
}

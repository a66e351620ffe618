//! The socket of a load, with TLS around it or without.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{self, RecvFlags, SendFlags};

#[cfg(feature = "tls")]
use crate::tls::TlsRecords;

/// A socket that does not wait, by itself or with TLS around it.
#[derive(Debug)]
pub enum Socket {
    /// Its bytes are the messages'.
    Plain(OwnedFd),
    /// Its bytes are records of TLS.
    #[cfg(feature = "tls")]
    Tls(OwnedFd, Box<TlsRecords>),
}

impl Socket {
    /// Takes bytes over: how many. With TLS they may be with us yet: see `flush`.
    pub(crate) fn send(&mut self, data: &[u8]) -> Result<usize, Errno> {
        match self {
            Socket::Plain(socket) => net::send(socket, data, SEND),
            #[cfg(feature = "tls")]
            Socket::Tls(socket, records) => records.send(data, |wire| net::send(&*socket, wire, SEND)),
        }
    }

    /// Sends what was taken over and is with us.
    pub(crate) fn flush(&mut self) -> Result<(), Errno> {
        match self {
            Socket::Plain(_) => Ok(()),
            #[cfg(feature = "tls")]
            Socket::Tls(socket, records) => records.flush(|wire| net::send(&*socket, wire, SEND)),
        }
    }

    /// What has come; 0: the end.
    pub(crate) fn recv(&mut self, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Socket::Plain(socket) => net::recv(&*socket, buffer, RecvFlags::DONTWAIT).map(|(_, len)| len),
            #[cfg(feature = "tls")]
            Socket::Tls(socket, records) => {
                let (buffer, wire) = buffer.split_at_mut(buffer.len() / 2);
                records.receive(buffer, wire, |wire| {
                    net::recv(&*socket, wire, RecvFlags::DONTWAIT).map(|(_, len)| len)
                })
            }
        }
    }

    /// Whether a read that brought so many bytes has emptied the socket.
    pub(crate) fn is_emptied_by(&self, len: usize, room: usize) -> bool {
        match self {
            Socket::Plain(_) => len < room,
            #[cfg(feature = "tls")]
            Socket::Tls(..) => false,
        }
    }

    pub(crate) fn into_plain(self) -> OwnedFd {
        match self {
            Socket::Plain(socket) => socket,
            #[cfg(feature = "tls")]
            Socket::Tls(socket, _) => socket,
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Plain(socket) => socket.as_fd(),
            #[cfg(feature = "tls")]
            Socket::Tls(socket, _) => socket.as_fd(),
        }
    }
}

/// Not waiting, and never raising SIGPIPE.
const SEND: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);

//! The socket of a load: a plain one, one with TLS around it, or one of UDP in runs.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{self, RecvFlags, SendFlags};

#[cfg(feature = "runs")]
use crate::runs::{RUN_BYTES_MAX, RUN_MAX, Runs};
#[cfg(feature = "tls")]
use crate::tls::TlsRecords;

/// A socket that does not wait.
#[derive(Debug)]
pub enum Socket {
    /// Its bytes are the messages'.
    Plain(OwnedFd),
    /// Its bytes are records of TLS.
    #[cfg(feature = "tls")]
    Tls(OwnedFd, Box<TlsRecords>),
    /// Its messages are datagrams, and all that may be in flight go and come in runs.
    #[cfg(feature = "runs")]
    Runs(Runs),
}

impl Socket {
    /// Takes bytes over: how many. With TLS they may be with us yet: see `flush`.
    pub(crate) fn send(&mut self, data: &[u8]) -> Result<usize, Errno> {
        match self {
            Socket::Plain(socket) => net::send(socket, data, SEND),
            #[cfg(feature = "tls")]
            Socket::Tls(socket, records) => records.send(data, |wire| net::send(&*socket, wire, SEND)),
            #[cfg(feature = "runs")]
            Socket::Runs(runs) => net::send(&*runs, data, SEND),
        }
    }

    /// Sends what was taken over and is with us.
    pub(crate) fn flush(&mut self) -> Result<(), Errno> {
        match self {
            #[cfg(feature = "tls")]
            Socket::Tls(socket, records) => records.flush(|wire| net::send(&*socket, wire, SEND)),
            _ => Ok(()),
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
            #[cfg(feature = "runs")]
            Socket::Runs(runs) => runs.recv(buffer).map(|(len, _)| len),
        }
    }

    /// What has come of messages that are whole: how many bytes, and how long each message in them is but the last, which
    /// may be shorter.
    pub(crate) fn recv_messages(&mut self, buffer: &mut [u8]) -> Result<(usize, usize), Errno> {
        match self {
            #[cfg(feature = "runs")]
            Socket::Runs(runs) => runs.recv(buffer),
            _ => self.recv(buffer).map(|len| (len, len)),
        }
    }

    /// How many messages of so many bytes one send may have; `None`: it has always one.
    #[cfg_attr(not(feature = "runs"), expect(unused_variables, reason = "only runs ask for the size"))]
    pub(crate) fn run_max(&self, message_bytes: usize) -> Option<usize> {
        match self {
            #[cfg(feature = "runs")]
            Socket::Runs(_) => Some((RUN_BYTES_MAX / message_bytes.max(1)).clamp(1, RUN_MAX)),
            _ => None,
        }
    }

    /// Whether a read that brought so many bytes has emptied the socket.
    pub(crate) fn is_emptied_by(&self, len: usize, room: usize) -> bool {
        match self {
            #[cfg(feature = "tls")]
            Socket::Tls(..) => false,
            _ => len < room,
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Plain(socket) => socket.as_fd(),
            #[cfg(feature = "tls")]
            Socket::Tls(socket, _) => socket.as_fd(),
            #[cfg(feature = "runs")]
            Socket::Runs(runs) => runs.as_fd(),
        }
    }
}

/// Not waiting, and never raising SIGPIPE.
const SEND: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);

//! The workloads, and the load generator: batches of one shape, so many of them, and nothing left to chance.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use crate::result::Result;
use crate::sys;

/// What is sent, and how.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) kind: Kind,
    sockets: usize,
    /// Messages that each socket has under way.
    in_flight: usize,
    /// Of the shorter run; the longer has [`LONGER`] times as many.
    batches: usize,
    /// What Resay is to stay below, in instructions a message.
    pub(crate) limit: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Tcp,
    Unix,
    Udp,
}

/// Where a server is to listen.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    Port(u16),
    Path(PathBuf),
}

pub(crate) const WORKLOADS: [Workload; 5] = [
    Workload {
        name: "tcp-50",
        about: "TCP, 50 connections, 64 bytes, one message in flight each",
        kind: Kind::Tcp,
        sockets: 50,
        in_flight: 1,
        batches: 100,
        limit: 600,
    },
    Workload {
        name: "tcp-1",
        about: "TCP, one connection, 64 bytes",
        kind: Kind::Tcp,
        sockets: 1,
        in_flight: 1,
        batches: 1500,
        limit: 850,
    },
    Workload {
        name: "tcp-50x16",
        about: "TCP, 50 connections, 64 bytes, 16 messages in flight each",
        kind: Kind::Tcp,
        sockets: 50,
        in_flight: 16,
        batches: 100,
        limit: 45,
    },
    Workload {
        name: "unix-50",
        about: "unix stream, 50 connections, 64 bytes, one message in flight each",
        kind: Kind::Unix,
        sockets: 50,
        in_flight: 1,
        batches: 100,
        limit: 600,
    },
    Workload {
        name: "udp-8x16",
        about: "UDP, 8 sockets, 64 bytes, 16 messages in flight each",
        kind: Kind::Udp,
        sockets: 8,
        in_flight: 16,
        batches: 50,
        limit: 540,
    },
];

/// How much longer the longer run is.
pub(crate) const LONGER: usize = 3;
const MESSAGE: &[u8; 64] = b"the quick brown fox jumps over the lazy dog, and it does so now\n";
/// Longer than anything takes on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(120);

impl Workload {
    /// By which the difference of both runs is divided.
    pub(crate) fn messages_between(&self) -> f64 {
        (self.sockets * self.in_flight * self.batches * (LONGER - 1)) as f64
    }

    /// Sends the batches of the shorter run so many times to the server that is this process, and reads all answers.
    pub(crate) fn drive(&self, place: &Place, pid: u32, times: usize, uppercase: bool) -> Result<()> {
        let first = Socket::reach(self.kind, place, pid)?;
        let mut sockets = vec![first];
        while sockets.len() < self.sockets {
            sockets.push(Socket::connect(self.kind, place)?);
        }
        let answer = if uppercase { MESSAGE.to_ascii_uppercase() } else { MESSAGE.to_vec() };
        let batch = MESSAGE.repeat(self.in_flight);
        let mut room = vec![0; batch.len()];
        for _ in 0..self.batches * times {
            wait_for_sleep(pid)?;
            for socket in &mut sockets {
                socket.send(&batch)?;
            }
            for socket in &mut sockets {
                socket.receive(&mut room)?;
                if room.chunks(MESSAGE.len()).any(|message| message != answer) {
                    return Err("an answer is not what it must be".into());
                }
            }
        }
        wait_for_sleep(pid)
    }
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Tcp => "tcp",
            Kind::Unix => "unix",
            Kind::Udp => "udp",
        }
    }
}

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    Udp(UdpSocket),
}

impl Socket {
    /// The first connection, once the server listens.
    fn reach(kind: Kind, place: &Place, pid: u32) -> Result<Socket> {
        let begin = Instant::now();
        loop {
            let error = match Socket::connect(kind, place).and_then(Socket::answered) {
                Ok(socket) => return Ok(socket),
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) => {
                    error
                }
                Err(error) => return Err(error.into()),
            };
            let ended = sys::has_ended(pid)?;
            if ended || begin.elapsed() > PATIENCE {
                return Err(format!("the server does not listen: {error}").into());
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn connect(kind: Kind, place: &Place) -> io::Result<Socket> {
        Ok(match (kind, place) {
            (Kind::Tcp, Place::Port(port)) => {
                let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, *port))?;
                refuse_self(stream.local_addr()?.port(), *port)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Socket::Tcp(stream)
            }
            (Kind::Udp, Place::Port(port)) => {
                let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
                refuse_self(socket.local_addr()?.port(), *port)?;
                socket.connect((Ipv4Addr::LOCALHOST, *port))?;
                socket.set_read_timeout(Some(PATIENCE))?;
                Socket::Udp(socket)
            }
            (Kind::Unix, Place::Path(path)) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Socket::Unix(stream)
            }
            (_, place) => return Err(io::Error::other(format!("{place:?} is no place for {}", kind.name()))),
        })
    }

    /// A datagram to a port that nobody has is refused when an answer is waited for.
    fn answered(mut self) -> io::Result<Socket> {
        if let Socket::Udp(_) = self {
            self.send(MESSAGE)?;
            self.receive(&mut [0; MESSAGE.len()])?;
        }
        Ok(self)
    }

    fn send(&mut self, batch: &[u8]) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.write_all(batch),
            Socket::Unix(stream) => stream.write_all(batch),
            Socket::Udp(socket) => {
                batch.chunks(MESSAGE.len()).try_for_each(|message| socket.send(message).map(drop))
            }
        }
    }

    fn receive(&mut self, room: &mut [u8]) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.read_exact(room),
            Socket::Unix(stream) => stream.read_exact(room),
            Socket::Udp(socket) => {
                room.chunks_mut(MESSAGE.len()).try_for_each(|message| socket.recv(message).map(drop))
            }
        }
    }
}

/// While nobody listens, the system may give a client the very port that it asks for: it would then talk to itself.
fn refuse_self(own: u16, port: u16) -> io::Result<()> {
    if own == port { Err(ErrorKind::ConnectionRefused.into()) } else { Ok(()) }
}

/// So that every batch finds the server where the one before did: waiting for sockets.
fn wait_for_sleep(pid: u32) -> Result<()> {
    let begin = Instant::now();
    while !sys::sleeps(pid)? {
        if begin.elapsed() > PATIENCE {
            return Err("the server does not come to rest".into());
        }
        thread::sleep(Duration::from_micros(50));
    }
    Ok(())
}

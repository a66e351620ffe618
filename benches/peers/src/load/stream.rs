//! Connections that stay: TCP and unix streams.

use std::collections::VecDeque;
use std::error::Error;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::pattern::{PATTERN_BYTES, Pattern};
use super::turns::{Clock, SILENCE_MS, Turns};
use crate::place::Place;
use crate::sys::{Epoll, Watch};

const RECEIVE_BYTES: usize = 128 * 1024;
/// For those that are read blocking.
const SILENCE: Duration = Duration::from_millis(SILENCE_MS as u64);

#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) connections: usize,
    pub(super) message_bytes: usize,
    pub(super) pipeline: usize,
    pub(super) shouts: bool,
}

pub(super) struct Load {
    epoll: Epoll,
    connections: Vec<Connection>,
    pattern: Pattern,
    buffer: Vec<u8>,
    message_bytes: usize,
}

pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

struct Connection {
    stream: Stream,
    /// Where in the pattern the next byte to send, and the next answer's byte, are.
    send_at: usize,
    receive_at: usize,
    /// Bytes that may be sent now.
    due: usize,
    /// Bytes of an unfinished answer.
    partial: usize,
    /// What is in flight: when it was sent, and how many messages.
    sent: VecDeque<(u64, u64)>,
}

impl Load {
    pub(super) fn connect(plan: Plan, place: &Place, clock: &mut Clock) -> Result<Load, Box<dyn Error>> {
        let burst_bytes = plan.message_bytes * plan.pipeline;
        if burst_bytes > PATTERN_BYTES {
            return Err(format!("a burst of {burst_bytes} bytes is longer than the pattern").into());
        }
        let mut load = Load {
            epoll: Epoll::new(plan.connections)?,
            connections: Vec::with_capacity(plan.connections),
            pattern: Pattern::new(plan.shouts),
            buffer: vec![0; RECEIVE_BYTES],
            message_bytes: plan.message_bytes,
        };
        for index in 0..plan.connections {
            let stream = Stream::connect(place)?;
            stream.set_nonblocking()?;
            load.epoll.add(&stream, index, Watch::Edges)?;
            // Each has bytes of its own, so that an answer for another one would be noticed.
            let at = index * 7919 % PATTERN_BYTES;
            let sent = VecDeque::new();
            load.connections.push(Connection {
                stream,
                send_at: at,
                receive_at: at,
                due: 0,
                partial: 0,
                sent,
            });
        }
        for connection in &mut load.connections {
            connection.due = burst_bytes;
            connection.sent.push_back((clock.now_ns(), plan.pipeline as u64));
            connection.send(&load.pattern)?;
        }
        Ok(load)
    }
}

impl Turns for Load {
    fn turn(&mut self, clock: &mut Clock) -> Result<(), Box<dyn Error>> {
        let count = self.epoll.wait(SILENCE_MS)?;
        if count == 0 {
            return Err(format!("no answer for {SILENCE_MS} ms").into());
        }
        for event in 0..count {
            let index = self.epoll.index(event);
            let Some(connection) = self.connections.get_mut(index) else { continue };
            connection
                .turn(&self.pattern, &mut self.buffer, self.message_bytes, clock)
                .map_err(|error| format!("connection {index}: {error}"))?;
        }
        Ok(())
    }
}

impl Connection {
    /// Reads what there is, checks it, sends as many messages as were answered.
    fn turn(
        &mut self,
        pattern: &Pattern,
        buffer: &mut [u8],
        message_bytes: usize,
        clock: &mut Clock,
    ) -> io::Result<()> {
        let mut received = 0;
        loop {
            let len = match self.stream.read(buffer) {
                Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed by the server")),
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            received += len;
            for piece in buffer[..len].chunks(PATTERN_BYTES) {
                if piece != pattern.answer(self.receive_at, piece.len()) {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "a wrong answer"));
                }
                self.receive_at = (self.receive_at + piece.len()) % PATTERN_BYTES;
            }
            // A read that is not full has emptied the socket; more will be a new edge.
            if len < buffer.len() {
                break;
            }
        }
        let answered = self.partial + received;
        self.partial = answered % message_bytes;
        let messages = (answered / message_bytes) as u64;
        if messages > 0 {
            let now = clock.now_ns();
            self.take(messages, now, clock)?;
            self.due += messages as usize * message_bytes;
            self.sent.push_back((now, messages));
        }
        self.send(pattern)
    }

    /// So many messages have been answered: the oldest.
    fn take(&mut self, mut messages: u64, now: u64, clock: &mut Clock) -> io::Result<()> {
        while messages > 0 {
            let Some((since, waiting)) = self.sent.front_mut() else {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "more answers than messages"));
            };
            let taken = messages.min(*waiting);
            clock.record(now.saturating_sub(*since), taken);
            messages -= taken;
            *waiting -= taken;
            if *waiting == 0 {
                self.sent.pop_front();
            }
        }
        Ok(())
    }

    fn send(&mut self, pattern: &Pattern) -> io::Result<()> {
        while self.due > 0 {
            match self.stream.write(pattern.message(self.send_at, self.due.min(PATTERN_BYTES))) {
                Ok(sent) => {
                    self.due -= sent;
                    self.send_at = (self.send_at + sent) % PATTERN_BYTES;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Stream {
    /// Blocking, and without Nagle's delay.
    pub(super) fn connect(place: &Place) -> io::Result<Stream> {
        match place {
            Place::Internet(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(SILENCE))?;
                Ok(Stream::Tcp(stream))
            }
            Place::Path(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(SILENCE))?;
                Ok(Stream::Unix(stream))
            }
        }
    }

    fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.set_nonblocking(true),
            Stream::Unix(stream) => stream.set_nonblocking(true),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Stream::Tcp(stream) => stream.as_raw_fd(),
            Stream::Unix(stream) => stream.as_raw_fd(),
        }
    }
}

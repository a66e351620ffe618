//! Connections that end: connect, one message, its answer, close.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};

use super::pattern::{PATTERN_BYTES, Pattern};
use super::turns::{Clock, SILENCE_MS, Turns};
use crate::place::Place;
use crate::sys::{self, Epoll};

/// A closed connection blocks its port for a minute: with so many addresses there are ports enough.
const SOURCES: u32 = 64;

pub(super) struct Load {
    epoll: Epoll,
    slots: Vec<Slot>,
    pattern: Pattern,
    message_bytes: usize,
    server: SocketAddr,
    /// How many were begun.
    begun: usize,
}

struct Slot {
    stream: TcpStream,
    at: usize,
    answered: usize,
    since: u64,
}

impl Load {
    pub(super) fn begin(
        at_once: usize,
        message_bytes: usize,
        shouts: bool,
        place: &Place,
        clock: &mut Clock,
    ) -> Result<Load, Box<dyn Error>> {
        let Place::Internet(server) = *place else { return Err("only TCP is measured so".into()) };
        let mut load = Load {
            epoll: Epoll::new(at_once)?,
            slots: Vec::with_capacity(at_once),
            pattern: Pattern::new(shouts),
            message_bytes,
            server,
            begun: 0,
        };
        for index in 0..at_once {
            let slot = load.open(index, clock)?;
            load.slots.push(slot);
        }
        Ok(load)
    }

    /// Connects, which the kernel does at once on the loopback, and sends.
    fn open(&mut self, index: usize, clock: &Clock) -> io::Result<Slot> {
        let since = clock.now_ns();
        self.begun += 1;
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        sys::choose_port_late(&socket)?;
        let source = Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + self.begun as u32 % SOURCES);
        socket.bind(&SocketAddr::new(IpAddr::V4(source), 0).into())?;
        socket.connect(&self.server.into())?;
        socket.set_nonblocking(true)?;
        let mut stream = TcpStream::from(socket);
        let at = self.begun * 7919 % PATTERN_BYTES;
        stream.write_all(self.pattern.message(at, self.message_bytes))?;
        self.epoll.add(&stream, index)?;
        Ok(Slot { stream, at, answered: 0, since })
    }

    /// Reads; true: the answer is whole.
    fn read(&mut self, index: usize) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        let slot = &mut self.slots[index];
        let len = match slot.stream.read(&mut buffer) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed by the server")),
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        if buffer[..len] != *self.pattern.answer(slot.at + slot.answered, len) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a wrong answer"));
        }
        slot.answered += len;
        Ok(slot.answered == self.message_bytes)
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
            if self.read(index)? {
                clock.record(clock.now_ns().saturating_sub(self.slots[index].since));
                // What was there before is closed when it is replaced.
                self.slots[index] = self.open(index, clock)?;
            }
        }
        Ok(())
    }
}

//! Connections that end: connect, one message, its answer, close.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use socket2::{Domain, Socket, Type};

use super::pattern::{PATTERN_BYTES, Pattern};
use super::sample::Sample;
use crate::place::Place;
use crate::running::Running;
use crate::sys::{self, Epoll};

/// A closed connection blocks its port for a minute: with so many addresses there are ports enough.
const SOURCES: u32 = 64;
/// Nothing for so long means that answers were lost.
const SILENCE_MS: i32 = 10_000;
/// Times are kept with so many digits, up to a minute.
const TIME_DIGITS: u8 = 3;
const TIME_NS_MAX: u64 = 60_000_000_000;
/// How often the clock is read for the end, in turns of the loop.
const TURNS_PER_LOOK: u32 = 8;

/// Loads a server: `warm_up`, then `measured`. `shouts`: answers are in capitals.
pub(super) fn run(
    at_once: usize,
    message_bytes: usize,
    shouts: bool,
    server: &Running,
    (warm_up, measured): (Duration, Duration),
) -> Result<Sample, Box<dyn Error>> {
    let mut load = Load::begin(at_once, message_bytes, shouts, &server.place)?;
    load.turn_for(warm_up)?;
    load.times.reset();
    let (cpu_ns, begin) = (server.cpu_time_ns()?, Instant::now());
    load.turn_for(measured)?;
    let seconds = begin.elapsed().as_secs_f64();
    let cpu_ns = server.cpu_time_ns()?.saturating_sub(cpu_ns);
    let messages = load.times.len();
    if messages == 0 {
        return Err("not one message was answered".into());
    }
    Ok(Sample {
        cpu_us: cpu_ns as f64 / 1000.0 / messages as f64,
        messages_per_s: messages as f64 / seconds,
        p50_us: load.times.value_at_quantile(0.5) as f64 / 1000.0,
        p99_us: load.times.value_at_quantile(0.99) as f64 / 1000.0,
        lost: 0.0,
    })
}

/// A closed loop on one thread: each answer is read, compared with what was sent, and replaced by the next connection.
pub(super) struct Load {
    /// How long answers took, in ns.
    pub(super) times: Histogram<u64>,
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
    since: Instant,
}

impl Load {
    pub(super) fn begin(
        at_once: usize,
        message_bytes: usize,
        shouts: bool,
        place: &Place,
    ) -> Result<Load, Box<dyn Error>> {
        let Place::Internet(server) = *place else { return Err("only TCP is measured so".into()) };
        let mut load = Load {
            times: Histogram::new_with_bounds(1, TIME_NS_MAX, TIME_DIGITS)?,
            epoll: Epoll::new(at_once)?,
            slots: Vec::with_capacity(at_once),
            pattern: Pattern::new(shouts),
            message_bytes,
            server,
            begun: 0,
        };
        for index in 0..at_once {
            let slot = load.open(index)?;
            load.slots.push(slot);
        }
        Ok(load)
    }

    fn turn_for(&mut self, time: Duration) -> Result<(), Box<dyn Error>> {
        let begin = Instant::now();
        loop {
            for _ in 0..TURNS_PER_LOOK {
                self.turn()?;
            }
            if begin.elapsed() >= time {
                return Ok(());
            }
        }
    }

    /// Waits for answers, takes what there is, begins as many connections.
    pub(super) fn turn(&mut self) -> Result<(), Box<dyn Error>> {
        let count = self.epoll.wait(SILENCE_MS)?;
        if count == 0 {
            return Err(format!("no answer for {SILENCE_MS} ms").into());
        }
        for event in 0..count {
            let index = self.epoll.index(event);
            if self.read(index)? {
                let took = self.slots[index].since.elapsed().as_nanos() as u64;
                self.times.saturating_record(took.max(1));
                // What was there before is closed when it is replaced.
                self.slots[index] = self.open(index)?;
            }
        }
        Ok(())
    }

    /// Connects, which the kernel does at once on the loopback, and sends.
    fn open(&mut self, index: usize) -> io::Result<Slot> {
        let since = Instant::now();
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

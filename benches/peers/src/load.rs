//! The load: a closed loop on one thread. Each connection keeps the same number of messages in flight; every answer
//! is read, compared byte for byte, and replaced by the next message.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::server::Running;
use crate::sys::{Epoll, Watch};

/// A prime, so that messages of no size repeat with it; more than any burst has bytes.
const PATTERN_BYTES: usize = 131_071;
const RECEIVE_BYTES: usize = 128 * 1024;
/// How often the clock is read, in turns of the loop.
const TURNS_PER_LOOK: u32 = 16;
/// Nothing for so long means that answers were lost.
const SILENCE_MS: i32 = 10_000;

/// What is asked of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) connections: usize,
    pub(crate) message_bytes: usize,
    /// Messages in flight a connection.
    pub(crate) pipeline: usize,
}

impl Workload {
    pub(crate) const ALL: [Workload; 6] = [
        Workload::new("1x64", 1, 64, 1),
        Workload::new("50x64", 50, 64, 1),
        Workload::new("1000x64", 1000, 64, 1),
        Workload::new("50x64p16", 50, 64, 16),
        Workload::new("50x1024", 50, 1024, 1),
        Workload::new("8x65536", 8, 65_536, 1),
    ];

    const fn new(name: &'static str, connections: usize, message_bytes: usize, pipeline: usize) -> Workload {
        assert!(message_bytes * pipeline <= PATTERN_BYTES, "a burst is one piece of the pattern");
        Workload { name, connections, message_bytes, pipeline }
    }
}

/// What one server did in one round.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// Processor time of the server's process a message.
    pub(crate) cpu_us_per_message: f64,
    pub(crate) messages_per_s: f64,
}

/// Loads a server: `warm_up`, then `measured`.
pub(crate) fn run(
    workload: &Workload,
    server: &Running,
    shouts: bool,
    warm_up: Duration,
    measured: Duration,
) -> Result<Sample, Box<dyn Error>> {
    let mut load = Load::connect(workload, server.address, shouts)?;
    load.turn_for(warm_up)?;
    let (messages, cpu_ns, begin) = (load.messages(), server.cpu_time_ns()?, Instant::now());
    load.turn_for(measured)?;
    let (seconds, cpu_ns) = (begin.elapsed().as_secs_f64(), server.cpu_time_ns()? - cpu_ns);
    let messages = load.messages() - messages;
    if messages == 0 {
        return Err("not one message was answered".into());
    }
    Ok(Sample {
        cpu_us_per_message: cpu_ns as f64 / 1000.0 / messages as f64,
        messages_per_s: messages as f64 / seconds,
    })
}

struct Load {
    epoll: Epoll,
    connections: Vec<Connection>,
    pattern: Pattern,
    buffer: Vec<u8>,
    message_bytes: usize,
    received: u64,
}

struct Connection {
    stream: TcpStream,
    /// Where in the pattern the next byte to send, and the next answer's byte, are.
    send_at: usize,
    receive_at: usize,
    /// Bytes that may be sent now.
    due: usize,
    /// Bytes of an unfinished answer.
    partial: usize,
}

impl Load {
    fn connect(workload: &Workload, address: SocketAddr, shouts: bool) -> Result<Load, Box<dyn Error>> {
        let mut load = Load {
            epoll: Epoll::new(workload.connections)?,
            connections: Vec::with_capacity(workload.connections),
            pattern: Pattern::new(shouts),
            buffer: vec![0; RECEIVE_BYTES],
            message_bytes: workload.message_bytes,
            received: 0,
        };
        for index in 0..workload.connections {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            load.epoll.add(&stream, index, Watch::Edges)?;
            // Each has bytes of its own, so that an answer for another one would be noticed.
            let at = index * 7919 % PATTERN_BYTES;
            let due = workload.message_bytes * workload.pipeline;
            load.connections.push(Connection { stream, send_at: at, receive_at: at, due, partial: 0 });
        }
        for connection in &mut load.connections {
            connection.send(&load.pattern)?;
        }
        Ok(load)
    }

    fn messages(&self) -> u64 {
        self.received / self.message_bytes as u64
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

    fn turn(&mut self) -> Result<(), Box<dyn Error>> {
        let count = self.epoll.wait(SILENCE_MS)?;
        if count == 0 {
            return Err(format!("no answer for {SILENCE_MS} ms").into());
        }
        for event in 0..count {
            let index = self.epoll.index(event);
            let Some(connection) = self.connections.get_mut(index) else { continue };
            let received = connection
                .turn(&self.pattern, &mut self.buffer, self.message_bytes)
                .map_err(|error| format!("connection {index}: {error}"))?;
            self.received += received as u64;
        }
        Ok(())
    }
}

impl Connection {
    /// Reads what there is, checks it, sends as many messages as were answered. The bytes read.
    fn turn(&mut self, pattern: &Pattern, buffer: &mut [u8], message_bytes: usize) -> io::Result<usize> {
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
        self.due += answered - self.partial;
        self.send(pattern)?;
        Ok(received)
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

/// Endless bytes: a pattern twice in a row, so that any piece of it is one slice.
struct Pattern {
    messages: Vec<u8>,
    answers: Vec<u8>,
}

impl Pattern {
    fn new(shouts: bool) -> Pattern {
        // Numerical Recipes' linear congruential generator: any would do that mixes letters and the rest.
        let mut state = 1u32;
        let once: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .take(PATTERN_BYTES)
        .collect();
        let messages = [once.as_slice(), &once].concat();
        let answers = if shouts { messages.to_ascii_uppercase() } else { messages.clone() };
        Pattern { messages, answers }
    }

    fn message(&self, at: usize, len: usize) -> &[u8] {
        &self.messages[at..at + len]
    }

    fn answer(&self, at: usize, len: usize) -> &[u8] {
        &self.answers[at..at + len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pattern_is_endless() {
        let pattern = Pattern::new(true);
        assert_eq!(pattern.message(0, 100), pattern.message(PATTERN_BYTES, 100));
        assert_eq!(
            pattern.answer(PATTERN_BYTES - 1, 64),
            pattern.message(PATTERN_BYTES - 1, 64).to_ascii_uppercase()
        );
        assert_ne!(pattern.message(0, 64), pattern.message(7919, 64));
    }
}

//! The floor: level-triggered epoll by hand. One buffer for all, one read and one write an event; what a peer does
//! not take is kept, and the peer is not read until it is gone.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};

use crate::sys::{Epoll, Watch};

/// The index of the listener; connections have their place in the list.
const LISTENER: usize = usize::MAX;
const EVENTS_MAX: usize = 1024;
const BUFFER_BYTES: usize = 128 * 1024;

struct Connection {
    stream: TcpStream,
    unsent: Vec<u8>,
}

/// Serves on this thread.
pub(crate) fn serve() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let mut epoll = Epoll::new(EVENTS_MAX)?;
    epoll.add(&listener, LISTENER, Watch::Read)?;
    crate::server::announce(listener.local_addr()?)?;
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        for event in 0..epoll.wait(-1)? {
            let index = epoll.index(event);
            if index == LISTENER {
                accept(&listener, &epoll, &mut connections)?;
            } else if let Some(place) = connections.get_mut(index)
                && let Some(connection) = place
                && !connection.turn(&epoll, index, &mut buffer)?
            {
                *place = None; // closing takes it out of the epoll
            }
        }
    }
}

fn accept(
    listener: &TcpListener,
    epoll: &Epoll,
    connections: &mut Vec<Option<Connection>>,
) -> io::Result<()> {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let index = match connections.iter().position(Option::is_none) {
            Some(free) => free,
            None => {
                connections.push(None);
                connections.len() - 1
            }
        };
        epoll.add(&stream, index, Watch::Read)?;
        connections[index] = Some(Connection { stream, unsent: Vec::new() });
    }
}

impl Connection {
    /// Does what there is to do; false: it is over.
    fn turn(&mut self, epoll: &Epoll, index: usize, buffer: &mut [u8]) -> io::Result<bool> {
        if !self.unsent.is_empty() {
            let Some(sent) = progress(self.stream.write(&self.unsent)) else { return Ok(false) };
            self.unsent.drain(..sent);
            if self.unsent.is_empty() {
                epoll.change(&self.stream, index, Watch::Read)?;
            }
            return Ok(true);
        }
        let received = match self.stream.read(buffer) {
            Ok(0) => return Ok(false),
            result => result,
        };
        let Some(received) = progress(received) else { return Ok(false) };
        if received == 0 {
            return Ok(true);
        }
        let Some(sent) = progress(self.stream.write(&buffer[..received])) else { return Ok(false) };
        if sent < received {
            self.unsent.extend_from_slice(&buffer[sent..received]);
            epoll.change(&self.stream, index, Watch::ReadWrite)?;
        }
        Ok(true)
    }
}

/// How many bytes went; `None`: the connection is broken.
fn progress(result: io::Result<usize>) -> Option<usize> {
    match result {
        Ok(bytes) => Some(bytes),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
            Some(0)
        }
        Err(_) => None,
    }
}

//! mio: one event loop, edge-triggered, one buffer for all connections; each is read until it would block.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};

use mio::event::Source;
use mio::net::{TcpListener, UdpSocket, UnixListener};
use mio::{Events, Interest, Poll, Registry, Token};
use resay_peers_servers::{DATAGRAM_BYTES_MAX, Place, datagram_socket, report};

const EVENTS_MAX: usize = 1024;
const LISTENER: Token = Token(0);

fn main() -> io::Result<()> {
    match Place::from_arguments() {
        Place::Tcp(address) => {
            let listener = TcpListener::bind(address)?;
            serve(listener, |listener| {
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                Ok(stream)
            })
        }
        Place::Unix(path) => {
            let listener = UnixListener::bind(path)?;
            serve(listener, |listener| Ok(listener.accept()?.0))
        }
        Place::Udp(address) => datagrams(UdpSocket::from_std(datagram_socket(address)?)),
    }
}

struct Connection<S> {
    stream: S,
    unsent: Vec<u8>,
}

fn serve<L: Source, S: Source + Read + Write>(
    mut listener: L,
    accept: impl Fn(&L) -> io::Result<S>,
) -> io::Result<()> {
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(EVENTS_MAX);
    let mut connections: HashMap<Token, Connection<S>> = HashMap::new();
    let mut last = LISTENER;
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                accept_all(&listener, &accept, poll.registry(), &mut connections, &mut last)?;
                continue;
            }
            let Some(connection) = connections.get_mut(&event.token()) else { continue };
            let open = connection.echo(&mut buffer).unwrap_or_else(|error| {
                report(&error);
                false
            });
            if !open && let Some(mut connection) = connections.remove(&event.token()) {
                poll.registry().deregister(&mut connection.stream)?;
            }
        }
    }
}

fn accept_all<L, S: Source>(
    listener: &L,
    accept: &impl Fn(&L) -> io::Result<S>,
    registry: &Registry,
    connections: &mut HashMap<Token, Connection<S>>,
    last: &mut Token,
) -> io::Result<()> {
    loop {
        let mut stream = match accept(listener) {
            Ok(stream) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        *last = Token(last.0 + 1);
        registry.register(&mut stream, *last, Interest::READABLE | Interest::WRITABLE)?;
        connections.insert(*last, Connection { stream, unsent: Vec::new() });
    }
}

impl<S: Read + Write> Connection<S> {
    /// Does what can be done now; false: it is over.
    fn echo(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        loop {
            while !self.unsent.is_empty() {
                let Some(sent) = ready(self.stream.write(&self.unsent))? else { return Ok(true) };
                self.unsent.drain(..sent);
            }
            let Some(len) = ready(self.stream.read(buffer))? else { return Ok(true) };
            if len == 0 {
                return Ok(false);
            }
            let sent = ready(self.stream.write(&buffer[..len]))?.unwrap_or(0);
            self.unsent.extend_from_slice(&buffer[sent..len]);
        }
    }
}

fn datagrams(mut socket: UdpSocket) -> io::Result<()> {
    let mut poll = Poll::new()?;
    poll.registry().register(&mut socket, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(EVENTS_MAX);
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        poll.poll(&mut events, None)?;
        while let Some((len, peer)) = ready(socket.recv_from(&mut buffer))? {
            // What does not fit is lost, as datagrams are.
            ready(socket.send_to(&buffer[..len], peer))?;
        }
    }
}

/// `None`: it would block.
fn ready<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

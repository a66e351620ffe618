//! Datagrams, from connected sockets. Each carries its socket and its number, in letters that no transform here alters,
//! so that one that is lost, late, or somebody else's is known.

use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};

use super::turns::{Clock, Turns};
use crate::place::Place;
use crate::sys::{self, BATCH, Epoll};

/// The head of a datagram: 64 bits, four a letter.
const HEAD_BYTES: usize = 16;
/// What follows it.
const FILL: u8 = b'x';
/// A socket that has heard nothing for so long has lost what was in flight.
const PATIENCE_NS: u64 = 100_000_000;
const SOCKET_BYTES: usize = 4 << 20;
const RUN_BYTES_MAX: usize = 65_536;

#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) sockets: usize,
    pub(super) datagram_bytes: usize,
    /// In flight a socket.
    pub(super) window: usize,
    /// Whether the whole window is sent as one, and answers are taken as the kernel has gathered them.
    pub(super) runs: bool,
    pub(super) shouts: bool,
}

pub(super) struct Load {
    plan: Plan,
    epoll: Epoll,
    peers: Vec<Peer>,
    /// What is sent and what was received, a slot a datagram.
    outgoing: Vec<u8>,
    incoming: Vec<u8>,
    lost: u64,
    looked_ns: u64,
}

struct Peer {
    socket: UdpSocket,
    index: u64,
    /// The number of the next datagram, and of the next answer.
    next: u64,
    expected: u64,
    /// When those in flight were sent, by their number.
    sent_ns: [u64; BATCH],
    heard_ns: u64,
}

impl Load {
    pub(super) fn begin(plan: Plan, place: &Place, clock: &mut Clock) -> Result<Load, Box<dyn Error>> {
        let Place::Internet(server) = *place else { return Err("datagrams go over UDP".into()) };
        let is_too_much =
            plan.window > BATCH || plan.window * plan.datagram_bytes > RUN_BYTES_MAX - HEAD_BYTES;
        if is_too_much || plan.datagram_bytes < HEAD_BYTES {
            return Err(
                format!("a window of {} × {} B does not fit", plan.window, plan.datagram_bytes).into()
            );
        }
        let mut load = Load {
            plan,
            epoll: Epoll::new(plan.sockets)?,
            peers: Vec::with_capacity(plan.sockets),
            outgoing: vec![FILL; BATCH * plan.datagram_bytes],
            incoming: vec![0; (BATCH * (plan.datagram_bytes + 1)).max(RUN_BYTES_MAX)],
            lost: 0,
            looked_ns: 0,
        };
        for index in 0..plan.sockets {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            socket.connect(server)?;
            socket.set_nonblocking(true)?;
            socket2::SockRef::from(&socket).set_recv_buffer_size(SOCKET_BYTES)?;
            if plan.runs {
                sys::gather_runs(&socket)?;
            }
            load.epoll.add(&socket, index)?;
            let index = index as u64;
            load.peers.push(Peer { socket, index, next: 0, expected: 0, sent_ns: [0; BATCH], heard_ns: 0 });
        }
        for peer in &mut load.peers {
            peer.refill(&plan, &mut load.outgoing, clock)?;
        }
        Ok(load)
    }

    /// Gives up what has not come back for too long, and sends anew.
    fn look(&mut self, clock: &Clock) -> io::Result<()> {
        let now = clock.now_ns();
        if now - self.looked_ns < PATIENCE_NS / 4 {
            return Ok(());
        }
        self.looked_ns = now;
        for peer in &mut self.peers {
            if now - peer.heard_ns > PATIENCE_NS {
                self.lost += peer.next - peer.expected;
                peer.expected = peer.next;
                peer.heard_ns = now;
                peer.refill(&self.plan, &mut self.outgoing, clock)?;
            }
        }
        Ok(())
    }
}

impl Turns for Load {
    fn turn(&mut self, clock: &mut Clock) -> Result<(), Box<dyn Error>> {
        let count = self.epoll.wait((PATIENCE_NS / 1_000_000) as i32)?;
        for event in 0..count {
            let index = self.epoll.index(event);
            let Some(peer) = self.peers.get_mut(index) else { continue };
            self.lost += peer
                .receive(&self.plan, &mut self.incoming, clock)
                .map_err(|error| format!("socket {index}: {error}"))?;
            peer.refill(&self.plan, &mut self.outgoing, clock)?;
        }
        Ok(self.look(clock)?)
    }

    fn lost(&self) -> u64 {
        self.lost
    }
}

impl Peer {
    /// Takes what there is. How many were found to be lost.
    fn receive(&mut self, plan: &Plan, incoming: &mut [u8], clock: &mut Clock) -> io::Result<u64> {
        let mut lost = 0;
        if plan.runs {
            let (len, segment_bytes) = match sys::receive_run(&self.socket, incoming) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
                result => result?,
            };
            let now = clock.now_ns();
            for datagram in incoming[..len].chunks(segment_bytes.max(1)) {
                lost += self.take(plan, datagram, now, clock)?;
            }
        } else {
            let mut lens = [0; BATCH];
            // One byte more, so that an answer that is too long is seen.
            let slot_bytes = plan.datagram_bytes + 1;
            let count = match sys::receive_batch(&self.socket, incoming, slot_bytes, &mut lens) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
                result => result?,
            };
            let now = clock.now_ns();
            for (slot, len) in incoming.chunks_exact(slot_bytes).zip(&lens[..count]) {
                lost += self.take(plan, &slot[..*len], now, clock)?;
            }
        }
        Ok(lost)
    }

    /// Checks one answer. How many before it were lost.
    fn take(&mut self, plan: &Plan, datagram: &[u8], now: u64, clock: &mut Clock) -> io::Result<u64> {
        let wrong = |what: &str| Err(io::Error::new(io::ErrorKind::InvalidData, what));
        if datagram.len() != plan.datagram_bytes {
            return wrong(&format!("an answer of {} bytes", datagram.len()));
        }
        let (head, rest) = datagram.split_at(HEAD_BYTES);
        let Some((index, number)) = read_head(head) else { return wrong("an answer without a head") };
        let fill = if plan.shouts { FILL.to_ascii_uppercase() } else { FILL };
        if index != self.index || number >= self.next || rest.iter().any(|byte| *byte != fill) {
            return wrong("a wrong answer");
        }
        self.heard_ns = now;
        if number < self.expected {
            return Ok(0); // it was given up already
        }
        let lost = number - self.expected;
        self.expected = number + 1;
        clock.record(now.saturating_sub(self.sent_ns[number as usize % BATCH]));
        Ok(lost)
    }

    /// Sends until the window is full.
    fn refill(&mut self, plan: &Plan, outgoing: &mut [u8], clock: &Clock) -> io::Result<()> {
        let in_flight = (self.next - self.expected) as usize;
        let room = plan.window - in_flight;
        if room == 0 || (plan.runs && in_flight > 0) {
            return Ok(());
        }
        let now = clock.now_ns();
        for (slot, number) in outgoing.chunks_exact_mut(plan.datagram_bytes).zip(self.next..).take(room) {
            slot[..HEAD_BYTES].copy_from_slice(&head(self.index, number));
            self.sent_ns[number as usize % BATCH] = now;
        }
        let bytes = &outgoing[..room * plan.datagram_bytes];
        let sent = if plan.runs {
            sys::send_run(&self.socket, bytes, plan.datagram_bytes as u16).map(|()| room)
        } else {
            sys::send_batch(&self.socket, bytes, plan.datagram_bytes)
        };
        match sent {
            Ok(sent) => self.next += sent as u64,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

fn head(index: u64, number: u64) -> [u8; HEAD_BYTES] {
    let value = index << 48 | number;
    std::array::from_fn(|at| b'@' + (value >> (4 * at) & 15) as u8)
}

/// The socket and the number.
fn read_head(head: &[u8]) -> Option<(u64, u64)> {
    let mut value = 0;
    for (at, letter) in head.iter().enumerate() {
        let four = letter.checked_sub(b'@').filter(|four| *four < 16)?;
        value |= u64::from(four) << (4 * at);
    }
    Some((value >> 48, value & ((1 << 48) - 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_as_it_was_written() {
        for (index, number) in [(0, 0), (7, 1), (65_535, (1 << 48) - 1)] {
            let head = head(index, number);
            assert_eq!(head.to_ascii_uppercase(), head);
            assert_eq!(read_head(&head), Some((index, number)));
        }
        assert_eq!(read_head(b"0123456789abcdef"), None);
    }
}

//! A loop between servers that answer each other, found by what comes back.
//!
//! In a loop nobody has initiative: each datagram is somebody's answer. A server that echoes sends our own bytes back, so
//! answers are remembered, by peer and bytes, and a request that is one of them has *returned*. Returns are counted for
//! each peer. At a limit the request is dropped, once: that ends the loop, which lives of one datagram. A client that
//! repeats its question loses that datagram, and the limit for these bytes doubles.
//!
//! ```text
//! request r of peer p:  answers(p, r) is younger than 5 s: r has returned, returns(p) += 1
//!                       returns(p) at the limit of r: drop r, returns(p) = 0, double the limit of r
//! answer a to p:        answers(p, a) = now
//! ```
//!
//! The limit is low where the peer's port is one that services have, and high where clients have theirs. The memory is
//! fixed, and nobody outside can choose a slot.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::hash::HashKey;
use super::slots::Slots;
use crate::options::LoopHops;
use crate::timer::Moment;

/// The answers of one socket, of late, and who sent them back.
#[derive(Debug)]
pub(crate) struct LoopDetector {
    key: HashKey,
    limits: LoopHops,
    /// The port that the socket is bound to: a peer with the same one is a server.
    port: u16,
    /// How often each answer reached its limit.
    answers: Slots<u8>,
    /// How many answers each peer has sent back since one was dropped.
    returns: Slots<u32>,
}

const ANSWERS: usize = 4096;
const PEERS: usize = 1024;
/// An answer that comes back later than this is a question.
const MEMORY: Duration = Duration::from_secs(5);
/// Ports from here on are those of clients: Linux's net.ipv4.ip_local_port_range begins here, other systems' later.
const CLIENT_PORT_MIN: u16 = 32_768;
/// Limits double up to here.
const SERVICE_LIMIT_MAX: u32 = 1024;
const CLIENT_LIMIT_MAX: u32 = 65_536;
/// What of a message is looked at, beside its length.
const HEAD_BYTES: usize = 24;
const TAIL_BYTES: usize = 8;

impl LoopDetector {
    /// `port`: the socket's own.
    pub(crate) fn new(limits: LoopHops, port: u16) -> LoopDetector {
        let (answers, returns) = (Slots::new(ANSWERS, MEMORY), Slots::new(PEERS, MEMORY));
        LoopDetector { key: HashKey::random(), limits, port, answers, returns }
    }

    /// Whether a request is a loop's, which is to be dropped.
    #[inline]
    pub(crate) fn is_loop(&mut self, peer: &SocketAddr, request: &[u8], now: Moment) -> bool {
        let Some((least, most)) = self.limit(peer) else { return false };
        let (now_ms, hash) = (ms(now), self.hash(peer, request));
        let Some(&mut doublings) = self.answers.get(hash, now_ms) else { return false };
        let limit = least.checked_shl(doublings.into()).map_or(most, |limit| limit.min(most));
        self.has_returned(peer, hash, limit, now_ms)
    }

    /// Counts an answer that has come back; whether that is one too many.
    fn has_returned(&mut self, peer: &SocketAddr, hash: u64, limit: u32, now_ms: u32) -> bool {
        let Some(returns) = self.returns.entry(self.key.of(words_of(peer)), now_ms) else { return false };
        *returns += 1;
        if *returns < limit {
            return false;
        }
        *returns = 0;
        // What comes again is still known: a client that goes on has the doubled limit.
        if let Some(doublings) = self.answers.entry(hash, now_ms) {
            *doublings = (*doublings + 1).min(DOUBLINGS_MAX);
        }
        true
    }

    /// An answer leaves now.
    #[inline]
    pub(crate) fn answered(&mut self, peer: &SocketAddr, answer: &[u8], now: Moment) {
        if self.limit(peer).is_some() {
            let hash = self.hash(peer, answer);
            self.answers.entry(hash, ms(now));
        }
    }

    /// Whether answers to a port are remembered.
    #[inline]
    pub(crate) fn watches(&self, port: u16) -> bool {
        self.limits.client.is_some() || self.is_service(port)
    }

    fn is_service(&self, port: u16) -> bool {
        port < CLIENT_PORT_MIN || port == self.port
    }

    /// How many returns of this peer are one too many, at first and at last; `None`: it may return all.
    #[inline]
    fn limit(&self, peer: &SocketAddr) -> Option<(u32, u32)> {
        if self.is_service(peer.port()) {
            return Some((self.limits.service, self.limits.service.max(SERVICE_LIMIT_MAX)));
        }
        self.limits.client.map(|limit| (limit, limit.max(CLIENT_LIMIT_MAX)))
    }

    #[inline]
    fn hash(&self, peer: &SocketAddr, message: &[u8]) -> u64 {
        let [high, low, port] = words_of(peer);
        // Below 2^16 both.
        let port_and_length = port << 32 | message.len() as u64;
        let head = message.get(..HEAD_BYTES).unwrap_or(message);
        let tail = message.get(message.len().saturating_sub(TAIL_BYTES)..).unwrap_or_default();
        let bytes = [word(tail)].into_iter().chain(head.chunks(8).map(word));
        self.key.of([high ^ port_and_length, low].into_iter().chain(bytes))
    }
}

/// More would shift a limit of 1 beyond every bound.
const DOUBLINGS_MAX: u8 = 16;

fn words_of(peer: &SocketAddr) -> [u64; 3] {
    let (high, low) = match peer.ip() {
        IpAddr::V4(address) => (0, u64::from(address.to_bits())),
        IpAddr::V6(address) => ((address.to_bits() >> 64) as u64, address.to_bits() as u64),
    };
    [high, low, peer.port().into()]
}

#[inline]
fn word(bytes: &[u8]) -> u64 {
    if let Some(word) = bytes.first_chunk() {
        return u64::from_le_bytes(*word);
    }
    let mut word = [0; 8];
    for (to, from) in word.iter_mut().zip(bytes) {
        *to = *from;
    }
    u64::from_le_bytes(word)
}

/// Milliseconds, which may wrap: only what has passed is looked at.
fn ms(now: Moment) -> u32 {
    (now.as_micros() / 1000) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    const LIMITS: LoopHops = LoopHops { service: 2, client: Some(256) };

    fn at(micros: u64) -> Moment {
        Moment::from_micros(7_000_000 + micros)
    }

    /// What a server answers.
    type Chain = fn(&[u8]) -> Vec<u8>;

    /// One of ours.
    struct Server {
        address: SocketAddr,
        detector: LoopDetector,
        chain: Chain,
    }

    impl Server {
        fn new(address: &str, chain: Chain) -> Server {
            let address: SocketAddr = address.parse().unwrap();
            Server { address, detector: LoopDetector::new(LIMITS, address.port()), chain }
        }

        fn serve(&mut self, peer: &SocketAddr, message: &[u8], now: Moment) -> Option<Vec<u8>> {
            if self.detector.is_loop(peer, message, now) {
                return None;
            }
            let answer = (self.chain)(message);
            self.detector.answered(peer, &answer, now);
            Some(answer)
        }
    }

    fn echo(message: &[u8]) -> Vec<u8> {
        message.to_vec()
    }

    fn uppercase(message: &[u8]) -> Vec<u8> {
        message.to_ascii_uppercase()
    }

    fn rot13(message: &[u8]) -> Vec<u8> {
        let turn = |byte: &u8| match byte {
            b'a'..=b'z' => (byte - b'a' + 13) % 26 + b'a',
            b'A'..=b'Z' => (byte - b'A' + 13) % 26 + b'A',
            _ => *byte,
        };
        message.iter().map(turn).collect()
    }

    /// Datagrams on the wire, the forged one included, until nobody answers any more. `foreign`: the other has no guard.
    fn datagrams(a: &mut Server, b: &mut Server, foreign: bool, forged: &[&[u8]], step_us: u64) -> usize {
        let (mut wire, mut seen, mut now) = (VecDeque::new(), 0, 0);
        for message in forged {
            wire.push_back((true, message.to_vec()));
        }
        while let Some((to_a, message)) = wire.pop_front() {
            seen += 1;
            assert!(seen < 1_000_000, "it goes on for ever");
            now += step_us;
            let answer = if to_a {
                a.serve(&b.address, &message, at(now))
            } else if foreign {
                Some((b.chain)(&message))
            } else {
                b.serve(&a.address, &message, at(now))
            };
            wire.extend(answer.map(|answer| (!to_a, answer)));
        }
        seen
    }

    const A: &str = "192.0.2.1:8888";

    #[test]
    fn a_loop_ends_within_eight_datagrams_whoever_the_other_is() {
        let chains: [Chain; 3] = [echo, uppercase, rot13];
        for other in ["192.0.2.2:7", "192.0.2.2:8888", "[2001:db8::2]:9999", A] {
            for chain in chains {
                for foreign in [false, true] {
                    let (mut a, mut b) = (Server::new(A, echo), Server::new(other, chain));
                    let seen = datagrams(&mut a, &mut b, foreign, &[b"forged"], 50);
                    assert!(seen <= 8, "{other} {foreign}: {seen}");
                }
            }
        }
    }

    #[test]
    fn each_forged_datagram_is_a_loop_of_its_own() {
        for count in [2_usize, 10, 100] {
            let forged: Vec<_> = (0..count).map(|number| format!("forged {number}")).collect();
            let forged: Vec<_> = forged.iter().map(String::as_bytes).collect();
            let (mut a, mut b) = (Server::new(A, echo), Server::new("192.0.2.2:7", echo));
            let seen = datagrams(&mut a, &mut b, true, &forged, 50);
            assert!(seen <= 8 * count, "{count}: {seen}");
        }
    }

    #[test]
    fn a_port_of_clients_takes_longer_and_ends_too() {
        let (mut a, mut b) = (Server::new(A, echo), Server::new("192.0.2.2:40000", echo));
        let seen = datagrams(&mut a, &mut b, true, &[b"forged"], 50);
        assert_eq!(seen, 1 + 2 * 256);
    }

    #[test]
    fn clients_with_numbers_lose_nothing() {
        let mut server = Server::new(A, echo);
        let client: SocketAddr = "192.0.2.9:40000".parse().unwrap();
        for number in 0..1_000_000_u64 {
            let message = [b"ping ".as_slice(), &number.to_le_bytes()].concat();
            assert!(server.serve(&client, &message, at(number * 10)).is_some(), "{number}");
        }
    }

    #[test]
    fn a_client_that_repeats_itself_loses_few() {
        let mut server = Server::new(A, echo);
        let client: SocketAddr = "192.0.2.9:40000".parse().unwrap();
        let lost =
            (0..1_000_000_u64).filter(|turn| server.serve(&client, b"same", at(turn * 10)).is_none()).count();
        assert!((1..=25).contains(&lost), "{lost}");
        // Seldom enough, and nobody counts.
        let mut server = Server::new(A, echo);
        let service: SocketAddr = "192.0.2.9:53".parse().unwrap();
        for turn in 0..1000 {
            assert!(server.serve(&service, b"check", at(turn * 5_002_000)).is_some());
        }
    }
}

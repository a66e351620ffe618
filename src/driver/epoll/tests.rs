#![allow(clippy::unwrap_used, clippy::panic, reason = "tests: what is not as expected fails them")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread;

use socket2::{Domain, Socket, Type};

use super::guess::GUESSES_MAX;
use super::*;
use crate::sys::faults;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

struct Bench {
    driver: Epoll,
    _waker: Arc<Waker>,
    pool: Pool,
}

/// What a turn brought, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Received(usize),
    Accepted,
    Sent,
    Ended,
    Failed,
    Drained,
}

impl Bench {
    fn new() -> Bench {
        let (driver, waker) = Epoll::new().unwrap();
        Bench { driver, _waker: waker, pool: Pool::default() }
    }

    fn add(&mut self, token: Token, socket: impl Into<OwnedFd>, kind: SocketKind, read_bytes_max: usize) {
        self.driver.add_stream(token, socket.into(), kind, read_bytes_max).unwrap();
    }

    /// One turn: what there is now.
    fn turn(&mut self) -> Vec<(Token, Seen)> {
        self.driver.wait(Some(Duration::ZERO)).unwrap();
        let seen = self.rest_of_turn();
        if seen.is_empty() && self.driver.wait_again() { self.rest_of_turn() } else { seen }
    }

    fn rest_of_turn(&mut self) -> Vec<(Token, Seen)> {
        let next = || {
            Some(match self.driver.next()? {
                Completion::Received { token, .. } => {
                    let RecvBuf { buffer, start } = self.driver.recv_buf();
                    (token, Seen::Received(buffer.len() - start))
                }
                Completion::Accepted { token, .. } => (token, Seen::Accepted),
                Completion::Sent { token, memory } => {
                    self.pool.put(memory);
                    (token, Seen::Sent)
                }
                Completion::Ended { token } => (token, Seen::Ended),
                Completion::Failed { token, .. } => (token, Seen::Failed),
                Completion::Drained { token } => (token, Seen::Drained),
                other => panic!("{other:?}"),
            })
        };
        std::iter::from_fn(next).collect()
    }

    /// Takes turns until one brings something.
    fn turns(&mut self) -> Vec<(Token, Seen)> {
        let until = std::time::Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(std::time::Instant::now());
            self.driver.wait(Some(left)).unwrap();
            let seen = self.rest_of_turn();
            if !seen.is_empty() || left.is_zero() {
                return seen;
            }
        }
    }
}

fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (ours, _) = listener.accept().unwrap();
    ours.set_nonblocking(true).unwrap();
    (ours, theirs)
}

fn unix_pair() -> (UnixStream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    (ours, theirs)
}

fn token(index: u32) -> Token {
    Token::new(index, 0)
}

#[test]
fn a_turn_accepts_a_bounded_number() {
    let mut bench = Bench::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    bench.driver.add_listener(token(0), listener.into()).unwrap();
    let burst = ACCEPT_BURST as usize;
    let _peers: Vec<_> = (0..burst + 10).map(|_| TcpStream::connect(address).unwrap()).collect();
    assert_eq!(bench.turn(), vec![(token(0), Seen::Accepted); burst]);
    assert_eq!(bench.turn(), vec![(token(0), Seen::Accepted); 10]);
    assert_eq!(bench.turn(), []);
}

#[test]
fn a_stream_has_one_read_a_turn() {
    for is_tcp in [true, false] {
        let mut bench = Bench::new();
        let (tcp, unix) = (tcp_pair(), unix_pair());
        let mut peer: Box<dyn Write> = if is_tcp {
            bench.add(token(0), tcp.0, SocketKind::Tcp, 1024);
            Box::new(tcp.1)
        } else {
            bench.add(token(0), unix.0, SocketKind::UnixStream, 1024);
            Box::new(unix.1)
        };
        peer.write_all(&[1; 5 * 1024 + 7]).unwrap();
        for _ in 0..5 {
            assert_eq!(bench.turn(), [(token(0), Seen::Received(1024))]);
        }
        assert_eq!(bench.turn(), [(token(0), Seen::Received(7))]);
        assert_eq!(bench.turn(), []);
    }
}

#[test]
fn a_turn_reads_a_bounded_number_of_records() {
    let mut bench = Bench::new();
    let (ours, theirs) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None).unwrap();
    ours.set_nonblocking(true).unwrap();
    bench.add(token(0), ours, SocketKind::UnixSeqpacket, 1024);
    let burst = usize::from(RECORD_BURST);
    theirs.set_nonblocking(true).unwrap();
    for sent in 0..burst + 3 {
        // As many as a socket takes in any case: net.unix.max_dgram_qlen is only about datagrams.
        assert!(theirs.send(b"record").is_ok(), "{sent} records");
    }
    assert_eq!(bench.turn(), vec![(token(0), Seen::Received(6)); burst]);
    assert_eq!(bench.turn(), vec![(token(0), Seen::Received(6)); 3]);
}

/// Peers that flood are read up to a bound. Those that are left come first in the next turn, and whoever has something new
/// does not wait for any of them.
#[test]
fn floods_wait_for_who_has_just_come() {
    const ROOM: usize = 16 * 1024;
    let in_a_turn = TURN_FLOOD_BYTES / ROOM;
    let mut bench = Bench::new();
    let mut peers: Vec<_> = (0..in_a_turn as u32 + 4)
        .map(|index| {
            let (ours, theirs) = unix_pair();
            bench.add(token(index), ours, SocketKind::UnixStream, ROOM);
            theirs
        })
        .collect();
    peers.iter_mut().for_each(|peer| peer.write_all(&[1; 4 * ROOM]).unwrap());
    let (ours, mut new) = unix_pair();
    bench.add(token(1000), ours, SocketKind::UnixStream, ROOM);
    // Their first reads are news.
    assert_eq!(bench.turn().len(), peers.len());
    new.write_all(b"new").unwrap();
    let second = bench.turn();
    assert_eq!(second[0], (token(1000), Seen::Received(3)));
    assert_eq!(second.len(), 1 + in_a_turn);
    let waited: Vec<_> = (0..peers.len() as u32)
        .map(token)
        .filter(|token| second.iter().all(|(seen, _)| seen != token))
        .collect();
    let third: Vec<_> = bench.turn().into_iter().map(|(token, _)| token).collect();
    assert_eq!(third[..4], waited);
}

#[test]
fn an_event_of_a_closed_socket_concerns_nobody() {
    let mut bench = Bench::new();
    let ((ours, mut theirs), (next, mut next_peer)) = (tcp_pair(), tcp_pair());
    bench.add(token(0), ours, SocketKind::Tcp, 1024);
    theirs.write_all(b"old").unwrap();
    bench.driver.wait(Some(PATIENCE)).unwrap();
    bench.driver.close(token(0), Close::Gently);
    next_peer.write_all(b"newer").unwrap();
    let successor = Token::new(0, 1);
    bench.add(successor, next, SocketKind::Tcp, 1024);
    assert_eq!(bench.rest_of_turn(), []);
    assert_eq!(bench.turns(), [(successor, Seen::Received(5))]);
}

#[test]
fn a_paused_stream_is_not_read() {
    let mut bench = Bench::new();
    let (ours, mut theirs) = tcp_pair();
    bench.add(token(0), ours, SocketKind::Tcp, 1024);
    bench.driver.pause(token(0));
    theirs.write_all(b"later").unwrap();
    bench.driver.wait(Some(PATIENCE)).unwrap();
    assert!(bench.driver.has_found(), "its bytes are an event");
    assert_eq!(bench.rest_of_turn(), []);
    bench.driver.resume(token(0));
    assert_eq!(bench.turn(), [(token(0), Seen::Received(5))]);
}

#[test]
fn what_a_peer_does_not_take_leaves_when_it_reads() {
    let mut bench = Bench::new();
    let (ours, mut theirs) = tcp_pair();
    bench.add(token(0), ours, SocketKind::Tcp, 1024);
    let answer = vec![7; 32 << 20];
    assert!(matches!(bench.driver.send(token(0), answer.clone()), Progress::Pending));
    assert!(bench.driver.unsent(token(0)) > 0);
    let reader = thread::spawn(move || {
        let mut bytes = vec![0; 32 << 20];
        theirs.set_read_timeout(Some(PATIENCE)).unwrap();
        theirs.read_exact(&mut bytes).map(|()| bytes)
    });
    assert_eq!(bench.turns(), [(token(0), Seen::Sent)]);
    assert!(reader.join().unwrap().unwrap() == answer);
}

/// A socket that says that it takes more may take nothing, where the system has no memory (tcp(7)). With nothing on its way to
/// the peer there is no other edge.
#[test]
fn a_send_that_finds_no_memory_is_tried_again() {
    let _alone = faults::alone();
    let mut bench = Bench::new();
    let (ours, mut theirs) = unix_pair();
    bench.add(token(0), ours, SocketKind::UnixStream, 1024);
    let mut left = 1 << 20;
    assert!(matches!(bench.driver.send(token(0), vec![7; left]), Progress::Pending));
    // All that is on its way.
    let mut bytes = vec![0; left];
    theirs.set_nonblocking(true).unwrap();
    while let Ok(len) = theirs.read(&mut bytes) {
        left -= len;
    }
    // The first call is the wait, the second the send, whose second error is EAGAIN.
    faults::arm(1, 1);
    assert!(faults::inside(|| bench.turn()).is_empty());
    let hit = faults::disarm().unwrap();
    assert_eq!((hit.call, hit.error), ("sendto", libc::EAGAIN));
    theirs.set_nonblocking(false).unwrap();
    theirs.set_read_timeout(Some(PATIENCE)).unwrap();
    let reader = thread::spawn(move || theirs.read_exact(&mut bytes[..left]));
    assert_eq!(bench.turns(), [(token(0), Seen::Sent)]);
    reader.join().unwrap().unwrap();
}

#[test]
fn draining_ends_where_nothing_has_come() {
    let mut bench = Bench::new();
    let (ours, mut theirs) = tcp_pair();
    bench.add(token(0), ours, SocketKind::Tcp, 1024);
    bench.driver.drain(token(0));
    assert_eq!(bench.turn(), [(token(0), Seen::Drained)]);
    theirs.write_all(&[1; 2 * 1024 + 1]).unwrap();
    bench.driver.drain(token(0));
    let sizes = [1024, 1024, 1].map(Seen::Received);
    for expected in sizes.into_iter().chain([Seen::Drained]) {
        assert_eq!(bench.turn(), [(token(0), expected)]);
    }
}

#[test]
fn an_end_that_came_with_bytes_is_heard() {
    let mut bench = Bench::new();
    let (ours, mut theirs) = tcp_pair();
    bench.add(token(0), ours, SocketKind::Tcp, 1024);
    theirs.write_all(b"last").unwrap();
    theirs.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(bench.turn(), [(token(0), Seen::Received(4))]);
    assert_eq!(bench.turn(), [(token(0), Seen::Ended)]);
}

/// Somebody else who has the same socket may make its calls wait: ours do not.
#[test]
fn a_stream_that_others_make_wait_holds_nobody() {
    let (ours, theirs) = tcp_pair();
    ours.set_nonblocking(false).unwrap();
    let (sender, seen) = mpsc::channel();
    let turns = thread::spawn(move || {
        let mut bench = Bench::new();
        bench.add(token(0), ours, SocketKind::Tcp, 1024);
        bench.driver.drain(token(0));
        sender.send(bench.turn())
    });
    let first = seen.recv_timeout(PATIENCE);
    // Lets go of one that waits.
    drop(theirs);
    turns.join().unwrap().unwrap();
    assert_eq!(first.unwrap(), [(token(0), Seen::Drained)]);
}

/// A driver in a foreign loop with two streams, of which the first is likely to be the next one that is ready.
fn likely() -> (Bench, [UnixStream; 2]) {
    let mut bench = Bench::new();
    bench.driver.foreign_poll_fd().unwrap();
    let (first, second) = (unix_pair(), unix_pair());
    bench.add(token(0), first.0, SocketKind::UnixStream, 1024);
    bench.add(token(1), second.0, SocketKind::UnixStream, 1024);
    let mut peers = [first.1, second.1];
    for _ in 0..2 {
        peers[0].write_all(b"x").unwrap();
        assert_eq!(bench.turn(), [(token(0), Seen::Received(1))]);
    }
    assert_eq!(bench.driver.io.guess.likely(), Some(token(0)));
    (bench, peers)
}

#[test]
fn a_stream_that_was_alone_is_read_without_asking() {
    let (mut bench, mut peers) = likely();
    for _ in 0..GUESSES_MAX {
        peers[0].write_all(b"xy").unwrap();
        assert_eq!(bench.turn(), [(token(0), Seen::Received(2))]);
        assert!(bench.driver.io.guess.is_this_turn());
    }
    peers[0].write_all(b"xyz").unwrap();
    assert_eq!(bench.turn(), [(token(0), Seen::Received(3))]);
    assert!(!bench.driver.io.guess.is_this_turn(), "epoll was asked");
    assert_eq!(bench.turn(), []);
}

#[test]
fn a_wrong_guess_is_made_good_in_the_same_turn() {
    let (mut bench, mut peers) = likely();
    peers[1].write_all(b"xy").unwrap();
    assert_eq!(bench.turn(), [(token(1), Seen::Received(2))]);
    assert_eq!(bench.driver.io.guess.likely(), None);
}

#[test]
fn who_is_not_guessed_waits_for_a_bounded_number_of_messages() {
    let (mut bench, mut peers) = likely();
    peers[1].write_all(b"xy").unwrap();
    let turns = (0..=GUESSES_MAX).map(|_| {
        peers[0].write_all(b"x").unwrap();
        bench.turn()
    });
    let seen: Vec<_> = turns.collect();
    let (last, before) = seen.split_last().unwrap();
    assert!(before.iter().all(|turn| *turn == [(token(0), Seen::Received(1))]), "{seen:?}");
    assert!(
        last.contains(&(token(0), Seen::Received(1))) && last.contains(&(token(1), Seen::Received(2))),
        "{seen:?}"
    );
}

#[test]
fn who_is_guessed_may_have_gone_be_paused_or_end() {
    let (mut bench, mut peers) = likely();
    bench.driver.close(token(0), Close::Gently);
    peers[1].write_all(b"xy").unwrap();
    assert_eq!(bench.turn(), [(token(1), Seen::Received(2))]);

    let (mut bench, mut peers) = likely();
    bench.driver.pause(token(0));
    peers[0].write_all(b"x").unwrap();
    assert_eq!(bench.turn(), []);
    bench.driver.resume(token(0));
    assert_eq!(bench.turn(), [(token(0), Seen::Received(1))]);

    let (mut bench, mut peers) = likely();
    peers[0].write_all(b"x").unwrap();
    drop(peers);
    let mut seen = Vec::new();
    while !seen.contains(&(token(0), Seen::Ended)) {
        seen.extend(bench.turn());
    }
    assert_eq!(seen.iter().filter(|(of, _)| *of == token(0)).count(), 2, "{seen:?}");
}

#[test]
fn nobody_is_guessed_where_no_foreign_loop_waits() {
    let mut bench = Bench::new();
    let (ours, mut theirs) = unix_pair();
    bench.add(token(0), ours, SocketKind::UnixStream, 1024);
    for _ in 0..4 {
        theirs.write_all(b"x").unwrap();
        assert_eq!(bench.turn(), [(token(0), Seen::Received(1))]);
        assert_eq!(bench.driver.io.guess.likely(), None);
    }
}

#[test]
fn what_lies_in_a_stream_that_refuses_descriptors_is_read_to_its_end_once() {
    let mut bench = Bench::new();
    let (ours, mut theirs) = unix_pair();
    sys::refuse_descriptors(&ours).unwrap();
    // Before Linux 6.16 none can be refused.
    let role = if sys::refuses_descriptors(ours.as_fd()) { Role::Stream } else { Role::UnixStream };
    bench.add(token(0), ours, SocketKind::UnixStream, 1024);
    assert_eq!(bench.driver.slot(token(0)).unwrap().role, role);
    for is_first in [true, false] {
        theirs.write_all(b"x").unwrap();
        assert_eq!(bench.turn(), [(token(0), Seen::Received(1))]);
        // A descriptor may have been sent along with it before they were refused, and more may lie behind that.
        assert_eq!(bench.driver.has_leftovers(), is_first && role == Role::Stream);
        assert_eq!(bench.turn(), []);
    }
}

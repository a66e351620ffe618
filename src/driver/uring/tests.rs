#![allow(clippy::unwrap_used, clippy::panic, reason = "tests: what is not as expected fails them")]

mod ends;
mod sockets;
mod submitted;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;

use super::slots::{Event, RECEIVING};
use super::*;
use crate::buffer::Pool;
use crate::driver::Driver;
use crate::driver::hybrid::{Hybrid, Share};
use crate::limits::{READ_BYTES_MAX, RING_BUFFER_BYTES, RING_BUFFERS_MAX, RING_KEPT_MAX};
use crate::peer::Peer;
use crate::sys;

/// Longer than a wait in a test should take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Long enough for what must not happen to happen.
const A_WHILE: Duration = Duration::from_millis(30);

/// A driver, where this machine lets us have one.
fn driver() -> Option<Hybrid> {
    if let Err(reason) = Hybrid::probe_uring() {
        eprintln!("left out: {reason}");
        return None;
    }
    Some(Hybrid::uring(Share::All).unwrap().0)
}

fn ring(driver: &mut Hybrid) -> &mut Uring {
    driver.ring().unwrap()
}

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (ours, _) = listener.accept().unwrap();
    theirs.set_nodelay(true).unwrap();
    theirs.set_read_timeout(Some(PATIENCE)).unwrap();
    ours.set_nonblocking(true).unwrap();
    (ours, theirs)
}

fn connect(driver: &mut Hybrid, token: Token) -> TcpStream {
    let (ours, theirs) = pair();
    driver.add_stream(token, ours.into(), SocketKind::Tcp, READ_BYTES_MAX).unwrap();
    theirs
}

/// Waits, once more where it was interrupted (io_uring_enter(2)), as a worker does.
fn wait(driver: &mut Hybrid, timeout: Option<Duration>) {
    while let Err(error) = driver.wait(timeout) {
        assert_eq!(error.kind(), io::ErrorKind::Interrupted, "{error}");
    }
}

/// Takes turns until one has a completion; copies what is in the receive buffer, and echoes it where asked.
fn turns(driver: &mut Hybrid, pool: &mut Pool, echo: bool, within: Duration) -> Vec<(Seen, Token)> {
    let mut seen = Vec::new();
    let until = std::time::Instant::now() + within;
    while seen.is_empty() {
        let left = until.saturating_duration_since(std::time::Instant::now());
        if left.is_zero() {
            break;
        }
        wait(driver, Some(left));
        while let Some(completion) = driver.next() {
            let one = match completion {
                Completion::Received { token, .. } => {
                    let recv_buf = driver.recv_buf();
                    let (start, end) = (recv_buf.start, recv_buf.buffer.len());
                    let bytes = recv_buf.buffer[start..].to_vec();
                    if echo {
                        // A worker would pause it only at its high water; here one answer is enough.
                        match driver.send_from_recv_buf(token, start..end, pool) {
                            Progress::Done(_) => seen.push((Seen::Sent, token)),
                            Progress::Pending => driver.pause(token),
                            Progress::Submitted => panic!("nobody asked for that"),
                            Progress::Failed(error) => panic!("{error}"),
                        }
                    }
                    (Seen::Received(bytes), token)
                }
                Completion::Sent { token, memory } => {
                    driver.resume(token);
                    pool.put(memory);
                    (Seen::Sent, token)
                }
                Completion::Ended { token } => (Seen::Ended, token),
                Completion::Failed { token, .. } => (Seen::Failed, token),
                Completion::Drained { token } => (Seen::Drained, token),
                other => panic!("{other:?}"),
            };
            seen.push(one);
        }
    }
    seen
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Received(Vec<u8>),
    Sent,
    Ended,
    Failed,
    Drained,
}

fn received(text: &[u8]) -> Seen {
    Seen::Received(text.to_vec())
}

#[test]
fn every_buffer_comes_back() {
    let Some(mut driver) = driver() else { return };
    let mut pool = Pool::default();
    let tokens: Vec<_> = (0..100).map(|n| Token::new(n, 0)).collect();
    let mut peers: Vec<_> = tokens.iter().map(|&token| connect(&mut driver, token)).collect();
    // More at once than the ring begins with, and more in all than it has.
    for round in 0..3 * RING_BUFFERS_MAX / tokens.len() {
        for peer in &mut peers {
            peer.write_all(&round.to_le_bytes()).unwrap();
        }
        let mut left = tokens.len();
        while left > 0 {
            let seen = turns(&mut driver, &mut pool, true, PATIENCE);
            assert!(!seen.is_empty(), "{left} answers are missing in round {round}");
            left -= seen.iter().filter(|(seen, _)| *seen == Seen::Sent).count();
        }
        for peer in &mut peers {
            let mut answer = [0; size_of::<usize>()];
            peer.read_exact(&mut answer).unwrap();
            assert_eq!(usize::from_le_bytes(answer), round);
        }
    }
    ring(&mut driver).recycle_recv_buf();
    assert_eq!(ring(&mut driver).buffers.available(), RING_BUFFERS_MAX);
    for token in tokens {
        driver.close(token, Close::Gently);
    }
    driver.wait_closed();
    assert!(!ring(&mut driver).has_slots());
    assert_eq!(ring(&mut driver).buffers.available(), RING_BUFFERS_MAX);
}

#[test]
fn what_comes_during_a_pause_waits() {
    let Some(mut driver) = driver() else { return };
    let (mut pool, token) = (Pool::default(), Token::new(0, 0));
    let mut peer = connect(&mut driver, token);
    peer.write_all(b"one").unwrap();
    assert_eq!(turns(&mut driver, &mut pool, false, PATIENCE), [(received(b"one"), token)]);
    driver.pause(token);
    peer.write_all(b"two").unwrap();
    assert_eq!(turns(&mut driver, &mut pool, false, A_WHILE), []);
    // Nothing more is received for it, and it has no buffer of the ring.
    peer.write_all(b"three").unwrap();
    drop(peer);
    assert_eq!(turns(&mut driver, &mut pool, false, A_WHILE), []);
    let slot = ring(&mut driver).slot_mut(token).unwrap();
    assert!(!slot.flags.has(RECEIVING) && slot.unreported.len() <= 1, "{slot:?}");
    driver.resume(token);
    let (mut bytes, mut has_ended) = (Vec::new(), false);
    while !has_ended {
        for (seen, _) in turns(&mut driver, &mut pool, false, PATIENCE) {
            match seen {
                Seen::Received(part) => bytes.extend(part),
                Seen::Ended => has_ended = true,
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(bytes, b"twothree");
    ring(&mut driver).recycle_recv_buf();
    assert_eq!(ring(&mut driver).buffers.available(), RING_BUFFERS_MAX);
}

#[test]
fn a_flood_has_one_read_a_turn() {
    let Some(mut driver) = driver() else { return };
    let (mut pool, token) = (Pool::default(), Token::new(0, 0));
    let mut peer = connect(&mut driver, token);
    let flood = std::thread::spawn(move || {
        let sent = peer.write_all(&vec![7; 8 << 20]);
        (sent, peer)
    });
    let mut bytes = 0;
    while bytes < 8 << 20 {
        let seen = turns(&mut driver, &mut pool, false, PATIENCE);
        let [(Seen::Received(part), _)] = seen.as_slice() else { panic!("{seen:?}") };
        bytes += part.len();
        // Short reads may be more, but hold no buffer of the ring.
        let unreported = &ring(&mut driver).slot_mut(token).unwrap().unreported;
        let in_ring = unreported.iter().filter(|event| matches!(event, Event::Buffer { .. })).count();
        assert!(in_ring < UNREPORTED_MAX && unreported.len() <= 64, "{in_ring} of {}", unreported.len());
    }
    flood.join().unwrap().0.unwrap();
}

/// All of it lies there before the receive begins, and nothing arrives that could wake it again.
#[test]
fn what_lies_there_is_received_to_its_end() {
    let Some(mut driver) = driver() else { return };
    let (mut pool, token) = (Pool::default(), Token::new(0, 0));
    let (ours, mut theirs) = pair();
    theirs.write_all(&[1; 2 * RING_BUFFER_BYTES + 5]).unwrap();
    driver.add_stream(token, ours.into(), SocketKind::Tcp, READ_BYTES_MAX).unwrap();
    let mut bytes = 0;
    while bytes < 2 * RING_BUFFER_BYTES + 5 {
        let seen = turns(&mut driver, &mut pool, false, PATIENCE);
        let [(Seen::Received(part), _)] = seen.as_slice() else { panic!("{bytes} bytes, then {seen:?}") };
        bytes += part.len();
    }
}

#[test]
fn a_closed_socket_outlives_its_requests_and_nothing_else() {
    let Some(mut driver) = driver() else { return };
    let mut pool = Pool::default();
    let (first, second) = (Token::new(0, 0), Token::new(0, 1));
    let mut peer = connect(&mut driver, first);
    // More than the socket takes: the send stays in flight.
    let answer = vec![1; 64 << 20];
    assert!(matches!(driver.send(first, answer), Progress::Pending));
    assert_eq!(turns(&mut driver, &mut pool, false, A_WHILE), []);
    assert!((1..64 << 20).contains(&driver.unsent(first)));
    driver.close(first, Close::Gently);
    assert_eq!(driver.unsent(first), 0);
    // The peer sees the end without another turn.
    driver.wait_closed();
    assert!(!ring(&mut driver).has_slots());
    assert!(peer.read_to_end(&mut Vec::new()).unwrap() < 64 << 20);
    // The index has a new tenant, and no completion of the old one reaches it.
    let mut peer = connect(&mut driver, second);
    peer.write_all(b"new").unwrap();
    assert_eq!(turns(&mut driver, &mut pool, false, PATIENCE), [(received(b"new"), second)]);
    driver.close(first, Close::Reset);
    peer.write_all(b"still here").unwrap();
    assert_eq!(turns(&mut driver, &mut pool, false, PATIENCE), [(received(b"still here"), second)]);
}

/// What a closed socket had left to do is no reason to stay awake, also when there is no other.
#[test]
fn a_closed_socket_leaves_nothing_to_do() {
    let Some(mut driver) = driver() else { return };
    let token = Token::new(0, 0);
    let _peer = connect(&mut driver, token);
    driver.pause(token);
    driver.resume(token);
    assert!(driver.has_leftovers());
    driver.close(token, Close::Gently);
    driver.wait_closed();
    assert!(!ring(&mut driver).has_slots());
    wait(&mut driver, Some(A_WHILE));
    assert!(driver.next().is_none());
    assert!(!driver.has_leftovers());
}

#[test]
fn peers_that_do_not_read_keep_few_buffers() {
    let Some(mut driver) = driver() else { return };
    let (mut pool, token) = (Pool::default(), Token::new(0, 0));
    let mut peer = connect(&mut driver, token);
    let mut sent = 0;
    // Echo until the socket is full: then the answer waits in memory of its own.
    loop {
        peer.write_all(&[5; 20_000]).unwrap();
        sent += 20_000;
        turns(&mut driver, &mut pool, true, A_WHILE);
        if driver.unsent(token) > 0 && turns(&mut driver, &mut pool, true, A_WHILE).is_empty() {
            break;
        }
    }
    assert!(driver.unsent(token) > 0);
    assert_eq!(ring(&mut driver).buffers.available(), RING_BUFFERS_MAX - 1);
    let tokens: Vec<_> = (1..2 * RING_KEPT_MAX as u32).map(|n| Token::new(n, 0)).collect();
    let mut others: Vec<_> = tokens.iter().map(|&token| connect(&mut driver, token)).collect();
    let mut stuck = 0;
    while stuck < others.len() {
        for other in &mut others {
            other.set_nonblocking(true).unwrap();
            while other.write(&[5; 20_000]).is_ok() {}
        }
        while !turns(&mut driver, &mut pool, true, A_WHILE).is_empty() {}
        stuck = tokens.iter().filter(|&&token| driver.unsent(token) > 0).count();
    }
    assert_eq!(ring(&mut driver).buffers.available(), RING_BUFFERS_MAX - RING_KEPT_MAX);
    drop(others);
    tokens.iter().for_each(|&token| driver.close(token, Close::Gently));
    driver.wait_closed();
    assert_eq!(ring(&mut driver).buffers.available(), RING_BUFFERS_MAX - 1);
    let reader = std::thread::spawn(move || {
        let mut answer = vec![0; sent];
        peer.read_exact(&mut answer).map(|()| answer)
    });
    while !reader.is_finished() {
        turns(&mut driver, &mut pool, true, A_WHILE);
    }
    assert_eq!(reader.join().unwrap().unwrap(), vec![5; sent]);
    ring(&mut driver).recycle_recv_buf();
    assert_eq!(ring(&mut driver).buffers.available(), RING_BUFFERS_MAX);
}

#[test]
fn draining_reports_all_that_has_come() {
    let Some(mut driver) = driver() else { return };
    let (mut pool, token) = (Pool::default(), Token::new(0, 0));
    let mut peer = connect(&mut driver, token);
    peer.write_all(&[3; 100_000]).unwrap();
    driver.drain(token);
    let mut bytes = 0;
    loop {
        match turns(&mut driver, &mut pool, false, PATIENCE).as_slice() {
            [(Seen::Received(part), _)] => bytes += part.len(),
            [(Seen::Drained, _)] => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(bytes, 100_000);
    // Reading goes on until the worker closes.
    peer.write_all(b"late").unwrap();
    assert_eq!(turns(&mut driver, &mut pool, false, PATIENCE), [(received(b"late"), token)]);
    drop(peer);
    assert_eq!(turns(&mut driver, &mut pool, false, PATIENCE), [(Seen::Ended, token)]);
}

#[test]
fn more_completions_than_there_is_room_for() {
    let Some(mut driver) = driver() else { return };
    let mut pool = Pool::default();
    let count = 2000;
    let tokens: Vec<_> = (0..count).map(|n| Token::new(n, 0)).collect();
    let Ok(limit) = raise_descriptors() else { return };
    if limit < 3 * u64::from(count) {
        return eprintln!("left out: {limit} descriptors");
    }
    let mut peers: Vec<_> = tokens.iter().map(|&token| connect(&mut driver, token)).collect();
    for peer in &mut peers {
        peer.write_all(b"x").unwrap();
    }
    drop(peers);
    let (mut received, mut ended) = (0, 0);
    while ended < count {
        let seen = turns(&mut driver, &mut pool, false, PATIENCE);
        assert!(!seen.is_empty(), "{received} received, {ended} ended");
        received += seen.iter().filter(|(seen, _)| matches!(seen, Seen::Received(_))).count();
        ended += seen.iter().filter(|(seen, _)| *seen == Seen::Ended).count() as u32;
    }
    assert_eq!(received, count as usize);
}

fn raise_descriptors() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is one rlimit, to be written and then read.
    sys::syscall!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) })?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: as above.
    sys::syscall!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) })?;
    Ok(limit.rlim_cur)
}

/// Up to `epoll_streams_max` streams stay on epoll; with one more all of them migrate to the ring, with whatever has come
/// for them meanwhile. Once the ring has no stream left, the next ones start on epoll again.
#[test]
fn streams_stay_on_epoll_up_to_the_limit() {
    if driver().is_none() {
        return;
    }
    let mut driver = Hybrid::uring(Share::Many { epoll_streams_max: 2 }).unwrap().0;
    let mut pool = Pool::default();
    let token = |n| Token::new(n, 0);
    let mut first = connect(&mut driver, token(0));
    let mut second = connect(&mut driver, token(1));
    first.write_all(b"one").unwrap();
    assert_eq!(turns(&mut driver, &mut pool, false, PATIENCE), [(received(b"one"), token(0))]);
    assert!(!ring(&mut driver).has_slots() && !ring(&mut driver).is_enabled, "the ring is not used");
    // What is there already goes over with its connection.
    first.write_all(b"two").unwrap();
    second.write_all(b"three").unwrap();
    let mut third = connect(&mut driver, token(2));
    assert!(
        driver.epoll_streams_and_listeners().unwrap().0 == 0
            && ring(&mut driver).serves(token(0))
            && ring(&mut driver).serves(token(1))
    );
    third.write_all(b"four").unwrap();
    let mut seen = Vec::new();
    while seen.len() < 3 {
        seen.extend(turns(&mut driver, &mut pool, false, PATIENCE));
    }
    seen.sort_by_key(|(_, token)| token.index());
    let expected =
        [(received(b"two"), token(0)), (received(b"three"), token(1)), (received(b"four"), token(2))];
    assert_eq!(seen, expected);
    drop(second);
    assert_eq!(turns(&mut driver, &mut pool, false, PATIENCE), [(Seen::Ended, token(1))]);
    (0..3).for_each(|n| driver.close(token(n), Close::Gently));
    while ring(&mut driver).has_slots() {
        wait(&mut driver, Some(A_WHILE));
        assert!(driver.next().is_none());
    }
    let mut fourth = connect(&mut driver, Token::new(0, 1));
    fourth.write_all(b"five").unwrap();
    assert_eq!(turns(&mut driver, &mut pool, false, PATIENCE), [(received(b"five"), Token::new(0, 1))]);
    assert_eq!(driver.epoll_streams_and_listeners().unwrap().0, 1);
    driver.close(Token::new(0, 1), Close::Gently);
    assert!(driver.epoll_streams_and_listeners().unwrap().0 == 0);
}

/// Whoever sends more than is read in a turn goes over to readiness, with nothing lost or out of order.
#[test]
fn a_flood_is_left_to_readiness() {
    if driver().is_none() {
        return;
    }
    let mut driver = Hybrid::uring(Share::Many { epoll_streams_max: 0 }).unwrap().0;
    let (mut pool, token) = (Pool::default(), Token::new(0, 0));
    let mut peer = connect(&mut driver, token);
    assert!(ring(&mut driver).serves(token));
    let count = 4 << 20;
    let mut writer = peer.try_clone().unwrap();
    let flood = std::thread::spawn(move || {
        let bytes: Vec<u8> = (0..count / 4_u32).flat_map(u32::to_le_bytes).collect();
        writer.write_all(&bytes).map(|()| bytes)
    });
    let mut came = Vec::new();
    while came.len() < count as usize {
        for (seen, _) in turns(&mut driver, &mut pool, false, PATIENCE) {
            let Seen::Received(part) = seen else { panic!("{seen:?}") };
            came.extend(part);
        }
    }
    assert!(flood.join().unwrap().unwrap() == came);
    assert!(
        !ring(&mut driver).serves(token)
            && ring(&mut driver).users == 0
            && ring(&mut driver).buffers.available() == RING_BUFFERS_MAX
    );
    // Others are served as before, and so is this one.
    let mut other = connect(&mut driver, Token::new(1, 0));
    other.write_all(b"other").unwrap();
    assert_eq!(turns(&mut driver, &mut pool, false, PATIENCE), [(received(b"other"), Token::new(1, 0))]);
    peer.write_all(b"after").unwrap();
    assert_eq!(turns(&mut driver, &mut pool, false, PATIENCE), [(received(b"after"), token)]);
}

/// A peer that sends megabytes and reads their echo as it comes: the stream goes over in the middle of an answer, and none of it
/// is lost, told twice or out of order. So does a unix stream.
#[test]
fn a_flood_is_left_to_readiness_in_the_middle_of_an_answer() {
    if driver().is_none() {
        return;
    }
    let count = 8 << 20;
    let bytes: Vec<u8> = (0..count / 4_u32).flat_map(u32::to_le_bytes).collect();
    for kind in [SocketKind::Tcp, SocketKind::UnixStream] {
        let mut driver = Hybrid::uring(Share::Many { epoll_streams_max: 0 }).unwrap().0;
        let (mut pool, token) = (Pool::default(), Token::new(0, 0));
        let (ours, theirs): (OwnedFd, OwnedFd) = if kind == SocketKind::Tcp {
            let (ours, theirs) = pair();
            (ours.into(), theirs.into())
        } else {
            let (ours, theirs) = UnixStream::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            (ours.into(), theirs.into())
        };
        driver.add_stream(token, ours, kind, READ_BYTES_MAX).unwrap();
        assert!(ring(&mut driver).serves(token));
        let mut writer = std::fs::File::from(theirs);
        let mut reader = writer.try_clone().unwrap();
        let text = bytes.clone();
        let writing = std::thread::spawn(move || writer.write_all(&text).map(|()| writer));
        let reading = std::thread::spawn(move || {
            let mut echo = vec![0; count as usize];
            reader.read_exact(&mut echo).map(|()| echo)
        });
        // What came is sent, piece by piece, in this order.
        let (mut came, mut pieces, mut sends) = (Vec::new(), Vec::new(), 0);
        let sent = |pieces: &[usize], sends| pieces.iter().take(sends).sum::<usize>();
        while sent(&pieces, sends) < count as usize {
            for (seen, _) in turns(&mut driver, &mut pool, true, PATIENCE) {
                match seen {
                    Seen::Received(part) => {
                        pieces.push(part.len());
                        came.extend(part);
                    }
                    Seen::Sent => sends += 1,
                    other => panic!("{other:?}"),
                }
            }
        }
        let sent = sent(&pieces, sends);
        assert!(came == bytes && sent == bytes.len(), "{} received, {sent} sent", came.len());
        assert!(reading.join().unwrap().unwrap() == bytes);
        drop(writing.join().unwrap().unwrap());
        let ring = ring(&mut driver);
        assert!(!ring.serves(token) && ring.users == 0, "{kind:?}");
        ring.recycle_recv_buf();
        assert!(ring.buffers.available() == RING_BUFFERS_MAX && ring.owned.is_empty(), "{kind:?}");
    }
}

/// The same for unix streams, however much lies there before the receive begins, comes with it, or after: all of it is
/// received, and the end.
#[test]
fn what_lies_in_a_unix_stream_is_received_to_its_end() {
    let Some(mut driver) = driver() else { return };
    let mut pool = Pool::default();
    let sizes = [0, 1, 64, 4096, 65_535, 65_536, 65_537, 100_000, 140_000];
    for (number, (before, after)) in sizes.iter().flat_map(|one| sizes.map(|other| (*one, other))).enumerate()
    {
        let token = Token::new(0, number as u32);
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.write_all(&vec![1; before]).unwrap();
        driver.add_stream(token, ours.into(), SocketKind::UnixStream, READ_BYTES_MAX).unwrap();
        if number % 2 == 0 {
            wait(&mut driver, Some(Duration::ZERO));
        }
        let writer = std::thread::spawn(move || {
            // In parts, some of which come while the driver is at it.
            theirs.write_all(&vec![2; after / 2]).unwrap();
            theirs.write_all(&vec![2; after - after / 2]).unwrap();
        });
        let (mut bytes, mut has_ended) = (0, false);
        while !has_ended {
            let seen = turns(&mut driver, &mut pool, false, PATIENCE);
            assert!(!seen.is_empty(), "{before} and {after}: {bytes} bytes, and no end");
            for (seen, _) in seen {
                match seen {
                    Seen::Received(part) => bytes += part.len(),
                    Seen::Ended => has_ended = true,
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(bytes, before + after);
        writer.join().unwrap();
        driver.close(token, Close::Gently);
    }
    driver.wait_closed();
    assert!(!ring(&mut driver).has_slots() && ring(&mut driver).buffers.available() == RING_BUFFERS_MAX);
}

/// Pages of the ring's buffers that are in memory, in bytes.
fn resident(driver: &mut Hybrid) -> usize {
    ring(driver).buffers.resident_bytes()
}

/// A burst touches buffers by the hundred, and then all of each; a second later their pages are the kernel's again, and what
/// comes then is received like before.
#[test]
fn a_burst_leaves_no_memory_behind() {
    let Some(mut driver) = driver() else { return };
    let mut pool = Pool::default();
    let tokens: Vec<_> = (0..100).map(|n| Token::new(n, 0)).collect();
    let mut peers: Vec<_> = tokens.iter().map(|&token| connect(&mut driver, token)).collect();
    let message = vec![b'm'; 40_000];
    let mut largest = 0;
    for _ in 0..3 {
        for peer in &mut peers {
            peer.write_all(&message).unwrap();
        }
        let mut left = tokens.len() * message.len();
        while left > 0 {
            for (seen, _) in turns(&mut driver, &mut pool, false, PATIENCE) {
                let Seen::Received(part) = seen else { panic!("{seen:?}") };
                assert!(part.iter().all(|byte| *byte == b'm'));
                left -= part.len();
            }
        }
        largest = largest.max(resident(&mut driver));
    }
    assert!(largest > 1 << 20, "{largest} bytes");
    // The driver comes back by itself until it has nothing left to give back.
    let until = std::time::Instant::now() + PATIENCE;
    while resident(&mut driver) > 128 << 10 {
        assert!(std::time::Instant::now() < until, "{} bytes", resident(&mut driver));
        wait(&mut driver, None);
        assert!(driver.next().is_none());
    }
    assert!(!ring(&mut driver).is_bloated());
    for peer in &mut peers {
        peer.write_all(b"after").unwrap();
    }
    let mut left = peers.len();
    while left > 0 {
        for (seen, _) in turns(&mut driver, &mut pool, false, PATIENCE) {
            assert_eq!(seen, received(b"after"));
            left -= 1;
        }
    }
}

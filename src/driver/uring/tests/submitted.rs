//! Sends that nobody waits for.

use std::os::unix::net::UnixStream;

use super::*;

/// Receives from all of `tokens` and submits the answers. In a turn that has one completion only, it is not sent by a call.
fn submit(driver: &mut Hybrid, pool: &mut Pool, tokens: &[Token]) {
    let mut left = tokens.to_vec();
    while !left.is_empty() {
        wait(driver, Some(PATIENCE));
        assert_eq!(driver.next_unsent(), None);
        while let Some(completion) = driver.next() {
            let Completion::Received { token, .. } = completion else { panic!("{completion:?}") };
            let received = driver.recv_buf();
            let range = received.start..received.buffer.len();
            ring(driver).is_alone = false;
            let progress = driver.submit_from_recv_buf(token, range, pool);
            assert!(matches!(progress, Progress::Submitted), "{progress:?}");
            left.retain(|other| *other != token);
        }
    }
}

/// Waits once without sleeping, and gives the streams whose send is pending after all.
fn unsent(driver: &mut Hybrid) -> Vec<Token> {
    wait(driver, Some(Duration::ZERO));
    std::iter::from_fn(|| driver.next_unsent()).collect()
}

/// A peer over a unix socket, where what is written has arrived; `is_full`: no answer fits any more.
fn unix(driver: &mut Hybrid, token: Token, is_full: bool) -> UnixStream {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.set_read_timeout(Some(PATIENCE)).unwrap();
    for len in [65536, 1] {
        while is_full && (&ours).write(&vec![0; len]).is_ok() {}
    }
    driver.add_stream(token, ours.into(), SocketKind::UnixStream, READ_BYTES_MAX).unwrap();
    theirs
}

#[test]
fn what_leaves_whole_is_not_reported() {
    let Some(mut driver) = driver() else { return };
    let mut pool = Pool::default();
    let tokens: Vec<_> = (0..40).map(|n| Token::new(n, 0)).collect();
    let mut peers: Vec<_> = tokens.iter().map(|&token| connect(&mut driver, token)).collect();
    for round in 0..50_u64 {
        peers.iter_mut().for_each(|peer| peer.write_all(&round.to_le_bytes()).unwrap());
        submit(&mut driver, &mut pool, &tokens);
        assert_eq!(unsent(&mut driver), []);
        assert!(driver.next().is_none(), "a send without a completion");
        assert!(tokens.iter().all(|token| driver.unsent(*token) == 0));
        for peer in &mut peers {
            let mut answer = [0; 8];
            peer.read_exact(&mut answer).unwrap();
            assert_eq!(u64::from_le_bytes(answer), round);
        }
    }
    assert_eq!(ring(&mut driver).buffers.available(), RING_BUFFERS_MAX);
}

#[test]
fn what_does_not_leave_is_pending() {
    let Some(mut driver) = driver() else { return };
    let mut pool = Pool::default();
    let token = Token::new(0, 0);
    let mut peer = unix(&mut driver, token, true);
    peer.write_all(b"to be answered").unwrap();
    submit(&mut driver, &mut pool, &[token]);
    assert_eq!(driver.unsent(token), 14);
    assert_eq!(unsent(&mut driver), [token]);
    assert_eq!(driver.unsent(token), 14);
    // As soon as the peer reads, it goes on.
    let reader = std::thread::spawn(move || {
        let (mut room, mut last) = (vec![0; 65536], Vec::new());
        while !last.ends_with(b"to be answered") {
            let count = peer.read(&mut room).unwrap();
            last.extend_from_slice(&room[..count]);
            last.drain(..last.len().saturating_sub(14));
        }
    });
    assert_eq!(turns(&mut driver, &mut pool, false, PATIENCE), [(Seen::Sent, token)]);
    assert_eq!(driver.unsent(token), 0);
    reader.join().unwrap();
}

#[test]
fn what_finds_the_stream_broken_is_pending_and_fails() {
    let Some(mut driver) = driver() else { return };
    let mut pool = Pool::default();
    let token = Token::new(0, 0);
    let mut peer = connect(&mut driver, token);
    peer.write_all(b"hello").unwrap();
    wait(&mut driver, Some(PATIENCE));
    ring(&mut driver).is_alone = false;
    assert!(matches!(driver.next(), Some(Completion::Received { .. })));
    driver.shutdown_write(token).unwrap();
    let received = driver.recv_buf();
    let range = received.start..received.buffer.len();
    assert!(matches!(driver.submit_from_recv_buf(token, range, &mut pool), Progress::Submitted));
    assert_eq!(unsent(&mut driver), [token]);
    let seen: Vec<_> = std::iter::from_fn(|| driver.next()).collect();
    assert!(matches!(seen[..], [Completion::Failed { .. }]), "{seen:?}");
    assert_eq!(driver.unsent(token), 5);
    driver.close(token, Close::Gently);
    driver.wait_closed();
    assert_eq!(ring(&mut driver).buffers.available(), RING_BUFFERS_MAX);
}

#[test]
fn what_is_asked_for_is_reported() {
    let Some(mut driver) = driver() else { return };
    let mut pool = Pool::default();
    let (whole, short) = (Token::new(0, 0), Token::new(1, 0));
    let (mut reads, mut does_not_read) = (unix(&mut driver, whole, false), unix(&mut driver, short, true));
    assert!(!driver.report_sent(whole), "nothing is in flight");
    reads.write_all(b"hello").unwrap();
    does_not_read.write_all(b"hello").unwrap();
    submit(&mut driver, &mut pool, &[whole, short]);
    assert!(driver.report_sent(whole) && driver.report_sent(short));
    assert_eq!(unsent(&mut driver), [], "it is pending already");
    let seen: Vec<_> = std::iter::from_fn(|| driver.next()).collect();
    assert!(matches!(seen[..], [Completion::Sent { token, .. }] if token == whole), "{seen:?}");
    assert_eq!((driver.unsent(whole), driver.unsent(short)), (0, 5));
}

#[test]
fn a_socket_that_is_closed_takes_nothing_along() {
    let Some(mut driver) = driver() else { return };
    let mut pool = Pool::default();
    let tokens = [Token::new(0, 0), Token::new(1, 0)];
    let (mut reads, mut does_not_read) =
        (unix(&mut driver, tokens[0], false), unix(&mut driver, tokens[1], true));
    reads.write_all(b"hello").unwrap();
    does_not_read.write_all(b"hello").unwrap();
    submit(&mut driver, &mut pool, &tokens);
    tokens.iter().for_each(|token| driver.close(*token, Close::Gently));
    assert_eq!(unsent(&mut driver), []);
    driver.wait_closed();
    assert!(!ring(&mut driver).has_slots());
    assert_eq!(ring(&mut driver).buffers.available(), RING_BUFFERS_MAX);
    // The kernel had it before the socket was closed.
    let mut answer = Vec::new();
    let _ = reads.read_to_end(&mut answer);
    assert_eq!(answer, b"hello");
}

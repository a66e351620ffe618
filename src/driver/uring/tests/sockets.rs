//! Listeners, datagrams and records.

use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd};

use super::*;
use crate::driver::uring::slots::RECORD_BURST;
use crate::limits::{RING_MESSAGE_BUFFERS_MAX, UDP_DATAGRAM_BYTES_MAX};

/// All completions within a time, or until there are so many; answers to datagrams are told as bytes.
fn all(driver: &mut Hybrid, count: usize, within: Duration) -> Vec<Completion<OwnedFd>> {
    let mut seen = Vec::new();
    let until = std::time::Instant::now() + within;
    while seen.len() < count {
        let left = until.saturating_duration_since(std::time::Instant::now());
        if left.is_zero() {
            break;
        }
        wait(driver, Some(left));
        while let Some(completion) = driver.next() {
            seen.push(completion);
        }
    }
    seen
}

/// Echoes datagrams until so many were answered; how they went.
fn echo(driver: &mut Hybrid, count: usize) -> Vec<io::Result<usize>> {
    let mut results = Vec::new();
    let mut answered = 0;
    while answered < count {
        wait(driver, Some(PATIENCE));
        let mut is_idle = true;
        while let Some(completion) = driver.next() {
            is_idle = false;
            match completion {
                Completion::Datagrams { .. } => {
                    while driver.next_datagram().is_some() {
                        let from = driver.sender();
                        let len = driver.recv_buf().buffer.len();
                        driver.reply_from_recv_buf(0..len);
                        driver.recycle_peer(from);
                    }
                }
                Completion::Answered { answers, result, .. } => {
                    answered += answers;
                    results.push(result);
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(!is_idle, "{answered} of {count} answers");
    }
    results
}

fn listener(driver: &mut Hybrid, token: Token) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    driver.add_listener(token, listener.into()).unwrap();
    address
}

fn udp(driver: &mut Hybrid, token: Token) -> UdpSocket {
    let ours = UdpSocket::bind("127.0.0.1:0").unwrap();
    ours.set_nonblocking(true).unwrap();
    let theirs = UdpSocket::bind("127.0.0.1:0").unwrap();
    theirs.connect(ours.local_addr().unwrap()).unwrap();
    theirs.set_read_timeout(Some(PATIENCE)).unwrap();
    driver.add_datagram_socket(token, ours.into(), UDP_DATAGRAM_BYTES_MAX, false).unwrap();
    theirs
}

/// A completion that the kernel has not brought.
fn pretend(driver: &mut Hybrid, token: Token, result: i32) {
    let ring = ring(driver);
    let operation = match ring.slot(token).unwrap().role {
        Role::Listener => Operation::Accept,
        _ => Operation::ReceiveMessage,
    };
    let request = Request::new(operation, token);
    // With more to come, since the true request goes on.
    let flags = 1 << 1;
    assert!(cqueue::more(flags));
    ring.arrived.push_back(Arrived { request, result, flags });
}

#[test]
fn a_listener_accepts_rests_and_goes_on() {
    let Some(mut driver) = driver() else { return };
    let token = Token::new(0, 0);
    let address = listener(&mut driver, token);
    let peers: Vec<_> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
    let seen = all(&mut driver, 100, PATIENCE);
    let mut names: Vec<_> = seen
        .iter()
        .map(|completion| match completion {
            Completion::Accepted { token: listener, peer: Peer::Ip(peer), .. } if *listener == token => *peer,
            other => panic!("{other:?}"),
        })
        .collect();
    let mut expected: Vec<_> = peers.iter().map(|peer| peer.local_addr().unwrap()).collect();
    names.sort();
    expected.sort();
    assert_eq!(names, expected);
    driver.pause(token);
    assert!(all(&mut driver, 1, A_WHILE).is_empty());
    let _late = TcpStream::connect(address).unwrap();
    assert!(all(&mut driver, 1, A_WHILE).is_empty());
    driver.resume(token);
    assert!(matches!(all(&mut driver, 1, PATIENCE)[..], [Completion::Accepted { .. }]));
    driver.close(token, Close::Gently);
    driver.wait_closed();
    assert!(!ring(&mut driver).has_slots() && driver.epoll_streams_and_listeners().unwrap().1 == 0);
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn an_accept_fails_and_the_next_does_not() {
    let Some(mut driver) = driver() else { return };
    let token = Token::new(0, 0);
    let address = listener(&mut driver, token);
    for error in [libc::EMFILE, libc::ENFILE, libc::ECONNABORTED, libc::EPROTO, libc::ENOBUFS] {
        pretend(&mut driver, token, -error);
        match &all(&mut driver, 1, PATIENCE)[..] {
            [Completion::AcceptFailed { error: told, .. }] => assert_eq!(told.raw_os_error(), Some(error)),
            other => panic!("{other:?}"),
        }
        let _peer = TcpStream::connect(address).unwrap();
        assert!(matches!(all(&mut driver, 1, PATIENCE)[..], [Completion::Accepted { .. }]));
        // What fails while it rests is no news.
        driver.pause(token);
        pretend(&mut driver, token, -error);
        assert!(all(&mut driver, 1, A_WHILE).is_empty());
        driver.resume(token);
    }
}

/// Connections that arrived and that nobody was told of are closed with their listener, not forgotten.
#[test]
fn what_was_accepted_for_nobody_is_closed() {
    let Some(mut driver) = driver() else { return };
    let token = Token::new(0, 0);
    let address = listener(&mut driver, token);
    assert!(all(&mut driver, 1, A_WHILE).is_empty());
    let mut peers: Vec<_> = (0..5).map(|_| TcpStream::connect(address).unwrap()).collect();
    wait(&mut driver, Some(PATIENCE));
    assert!(!ring(&mut driver).arrived.is_empty());
    driver.close(token, Close::Gently);
    driver.wait_closed();
    assert!(!ring(&mut driver).has_slots() && ring(&mut driver).arrived.is_empty());
    for peer in &mut peers {
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        let read = peer.read(&mut [0]);
        assert!(
            matches!(&read, Ok(0)) || read.is_err_and(|error| error.raw_os_error() == Some(libc::ECONNRESET))
        );
    }
    let open = driver.descriptors().list();
    // The ring's own.
    assert_eq!(open.len(), 1, "{open:?}");
}

/// A socket that one of two drivers had and the other cannot take is closed, and its number may be somebody else's by then:
/// a child of fork(2) is not told to close that.
#[test]
fn what_cannot_be_taken_over_is_not_noted_any_more() {
    // No socket, and nothing that epoll could wait for.
    let wrong = || OwnedFd::from(std::fs::File::open("/proc/self/exe").unwrap());
    let token = Token::new(0, 0);
    type Add = fn(&mut Hybrid, Token, OwnedFd) -> io::Result<()>;
    let unix: [Add; 2] = [
        |driver, token, socket| driver.add_stream(token, socket, SocketKind::UnixStream, READ_BYTES_MAX),
        |driver, token, socket| driver.add_stream(token, socket, SocketKind::UnixSeqpacket, 1000),
    ];
    let others: [Add; 3] = [
        |driver, token, socket| driver.add_stream(token, socket, SocketKind::Tcp, READ_BYTES_MAX),
        |driver, token, socket| driver.add_listener(token, socket),
        |driver, token, socket| driver.add_datagram_socket(token, socket, 1000, false),
    ];
    let check = |driver: &mut Hybrid, add: Add| {
        let (before, socket) = (driver.descriptors().list(), wrong());
        driver.descriptors().add(socket.as_raw_fd());
        add(driver, token, socket).unwrap_err();
        assert_eq!(driver.descriptors().list(), before);
    };
    let mut epoll = Hybrid::epoll().unwrap().0;
    unix.into_iter().chain(others).for_each(|add| check(&mut epoll, add));
    let Some(mut driver) = driver() else { return };
    unix.into_iter().for_each(|add| check(&mut driver, add));
}

#[test]
fn listeners_are_where_connections_are() {
    if driver().is_none() {
        return;
    }
    let mut driver = Hybrid::uring(Share::Many { epoll_streams_max: 1 }).unwrap().0;
    let token = |n| Token::new(n, 0);
    let address = listener(&mut driver, token(0));
    let accept = |driver: &mut Hybrid| {
        let peer = TcpStream::connect(address).unwrap();
        match all(driver, 1, PATIENCE).pop() {
            Some(Completion::Accepted { socket, .. }) => (peer, socket),
            other => panic!("{other:?}"),
        }
    };
    for round in 0..3 {
        let (_one, socket) = accept(&mut driver);
        driver.add_stream(Token::new(1, round), socket, SocketKind::Tcp, READ_BYTES_MAX).unwrap();
        let (_two, socket) = accept(&mut driver);
        assert!(!ring(&mut driver).serves(token(0)), "{round}: one connection stays on epoll");
        driver.add_stream(Token::new(2, round), socket, SocketKind::Tcp, READ_BYTES_MAX).unwrap();
        assert!(ring(&mut driver).serves(token(0)) && ring(&mut driver).users == 2, "{round}: two are not");
        let (_three, socket) = accept(&mut driver);
        drop(socket);
        driver.close(Token::new(1, round), Close::Gently);
        driver.close(Token::new(2, round), Close::Gently);
        driver.wait_closed();
        assert_eq!(ring(&mut driver).users, 0);
    }
    // A socket of datagrams is reason enough.
    let peer = udp(&mut driver, token(3));
    assert!(ring(&mut driver).serves(token(0)) && ring(&mut driver).users == 1);
    peer.send(b"hello").unwrap();
    assert_eq!(echo(&mut driver, 1).len(), 1);
    let _peer = accept(&mut driver);
}

#[test]
fn datagrams_come_back_and_so_do_their_buffers() {
    let Some(mut driver) = driver() else { return };
    let token = Token::new(0, 0);
    let peer = udp(&mut driver, token);
    let mut answer = [0; UDP_DATAGRAM_BYTES_MAX];
    let longest = vec![b'x'; 65_507];
    // In all more than there are buffers, and empty ones, which end a multishot receive.
    for round in 0..2 * RING_MESSAGE_BUFFERS_MAX / 8 {
        let text = format!("round {round}");
        let messages: [&[u8]; 8] = [text.as_bytes(), b"", b"1", &longest, b"", b"22", b"333", b""];
        for message in messages {
            peer.send(message).unwrap();
        }
        assert!(echo(&mut driver, 8).iter().all(Result::is_ok));
        for message in messages {
            let len = peer.recv(&mut answer).unwrap();
            assert!(answer[..len] == *message, "{round}: {len} bytes for {}", message.len());
        }
    }
    wait(&mut driver, Some(Duration::ZERO));
    assert!(driver.next().is_none());
    assert_eq!(ring(&mut driver).message_buffers.available(), RING_MESSAGE_BUFFERS_MAX);
    driver.close(token, Close::Gently);
    driver.wait_closed();
    assert!(!ring(&mut driver).has_slots() && ring(&mut driver).messages.sockets.iter().all(Option::is_none));
}

/// A run of datagrams of one length arrives as one and leaves as one, but each is told by itself.
#[test]
fn a_run_is_many_datagrams() {
    let Some(mut driver) = driver() else { return };
    let peer = udp(&mut driver, Token::new(0, 0));
    sys::Setting::new(libc::SOL_UDP, libc::UDP_SEGMENT, 100).apply(peer.as_fd()).unwrap();
    let run: Vec<u8> = (0..1050_u32).map(|n| (n / 100) as u8).collect();
    peer.send(&run).unwrap();
    let results = echo(&mut driver, 11);
    assert!(results.len() < 11, "they leave together: {results:?}");
    let mut answer = [0; 2000];
    for number in 0..11 {
        let len = peer.recv(&mut answer).unwrap();
        assert_eq!(answer[..len], vec![number; if number == 10 { 50 } else { 100 }]);
    }
}

/// The way of an answer is broken: that answer is counted as lost, the others leave.
#[test]
fn an_answer_fails_and_the_next_does_not() {
    let Some(mut driver) = driver() else { return };
    let token = Token::new(0, 0);
    let peer = udp(&mut driver, token);
    let mut told = Vec::new();
    for (error, is_told) in [
        (libc::ENOBUFS, true),
        (libc::EPERM, true),
        (libc::ENETUNREACH, true),
        (libc::EAGAIN, true),
        // No matter of the datagram's own: it is sent again.
        (libc::ECONNREFUSED, false),
        (libc::EINTR, false),
    ] {
        // Two at once, so that they leave through the ring.
        peer.send(b"first").unwrap();
        peer.send(b"second").unwrap();
        ring(&mut driver).fail_next_answer = Some(error);
        let (mut completed, before) = (0, told.len());
        while completed < 2 {
            wait(&mut driver, Some(PATIENCE));
            while let Some(completion) = driver.next() {
                match completion {
                    Completion::Datagrams { .. } => {
                        while driver.next_datagram().is_some() {
                            let len = driver.recv_buf().buffer.len();
                            driver.reply_from_recv_buf(0..len);
                        }
                    }
                    Completion::Answered { answers: 1, result, .. } => {
                        completed += 1;
                        told.extend(result.err().and_then(|error| error.raw_os_error()));
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(told.len() - before, usize::from(is_told), "{error}");
        assert_eq!(ring(&mut driver).fail_next_answer, None, "{error}");
    }
    assert_eq!(told, [libc::ENOBUFS, libc::EPERM, libc::ENETUNREACH, libc::EAGAIN]);
}

#[test]
fn draining_datagrams_reports_all_that_have_come() {
    let Some(mut driver) = driver() else { return };
    let token = Token::new(0, 0);
    let peer = udp(&mut driver, token);
    for number in 0..200_u8 {
        peer.send(&[number]).unwrap();
    }
    driver.drain(token);
    let (mut came, mut is_drained) = (Vec::new(), false);
    while !is_drained {
        wait(&mut driver, Some(PATIENCE));
        while let Some(completion) = driver.next() {
            match completion {
                Completion::Datagrams { .. } => {
                    while driver.next_datagram().is_some() {
                        came.extend_from_slice(driver.recv_buf().buffer);
                    }
                }
                Completion::Drained { .. } => is_drained = true,
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(came, (0..200).collect::<Vec<u8>>());
    driver.close(token, Close::Gently);
    assert!(!ring(&mut driver).has_slots() && ring(&mut driver).users == 0);
}

/// Ends of a seqpacket connection; the driver has the first.
fn records(driver: &mut Hybrid, token: Token) -> socket2::Socket {
    let (ours, theirs) =
        socket2::Socket::pair(socket2::Domain::UNIX, socket2::Type::SEQPACKET, None).unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.set_read_timeout(Some(PATIENCE)).unwrap();
    // SAFETY: the descriptor was given up by its owner in the same breath.
    let ours = unsafe { OwnedFd::from_raw_fd(ours.into_raw_fd()) };
    driver.add_stream(token, ours, SocketKind::UnixSeqpacket, 1000).unwrap();
    theirs
}

#[test]
fn records_keep_their_limits() {
    let Some(mut driver) = driver() else { return };
    let (mut pool, token) = (Pool::default(), Token::new(0, 0));
    let peer = records(&mut driver, token);
    let long = vec![b'l'; 1000];
    let sent: [&[u8]; 6] = [b"one", b"", &long, b"", b"two", b"three"];
    for record in sent {
        peer.send(record).unwrap();
    }
    let mut seen = Vec::new();
    while seen.len() < 2 * sent.len() {
        seen.extend(turns(&mut driver, &mut pool, true, PATIENCE));
    }
    let told: Vec<_> = seen
        .into_iter()
        .filter_map(|(seen, _)| match seen {
            Seen::Received(record) => Some(record),
            _ => None,
        })
        .collect();
    assert_eq!(told, sent);
    for record in sent {
        let mut answer = [std::mem::MaybeUninit::uninit(); 2000];
        assert_eq!(peer.recv(&mut answer).unwrap(), record.len());
    }
    // Too long: its end is lost, and that is said.
    peer.send(&[b'x'; 1001]).unwrap();
    wait(&mut driver, Some(PATIENCE));
    let mut came = None;
    while let Some(completion) = driver.next() {
        came = Some(completion);
        assert_eq!(driver.recv_buf().buffer.len() - driver.recv_buf().start, 1000);
    }
    assert!(matches!(came, Some(Completion::Received { truncated: true, .. })), "{came:?}");
    drop(peer);
    assert_eq!(turns(&mut driver, &mut pool, false, PATIENCE), [(Seen::Ended, token)]);
    ring(&mut driver).recycle_recv_buf();
    assert_eq!(ring(&mut driver).message_buffers.available(), RING_MESSAGE_BUFFERS_MAX);
}

/// A flood of records has so many a turn, holds few buffers, and all of them come, in order.
#[test]
fn a_flood_of_records_leaves_room_for_others() {
    let Some(mut driver) = driver() else { return };
    let (mut pool, token) = (Pool::default(), Token::new(0, 0));
    let peer = records(&mut driver, token);
    let flood = std::thread::spawn(move || {
        for number in 0..20_000_u32 {
            peer.send(&number.to_le_bytes()).unwrap();
        }
        peer
    });
    let mut next = 0_u32;
    while next < 20_000 {
        let seen = turns(&mut driver, &mut pool, false, PATIENCE);
        assert!((1..=usize::from(RECORD_BURST)).contains(&seen.len()), "{} in a turn", seen.len());
        for (seen, _) in seen {
            assert_eq!(seen, received(&next.to_le_bytes()));
            next += 1;
        }
        let unreported = &ring(&mut driver).slot_mut(token).unwrap().unreported;
        let in_ring = unreported.iter().filter(|event| matches!(event, Event::Record { .. })).count();
        // What the kernel has brought before it was told to stop is copied.
        assert!(
            in_ring < UNREPORTED_MAX && unreported.len() <= RING_MESSAGE_BUFFERS_MAX + UNREPORTED_MAX,
            "{in_ring} of {}",
            unreported.len()
        );
    }
    flood.join().unwrap();
}

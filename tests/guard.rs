//! Who may come in, and how slow those may be who are in.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use common::*;
use resay::{CloseReason, EventKind, RejectReason};
use socket2::{Domain, SockAddr, Socket, Type};

/// The user of this process.
fn own_user() -> u32 {
    // SAFETY: geteuid cannot fail.
    unsafe { libc::geteuid() }
}

/// A TCP peer with an address of its own.
fn peer_from(source: [u8; 4], url: &str) -> Peer {
    let socket = Socket::new(Domain::IPV4, Type::STREAM.cloexec(), None).unwrap();
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    socket.connect(&SocketAddr::from(([127, 0, 0, 1], port_of(url))).into()).unwrap();
    Peer::of(socket).unwrap()
}

/// Over a unix socket the kernel says whose a peer is: who is not in `allow_uid` is turned away before a byte of what
/// it sent was read.
#[test]
fn users_that_may_not_connect() {
    isolated(|| {
        let directory = directory();
        let (us, other) = (own_user(), own_user() + 1);
        for scheme in ["unix", "unix-seqpacket"] {
            for (users, may) in [
                (format!("{us}"), true),
                (format!("{other},{us}"), true),
                ("any".to_owned(), true),
                (format!("{other}"), false),
                (format!("{other},{}", u32::MAX - 1), false),
            ] {
                let path = directory.path().join("s");
                let log = Log::default();
                let url = format!("{scheme}:{}?allow_uid={users}", text(&path));
                let engine = log.builder().listen(&url).unwrap().start().unwrap();
                let url = engine.urls().remove(0);
                if may {
                    assert_answers(&url);
                    assert_eq!(finish(engine).rejected, 0, "{scheme} {users}");
                    continue;
                }
                for _ in 0..3 {
                    let kind = if scheme == "unix" { Type::STREAM } else { Type::SEQPACKET };
                    let socket = Socket::new(Domain::UNIX, kind.cloexec(), None).unwrap();
                    socket.connect(&SockAddr::unix(&path).unwrap()).unwrap();
                    // It may be turned away while it still speaks.
                    let _ = socket.send_with_flags(b"let me in", libc::MSG_NOSIGNAL);
                    let mut answer = [0_u8; 16];
                    let ended = (&socket).read_some(&mut answer);
                    assert!(matches!(ended, Ok(0) | Err(_)), "{scheme}: {answer:?}");
                }
                let stats = eventually_stats(&engine, "they are counted", |stats| stats.rejected == 3);
                assert_eq!((stats.accepted, stats.messages_in, stats.bytes_in), (0, 0, 0), "{stats:?}");
                assert_eq!(stats.rejected_by(RejectReason::AllowUid), 3, "{stats:?}");
                let lines = log.lines(EventKind::Rejected);
                assert_eq!(lines.len(), 3, "{lines:?}");
                assert!(lines[0].1.contains(&format!("user {us} is not in allow_uid")), "{lines:?}");
                finish(engine);
            }
        }
    });
}

/// A socket that is read whatever comes of it.
trait ReadSome {
    fn read_some(&mut self, bytes: &mut [u8]) -> std::io::Result<usize>;
}

impl ReadSome for &Socket {
    fn read_some(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        std::io::Read::read(self, bytes)
    }
}

/// The users of other kinds of socket are not known: the option is refused there, and before anything is bound.
#[test]
fn options_that_mean_nothing_are_refused() {
    isolated(|| {
        for url in [
            "tcp://127.0.0.1:0?allow_uid=0",
            "udp://127.0.0.1:0?allow_uid=0",
            "unix-dgram:@resay-nobody?allow_uid=0",
            "udp://127.0.0.1:0?max_per_peer=1",
            "unix-dgram:@resay-nobody?min_rate=1/1s",
        ] {
            let error = engine_builder().listen(url).map(drop).unwrap_err().to_string();
            let key = url.split(['?', '=']).nth(1).unwrap();
            assert!(error.contains(url) && error.contains(key), "{error}");
        }
    });
}

/// No address takes more than its share; when a connection of it ends, there is room for the next.
#[test]
fn one_address_has_its_share() {
    isolated(|| {
        for threads in [1, 3] {
            let builder = engine_builder().listen("tcp://127.0.0.1:0?max_per_peer=2").unwrap();
            let engine = builder.threads(threads).unwrap().start().unwrap();
            let url = engine.urls().remove(0);
            let (one, two) = ([127, 0, 0, 1], [127, 0, 0, 2]);
            let mut ones = vec![peer_from(one, &url), peer_from(one, &url)];
            ones.iter().for_each(|peer| assert_eq!(peer.ask(b"in"), b"in"));
            assert_eq!(peer_from(one, &url).to_end(), b"", "a third one");
            eventually_stats(&engine, "it is counted", |stats| stats.rejected == 1);
            let twos = [peer_from(two, &url), peer_from(two, &url)];
            twos.iter().for_each(|peer| assert_eq!(peer.ask(b"in"), b"in"));
            for round in 1..=20 {
                drop(ones.pop());
                eventually_stats(&engine, "it has left", |stats| stats.open == 3);
                let next = peer_from(one, &url);
                assert_eq!(next.ask(b"in"), b"in", "round {round}");
                ones.push(next);
            }
            drop((ones, twos));
            let stats = finish(engine);
            assert_eq!((stats.accepted, stats.rejected), (24, 1), "{stats:?}");
            assert_eq!(stats.rejected_by(RejectReason::MaxPerPeer), 1, "{stats:?}");
        }
    });
}

/// The same for the users of unix sockets, who have no addresses.
#[test]
fn one_user_has_his_share() {
    isolated(|| {
        let directory = directory();
        for scheme in ["unix", "unix-seqpacket"] {
            let url = format!("{scheme}:{}?max_per_peer=2", text(&directory.path().join("s")));
            let (engine, url) = serve(&url, "uppercase");
            let mut peers = vec![Peer::connect(&url), Peer::connect(&url)];
            peers.iter().for_each(|peer| assert_eq!(peer.ask(b"in"), b"IN"));
            assert_eq!(Peer::connect(&url).to_end(), b"", "a third one");
            eventually_stats(&engine, "it is counted", |stats| stats.rejected == 1);
            peers.pop();
            eventually_stats(&engine, "one has left", |stats| stats.open == 1);
            assert_answers(&url);
            drop(peers);
            finish(engine);
        }
    });
}

/// Slowloris: a message that comes byte by byte for ever keeps no connection open, however lively it looks to
/// `idle_timeout`. Others may be silent between their messages as long as they like.
#[test]
fn messages_that_never_end() {
    isolated(|| {
        let directory = directory();
        let file = format!("unix:{}", text(&directory.path().join("s")));
        for (address, frame) in [("tcp://127.0.0.1:0", "lines"), (file.as_str(), "len32be")] {
            let (engine, url) =
                serve(&format!("{address}?frame={frame}&min_rate=1k/400ms&idle_timeout=1h"), "");
            let message: &[u8] = if frame == "lines" { b"hello\n" } else { b"\0\0\0\x05hello" };
            let quiet = Peer::connect(&url);
            assert_eq!(quiet.ask(message), message);
            let mut slow = Peer::connect(&url);
            let mut sent = 0;
            while !slow.has_something() {
                slow.send(if sent < 3 { b"\0" } else { b"x" });
                sent += 1;
                pace(Duration::from_millis(10));
            }
            assert!(sent > 1, "it had time to begin");
            assert_eq!(slow.to_end(), b"", "an end, not a reset");
            // Speed is about what passes: a long message in small parts is fine.
            slow = Peer::connect(&url);
            let long = if frame == "lines" {
                [vec![b'y'; 20_000], b"\n".to_vec()].concat()
            } else {
                [20_000_u32.to_be_bytes().to_vec(), vec![b'y'; 20_000]].concat()
            };
            for part in long.chunks(500) {
                slow.send(part);
                pace(Duration::from_millis(20));
            }
            assert_same("the long one", &long, &slow.exactly(long.len()));
            assert_eq!(quiet.ask(message), message, "silence between messages is nobody's fault");
            drop((slow, quiet));
            let stats = finish(engine);
            assert_eq!(stats.closed_by(CloseReason::TooSlow), 1, "{stats:?}");
        }
    });
}

/// The same from the other side: a peer that takes its answers byte by byte makes progress, so `write_timeout`
/// is no help; it keeps the memory of all that waits for it.
#[test]
fn answers_that_are_taken_byte_by_byte() {
    isolated(|| {
        let directory = directory();
        let file = format!("unix:{}", text(&directory.path().join("s")));
        for address in ["tcp://127.0.0.1:0", file.as_str()] {
            let options = "min_rate=64k/400ms&write_timeout=1h&sndbuf=16k&high_water=64k";
            let (engine, url) = serve(&format!("{address}?{options}"), "");
            let peer = if address == file {
                Peer::of(UnixStream::connect(file.trim_start_matches("unix:")).unwrap().into()).unwrap()
            } else {
                Peer::connect_with(&url, |socket| socket.set_recv_buffer_size(4096)).unwrap()
            };
            peer.socket.set_nonblocking(true).unwrap();
            let data = noise(64 * 1024, 3);
            let mut byte = [0_u8; 1];
            // It sends what it can, and takes one byte at a time.
            eventually("it is let go", || {
                let _ = peer.socket.send_with_flags(&data, libc::MSG_NOSIGNAL);
                let _ = std::io::Read::read(&mut &peer.socket, &mut byte);
                pace(Duration::from_millis(5));
                match engine.stats().closed_by(CloseReason::TooSlow) {
                    0 => Err(format!("{:?}", engine.stats())),
                    _ => Ok(()),
                }
            });
            assert_answers(&url);
            drop(peer);
            finish(engine);
        }
    });
}

/// Nobody is slow while it is us who do not read: here because answers are held back, with a message that has come only
/// in part.
#[test]
fn messages_that_we_do_not_read_on() {
    isolated(|| {
        let options = "frame=lines&min_rate=1k/200ms&high_water=8k";
        for chain in ["delay:time=1s", "bandwidth:rate=16k"] {
            let (engine, url) = serve(&format!("tcp://127.0.0.1:0?{options}"), chain);
            let peer = Peer::connect(&url);
            let line = [vec![b'x'; 100], b"\n".to_vec()].concat();
            let data = line.repeat(200);
            assert_same(chain, &data, &exchange(&peer, &data, data.len()));
            drop(peer);
            let stats = finish(engine);
            assert_eq!(stats.closed_by(CloseReason::TooSlow), 0, "{chain}: {stats:?}");
        }
    });
}

/// On a raw stream every read is a message, so nothing is ever unfinished: typing slowly is no offence.
#[test]
fn raw_streams_have_no_unfinished_messages() {
    isolated(|| {
        let (engine, url) = serve("tcp://127.0.0.1:0?min_rate=1m/50ms", "uppercase");
        let mut typist = TcpStream::connect(url.trim_start_matches("tcp://")).unwrap();
        let peer = Peer::of(typist.try_clone().unwrap().into()).unwrap();
        for letter in "slowly".bytes() {
            typist.write_all(&[letter]).unwrap();
            assert_eq!(peer.exactly(1), [letter.to_ascii_uppercase()]);
            pace(Duration::from_millis(60));
        }
        drop((typist, peer));
        assert_eq!(finish(engine).closed_by(CloseReason::TooSlow), 0);
    });
}

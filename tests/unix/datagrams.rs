//! Datagrams and their senders.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;

use crate::common::*;
use resay::DropReason;
use socket2::{Domain, SockAddr, Socket, Type};

/// A datagram of a sender without a name cannot be answered: it is dropped and counted.
#[test]
fn senders_without_a_name() {
    isolated(|| {
        let directory = directory();
        let (engine, url) = serve(&Transport::UnixDatagram.url(directory.path()), "");
        let path = url.trim_start_matches("unix-dgram:");
        let nameless = UnixDatagram::unbound().unwrap();
        for _ in 0..3 {
            nameless.send_to(b"who am I", path).unwrap();
        }
        assert_answers(&url);
        let stats =
            eventually_stats(&engine, "they are counted", |stats| stats.dropped_by(DropReason::Unnamed) == 3);
        assert_eq!(stats.messages_in, 4, "{stats:?}");
        finish(engine);
    });
}

/// Copies of answers are read like answers: a peer that reads all of them gets more for as long as it asks.
#[test]
fn copies_that_are_read_hold_nothing() {
    isolated(|| {
        let directory = directory();
        for chain in ["duplicate:rate=1", "delay:time=1ms | duplicate:rate=1"] {
            let (engine, url) = serve(&Transport::UnixDatagram.url(directory.path()), chain);
            let (peer, message) = (Peer::connect(&url), noise(40_000, 3));
            for round in 0..30 {
                assert_same(&format!("{chain} {round}"), &message, &peer.ask(&message));
                assert_same(&format!("{chain} {round}"), &message, &peer.message());
            }
            let stats = finish(engine);
            assert_eq!((stats.messages_out, stats.dropped), (30, 0), "{chain} {stats:?}");
        }
    });
}

/// A sender's path may fill all of `sun_path` and have no NUL, one byte more than what is bound through most libraries.
#[test]
fn senders_with_the_longest_path() {
    isolated(|| {
        let directory = directory();
        for chain in ["", "delay:time=1ms"] {
            let (engine, url) = serve(&Transport::UnixDatagram.url(directory.path()), chain);
            let client = UnixDatagram::unbound().unwrap();
            let mut path = text(directory.path()).as_bytes().to_vec();
            path.push(b'/');
            path.resize(108, b'x');
            // SAFETY: a sockaddr_un is plain data for which all zero is valid.
            let mut name: libc::sockaddr_un = unsafe { std::mem::zeroed() };
            name.sun_family = libc::AF_UNIX as libc::sa_family_t;
            name.sun_path.iter_mut().zip(&path).for_each(|(place, byte)| *place = *byte as libc::c_char);
            // SAFETY: the pointer and the length are those of one sockaddr_un.
            let bound = unsafe {
                libc::bind(
                    client.as_raw_fd(),
                    (&raw const name).cast(),
                    size_of::<libc::sockaddr_un>() as libc::socklen_t,
                )
            };
            assert_eq!(bound, 0, "{}", io::Error::last_os_error());
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            client.send_to(b"answer me", url.trim_start_matches("unix-dgram:")).unwrap();
            let mut answer = [0; 16];
            assert_eq!(client.recv(&mut answer).unwrap(), 9, "{chain:?}");
            drop(client);
            fs::remove_file(std::ffi::OsStr::from_bytes(&path)).unwrap();
            finish(engine);
        }
    });
}

/// A sender with a relative name would be answered at a file of that name in the server's own directory, which is
/// somebody else: it never is.
#[test]
fn senders_with_a_relative_name() {
    isolated(|| {
        let (ours, theirs) = (directory(), directory());
        std::env::set_current_dir(ours.path()).unwrap();
        let bystander = UnixDatagram::bind("client.sock").unwrap();
        bystander.set_nonblocking(true).unwrap();
        let (engine, url) = serve(&Transport::UnixDatagram.url(ours.path()), "");
        let path = url.trim_start_matches("unix-dgram:");
        std::env::set_current_dir(theirs.path()).unwrap();
        let client = UnixDatagram::bind("client.sock").unwrap();
        std::env::set_current_dir(ours.path()).unwrap();
        client.send_to(b"answer me", path).unwrap();
        eventually_stats(&engine, "it is counted", |stats| stats.dropped_by(DropReason::Unnamed) == 1);
        assert_answers(&url);
        let nothing = bystander.recv(&mut [0; 16]).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock, "another socket got the answer");
        // With an absolute name the same client is answered.
        let client = UnixDatagram::bind(theirs.path().join("absolute.sock")).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.send_to(b"answer me", path).unwrap();
        let mut answer = [0; 16];
        assert_eq!(client.recv(&mut answer).unwrap(), 9);
        finish(engine);
    });
}

/// A peer that never reads its answers: they are dropped when its queue is full, and nobody waits for it.
#[test]
fn a_full_queue_blocks_nobody() {
    isolated(|| {
        let directory = directory();
        let (engine, url) = serve(&Transport::UnixDatagram.url(directory.path()), "");
        let (_, _, address) = address_of(&url);
        let greedy = Socket::new(Domain::UNIX, Type::DGRAM.cloexec(), None).unwrap();
        greedy.bind(&SockAddr::unix("").unwrap()).unwrap();
        let greedy = Peer::of(greedy).unwrap();
        let other = Peer::connect(&url);
        for round in 0..2000_u32 {
            greedy.socket.send_to(&[0; 100], &address).unwrap();
            if round % 20 == 0 {
                let text = format!("and me? {round}");
                assert_eq!(other.ask(text.as_bytes()), text.as_bytes());
            }
        }
        let stats = eventually_stats(&engine, "all are read", |stats| {
            stats.messages_in == 2100 && stats.messages_out + stats.dropped == 2100
        });
        assert!(stats.dropped_by(DropReason::PeerFull) > 0, "{stats:?}");
        assert_eq!(stats.dropped, stats.dropped_by(DropReason::PeerFull), "{stats:?}");
        // What was not dropped is there, whole.
        let answered = stats.messages_out - 100;
        (0..answered).for_each(|_| assert_eq!(greedy.message(), [0; 100]));
        greedy.socket.send_to(b"now I read", &address).unwrap();
        assert_eq!(greedy.message(), b"now I read");
        finish(engine);
    });
}

/// A peer that is connected to the server's socket and never reads would use up that socket's own send buffer: Linux does
/// not count its queue. It gets no more answers once it holds its share; all others are answered meanwhile, of this
/// listener too, and it is again once it has read.
#[test]
fn who_does_not_read_takes_no_room_from_others() {
    isolated(|| {
        for (chain, bytes) in [("", 1000), ("", 60_000), ("delay:time=1ms", 1000), ("prefix:text=''", 20_000)]
        {
            let directory = directory();
            let (engine, url) = serve(&Transport::UnixDatagram.url(directory.path()), chain);
            engine.listen(Transport::UnixStream.url(directory.path()).as_str()).unwrap();
            let bystander = Peer::connect(&engine.urls()[1]);
            let (greedy, other) = (Peer::connect(&url), Peer::connect(&url));
            let mut of_others = 0;
            eventually("it holds its share", || {
                for _ in 0..4 {
                    greedy.send(&vec![0; bytes]);
                }
                assert_eq!(bystander.ask(b"and me?"), b"and me?");
                for len in [1, 30_000] {
                    assert_eq!(other.ask(&vec![1; len]), vec![1; len], "{chain:?}");
                }
                of_others += 3;
                let stats = engine.stats();
                assert_eq!(stats.dropped, stats.dropped_by(DropReason::PeerFull), "{stats:?}");
                if stats.dropped > 100 { Ok(()) } else { Err(format!("{stats:?}")) }
            });
            let stats = eventually_stats(&engine, "all are done", |stats| {
                stats.messages_out + stats.dropped == stats.messages_in
            });
            (of_others..stats.messages_out).for_each(|_| assert_eq!(greedy.message(), vec![0; bytes]));
            assert_eq!(greedy.ask(b"now I read"), b"now I read");
            drop(bystander);
            finish(engine);
        }
    });
}

/// Peers that are gone before their answer: it is counted, the others go on.
#[test]
fn datagram_peers_that_are_gone() {
    isolated(|| {
        let directory = directory();
        let engine =
            engine_builder().listen(&Transport::UnixDatagram.url(directory.path())).unwrap().build().unwrap();
        let url = engine.urls().remove(0);
        // A queue of ten is what Linux gives by default (net.unix.max_dgram_qlen).
        (0..5).for_each(|_| Peer::connect(&url).send(b"and away"));
        engine.start().unwrap();
        assert_answers(&url);
        let stats =
            eventually_stats(&engine, "counted", |stats| stats.dropped_by(DropReason::SendFailed) == 5);
        assert_eq!(stats.messages_in, 6, "{stats:?}");
        finish(engine);
    });
}

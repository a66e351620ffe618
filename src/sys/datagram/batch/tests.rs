use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::time::Duration;

use super::super::receive_coalesced;
use super::*;
use crate::sys::options::set_int;

#[test]
fn what_leaves_as_one() {
    let part = |slot: u16, start: usize, end: usize| (slot, Reply::InPlace(start..end));
    let answers = [
        part(0, 0, 10),
        part(0, 10, 20),
        part(0, 20, 25),
        // A shorter one is the last.
        part(0, 25, 35),
        part(1, 0, 10),
        // A gap: what was there got no answer.
        part(1, 20, 30),
        part(1, 30, 41),
        (1, Reply::Bytes(vec![0; 11])),
        part(2, 0, 0),
        part(2, 0, 0),
    ];
    let mut at = 0;
    let mut runs = Vec::new();
    while at < answers.len() {
        runs.push(run(&answers, at));
        at += runs.last().unwrap();
    }
    assert_eq!(runs, [3, 1, 1, 1, 1, 1, 1, 1]);
    let many: Vec<_> = (0..200).map(|n| part(0, n * 8, n * 8 + 8)).collect();
    assert_eq!(run(&many, 0), SEGMENTS_MAX);
    let long: Vec<_> = (0..64).map(|n| part(0, n * 1400, n * 1400 + 1400)).collect();
    assert_eq!(run(&long, 0), SEGMENTS_BYTES_MAX / 1400);
}

/// A batch's socket, and one that sends to it.
fn sockets() -> (UdpSocket, UdpSocket) {
    let ours = UdpSocket::bind("127.0.0.1:0").unwrap();
    let theirs = UdpSocket::bind("127.0.0.1:0").unwrap();
    theirs.connect(ours.local_addr().unwrap()).unwrap();
    theirs.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    (ours, theirs)
}

fn receive_all(socket: &UdpSocket, count: usize) -> Vec<Vec<u8>> {
    let mut bytes = [0; 64];
    (0..count).map(|_| socket.recv(&mut bytes).map(|len| bytes[..len].to_vec()).unwrap()).collect()
}

#[test]
fn each_datagram_is_walked_once_and_answered_in_order() {
    let (ours, theirs) = sockets();
    let mut batch = Batch::new(4, 64).unwrap();
    for round in 0..3 {
        for datagram in ["first", "", "third", "fourth"] {
            theirs.send(datagram.as_bytes()).unwrap();
        }
        // Loopback delivers before send(2) returns.
        assert_eq!(batch.receive(ours.as_fd(), 5, round == 1).unwrap(), 4);
        let mut truncated = Vec::new();
        while let Some((received, bytes)) = batch.next() {
            let len = bytes.len();
            assert!(received.plain_port != 0 && received.destination == LocalAddr::Bound);
            assert_eq!(len, batch.datagram().len());
            truncated.push(received.truncated);
            let mut peer = Peer::Unnamed;
            batch.read_sender(&mut peer);
            assert_eq!(peer, Peer::Ip(theirs.local_addr().unwrap()));
            match &*batch.datagram() {
                b"first" => batch.reply_in_place(1..3),
                b"third" if round == 2 => batch.reply(b"its own".to_vec()),
                b"third" => {}
                _ => batch.reply_in_place(0..len),
            }
        }
        assert_eq!(truncated, [false, false, false, true]);
        let (mut spent, mut outcomes) = (Vec::new(), Vec::new());
        batch.send(ours.as_fd(), &mut spent, |answers, result| outcomes.push((answers, result.unwrap())));
        if round == 2 {
            assert_eq!(receive_all(&theirs, 4), [&b"ir"[..], b"", b"its own", b"fourt"]);
            assert_eq!(outcomes, [(1, 2), (1, 0), (1, 7), (1, 5)]);
            assert_eq!(spent, [b"its own"]);
        } else {
            assert_eq!(receive_all(&theirs, 3), [&b"ir"[..], b"", b"fourt"]);
            assert_eq!(outcomes, [(3, 7)]);
            assert!(spent.is_empty());
        }
        assert!(batch.next().is_none());
        assert_eq!(batch.receive(ours.as_fd(), 5, false).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!(batch.next().is_none());
    }
}

#[test]
fn what_came_as_one_leaves_as_it_was_answered() {
    let (ours, theirs) = sockets();
    if !receive_coalesced(ours.as_fd())
        || set_int(theirs.as_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, 4).is_err()
    {
        return;
    }
    let mut batch = Batch::new(2, 1024).unwrap();
    // Fourteen of four bytes, the last of one.
    let burst: Vec<u8> = (0..53).collect();
    for answers_last in [true, false] {
        theirs.send(&burst).unwrap();
        assert_eq!(batch.receive(ours.as_fd(), 1024, true).unwrap(), 1);
        let mut expected = Vec::new();
        let mut number = 0;
        while let Some((_, bytes)) = batch.next() {
            let (bytes, len) = (bytes.to_vec(), bytes.len());
            match number {
                // A gap, and more messages than there are slots.
                1 => {}
                3 | 4 | 7 => {
                    batch.reply(bytes.clone());
                    expected.push(bytes);
                }
                _ if len == 4 || answers_last => {
                    batch.reply_in_place(0..len);
                    expected.push(bytes);
                }
                _ => {}
            }
            number += 1;
        }
        assert_eq!(number, 14);
        let (mut spent, mut answers) = (Vec::new(), 0);
        batch.send(ours.as_fd(), &mut spent, |count, result| {
            result.unwrap();
            answers += count;
        });
        assert_eq!((answers, spent.len()), (expected.len(), 3));
        assert_eq!(receive_all(&theirs, expected.len()), expected);
    }
    // What comes next by itself has no control messages left over.
    set_int(theirs.as_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, 0).unwrap();
    theirs.send(b"alone").unwrap();
    assert_eq!(batch.receive(ours.as_fd(), 1024, true).unwrap(), 1);
    assert_eq!(batch.next().unwrap().1, b"alone");
    batch.reply_in_place(0..5);
    let mut outcomes = Vec::new();
    batch.send(ours.as_fd(), &mut Vec::new(), |answers, result| outcomes.push((answers, result.unwrap())));
    assert_eq!(outcomes, [(1, 5)]);
    assert_eq!(receive_all(&theirs, 1), [b"alone"]);
}

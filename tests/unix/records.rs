//! Records of seqpacket sockets.

use std::os::fd::AsRawFd;
use std::time::Duration;

use crate::common::*;
use resay::{CloseReason, DropReason};

/// Each record comes back as one record, empty ones too, and the end is told from an empty one.
#[test]
fn records_keep_their_boundaries() {
    isolated(|| {
        let directory = directory();
        for chain in ["", "uppercase", "uppercase:unicode=1", "identity | uppercase:unicode=1"] {
            let (engine, url) = serve(&Transport::Seqpacket.url(directory.path()), chain);
            let peer = Peer::connect(&url);
            let records: [&[u8]; 8] = [b"A", b"", b"BC", b"", b"", &[b'X'; 60_000], b"D\nE\n", b""];
            for _ in 0..3 {
                records.iter().for_each(|record| peer.send(record));
                for record in records {
                    assert_same(chain, record, &peer.message());
                }
            }
            peer.send(b"");
            peer.half_close();
            assert_eq!(peer.message(), b"", "{chain:?}: the last record");
            eventually_stats(&engine, "the end was understood", |stats| {
                stats.closed_by(CloseReason::PeerClosed) == 1
            });
            let stats = finish(engine);
            assert_eq!((stats.messages_in, stats.messages_out), (25, 25), "{chain:?}: {stats:?}");
        }
    });
}

/// A record longer than `max_message` ends the connection, after the answers to what came before; a part of it is
/// never answered.
#[test]
fn records_longer_than_allowed() {
    isolated(|| {
        let directory = directory();
        let url = format!("{}?max_message=1k", Transport::Seqpacket.url(directory.path()));
        let (engine, url) = serve(&url, "");
        let peer = Peer::connect(&url);
        assert_same("the longest", &noise(1024, 1), &peer.ask(&noise(1024, 1)));
        peer.send(b"last words");
        peer.send(&noise(1025, 2));
        assert_eq!(peer.message(), b"last words");
        assert_eq!(peer.message(), b"");
        let stats = finish(engine);
        assert_eq!(stats.closed_by(CloseReason::MessageTooLong), 1, "{stats:?}");
        assert_eq!(stats.dropped_by(DropReason::TooLong), 1, "{stats:?}");
    });
}

/// Sends records until the engine takes no more, then reads all answers: as many, each as it was.
fn records_behind_a_full_buffer(chain: &str, record: impl Fn(u32) -> Vec<u8>, at_most: u32) {
    let directory = directory();
    let (engine, url) = serve(&Transport::Seqpacket.url(directory.path()), chain);
    let peer = Peer::connect(&url);
    peer.socket.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut sent = 0;
    while sent < at_most && peer.try_send(&record(sent)).is_ok() {
        sent += 1;
    }
    assert!(sent > 20, "{sent} records were taken");
    for number in 0..sent {
        let answer = match peer.try_recv(4096) {
            Ok(answer) => answer,
            Err(error) => panic!("{chain:?}: answer {number} of {sent} did not come: {error}"),
        };
        assert_eq!(answer, record(number), "{chain:?}: answer {number} of {sent}");
    }
    drop(peer);
    finish(engine);
}

/// Answers to records that wait for a reader, empty ones between full ones: none is lost.
#[test]
fn waiting_records_are_kept() {
    isolated(|| {
        for chain in ["", "uppercase:unicode=1"] {
            let record = |number: u32| {
                if number.is_multiple_of(3) { Vec::new() } else { vec![b'R'; 1 + number as usize % 50] }
            };
            records_behind_a_full_buffer(chain, record, 100_000);
        }
    });
}

/// Empty records weigh nothing, and still the reader's queue can be full of them: none is lost.
#[test]
fn empty_records_behind_a_full_buffer_are_kept() {
    isolated(|| records_behind_a_full_buffer("", |_| Vec::new(), 20_000));
}

/// The same, where answers have memory of their own.
#[test]
fn empty_records_behind_a_full_buffer_are_kept_by_a_process_chain() {
    isolated(|| records_behind_a_full_buffer("uppercase:unicode=1", |_| Vec::new(), 20_000));
}

/// A peer sends empty records for ever and reads none. Each answer that waits costs the engine something, so it
/// stops reading such a peer at some point.
fn endless_empty_records(chain: &str) {
    let directory = directory();
    let (engine, url) = serve(&Transport::Seqpacket.url(directory.path()), chain);
    let peer = Peer::connect(&url);
    peer.socket.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut sent = 0;
    while peer.try_send(b"").is_ok() {
        sent += 1;
        assert!(sent < 300_000, "{chain:?}: {sent} records without an answer read, and no end");
    }
    drop(peer);
    finish(engine);
}

#[test]
fn empty_records_without_end_are_bounded() {
    isolated(|| endless_empty_records(""));
}

#[test]
fn empty_records_without_end_are_bounded_in_a_process_chain() {
    isolated(|| endless_empty_records("uppercase:unicode=1"));
}

/// A peer that reads nothing is gone: the kernel has taken of its answers what lies in its queue, and no more.
#[test]
fn what_a_peer_leaves_with_the_engine_is_not_delivered() {
    isolated(|| {
        if layer::is_on() {
            return skipped("with a layer, what lies in the queue is not what was answered");
        }
        const SENT: u64 = 600_000;
        let directory = directory();
        let url = format!("{}?sndbuf=16k&high_water=1m", Transport::UnixStream.url(directory.path()));
        let (engine, url) = serve(&url, "");
        let (mut taken, mut asked) = (0, 0);
        for round in 1..=5 {
            let peer = Peer::connect(&url);
            peer.send(&noise(SENT as usize, round));
            let read = round * SENT + asked;
            eventually_stats(&engine, "all is read", |stats| stats.bytes_in == read);
            // A turn later, the first answers are with the kernel.
            assert_answers(&url);
            asked += 12;
            let mut queued: libc::c_int = 0;
            // SAFETY: FIONREAD writes one int.
            assert_eq!(unsafe { libc::ioctl(peer.socket.as_raw_fd(), libc::FIONREAD, &mut queued) }, 0);
            taken += queued as u64;
            drop(peer);
            eventually_stats(&engine, "it is closed", |stats| stats.open == 0);
        }
        let stats = finish(engine);
        assert_eq!(stats.bytes_out, taken + asked, "{stats:?}");
        assert_eq!(stats.undelivered_bytes, 5 * SENT - taken, "{stats:?}");
    });
}

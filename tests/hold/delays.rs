//! Answers that leave later.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::plugin::*;
use crate::common::*;
use crate::{Plugin, assert_passed, frames, received};
use resay::{CloseReason, DropReason};

#[test]
fn an_answer_waits_as_long_as_its_transform_says() {
    isolated_on_all_at_once(Plugin::new, Transport::all, |plugin, transport| {
        let (engine, url) = plugin.serve(transport, "raw", "hold");
        let peer = Peer::connect(&url);
        for (message, millis) in [("60 later", 60), ("at once", 0), ("1", 1), ("250 and later", 250)] {
            let start = Instant::now();
            assert_eq!(peer.ask(message.as_bytes()), message.as_bytes(), "{transport:?}");
            assert_passed(start, millis, message);
        }
        // An empty message on either side of it is no reason to forget one.
        if !transport.is_stream() {
            let start = Instant::now();
            peer.send(b"40 held");
            assert_eq!(peer.message(), b"40 held", "{transport:?}");
            assert_eq!(peer.ask(b""), b"", "{transport:?}");
            assert_passed(start, 40, "held");
        }
        drop(peer);
        finish(engine);
    });
}

/// The delay begins when the answer is there, not when the turn began in which it was asked for.
#[test]
fn a_delay_counts_from_the_answer() {
    isolated_with(Plugin::new, |plugin| {
        for transport in [Transport::Tcp4, Transport::Seqpacket, Transport::Udp4, Transport::UnixDatagram] {
            let (engine, url) = plugin.serve(transport, "raw", "work");
            let other = engine.listen("tcp://127.0.0.1:0?chain=identity").unwrap();
            let other = engine.listener(other).unwrap().url;
            let (peer, done) = (Peer::connect(&url), AtomicBool::new(false));
            thread::scope(|scope| {
                // The worker has other things to do, so it looks at its timers often.
                scope.spawn(|| {
                    let witness = Peer::connect(&other);
                    while !done.load(Ordering::Relaxed) {
                        assert_eq!(witness.ask(b"meanwhile"), b"meanwhile");
                    }
                });
                let start = Instant::now();
                let answer = peer.ask(b"70 after the work");
                let passed = start.elapsed();
                done.store(true, Ordering::Relaxed);
                assert_eq!(answer, b"70 after the work", "{transport:?}");
                assert!(passed >= Duration::from_millis(80 + 70), "{transport:?}: {passed:?}");
            });
            drop(peer);
            finish(engine);
        }
    });
}

/// A message that drips: each piece leaves by itself, in order, and none before its time. The first are with the peer
/// while the last is held for an hour.
#[test]
fn pieces_leave_one_by_one() {
    isolated_on_all_at_once(Plugin::new, Transport::streams, |plugin, transport| {
        for frame in frames(transport) {
            let (engine, url) = plugin.serve(transport, frame, "drip");
            let what = format!("{transport:?} {frame}");
            let peer = Peer::connect(&url);
            let answer = framed(frame, b"10 a60 bnow h  cend ");
            let (now, later) = answer.split_at(12);
            let start = Instant::now();
            peer.send(&answer);
            let mut found = Vec::new();
            while found.len() < now.len() {
                let more = peer.try_recv(1000).unwrap();
                assert!(!more.is_empty(), "{what}: {found:?}");
                found.extend(more);
                // What has come of the message was due.
                for (_, millis) in [(0, 10), (4, 60)].into_iter().filter(|(end, _)| found.len() > *end) {
                    assert_passed(start, millis, &what);
                }
            }
            assert_eq!(found, now, "{what}");
            // Somebody else's whole answer comes meanwhile, and nothing more of this one.
            let quick = framed(frame, b"0   quick");
            assert_eq!(Peer::connect(&url).ask(&quick), quick, "{what}");
            assert!(!peer.has_something(), "{what}");
            let stats = finish(engine);
            assert_eq!(stats.undelivered_bytes as usize, later.len(), "{what}");
        }
    });
}

/// An answer of no bytes is an answer where answers are records or datagrams, later as well as now.
#[test]
fn empty_answers_wait_too() {
    isolated_on_each(Plugin::new, Transport::all, |plugin, transport| {
        if transport.is_stream() {
            return;
        }
        let (engine, url) = plugin.serve(transport, "raw", "hush");
        let peer = Peer::connect(&url);
        assert_eq!(peer.ask(b"now"), b"", "{transport:?}");
        let start = Instant::now();
        assert_eq!(peer.ask(b"50 later"), b"", "{transport:?}");
        assert_passed(start, 50, &format!("{transport:?}"));
        drop(peer);
        finish(engine);
    });
}

/// Stopping waits for nothing, and draining for no longer than it has time. Both count what was not delivered; no delay is
/// too long to be counted.
#[test]
fn the_end_counts_held_answers() {
    isolated_on_all_at_once(Plugin::new, Transport::all, |plugin, transport| {
        for is_drained in [false, true] {
            let (engine, url) = plugin.serve(transport, "lines", "hold");
            let lines = ["h an hour\n", "x for ever\n", "18446744073709551 ms is all that fits\n"];
            let peers = lines.map(|line| {
                let peer = Peer::connect(&url);
                peer.send(line.as_bytes());
                peer
            });
            received(&engine, 3);
            assert_answers(&url);
            if is_drained {
                engine.drain(Duration::from_millis(200)).unwrap();
            }
            let stats = finish(engine);
            drop(peers);
            if transport.is_connected() {
                let cut_off = if is_drained { 3 } else { 0 };
                assert_eq!(stats.closed_by(CloseReason::CutOff), cut_off, "{transport:?} {stats:?}");
                let bytes = lines.concat().len() as u64;
                assert_eq!(stats.undelivered_bytes, bytes, "{transport:?} {stats:?}");
            } else {
                assert_eq!(stats.dropped_by(DropReason::Undelivered), 3, "{transport:?} {stats:?}");
            }
        }
    });
}

/// Held answers go to whom they belong, from the address that was asked.
#[test]
fn held_datagrams_find_their_peers() {
    isolated_with(Plugin::new, |plugin| {
        for transport in Transport::datagrams() {
            let (engine, url) = plugin.serve(transport, "raw", "hold");
            let peers: Vec<_> = (0..20).map(|_| Peer::connect(&url)).collect();
            let start = Instant::now();
            let text = |number: usize| format!("{} for {number}", 100 - number * 5);
            peers.iter().enumerate().for_each(|(number, peer)| peer.send(text(number).as_bytes()));
            peers[0].send(b"now");
            for (number, peer) in peers.iter().enumerate().rev() {
                if number == 0 {
                    assert_eq!(peer.message(), b"now", "{transport:?}: nobody waits for another datagram");
                }
                assert_eq!(peer.message(), text(number).as_bytes(), "{transport:?}");
                assert_passed(start, 100 - number as u64 * 5, &text(number));
                assert!(!peer.has_something(), "{transport:?}");
            }
            let stats = finish(engine);
            assert_eq!((stats.messages_in, stats.messages_out), (21, 21), "{transport:?} {stats:?}");
        }
        // On every address of this host; a connected peer hears the one that it asked.
        let (engine, url) = serve("udp://0.0.0.0:0", &plugin.chain("hold"));
        for address in ["127.0.0.1", "127.0.0.5", "127.9.8.7"] {
            let peer = Peer::connect(&format!("udp://{address}:{}", port_of(&url)));
            assert_eq!(peer.ask(b"30 from there"), b"30 from there", "{address}");
        }
        finish(engine);
    });
}

/// Held datagrams have a limit; what is over it is dropped and counted, and the socket goes on.
#[test]
fn held_datagrams_are_bounded() {
    isolated_with(Plugin::new, |plugin| {
        // 64 MiB of answers may wait, and 64 Ki of them.
        for (bytes, fit, sent) in [(64_000, (64 << 20) / 64_000, 1100), (10, 64 * 1024, 66_000)] {
            let (engine, url) = plugin.serve(Transport::UnixDatagram, "raw", "hold");
            let peer = Peer::connect(&url);
            let mut message = vec![b'.'; bytes];
            message[0] = b'h';
            (0..sent).for_each(|_| peer.send(&message));
            assert_eq!(received(&engine, sent).messages_in, sent);
            let dropped = |wanted| {
                eventually_stats(&engine, "the rest is dropped", |stats| {
                    stats.dropped_by(DropReason::QueueFull) >= wanted
                })
            };
            let stats = dropped(sent - fit);
            assert_eq!(stats.dropped_by(DropReason::QueueFull), sent - fit, "{stats:?}");
            assert_eq!(peer.ask(b"still there"), b"still there");
            peer.send(b"1");
            // Of so many bytes there is room for one more.
            let stats = dropped(sent - fit + u64::from(bytes == 10));
            assert!(stats.dropped_by(DropReason::QueueFull) <= sent - fit + 1, "{stats:?}");
            drop(peer);
            let stats = finish(engine);
            assert!(stats.dropped_by(DropReason::Undelivered) >= fit, "{stats:?}");
        }
    });
}

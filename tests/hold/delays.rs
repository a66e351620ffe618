//! Answers that leave later.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::plugin::*;
use crate::common::*;
use crate::{FRAMES, Plugin, assert_passed, received};
use resay::{CloseReason, DropReason};

#[test]
fn an_answer_waits_as_long_as_its_transform_says() {
    isolated(|| {
        let Some(plugin) = Plugin::new() else { return };
        for transport in Transport::all() {
            let (engine, url) = plugin.serve(transport, "", "hold");
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
        }
    });
}

/// The delay begins when the answer is there, not when the turn began in which it was asked for.
#[test]
fn a_delay_counts_from_the_answer() {
    isolated(|| {
        let Some(plugin) = Plugin::new() else { return };
        for transport in [Transport::Tcp4, Transport::Seqpacket, Transport::Udp4, Transport::UnixDatagram] {
            let (engine, url) = plugin.serve(transport, "", "work");
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

/// A message that drips: each piece leaves by itself, in order, and none before its time.
#[test]
fn pieces_leave_one_by_one() {
    isolated(|| {
        let Some(plugin) = Plugin::new() else { return };
        for transport in Transport::streams() {
            for frame in FRAMES {
                let (engine, url) = plugin.serve(transport, &format!("frame={frame}"), "drip");
                let what = format!("{transport:?} {frame}");
                let peer = Peer::connect(&url);
                let message = b"10 a60 b150cend";
                let answer = framed(frame, message);
                let body = answer.windows(4).position(|window| window == b"10 a").unwrap();
                let start = Instant::now();
                peer.send(&answer);
                let mut found = Vec::new();
                while found.len() < answer.len() {
                    let more = peer.try_recv(1000).unwrap();
                    assert!(!more.is_empty(), "{what}: {found:?}");
                    found.extend(more);
                    // What has come of the message was due.
                    for (end, millis) in [(0, 10), (4, 60), (8, 150)] {
                        if found.len() > body + end {
                            assert_passed(start, millis, &what);
                        }
                    }
                }
                assert_eq!(found, answer, "{what}");
                eventually_stats(&engine, "it is counted", |stats| stats.messages_out == 1);
                // The next one is not late because the last one was.
                let quick = framed(frame, b"0   quick");
                assert_eq!(peer.ask(&quick), quick, "{what}");
                drop(peer);
                finish(engine);
            }
        }
    });
}

/// The first pieces of a message are with the peer while the last is held for an hour.
#[test]
fn pieces_do_not_wait_for_the_last() {
    isolated(|| {
        let Some(plugin) = Plugin::new() else { return };
        for transport in Transport::streams() {
            for frame in FRAMES {
                let (engine, url) = plugin.serve(transport, &format!("frame={frame}"), "drip");
                let what = format!("{transport:?} {frame}");
                let peer = Peer::connect(&url);
                let (now, later) = (b"1  a20 bnow ", b"h  cend ");
                let answer = framed(frame, &[&now[..], later].concat());
                let body = answer.windows(4).position(|window| window == b"1  a").unwrap();
                peer.send(&answer);
                assert_eq!(peer.exactly(body + now.len()), answer[..body + now.len()], "{what}");
                // Somebody else's whole answer comes meanwhile, and nothing more of this one.
                let quick = framed(frame, b"0   quick");
                assert_eq!(Peer::connect(&url).ask(&quick), quick, "{what}");
                assert!(!peer.has_something(), "{what}");
                let stats = finish(engine);
                assert_eq!(stats.undelivered_bytes as usize, answer.len() - body - now.len(), "{what}");
            }
        }
    });
}

/// An answer of no bytes is an answer where answers are records or datagrams, later as well as now.
#[test]
fn empty_answers_wait_too() {
    isolated(|| {
        let Some(plugin) = Plugin::new() else { return };
        for transport in Transport::all().into_iter().filter(|transport| !transport.is_stream()) {
            let (engine, url) = plugin.serve(transport, "", "hush");
            let peer = Peer::connect(&url);
            assert_eq!(peer.ask(b"now"), b"", "{transport:?}");
            let start = Instant::now();
            assert_eq!(peer.ask(b"50 later"), b"", "{transport:?}");
            assert_passed(start, 50, &format!("{transport:?}"));
            drop(peer);
            finish(engine);
        }
        // Behind something that is held, too.
        let (engine, url) = plugin.serve(Transport::Seqpacket, "", "hold");
        let peer = Peer::connect(&url);
        [&b"60 first"[..], b"", b"third"].into_iter().for_each(|message| peer.send(message));
        assert_eq!(peer.message(), b"60 first");
        assert_eq!(peer.message(), b"");
        assert_eq!(peer.message(), b"third");
        drop(peer);
        finish(engine);
        // And a framed stream frames nothing as nothing.
        for frame in ["lines", "len16be", "varint"] {
            let (engine, url) = plugin.serve(Transport::Tcp4, &format!("frame={frame}"), "hush");
            let peer = Peer::connect(&url);
            let empty = framed(frame, b"");
            peer.send(&[framed(frame, b"50 one"), framed(frame, b"two")].concat());
            assert_eq!(peer.exactly(2 * empty.len()), empty.repeat(2), "{frame}");
            drop(peer);
            finish(engine);
        }
    });
}

/// Who only goes away gets nothing, and leaves nothing.
#[test]
fn a_peer_that_is_gone_is_not_waited_for() {
    isolated(|| {
        let Some(plugin) = Plugin::new() else { return };
        let (engine, url) = plugin.serve(Transport::Tcp4, "frame=lines", "hold");
        let peer = Peer::connect(&url);
        peer.send(b"h one\nh two\n");
        received(&engine, 2);
        peer.reset();
        let stats = eventually_stats(&engine, "it is closed", |stats| stats.open == 0);
        assert_eq!(stats.closed_by(CloseReason::PeerReset), 1, "{stats:?}");
        assert_eq!(stats.undelivered_bytes, 12, "{stats:?}");
        finish(engine);
    });
}

/// The time for draining is up before the answer's is: it is cut off, in time, and counted.
#[test]
fn draining_ends_although_answers_are_held() {
    isolated(|| {
        let Some(plugin) = Plugin::new() else { return };
        for transport in Transport::all() {
            let (engine, url) = plugin.serve(transport, "", "hold");
            let peer = Peer::connect(&url);
            peer.send(b"h never");
            received(&engine, 1);
            engine.drain(Duration::from_millis(200)).unwrap();
            let stats = balanced(&engine);
            if transport.is_connected() {
                assert_eq!(stats.closed_by(CloseReason::CutOff), 1, "{transport:?} {stats:?}");
                assert_eq!(stats.undelivered_bytes, 7, "{transport:?} {stats:?}");
            } else {
                assert_eq!(stats.dropped_by(DropReason::Undelivered), 1, "{transport:?} {stats:?}");
            }
            finish(engine);
        }
    });
}

/// Stopping waits for nothing and counts what was not delivered; no delay is too long to be counted.
#[test]
fn stopping_counts_held_answers() {
    isolated(|| {
        let Some(plugin) = Plugin::new() else { return };
        for transport in Transport::all() {
            for message in ["h an hour", "x for ever", "18446744073709551 ms is all that fits"] {
                let (engine, url) = plugin.serve(transport, "frame=lines", "hold");
                let line = format!("{message}\n");
                let peers: Vec<_> = (0..5).map(|_| Peer::connect(&url)).collect();
                peers.iter().for_each(|peer| peer.send(line.as_bytes()));
                received(&engine, 5);
                assert_answers(&url);
                let stats = finish(engine);
                if transport.is_connected() {
                    let bytes = 5 * line.len() as u64;
                    assert_eq!(stats.undelivered_bytes, bytes, "{transport:?} {stats:?}");
                } else {
                    assert_eq!(stats.dropped_by(DropReason::Undelivered), 5, "{transport:?} {stats:?}");
                }
            }
        }
    });
}

/// Peers that flood an hour's delay are not read any more once what is held for them is at the high water; memory
/// stays, and others are served.
#[test]
fn the_high_water_bounds_held_answers() {
    isolated(|| {
        const HIGH_WATER: u64 = 64 * 1024;
        let Some(plugin) = Plugin::new() else { return };
        for transport in Transport::streams() {
            let options = format!("frame=lines&high_water={HIGH_WATER}");
            let (engine, url) = plugin.serve(transport, &options, "hold");
            let other = engine.listen("tcp://127.0.0.1:0?chain=identity").unwrap();
            let other = engine.listener(other).unwrap().url;
            let before = memory_figure("/proc/self/smaps_rollup", "Private_Dirty");
            let peers: Vec<_> = (0..10).map(|_| Peer::connect(&url)).collect();
            for peer in &peers {
                // As much as its own buffers and the kernel's take.
                peer.socket.set_nonblocking(true).unwrap();
                let chunk = [&b"h"[..], &[b'.'; 99], b"\n"].concat().repeat(100);
                while send_flags(peer, &chunk, 0).is_ok() {}
            }
            let mut last = 0;
            let stats = eventually("nothing more is read", || {
                let stats = engine.listener_stats(engine.listeners()[0].id).unwrap();
                let still = std::mem::replace(&mut last, stats.bytes_in) == stats.bytes_in;
                // Another's round trips give the worker turns in which it could read.
                (0..50).for_each(|_| assert_answers(&other));
                if still && stats.bytes_in > 0 { Ok(stats) } else { Err(format!("{stats:?}")) }
            });
            let most = 2 * HIGH_WATER * peers.len() as u64;
            assert!(stats.bytes_in <= most, "{transport:?}: {most} {stats:?}");
            let after = memory_figure("/proc/self/smaps_rollup", "Private_Dirty");
            assert!(after < before + (24 << 20), "{transport:?}: {before} before, {after} after");
            for peer in &peers {
                assert!(!peer.has_something(), "{transport:?}");
            }
            let held: u64 = engine.connections(PATIENCE).iter().map(|info| info.waiting_bytes as u64).sum();
            assert!(held > 0 && held <= 2 * HIGH_WATER * peers.len() as u64, "{transport:?}: {held}");
            assert!(finish(engine).undelivered_bytes >= held, "{transport:?}");
        }
    });
}

/// `high_water` counts bytes, of records too: one that is held does not stop the next.
#[test]
fn one_held_record_does_not_stop_the_next() {
    isolated(|| {
        let Some(plugin) = Plugin::new() else { return };
        let (engine, url) = plugin.serve(Transport::Seqpacket, "", "hold");
        let peer = Peer::connect(&url);
        ["h one", "two"].iter().for_each(|message| peer.send(message.as_bytes()));
        received(&engine, 2);
        assert_eq!(finish(engine).undelivered_bytes, 8);
    });
}

/// Held answers go to whom they belong, from the address that was asked.
#[test]
fn held_datagrams_find_their_peers() {
    isolated(|| {
        let Some(plugin) = Plugin::new() else { return };
        for transport in Transport::all().into_iter().filter(|transport| !transport.is_connected()) {
            let (engine, url) = plugin.serve(transport, "", "hold");
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
        let engine = engine_builder()
            .listen("udp://0.0.0.0:0")
            .unwrap()
            .chain(&plugin.chain("hold"))
            .unwrap()
            .start()
            .unwrap();
        let port = port_of(&engine.urls()[0]);
        for address in ["127.0.0.1", "127.0.0.5", "127.9.8.7"] {
            let peer = Peer::connect(&format!("udp://{address}:{port}"));
            assert_eq!(peer.ask(b"30 from there"), b"30 from there", "{address}");
        }
        finish(engine);
    });
}

/// Held datagrams have a limit; what is over it is dropped and counted, and the socket goes on.
#[test]
fn held_datagrams_are_bounded() {
    isolated(|| {
        let Some(plugin) = Plugin::new() else { return };
        // 64 MiB of answers may wait, and 64 Ki of them.
        for (bytes, fit, sent) in [(64_000, (64 << 20) / 64_000, 1100), (10, 64 * 1024, 66_000)] {
            let (engine, url) = plugin.serve(Transport::UnixDatagram, "", "hold");
            let peer = Peer::connect(&url);
            let mut message = vec![b'.'; bytes];
            message[0] = b'h';
            (0..sent).for_each(|_| peer.send(&message));
            let stats = received(&engine, sent);
            assert_eq!(stats.messages_in, sent);
            let stats = eventually_stats(&engine, "the rest is dropped", |stats| {
                stats.dropped_by(DropReason::QueueFull) >= sent - fit
            });
            assert_eq!(stats.dropped_by(DropReason::QueueFull), sent - fit, "{stats:?}");
            assert_eq!(peer.ask(b"still there"), b"still there");
            peer.send(b"1");
            eventually_stats(&engine, "delayed ones find no room", |stats| {
                stats.dropped_by(DropReason::QueueFull) == sent - fit + 1 || bytes > 10
            });
            drop(peer);
            let stats = finish(engine);
            assert!(stats.dropped_by(DropReason::Undelivered) >= fit, "{stats:?}");
        }
    });
}

//! What holds on every transport: one suite, run over all of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::thread;
use std::time::Duration;

use common::*;
use resay::{Client, CloseReason, Engine, SocketKind};

/// Bytes that one datagram or record may have on every transport.
const MESSAGE: usize = 60_000;
const BIG: usize = 3 * 1024 * 1024;

/// An engine with one listener for each transport, and the URLs beside the transports.
struct Everything {
    engine: Engine,
    urls: Vec<(Transport, String)>,
    _directory: tempfile::TempDir,
}

impl Everything {
    fn serve(chain: &str, threads: usize) -> Everything {
        let directory = directory();
        let transports = Transport::all();
        let mut builder = engine_builder().chain(chain).unwrap().threads(threads).unwrap();
        for transport in &transports {
            builder = builder.listen(&transport.url(directory.path())).unwrap();
        }
        let engine = builder.start().unwrap();
        let urls = transports.into_iter().zip(engine.urls()).collect();
        Everything { engine, urls, _directory: directory }
    }
}

#[test]
fn echoes_as_it_came() {
    isolated(|| {
        let everything = Everything::serve("", 1);
        for (transport, url) in &everything.urls {
            let peer = Peer::connect(url);
            for message in [&b"hello"[..], b"\0", b"\n\n", "größe ŉ".as_bytes(), &noise(MESSAGE, 1)] {
                assert_same(&format!("{transport:?}"), message, &peer.ask(message));
            }
        }
        finish(everything.engine);
    });
}

/// The library's own client speaks to each of them as any other does.
#[test]
fn the_own_client_is_answered() {
    isolated(|| {
        let everything = Everything::serve("uppercase", 1);
        // It speaks no layer.
        for (transport, url) in
            everything.urls.iter().filter(|(kind, _)| !(layer::is_on() && kind.is_stream()))
        {
            let client = Client::open(url, Some(PATIENCE)).unwrap();
            assert_eq!(client.kind().is_connected(), transport.is_connected(), "{transport:?}");
            client.send(b"hello", Some(PATIENCE)).unwrap();
            let mut answer = [0; 64];
            let n = client.recv(&mut answer, Some(PATIENCE)).unwrap();
            assert_eq!(&answer[..n], b"HELLO", "{transport:?}");
            assert!(!client.is_gone(), "{transport:?}");
        }
        finish(everything.engine);
    });
}

/// One engine may have listeners of all kinds, and says of each what it is.
#[test]
fn listeners_of_all_kinds_in_one_engine() {
    isolated(|| {
        let everything = Everything::serve("uppercase | identity", 1);
        let listeners = everything.engine.listeners();
        assert_eq!(listeners.len(), everything.urls.len());
        for (listener, (transport, url)) in listeners.iter().zip(&everything.urls) {
            assert_eq!(&listener.url, url, "{transport:?}");
            assert_eq!(listener.chain, "uppercase | identity", "{transport:?}");
            let expected = match transport {
                Transport::Tcp4 | Transport::Tcp6 => SocketKind::Tcp,
                Transport::Udp4 | Transport::Udp6 => SocketKind::Udp,
                Transport::UnixStream | Transport::UnixAbstract => SocketKind::UnixStream,
                Transport::Seqpacket => SocketKind::UnixSeqpacket,
                Transport::UnixDatagram => SocketKind::UnixDatagram,
            };
            assert_eq!(listener.kind, expected, "{transport:?}");
            if url.contains("//") {
                assert_ne!(port_of(url), 0, "{url}: the real port is told");
            }
            assert_eq!(Peer::connect(url).ask(b"one and all"), b"ONE AND ALL", "{transport:?}");
        }
        for listener in listeners {
            let stats = everything.engine.listener_stats(listener.id).unwrap();
            assert_eq!((stats.messages_in, stats.bytes_in), (1, 11), "{}", listener.url);
        }
        finish(everything.engine);
    });
}

#[test]
fn transforms_in_place() {
    isolated(|| {
        for chain in ["uppercase", "uppercase | identity", "identity | uppercase | identity"] {
            let everything = Everything::serve(chain, 1);
            for (transport, url) in &everything.urls {
                let message = noise(MESSAGE, 2);
                let answer = Peer::connect(url).ask(&message);
                assert_same(&format!("{transport:?} {chain}"), &message.to_ascii_uppercase(), &answer);
            }
            finish(everything.engine);
        }
    });
}

/// A transform that changes the length, alone and between others.
#[test]
fn transforms_that_change_the_length() {
    isolated(|| {
        for chain in [
            "uppercase:unicode=1",
            "identity | uppercase:unicode=1 | identity",
            "uppercase:unicode=1 | uppercase:unicode=1",
        ] {
            let everything = Everything::serve(chain, 1);
            for (transport, url) in &everything.urls {
                let peer = Peer::connect(url);
                let expected = "GRÖSSE ʼN";
                let answer = peer.ask_for("größe ŉ".as_bytes(), expected.len());
                assert_eq!(String::from_utf8_lossy(&answer), expected, "{transport:?} {chain}");
                let long = "ß".repeat(10_000);
                let answer = peer.ask_for(long.as_bytes(), long.len());
                assert_same(&format!("{transport:?} {chain}"), "SS".repeat(10_000).as_bytes(), &answer);
            }
            finish(everything.engine);
        }
    });
}

/// Megabytes through each transport, sent and received at the same time where there is flow control.
#[test]
fn megabytes_there_and_back() {
    isolated(|| {
        for chain in ["", "uppercase", "uppercase:unicode=1"] {
            let everything = Everything::serve(chain, 1);
            let data: Vec<u8> = noise(BIG, 3).iter().map(|byte| b'a' + byte % 26).collect();
            let expected = if chain.is_empty() { data.clone() } else { data.to_ascii_uppercase() };
            for (transport, url) in &everything.urls {
                let peer = Peer::connect(url);
                let answer = if transport.is_stream() {
                    exchange(&peer, &data, data.len())
                } else {
                    data.chunks(MESSAGE).flat_map(|message| peer.ask(message)).collect()
                };
                assert_same(&format!("{transport:?} {chain:?}"), &expected, &answer);
            }
            let stats = finish(everything.engine);
            assert_eq!(stats.bytes_in, (BIG * everything.urls.len()) as u64, "{chain:?}");
            assert_eq!(stats.bytes_out, stats.bytes_in, "{chain:?}");
            assert_eq!(stats.undelivered_bytes, 0, "{chain:?}");
        }
    });
}

/// A peer that ends its side gets everything that it is owed, and then the end.
#[test]
fn a_half_close_is_answered_and_then_ended() {
    isolated(|| {
        for chain in ["", "uppercase:unicode=1"] {
            let everything = Everything::serve(chain, 1);
            for (transport, url) in everything.urls.iter().filter(|(transport, _)| transport.is_stream()) {
                let peer = Peer::connect(url);
                let data = vec![b'X'; BIG];
                let answer = thread::scope(|scope| {
                    scope.spawn(|| {
                        peer.send(&data);
                        peer.half_close();
                    });
                    peer.to_end()
                });
                assert_same(&format!("{transport:?} {chain:?}"), &data, &answer);
            }
            let (_, url) =
                everything.urls.iter().find(|(transport, _)| *transport == Transport::Seqpacket).unwrap();
            let peer = Peer::connect(url);
            (0..100_u32).for_each(|number| peer.send(format!("RECORD {number}").as_bytes()));
            peer.half_close();
            for number in 0..100 {
                assert_eq!(peer.message(), format!("RECORD {number}").as_bytes(), "seqpacket {chain:?}");
            }
            assert_eq!(peer.message(), b"", "seqpacket {chain:?}: the end");
            let streams = everything.urls.iter().filter(|(transport, _)| transport.is_connected()).count();
            let stats = eventually_stats(&everything.engine, "all are closed", |stats| stats.open == 0);
            assert_eq!(stats.closed_by(CloseReason::PeerClosed), streams as u64, "{stats:?}");
            finish(everything.engine);
        }
    });
}

/// A half-close before anything was sent, and one behind an unfinished character.
#[test]
fn a_half_close_of_nothing_and_of_a_part() {
    isolated(|| {
        let everything = Everything::serve("uppercase:unicode=1", 1);
        for (transport, url) in everything.urls.iter().filter(|(transport, _)| transport.is_stream()) {
            let peer = Peer::connect(url);
            peer.half_close();
            assert_eq!(peer.to_end(), b"", "{transport:?}");
            let peer = Peer::connect(url);
            // The first byte of an é, and never the second: it comes out as it went in.
            peer.send(b"caf\xc3");
            peer.half_close();
            assert_eq!(peer.to_end(), b"CAF\xc3", "{transport:?}");
        }
        finish(everything.engine);
    });
}

/// Whatever way a peer goes, the others never notice, and nothing of it stays behind.
#[test]
fn a_vanishing_peer_never_hurts_another() {
    isolated(|| {
        let everything = Everything::serve("uppercase", 1);
        for (transport, url) in &everything.urls {
            let bystander = Peer::connect(url);
            let mut count = 0;
            let mut still_there = |how: &str| {
                count += 1;
                let text = format!("still there {count}");
                let answer = bystander.ask(text.as_bytes());
                assert_eq!(answer, text.to_uppercase().as_bytes(), "{transport:?}: a peer {how}");
            };
            for round in 0..5 {
                drop(Peer::connect(url));
                still_there("left at once");
                Peer::connect(url).reset();
                still_there("left with a reset");
                let peer = Peer::connect(url);
                peer.send(&noise(MESSAGE, round));
                peer.reset();
                still_there("left with a reset behind its message");
                let peer = Peer::connect(url);
                peer.send(&noise(MESSAGE, round));
                drop(peer);
                still_there("left without reading its answer");
                let peer = Peer::connect(url);
                peer.ask(b"one");
                peer.send(b"two");
                drop(peer);
                still_there("left in the middle");
                if transport.is_connected() {
                    let peer = Peer::connect(url);
                    peer.send(b"three");
                    peer.half_close();
                    drop(peer);
                    still_there("ended its side and left");
                }
                if transport.is_stream() {
                    let peer = Peer::connect(url);
                    peer.socket.set_nonblocking(true).unwrap();
                    // Until the engine, which is not read from, takes nothing any more.
                    while peer.try_send(&noise(MESSAGE, round)).is_ok() {}
                    still_there("never reads");
                    peer.reset();
                    still_there("left with everything full");
                }
            }
        }
        let kept = everything.urls.iter().filter(|(transport, _)| transport.is_connected()).count();
        eventually_stats(&everything.engine, "all are closed", |stats| stats.open == 0);
        let stats = finish(everything.engine);
        assert_eq!(stats.accepted, (kept * 7 * 5 + kept - 5) as u64, "{stats:?}");
    });
}

/// Several workers: connections are spread over them, and every transport is as right as with one.
#[test]
fn four_workers_serve_as_one_does() {
    isolated(|| {
        let everything = Everything::serve("uppercase", 4);
        thread::scope(|scope| {
            for (transport, url) in &everything.urls {
                for number in 0..6 {
                    scope.spawn(move || {
                        let peer = Peer::connect(url);
                        for round in 0..30 {
                            let text = format!("peer {number} round {round} {}", "x".repeat(round * 100));
                            let answer = peer.ask(text.as_bytes());
                            assert_same(&format!("{transport:?}"), text.to_uppercase().as_bytes(), &answer);
                        }
                    });
                }
            }
        });
        let stats = finish(everything.engine);
        assert_eq!(stats.messages_out, stats.messages_in - stats.dropped, "{stats:?}");
        assert_eq!(stats.dropped, 0, "{stats:?}");
    });
}

/// With as many connections as workers, each worker thread has one: while all are open, every thread of the
/// engine has used the processor for its own.
#[test]
fn connections_are_spread_over_the_workers() {
    isolated(|| {
        let engine =
            engine_builder().listen("tcp://127.0.0.1:0").unwrap().threads(4).unwrap().start().unwrap();
        let url = engine.urls().remove(0);
        // A thread gives itself its name, which may be a moment after the engine has started.
        eventually("four threads are called after the engine", || {
            let threads = switches();
            if threads.len() == 4 { Ok(()) } else { Err(format!("{threads:?}")) }
        });
        let peers: Vec<_> = (0..16).map(|_| Peer::connect(&url)).collect();
        for peer in &peers {
            assert_eq!(peer.ask(b"who serves me"), b"who serves me");
        }
        // Each thread sleeps between two messages: whoever serves a peer wakes at least once a message.
        let before = switches();
        for _ in 0..20 {
            for peer in &peers {
                peer.ask(b"again");
            }
        }
        let after = switches();
        for (thread, woken) in &before {
            let now = after.iter().find(|(name, _)| name == thread).unwrap().1;
            assert!(now > *woken, "{thread} served nobody: {before:?} {after:?}");
        }
        drop(peers);
        finish(engine);
    });
}

/// How often each of the workers' threads has gone to sleep.
fn switches() -> Vec<(String, u64)> {
    let mut found = Vec::new();
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let path = task.unwrap().path();
        let name = std::fs::read_to_string(path.join("comm")).unwrap().trim().to_owned();
        let status = std::fs::read_to_string(path.join("status")).unwrap();
        let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
        if name.strip_prefix("resay-").is_some_and(|rest| rest.parse::<u32>().is_ok()) {
            found.push((name, count.trim().parse().unwrap()));
        }
    }
    found
}

/// The chain is swapped again and again while messages run: each is answered by the old chain or the new one,
/// whole, in order, and none is lost. Once the call has returned and a message later, the new chain answers.
#[test]
fn chains_are_swapped_under_load() {
    isolated(|| {
        let everything = Everything::serve("identity", 2);
        let (engine, urls) = (&everything.engine, &everything.urls);
        let stop = std::sync::atomic::AtomicBool::new(false);
        let asked = std::sync::atomic::AtomicU64::new(0);
        thread::scope(|scope| {
            for (transport, url) in urls {
                let (stop, asked) = (&stop, &asked);
                scope.spawn(move || {
                    let peer = Peer::connect(url);
                    let mut number = 0;
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        number += 1;
                        let text = format!("message number {number}");
                        let answer = peer.ask(text.as_bytes());
                        let answer = String::from_utf8(answer).unwrap();
                        assert!(
                            answer == text || answer == text.to_uppercase(),
                            "{transport:?}: {text:?} became {answer:?}"
                        );
                        asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    }
                });
            }
            for round in 0..200 {
                let chain = ["uppercase", "uppercase:unicode=1", "identity", ""][round % 4];
                let before = asked.load(std::sync::atomic::Ordering::Relaxed);
                engine.set_chain(chain).unwrap();
                eventually("messages run between two swaps", || {
                    let now = asked.load(std::sync::atomic::Ordering::Relaxed);
                    if now > before { Ok(()) } else { Err(format!("{now} messages, as before")) }
                });
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        engine.set_chain("uppercase").unwrap();
        for (transport, url) in urls {
            eventually(&format!("{transport:?}: the new chain answers"), || {
                let answer = Peer::connect(url).ask(b"and now");
                if answer == b"AND NOW" { Ok(()) } else { Err(format!("{answer:?}")) }
            });
        }
        assert_eq!(engine.stats().dropped, 0);
        finish(everything.engine);
    });
}

/// A connection that is idle while the chain changes goes over with its next message.
#[test]
fn an_open_connection_goes_over_to_the_new_chain() {
    isolated(|| {
        let everything = Everything::serve("identity", 1);
        for (transport, url) in &everything.urls {
            everything.engine.set_chain("identity").unwrap();
            let peer = Peer::connect(url);
            eventually(&format!("{transport:?}: the first chain"), || {
                let answer = peer.ask(b"before");
                if answer == b"before" { Ok(()) } else { Err(format!("{answer:?}")) }
            });
            everything.engine.set_chain("uppercase").unwrap();
            // The worker looks once a turn, so the very next message may still be answered by the old chain.
            eventually(&format!("{transport:?}: the second chain"), || {
                let answer = peer.ask(b"after");
                if answer == b"AFTER" { Ok(()) } else { Err(format!("{answer:?}")) }
            });
            assert_eq!(peer.ask(b"after"), b"AFTER", "{transport:?}: and it stays");
        }
        finish(everything.engine);
    });
}

/// Nobody reads for a while, on any transport, and then everybody does: nothing is lost or out of order.
#[test]
fn a_pause_of_the_reader_loses_nothing() {
    isolated(|| {
        let everything = Everything::serve("", 1);
        for (transport, url) in everything.urls.iter().filter(|(transport, _)| transport.is_connected()) {
            let peer = Peer::connect(url);
            peer.socket.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
            // Numbered records, until nothing more is taken; the number sent is the number owed.
            let mut sent = Vec::new();
            for number in 0_u32.. {
                let record = [number.to_le_bytes().as_slice(), &noise(996, u64::from(number))].concat();
                let mut rest = &record[..];
                let result = loop {
                    match peer.try_send_some(rest) {
                        Ok(n) if n < rest.len() => rest = &rest[n..],
                        other => break other,
                    }
                };
                if result.is_err() {
                    sent.extend_from_slice(&record[..record.len() - rest.len()]);
                    break;
                }
                sent.extend(record);
                assert!(sent.len() < 64 << 20, "{transport:?}: the engine reads on without end");
            }
            peer.half_close();
            let answer = if transport.is_stream() {
                peer.to_end()
            } else {
                std::iter::repeat_with(|| peer.message())
                    .take_while(|record| !record.is_empty())
                    .flatten()
                    .collect()
            };
            assert_same(&format!("{transport:?}"), &sent, &answer);
        }
        finish(everything.engine);
    });
}

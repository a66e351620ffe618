//! Greetings: what a server sends first.

use std::time::Instant;

use crate::common::plugin::*;
use crate::common::*;
use crate::{FRAMES, Plugin, assert_passed, frames, receive};
use resay::{CloseReason, Engine, Stats};

/// Stops an engine whose connections were greeted: a greeting answers no message.
#[track_caller]
fn ended(engine: Engine) -> Stats {
    engine.stop();
    engine.join(PATIENCE).unwrap();
    let stats = engine.stats();
    assert_eq!((stats.open, stats.accepted), (0, stats.closed), "{stats:?}");
    stats
}

/// A connection is greeted once, before it says anything; a datagram never.
#[test]
fn connections_are_greeted() {
    isolated(|| {
        let Some(plugin) = Plugin::new() else { return };
        for transport in Transport::connected() {
            for frame in frames(transport) {
                for (chain, greeting) in [
                    ("hello", "hello"),
                    ("hello | =uppercase", "HELLO"),
                    ("=uppercase | hello | =identity", "hello"),
                    ("welcome | drip", "welcome"),
                ] {
                    let (engine, url) = plugin.serve(transport, &format!("frame={frame}"), chain);
                    let what = format!("{transport:?} {frame} {chain}");
                    let greeting = framed(frame, greeting.as_bytes());
                    for _ in 0..3 {
                        let peer = Peer::connect(&url);
                        assert_eq!(receive(&peer, transport, greeting.len()), greeting, "{what}");
                        let message = framed(frame, b"ANYTHING");
                        assert_eq!(peer.ask(&message), message, "{what}");
                        assert_eq!(peer.ask(&message), message, "{what}");
                        peer.half_close();
                        assert_eq!(peer.message(), b"", "{what}");
                    }
                    let stats = ended(engine);
                    assert_eq!(stats.transform_errors, 0, "{what}");
                    assert_eq!(stats.closed_by(CloseReason::PeerClosed), 3, "{what} {stats:?}");
                }
            }
        }
        for transport in Transport::all().into_iter().filter(|transport| !transport.is_connected()) {
            let (engine, url) = plugin.serve(transport, "", "hello | welcome");
            let peer = Peer::connect(&url);
            assert_eq!(peer.ask(b"anything"), b"anything", "{transport:?}");
            assert!(!peer.has_something(), "{transport:?}");
            drop(peer);
            assert_eq!(ended(engine).messages_out, 1, "{transport:?}");
        }
    });
}

/// Two that greet: two messages, in the order of their stages.
#[test]
fn greetings_are_messages() {
    isolated(|| {
        let Some(plugin) = Plugin::new() else { return };
        for transport in Transport::streams() {
            for frame in FRAMES {
                let (engine, url) = plugin.serve(transport, &format!("frame={frame}"), "hello | welcome");
                let expected = [framed(frame, b"hello"), framed(frame, b"welcome")].concat();
                let peer = Peer::connect(&url);
                assert_eq!(peer.exactly(expected.len()), expected, "{transport:?} {frame}");
                let message = framed(frame, b"a message");
                assert_eq!(peer.ask(&message), message, "{transport:?} {frame}");
                drop(peer);
                ended(engine);
            }
        }
        let (engine, url) = plugin.serve(Transport::Seqpacket, "", "hello | welcome");
        let peer = Peer::connect(&url);
        assert_eq!(peer.message(), b"hello");
        assert_eq!(peer.message(), b"welcome");
        assert_eq!(peer.ask(b"a message"), b"a message");
        drop(peer);
        ended(engine);
    });
}

/// A later stage gets a greeting as it gets any message: whole, where there are messages.
#[test]
fn later_stages_see_a_whole_greeting() {
    isolated(|| {
        let Some(plugin) = Plugin::new() else { return };
        for (transport, frame, flags) in [
            (Transport::Tcp4, "raw", "0"),
            (Transport::Tcp4, "lines", "3"),
            (Transport::UnixStream, "len16be", "3"),
            (Transport::Seqpacket, "raw", "3"),
        ] {
            let (engine, url) = plugin.serve(transport, &format!("frame={frame}"), "hello | flags");
            let peer = Peer::connect(&url);
            let greeting = framed(frame, format!("{flags}hello").as_bytes());
            let found = receive(&peer, transport, greeting.len());
            assert_eq!(String::from_utf8_lossy(&found), String::from_utf8_lossy(&greeting), "{frame}");
            let answer = framed(frame, format!("{flags}me").as_bytes());
            assert_eq!(peer.ask_for(&framed(frame, b"me"), answer.len()), answer, "{frame}");
            drop(peer);
            ended(engine);
        }
    });
}

/// Longer than the first room for it; and a greeting that is held, with answers behind it.
#[test]
fn long_and_late_greetings() {
    isolated(|| {
        let Some(plugin) = Plugin::new() else { return };
        let long: Vec<u8> = (b'a'..=b'z').cycle().take(3000).collect();
        for transport in Transport::connected() {
            for frame in frames(transport) {
                let what = format!("{transport:?} {frame}");
                let (engine, url) = plugin.serve(transport, &format!("frame={frame}"), "lengthy");
                let expected = framed(frame, &long);
                let peer = Peer::connect(&url);
                assert_same(&what, &expected, &receive(&peer, transport, expected.len()));
                let message = framed(frame, b"a message");
                assert_eq!(peer.ask(&message), message, "{what}");
                drop(peer);
                ended(engine);

                let (engine, url) = plugin.serve(transport, &format!("frame={frame}"), "slow");
                let start = Instant::now();
                let peer = Peer::connect(&url);
                peer.send(&message);
                peer.half_close();
                let greeting = framed(frame, b"slow");
                let first = receive(&peer, transport, greeting.len());
                assert_eq!(first, greeting, "{what}");
                assert_passed(start, 100, &what);
                assert_eq!(receive(&peer, transport, message.len()), message, "{what}");
                assert_eq!(peer.message(), b"", "{what}");
                drop(peer);
                ended(engine);
            }
        }
    });
}

/// A greeter that closes: its greeting, whole, and the end. One that says nothing: nothing. One that fails or
/// resets: not a byte.
#[test]
fn greetings_that_are_none() {
    isolated(|| {
        let Some(plugin) = Plugin::new() else { return };
        for transport in Transport::connected() {
            for frame in frames(transport) {
                let options = format!("frame={frame}");
                let what = format!("{transport:?} {frame}");
                let (engine, url) = plugin.serve(transport, &options, "silent");
                let peer = Peer::connect(&url);
                let message = framed(frame, b"a message");
                assert_eq!(peer.ask(&message), message, "{what}: nothing comes before");
                drop(peer);
                let stats = ended(engine);
                assert_eq!(stats.messages_in, 1, "{what} {stats:?}");

                let (engine, url) = plugin.serve(transport, &options, "failing");
                let peer = Peer::connect(&url);
                assert_eq!(peer.to_end(), b"", "{what}: of a failure nothing is sent");
                let stats = ended(engine);
                assert_eq!(stats.closed_by(CloseReason::TransformFailed), 1, "{what} {stats:?}");
                assert_eq!(stats.transform_errors, 1, "{what} {stats:?}");

                let (engine, url) = plugin.serve(transport, &options, "resetting");
                // On some systems even connecting tells.
                if let Ok(peer) = Peer::try_connect(&url) {
                    assert!(peer.try_to_end().unwrap_or_default().is_empty(), "{what}");
                }
                let stats = eventually_stats(&engine, "it is closed", |stats| stats.closed == 1);
                assert_eq!(stats.closed_by(CloseReason::TransformClosed), 1, "{what} {stats:?}");
                ended(engine);
            }
        }
    });
}

#[test]
fn a_greeting_that_closes_is_whole() {
    isolated(|| {
        let Some(plugin) = Plugin::new() else { return };
        for transport in Transport::connected() {
            for frame in frames(transport) {
                let what = format!("{transport:?} {frame}");
                let (engine, url) = plugin.serve(transport, &format!("frame={frame}"), "closing | welcome");
                let peer = Peer::connect(&url);
                let found = peer.to_end();
                assert_eq!(
                    String::from_utf8_lossy(&found),
                    String::from_utf8_lossy(&framed(frame, b"farewell")),
                    "{what}"
                );
                drop(peer);
                let stats = ended(engine);
                assert_eq!(stats.closed_by(CloseReason::TransformClosed), 1, "{what} {stats:?}");
            }
        }
    });
}

/// `messages_out` counts answers, so a greeting is none: the figures balance as without it.
#[test]
fn a_greeting_is_no_answer() {
    isolated(|| {
        let Some(plugin) = Plugin::new() else { return };
        for (transport, chain) in [(Transport::Tcp4, "hello"), (Transport::Seqpacket, "hello | welcome")] {
            let (engine, url) = plugin.serve(transport, "", chain);
            let peer = Peer::connect(&url);
            assert_eq!(receive(&peer, transport, 5)[..5], *b"hello", "{transport:?}");
            assert_eq!(finish(engine).messages_out, 0, "{transport:?}");
        }
    });
}

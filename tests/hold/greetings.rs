//! Greetings: what a server sends first.

use std::time::Instant;

use crate::common::plugin::*;
use crate::common::*;
use crate::{Plugin, assert_passed, frames};
use resay::CloseReason;

/// A connection is greeted once, by each stage that greets and before it says anything; a datagram never. A greeting is no
/// answer: the figures balance as without it.
#[test]
fn connections_are_greeted() {
    isolated_on_all_at_once(Plugin::new, Transport::all, |plugin, transport| {
        for frame in frames(transport) {
            for (chain, greetings) in [
                ("hello | welcome", &["hello", "welcome"][..]),
                ("slow | =uppercase", &["SLOW"]),
                ("silent", &[]),
            ] {
                let (engine, url) = plugin.serve(transport, frame, chain);
                let what = format!("{transport:?} {frame} {chain}");
                let start = Instant::now();
                let peer = Peer::connect(&url);
                let message = framed(frame, b"ANYTHING");
                let say_all = || {
                    peer.send(&message);
                    if transport.is_connected() {
                        peer.half_close();
                    }
                };
                // What is said while the greeting is held back is answered behind it.
                let is_slow = chain.starts_with("slow");
                if is_slow {
                    say_all();
                }
                for greeting in greetings.iter().filter(|_| transport.is_connected()) {
                    let greeting = framed(frame, greeting.as_bytes());
                    assert_eq!(peer.exactly_or_message(greeting.len()), greeting, "{what}");
                    assert_passed(start, if is_slow { 100 } else { 0 }, &what);
                }
                if !is_slow {
                    say_all();
                }
                assert_eq!(peer.exactly_or_message(message.len()), message, "{what}");
                if transport.is_connected() {
                    assert_eq!(peer.message(), b"", "{what}");
                } else {
                    assert!(!peer.has_something(), "{what}");
                }
                drop(peer);
                let stats = finish(engine);
                let counted = (stats.messages_in, stats.messages_out, stats.transform_errors);
                assert_eq!(counted, (1, 1, 0), "{what} {stats:?}");
                let closed = u64::from(transport.is_connected());
                assert_eq!(stats.closed_by(CloseReason::PeerClosed), closed, "{what} {stats:?}");
            }
        }
    });
}

/// A greeter that closes: its greeting, whole, and the end. One that fails or resets: not a byte.
#[test]
fn greetings_that_end_a_connection() {
    isolated_on_each(Plugin::new, Transport::connected, |plugin, transport| {
        for frame in frames(transport) {
            for (chain, reason) in [
                ("closing | welcome", CloseReason::TransformClosed),
                ("failing", CloseReason::TransformFailed),
                ("resetting", CloseReason::TransformClosed),
            ] {
                let (engine, url) = plugin.serve(transport, frame, chain);
                let what = format!("{transport:?} {frame} {chain}");
                let heard = match Peer::try_connect(&url).and_then(|peer| peer.try_to_end()) {
                    // On some systems even connecting tells of a reset.
                    Err(_) if chain == "resetting" => Vec::new(),
                    heard => heard.unwrap(),
                };
                let greeting =
                    if chain.starts_with("closing") { framed(frame, b"farewell") } else { Vec::new() };
                assert_eq!(heard.escape_ascii().to_string(), greeting.escape_ascii().to_string(), "{what}");
                let stats = eventually_stats(&engine, "it is closed", |stats| stats.closed == 1);
                assert_eq!(stats.closed_by(reason), 1, "{what} {stats:?}");
                let errors = u64::from(reason == CloseReason::TransformFailed);
                assert_eq!((stats.messages_out, stats.transform_errors), (0, errors), "{what} {stats:?}");
                finish(engine);
            }
        }
    });
}

//! Greetings, however a connection is framed.

use super::*;
use crate::chain::tests::kit::{HELD_US, long_greeting};

/// A connection is greeted once and before it says anything, by each stage that greets: a message each.
#[test]
fn connections_are_greeted() {
    let long = String::from_utf8(long_greeting()).unwrap();
    for frame in FRAMES {
        for (chain, greetings) in [
            ("greets | uppercase", &["HI"][..]),
            ("uppercase | greets | identity", &["hi"]),
            ("greets | drip", &["hi"]),
            ("greets | pieces", &["hi", "0123456789"]),
            ("greets-at-length", &[&long]),
            ("greets-in-vain", &[]),
        ] {
            let mut bench = Bench::new(chain, &[("frame", frame)]);
            let greetings: Vec<_> =
                greetings.iter().map(|greeting| framed(frame, greeting.as_bytes())).collect();
            assert_eq!(bench.received(), greetings.concat(), "{frame} {chain}");
            assert!(frame != "records" || bench.sent == greetings, "{chain}");
            bench.assert_greeted();
            bench.sent.clear();
            let message = framed(frame, b"ANYTHING");
            (0..2).for_each(|_| bench.receive(&message));
            bench.end();
            assert_eq!(bench.received(), message.repeat(2), "{frame} {chain}");
            assert_eq!(bench.closed, Some((CloseReason::PeerClosed, Close::Gently)), "{frame} {chain}");
            assert_eq!(bench.assert_messages().messages_out, 2, "{frame} {chain}");
        }
    }
}

/// A later stage gets a greeting as it gets any message: whole, where there are messages.
#[test]
fn later_stages_see_a_whole_greeting() {
    for frame in FRAMES {
        let flags = if frame == "raw" { "0" } else { "3" };
        let mut bench = Bench::new("greets | flags", &[("frame", frame)]);
        bench.receive(&framed(frame, b"me"));
        let expected = ["hi", "me"].map(|text| framed(frame, format!("{flags}{text}").as_bytes()));
        assert_eq!(bench.received(), expected.concat(), "{frame}");
    }
}

/// Answers come behind a greeting that is held back.
#[test]
fn a_late_greeting_comes_first() {
    for frame in FRAMES {
        let mut bench = Bench::new("greets-held", &[("frame", frame)]);
        let message = framed(frame, b"a message");
        bench.receive(&message);
        bench.end();
        bench.pass(Duration::from_micros(HELD_US - 1));
        assert_eq!((bench.received(), bench.closed), (Vec::new(), None), "{frame}");
        bench.pass(Duration::from_micros(1));
        assert_eq!(bench.received(), [framed(frame, b"hi"), message].concat(), "{frame}");
        assert_eq!(bench.closed, Some((CloseReason::PeerClosed, Close::Gently)), "{frame}");
    }
}

/// A greeter that closes: its greeting, whole, and the end. One that fails or resets: not a byte.
#[test]
fn greetings_that_end_a_connection() {
    for frame in FRAMES {
        let closing = framed(frame, b"hi");
        for (chain, greeting, closed) in [
            ("greets-and-closes | greets", &closing[..], (CloseReason::TransformClosed, Close::Gently)),
            ("greets-and-breaks | greets", b"", (CloseReason::TransformClosed, Close::Reset)),
            ("greets-and-fails | greets", b"", (CloseReason::TransformFailed, Close::Gently)),
        ] {
            let mut bench = Bench::new(chain, &[("frame", frame)]);
            assert_eq!(bench.received(), greeting, "{frame} {chain}");
            bench.end();
            assert_eq!(bench.closed, Some(closed), "{frame} {chain}");
            bench.assert_greeted();
        }
    }
}

//! Chains that are replaced while a connection needs them.

use super::*;

/// Who cannot go along is closed when `swap_timeout` is over, in good order, for that reason. Other limits of the connection
/// take nothing from that, nor do later swaps, of this listener or of another.
#[test]
fn the_old_chain_has_its_time() {
    const TIME: (&str, &str) = ("swap_timeout", "300ms");
    for options in [&[TIME][..], &[TIME, ("idle_timeout", "1h")]] {
        for is_swapped_again in [false, true] {
            let mut bench = Bench::new("trickle", options);
            bench.swap("uppercase");
            for millis in [100, 100, 99] {
                bench.pass(Duration::from_millis(millis));
                if is_swapped_again {
                    bench.swap("rot13");
                }
                bench.step(Connection::swap);
                bench.receive(b"a");
                assert!(!bench.has_shut_down, "too early");
            }
            bench.pass(Duration::from_millis(1));
            assert!(bench.has_shut_down, "{options:?} {is_swapped_again}: it is over");
            bench.end();
            assert_eq!(bench.received(), b"aaa");
            assert_eq!(bench.closed, Some((CloseReason::ChainReplaced, Close::Gently)));
        }
    }
}

/// Input that a transform has in hand belongs to the chain that it was given to, until it is consumed.
#[test]
fn unread_input_keeps_its_chain() {
    let mut bench = Bench::new("fours | rot13", &[]);
    let old = Arc::downgrade(&bench.current);
    bench.receive(b"aaaabb");
    assert_eq!(bench.received(), b"nnnn");
    bench.swap("fours | uppercase");
    // The rest of what was begun, and what came with it, goes where its beginning went.
    bench.receive(b"bbaaaac");
    bench.receive(b"ccc");
    assert_eq!(bench.received(), b"nnnnoooonnnnpppp");
    bench.receive(b"aaaa");
    assert_eq!(bench.received(), b"nnnnoooonnnnppppAAAA");
    assert!(old.upgrade().is_none(), "nobody needs it");
    // The end also consumes it.
    bench.receive(b"aa");
    bench.swap("rot13");
    bench.end();
    assert_eq!(bench.received(), b"nnnnoooonnnnppppAAAAAA");
    assert_eq!(bench.closed, Some((CloseReason::PeerClosed, Close::Gently)));
}

/// Who has nothing of the old chain in hand any more does not need it, and is not closed for it.
#[test]
fn consumed_input_keeps_nothing() {
    let mut bench = Bench::new("fours | rot13", &[("swap_timeout", "3s")]);
    let old = Arc::downgrade(&bench.current);
    bench.receive(b"aa");
    bench.swap("uppercase");
    bench.receive(b"aa");
    assert_eq!(bench.received(), b"nnnn");
    bench.pass(Duration::from_secs(4));
    assert!(!bench.has_shut_down && bench.closed.is_none() && old.upgrade().is_none());
    bench.receive(b"aaaa");
    assert_eq!(bench.received(), b"nnnnAAAA");
    bench.end();
    bench.assert_balance();
}

/// A later chain that can take a conversation gets it, whatever was between: an unknown schema, no such transform.
#[test]
fn who_stayed_goes_along_later() {
    let mut bench = Bench::new("counts", &[]);
    let old = Arc::downgrade(&bench.current);
    bench.receive(b"_");
    for (chain, answer) in [("counts-anew", b"2"), ("uppercase", b"3"), ("counts", b"4")] {
        bench.swap(chain);
        assert_eq!(old.upgrade().is_some(), chain != "counts", "{chain}");
        bench.sent.clear();
        bench.receive(b"_");
        assert_eq!(bench.received(), answer, "{chain}");
    }
}

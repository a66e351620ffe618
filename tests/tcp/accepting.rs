//! Connections that come: how many, how fast, and what they take.

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::*;
use crate::{ANY_PORT, figures, order, server_of};
use resay::{Backend, CloseReason};

/// A peer resets its connection while it still waits to be accepted: accept succeeds, the first read fails.
#[test]
fn reset_before_it_was_accepted() {
    isolated(|| {
        let engine = engine_builder().listen(ANY_PORT).unwrap().build().unwrap();
        let url = engine.urls().remove(0);
        (0..10).for_each(|_| Peer::connect(&url).reset());
        engine.start().unwrap();
        assert_answers(&url);
        let stats = eventually_stats(&engine, "all are closed", |stats| stats.closed == 11);
        assert_eq!(stats.closed_by(CloseReason::PeerReset), 10, "{stats:?}");
        finish(engine);
    });
}

/// Accept runs out of descriptors: the server stops accepting and tries again by a timer instead of turning in
/// circles, says so once, goes on serving whom it has, and takes the others as soon as it can.
#[test]
fn out_of_descriptors() {
    isolated(|| {
        if role().is_some() {
            let log = Log::default();
            return server_of(&log, log.builder().build().unwrap(), true);
        }
        let mut helper = Helper::start("server");
        helper.hear();
        // The listener, and five connections. Before it listens: an accept of io_uring has the limit of its beginning.
        order(&mut helper, "limit 6");
        let url = order(&mut helper, &format!("listen {ANY_PORT}"));
        let veteran = Peer::connect(&url);
        veteran.ask(b"I was here before");
        let peers: Vec<_> = (0..12).map(|_| Peer::connect(&url)).collect();
        for peer in &peers {
            peer.send(b"me too");
        }
        eventually("accept fails", || match figures(&mut helper).1 {
            0 => Err("no failure yet".into()),
            _ => Ok(()),
        });
        let (began, before) = (Instant::now(), figures(&mut helper).1);
        let processor = processor_time(helper.pid());
        let errors = eventually("accept fails again and again", || {
            veteran.ask(b"I am still served");
            let errors = figures(&mut helper).1 - before;
            if errors >= 5 { Ok(errors) } else { Err(format!("{errors} failures")) }
        });
        let waited = began.elapsed();
        assert!(
            u128::from(errors) <= waited.as_millis() / 100 + 3,
            "{errors} attempts in {waited:?}: at most one every 100 ms was promised"
        );
        // The rest of this test keeps the server a little busy; a loop that spins would use all of the time.
        let used = processor_time(helper.pid()) - processor;
        assert!(used < waited * 3 / 4 + Duration::from_millis(200), "{used:?} of {waited:?} were used");
        assert_eq!(order(&mut helper, "shortages"), "1", "said once, not every time");
        let served = peers.iter().filter(|peer| peer.has_something()).count();
        assert!(served < peers.len(), "the limit had no effect");

        // With more descriptors, just enough, everybody gets an answer, without a word from them.
        order(&mut helper, "limit 14");
        for peer in &peers {
            assert_eq!(peer.exactly(6), b"me too");
        }
        let (accepted, _) = figures(&mut helper);
        assert_eq!(accepted, 13);

        // A second shortage is a new one. It ends when somebody leaves.
        let late = Peer::connect(&url);
        late.send(b"late");
        eventually("the second shortage is said", || match order(&mut helper, "shortages").as_str() {
            "2" => Ok(()),
            other => Err(other.into()),
        });
        drop(peers);
        assert_eq!(late.exactly(4), b"late");
        assert_eq!(veteran.ask(b"good-bye"), b"good-bye");
        helper.finish();
    });
}

/// Accept fails for other reasons, of one connection or of the whole system: the listener survives each. The
/// kernel is made to fail by strace(1), three times in a row.
#[test]
fn accept_fails_in_every_way() {
    isolated(|| {
        if role().is_some() {
            let log = Log::default();
            // io_uring accepts without a call that could be made to fail; the driver's own tests do so.
            let builder = log.builder().backend(Backend::Epoll).listen(ANY_PORT).unwrap();
            return server_of(&log, builder.build().unwrap(), true);
        }
        let works = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).output();
        if !works.is_ok_and(|output| output.status.success()) {
            return skipped("failing accept(2): strace is not there, or may not trace");
        }
        for error in ["ENFILE", "ENOBUFS", "ENOMEM", "EPROTO", "ECONNABORTED", "EINTR", "EPERM", "ENETDOWN"] {
            let inject = format!("inject=accept4:error={error}:when=1..3");
            let arguments =
                ["-f", "-qq", "-o", "/dev/null", "--seccomp-bpf", "-e", "trace=accept4", "-e", &inject];
            let mut helper = Helper::start_under("server", "strace", &arguments);
            let url = helper.hear();
            assert_eq!(Peer::connect(&url).ask(b"after all"), b"after all", "{error}");
            let (accepted, errors) = figures(&mut helper);
            assert_eq!(accepted, 1, "{error}");
            // An interrupted call is just made again; it is no failure.
            let expected = if error == "EINTR" { 0 } else { 3 };
            assert_eq!(errors, expected, "{error}");
            let shortage = matches!(error, "ENFILE" | "ENOBUFS" | "ENOMEM");
            assert_eq!(order(&mut helper, "shortages"), if shortage { "1" } else { "0" }, "{error}");
            helper.finish();
        }
    });
}

/// Crowds connect at once, and those who are there already go on being served.
#[test]
fn a_storm_of_connections() {
    isolated(|| {
        const STORM: usize = 300;
        let (engine, url) = serve(ANY_PORT, "");
        let bystander = Peer::connect(&url);
        let over = AtomicBool::new(false);
        let asked = AtomicU64::new(0);
        let peers = thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    bystander.ask(b"in the storm");
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
            let crowds: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let storm: Vec<_> = (0..STORM).map(|_| Peer::connect(&url)).collect();
                        storm.iter().for_each(|peer| peer.send(b"me"));
                        storm.iter().for_each(|peer| assert_eq!(peer.exactly(2), b"me"));
                        storm
                    })
                })
                .collect();
            let peers: Vec<_> = crowds.into_iter().flat_map(|crowd| crowd.join().unwrap()).collect();
            over.store(true, Ordering::Relaxed);
            peers
        });
        assert!(asked.load(Ordering::Relaxed) > 0);
        assert_eq!(engine.stats().open, 4 * STORM as u64 + 1);
        drop(peers);
        eventually_stats(&engine, "only the bystander is left", |stats| stats.open == 1);
        drop(bystander);
        finish(engine);
    });
}

/// Connections that wait to be accepted when the server starts: more than one turn takes, and each is served.
#[test]
fn a_queue_of_connections_at_the_start() {
    isolated(|| {
        let engine = engine_builder().listen(ANY_PORT).unwrap().build().unwrap();
        let url = engine.urls().remove(0);
        let peers: Vec<_> = (0..200).map(|_| Peer::connect(&url)).collect();
        peers.iter().for_each(|peer| peer.send(b"early"));
        engine.start().unwrap();
        peers.iter().for_each(|peer| assert_eq!(peer.exactly(5), b"early"));
        drop(peers);
        finish(engine);
    });
}

/// Who comes when `max_connections` are open is turned away and counted; when one leaves, there is room.
#[test]
fn too_many_connections() {
    isolated(|| {
        let (engine, url) = serve(&format!("{ANY_PORT}?max_connections=3"), "");
        let mut peers: Vec<_> = (0..3).map(|_| Peer::connect(&url)).collect();
        peers.iter().for_each(|peer| assert_eq!(peer.ask(b"in"), b"in"));
        let fourth = Peer::connect(&url);
        // Nothing was read from it, so this is an end and not a reset.
        assert_eq!(fourth.to_end(), b"");
        let stats = eventually_stats(&engine, "it is counted", |stats| stats.rejected == 1);
        assert_eq!((stats.accepted, stats.open), (3, 3), "{stats:?}");
        peers.pop();
        eventually_stats(&engine, "one has left", |stats| stats.open == 2);
        let fifth = Peer::connect(&url);
        assert_eq!(fifth.ask(b"in"), b"in");
        peers.iter().for_each(|peer| assert_eq!(peer.ask(b"still in"), b"still in"));
        drop((peers, fourth, fifth));
        let stats = finish(engine);
        assert_eq!((stats.accepted, stats.rejected), (4, 1), "{stats:?}");
    });
}

/// An address without a host is every address of the machine, of both families.
#[test]
fn both_families_on_one_listener() {
    isolated(|| {
        let (engine, url) = serve("tcp://:0", "");
        let port = port_of(&url);
        assert_ne!(port, 0);
        assert_answers(&format!("tcp://127.0.0.1:{port}"));
        assert_answers(&format!("tcp://127.0.0.9:{port}"));
        if has_ipv6() {
            assert_answers(&format!("tcp://[::1]:{port}"));
            let six = engine.listen("tcp://[::]:0").unwrap();
            let six = engine.listener(six).unwrap();
            assert!(six.effective.contains(&("v6only".into(), "1".into())), "{:?}", six.effective);
            assert_answers(&six.url.replace("[::]", "[::1]"));
        } else {
            skipped("IPv6: this machine has no [::1]");
        }
        finish(engine);
    });
}

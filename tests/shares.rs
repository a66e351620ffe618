//! Shares: what one peer, plugin or network does to the others, and to the log.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::{Duration, Instant};

use common::*;
use resay::{Backend, CloseReason, Engine, EventKind, LogLevel};

/// Lines of a kind that an operator sees without asking for more.
fn loud(log: &Log, kind: EventKind) -> Vec<String> {
    log.lines(kind).into_iter().filter(|(level, _)| *level < LogLevel::Debug).map(|(_, text)| text).collect()
}

/// Whatever a peer sends: one line, and the others where somebody asks for them.
#[test]
fn messages_that_fail_are_logged_once() {
    isolated(|| {
        for transport in Transport::all() {
            let (log, directory) = (Log::default(), directory());
            let builder = log.builder().listen(&transport.url(directory.path())).unwrap();
            let engine = builder.chain("hex:mode=decode").unwrap().start().unwrap();
            for _ in 0..20 {
                Peer::connect(&engine.urls()[0]).send(b"!!");
            }
            eventually_stats(&engine, "all have failed", |stats| stats.transform_errors == 20);
            eventually("all lines are there", || match log.lines(EventKind::TransformFailed).len() {
                20 => Ok(()),
                lines => Err(lines.to_string()),
            });
            let loud_lines = loud(&log, EventKind::TransformFailed);
            assert_eq!(loud_lines.len(), 1, "{transport:?}: {loud_lines:?}");
            finish(engine);
            let closed = loud(&log, EventKind::ListenerClosed);
            assert!(closed[0].contains("closed (19 more at debug level)"), "{transport:?}: {closed:?}");
        }
    });
}

/// Connections that are turned away are one line for each reason.
#[test]
fn connections_that_are_rejected_are_logged_once() {
    isolated(|| {
        for transport in Transport::connected() {
            let (log, directory) = (Log::default(), directory());
            let url = format!("{}{}", transport.url(directory.path()), "?max_connections=2&max_per_peer=1");
            let builder = log.builder().listen(&url).unwrap();
            let engine = builder.chain("identity").unwrap().start().unwrap();
            let url = &engine.urls()[0];
            let first = Peer::connect(url);
            assert_eq!(first.ask(b"in"), b"in");
            let others: Vec<_> = (0..10).map(|_| Peer::connect(url)).collect();
            eventually_stats(&engine, "all are rejected", |stats| stats.rejected == 10);
            eventually("all lines are there", || match log.lines(EventKind::Rejected).len() {
                10 => Ok(()),
                lines => Err(lines.to_string()),
            });
            let lines = loud(&log, EventKind::Rejected);
            assert_eq!(lines.len(), 1, "{transport:?}: {lines:?}");
            assert!(lines[0].contains("max_per_peer=1"), "{transport:?}: {lines:?}");
            drop((first, others));
            finish(engine);
        }
    });
}

/// An accept that fails for good, with an error that is commonly of one connection, does not turn a worker in circles. Only
/// epoll calls accept(2); what io_uring reports takes the same way in the worker.
#[test]
fn an_accept_that_always_fails_rests() {
    isolated(|| {
        let log = Log::default();
        let builder = log.builder().backend(Backend::Epoll).listen("tcp://127.0.0.1:0").unwrap();
        let builder = builder.chain("identity").unwrap();
        refuse_call(libc::SYS_accept4, None, libc::EPERM);
        let engine = builder.start().unwrap();
        let waiting = Peer::connect(&engine.urls()[0]);
        eventually("it rests", || {
            let lines = loud(&log, EventKind::AcceptFailed);
            if lines.iter().any(|line| line.contains("trying again")) {
                Ok(())
            } else {
                Err(format!("{lines:?}"))
            }
        });
        let (begin, before) = (Instant::now(), engine.stats().accept_errors);
        let stats = eventually_stats(&engine, "it tries again", |stats| stats.accept_errors >= before + 3);
        let tries = u128::from(stats.accept_errors - before);
        assert!(tries <= begin.elapsed().as_millis() / 100 + 2, "{tries} in {:?}", begin.elapsed());
        drop(waiting);
        finish(engine);
    });
}

/// What is sent to a group is not answered: a socket that could get nothing else is not opened.
#[test]
fn group_addresses_are_refused() {
    isolated(|| {
        let (engine, url) = serve("udp://127.0.0.1:0", "identity");
        let mut groups = vec!["udp://224.0.0.1:0", "udp://255.255.255.255:0", "udp://127.255.255.255:0"];
        groups.extend(has_ipv6().then_some("udp://[ff0e::1]:0"));
        for group in groups {
            let error = engine.listen(group).unwrap_err().to_string();
            assert!(error.contains("broadcast or multicast"), "{group}: {error}");
        }
        // Adopted ones as well.
        let socket = std::net::UdpSocket::bind("127.255.255.255:0").unwrap();
        let error = engine.listen_socket(socket.into(), "").unwrap_err().to_string();
        assert!(error.contains("broadcast or multicast"), "{error}");
        assert_answers(&url);
        finish(engine);
    });
}

/// The address that means all hosts of one network here.
#[test]
fn the_broadcast_address_of_a_network_is_refused() {
    isolated(|| {
        let network = own_network(&[
            "link set lo up",
            "link add va1 type dummy",
            "addr add 10.99.0.1/24 brd 10.99.0.255 dev va1",
            "link set va1 up",
        ]);
        if let Err(why) = network {
            return skipped(&format!("a network of its own: {why}"));
        }
        let (engine, _) = serve("udp://10.99.0.1:0", "identity");
        let error = engine.listen("udp://10.99.0.255:0").unwrap_err();
        assert!(error.to_string().contains("broadcast or multicast"), "{error}");
        finish(engine);
    });
}

/// A link that goes down is noticed in seconds: while nothing is on the way, and while an answer is.
#[test]
fn keepalive_notices_a_dead_link_in_seconds() {
    isolated(|| {
        if let Err(why) = own_network(&["link set lo up"]) {
            return skipped(&format!("a network of its own: {why}"));
        }
        let url = "tcp://127.0.0.1:0?keepalive=1s&write_timeout=1s";
        let (engine, url) = serve(url, "delay:time=300ms");
        let peers = [Peer::connect(&url), Peer::connect(&url)];
        peers.iter().for_each(|peer| assert_eq!(peer.ask(b"here"), b"here"));
        peers[1].send(b"on the way");
        eventually_stats(&engine, "it has come", |stats| stats.messages_in == 3);
        let begin = Instant::now();
        ip("link set lo down").unwrap();
        let stats = eventually_stats(&engine, "both are noticed", |stats| stats.closed == 2);
        assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
        assert_eq!(stats.closed_by(CloseReason::PeerReset), 2, "{stats:?}");
        drop(peers);
        let _: Engine = engine;
    });
}

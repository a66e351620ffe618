//! Connections that end, or that are ended.

use std::thread;
use std::time::{Duration, Instant};

use crate::common::*;
use crate::{ANY_PORT, figures, order, server};
use resay::{CloseReason, DropReason};

/// The server ends a connection while the peer is still sending. A plain close would turn the unread input into
/// a reset, and the reset would take the answers with it: all of them arrive, and then the end.
#[test]
fn ending_a_connection_loses_no_answer() {
    isolated(|| {
        let (engine, url) = serve(&format!("{ANY_PORT}?frame=lines&max_message=1k"), "uppercase");
        let lines = "all of this is answered\n".repeat(100_000);
        let peer = Peer::connect(&url);
        let answer = thread::scope(|scope| {
            scope.spawn(|| {
                peer.send(lines.as_bytes());
                // Longer than a message may be: the connection ends here, and the rest of it is unwanted.
                peer.send(&vec![b'x'; 3 << 20]);
            });
            peer.to_end()
        });
        assert_same("the answers", lines.to_uppercase().as_bytes(), &answer);
        drop(peer);
        let stats = eventually_stats(&engine, "closed", |stats| stats.open == 0);
        assert_eq!(stats.closed_by(CloseReason::MessageTooLong), 1, "{stats:?}");
        assert_eq!(stats.dropped_by(DropReason::TooLong), 1, "{stats:?}");
        finish(engine);
    });
}

/// A peer that goes on sending after the server's end, and never ends itself, is not kept for ever.
#[test]
fn a_peer_that_never_ends_is_let_go() {
    isolated(|| {
        let (engine, url) = serve(&format!("{ANY_PORT}?frame=lines&max_message=16"), "");
        let peer = Peer::connect(&url);
        peer.send(&[b'x'; 100]);
        assert_eq!(peer.to_end(), b"");
        eventually("the connection is closed while the peer holds on to it", || {
            // It may fail as soon as it is closed.
            let _ = peer.try_send(b"and another thing");
            let stats = engine.stats();
            if stats.open == 0 { Ok(()) } else { Err(format!("{stats:?}")) }
        });
        finish(engine);
    });
}

/// SIGPIPE has its default action, which ends a process that writes to a dead peer with write(2): the server
/// survives any number of such peers.
#[test]
fn dead_peers_and_the_default_action_of_sigpipe() {
    isolated(|| {
        if let Some(role) = role() {
            // SAFETY: the default action is no handler.
            unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
            return server(&role, "", false);
        }
        let directory = directory();
        for url in [ANY_PORT.to_owned(), Transport::UnixStream.url(directory.path())] {
            let mut helper = Helper::start(&url);
            let url = helper.hear();
            // Dead before the server has read a byte: its first send already goes nowhere.
            for _ in 0..20 {
                Peer::connect(&url).send(&noise(50_000, 1));
            }
            order(&mut helper, "start");
            assert_answers(&url);
            for _ in 0..200 {
                let peer = Peer::connect(&url);
                peer.ask(b"x");
                peer.send(&noise(20_000, 2));
                peer.send(&noise(20_000, 3));
                drop(peer);
            }
            assert_answers(&url);
            let (accepted, _) = figures(&mut helper);
            assert_eq!(accepted, 222, "{url}");
            helper.finish();
        }
    });
}

/// Who waits for an answer that a transform holds back for longer than `idle_timeout` is not silent: its time begins when
/// the answer has left.
#[test]
fn waiting_for_an_answer_is_no_silence() {
    isolated(|| {
        let (engine, url) = serve(&format!("{ANY_PORT}?idle_timeout=300ms"), "delay:time=700ms");
        let peer = Peer::connect(&url);
        for _ in 0..2 {
            assert_eq!(peer.ask(b"late"), b"late");
            assert!(!peer.has_something(), "it is not ended with its answer");
        }
        assert_eq!(peer.to_end(), b"", "and ended later");
        drop(peer);
        let stats = finish(engine);
        assert_eq!(stats.closed_by(CloseReason::IdleTimeout), 1, "{stats:?}");
    });
}

/// A connection that says nothing for `idle_timeout` is ended in good order; one that speaks is not.
#[test]
fn silent_connections_are_ended() {
    isolated(|| {
        let (engine, url) = serve(&format!("{ANY_PORT}?idle_timeout=1500ms"), "");
        let (speaker, half) = (Peer::connect(&url), Peer::connect(&url));
        half.ask(b"said something once");
        let silent = Peer::connect(&url);
        let began = Instant::now();
        eventually("the silent ones are ended", || {
            speaker.ask(b"and still I speak");
            if silent.has_something() && half.has_something() { Ok(()) } else { Err("not yet".into()) }
        });
        assert!(began.elapsed() >= Duration::from_millis(1400), "too early: {:?}", began.elapsed());
        assert_eq!(silent.to_end(), b"", "an end, not a reset");
        assert_eq!(half.to_end(), b"", "an end, not a reset");
        assert_eq!(speaker.ask(b"am I here?"), b"am I here?");
        drop((silent, half));
        eventually_stats(&engine, "both are counted", |stats| stats.closed_by(CloseReason::IdleTimeout) == 2);
        drop(speaker);
        finish(engine);
    });
}

/// Who has sent something that we have not read, because answers of ours are held back, is not silent.
#[test]
fn what_was_not_read_is_no_silence() {
    isolated(|| {
        let options = "frame=lines&idle_timeout=200ms&high_water=8k";
        let (engine, url) = serve(&format!("{ANY_PORT}?{options}"), "delay:time=1s");
        let peer = Peer::connect(&url);
        let line = [vec![b'x'; 99], b"\n".to_vec()].concat();
        let data = line.repeat(150);
        assert_same("all of it", &data, &exchange(&peer, &data, data.len()));
        drop(peer);
        finish(engine);
    });
}

/// A peer that reads nothing resets its connection: what the kernel had not taken of its answers is not delivered.
#[test]
fn what_a_reset_leaves_with_the_engine_is_not_delivered() {
    isolated(|| {
        const SENT: u64 = 400_000;
        let (engine, url) = serve(&format!("{ANY_PORT}?frame=len32be&sndbuf=16k&high_water=1m"), "");
        for round in 1..=5 {
            let peer = Peer::connect_with(&url, |socket| socket.set_recv_buffer_size(16 * 1024)).unwrap();
            peer.send(&[&(SENT as u32 - 4).to_be_bytes()[..], &noise(SENT as usize - 4, round)].concat());
            eventually_stats(&engine, "all is read", |stats| stats.bytes_in == round * SENT);
            peer.reset();
            eventually_stats(&engine, "it is closed", |stats| {
                stats.closed_by(CloseReason::PeerReset) == round
            });
        }
        let stats = finish(engine);
        // The kernel doubles what it is asked for, on both sides.
        assert!(stats.bytes_out < 5 * 200_000, "buffers of 16 KiB took it: {stats:?}");
        assert_eq!(stats.messages_out, 0, "{stats:?}");
    });
}

//! TCP: what the kernel and the peers do to a server, provoked with real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs::File;
use std::io::Write;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::*;
use resay::{Backend, CloseReason, DropReason, Engine, EventKind, LogLevel};

const ANY_PORT: &str = "tcp://127.0.0.1:0";

/// A server in a process of its own. It says its URL, answers `start`, `limit N` (descriptors: at most N
/// connections), `figures` and `shortages`, and ends with its input.
fn server(url: &str, chain: &str, start_at_once: bool) {
    let log = Log::default();
    server_of(&log, log.builder().listen(url).unwrap().chain(chain).unwrap().build().unwrap(), start_at_once);
}

fn server_of(log: &Log, engine: Engine, start_at_once: bool) {
    if start_at_once {
        engine.start().unwrap();
    }
    // Limits are about numbers, which are only those of connections when no smaller one is free.
    let numbers =
        descriptors().into_iter().map(|text| text.split(' ').next().unwrap().parse::<i32>().unwrap());
    let last = numbers.max().unwrap();
    let openings = std::iter::repeat_with(|| File::open("/dev/null").unwrap());
    let _fillers: Vec<_> = openings.take_while(|file| file.as_raw_fd() < last).collect();
    let without_connections = last as u64 + 1;
    say(engine.urls().first().map_or("nowhere yet", String::as_str));
    while let Some(line) = told() {
        let mut words = line.split(' ');
        match (words.next().unwrap(), words.next()) {
            ("start", None) => engine.start().unwrap(),
            ("limit", Some(more)) => {
                set_descriptor_limit(without_connections + more.parse::<u64>().unwrap());
            }
            ("listen", Some(url)) => {
                let id = engine.listen(url).unwrap();
                say(&engine.listener(id).unwrap().url);
                continue;
            }
            ("figures", None) => {
                let stats = engine.stats();
                say(&format!("{} {}", stats.accepted, stats.accept_errors));
                continue;
            }
            ("shortages", None) => {
                let lines = log.lines(EventKind::AcceptFailed);
                say(&lines.iter().filter(|(level, _)| *level == LogLevel::Warn).count().to_string());
                continue;
            }
            other => panic!("{other:?}"),
        }
        say("done");
    }
    finish(engine);
}

fn order(helper: &mut Helper, line: &str) -> String {
    helper.tell(line);
    helper.hear()
}

fn figures(helper: &mut Helper) -> (u64, u64) {
    let line = order(helper, "figures");
    let (accepted, errors) = line.split_once(' ').unwrap();
    (accepted.parse().unwrap(), errors.parse().unwrap())
}

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

/// Urgent bytes are a part of the stream: they come back in their place.
#[test]
fn urgent_bytes_are_echoed() {
    isolated(|| {
        let directory = directory();
        for url in [ANY_PORT.to_owned(), Transport::UnixStream.url(directory.path())] {
            let (engine, url) = serve(&url, "");
            let peer = Peer::connect(&url);
            for round in 0..10 {
                assert_eq!(peer.ask(b"before"), b"before", "{url} {round}");
                match send_flags(&peer, b"!", libc::MSG_OOB) {
                    Ok(n) => assert_eq!(n, 1),
                    Err(error) => return skipped(&format!("urgent bytes on {url}: {error}")),
                }
                peer.send(b"after");
                assert_eq!(peer.exactly(6), b"!after", "{url} {round}");
            }
            drop(peer);
            finish(engine);
        }
    });
}

/// Urgent bytes with others on both sides, all of it there before the server reads: the kernel hands out the bytes
/// before the mark and the rest in two reads, so the first one is short although more is there.
fn urgent_bytes_among_others(url: &str) {
    let engine = engine_builder().listen(url).unwrap().build().unwrap();
    let url = engine.urls().remove(0);
    let peer = Peer::connect(&url);
    peer.send(b"before");
    match send_flags(&peer, b"!", libc::MSG_OOB) {
        Ok(n) => assert_eq!(n, 1),
        Err(error) => return skipped(&format!("urgent bytes on {url}: {error}")),
    }
    peer.send(b"after");
    engine.start().unwrap();
    assert_eq!(peer.exactly(12), b"before!after", "{url}");
    drop(peer);
    finish(engine);
}

#[test]
fn urgent_bytes_that_arrived_with_others_are_echoed() {
    isolated(|| urgent_bytes_among_others(ANY_PORT));
}

#[test]
fn urgent_bytes_that_arrived_with_others_are_echoed_on_unix_too() {
    isolated(|| {
        let directory = directory();
        urgent_bytes_among_others(&Transport::UnixStream.url(directory.path()));
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

/// Peers that never read: the server stops reading from them at the high water, its memory stays flat, and
/// when they have taken nothing for `write_timeout`, it lets them go.
#[test]
fn slow_readers_are_bounded_and_closed() {
    isolated(|| {
        const PEERS: u64 = 40;
        const HIGH_WATER: u64 = 256 * 1024;
        let (engine, url) = serve(&format!("{ANY_PORT}?high_water=256k&write_timeout=4s&sndbuf=64k"), "");
        assert_answers(&url);
        let status = "/proc/self/status";
        let before = memory_figure(status, "VmRSS");
        let data = noise(64 * 1024, 7);
        let peers: Vec<_> = (0..PEERS)
            .map(|_| {
                let peer = Peer::connect_with(&url, |socket| socket.set_recv_buffer_size(16 * 1024)).unwrap();
                peer.socket.set_nonblocking(true).unwrap();
                peer
            })
            .collect();
        // Until nobody takes anything any more: several rounds without a byte, with the server idle meanwhile.
        let (mut sent, mut quiet) = (0_u64, Instant::now());
        while quiet.elapsed() < Duration::from_millis(500) {
            for peer in &peers {
                while let Ok(n) = peer.socket.send_with_flags(&data, libc::MSG_NOSIGNAL) {
                    (sent, quiet) = (sent + n as u64, Instant::now());
                }
            }
            assert!(sent < PEERS * (32 << 20), "the server reads on without end: {sent} bytes");
        }
        let stats = engine.stats();
        assert!(stats.bytes_in > PEERS * HIGH_WATER / 4, "they were read for a while: {stats:?}");
        assert!(stats.bytes_in < sent, "and then no more: {stats:?} of {sent}");
        let waiting = stats.bytes_in - stats.bytes_out;
        assert!(waiting <= PEERS * HIGH_WATER, "{waiting} bytes wait, over the high water: {stats:?}");
        let grown = memory_figure(status, "VmRSS").saturating_sub(before);
        // With io_uring a read may be on its way when the last answer did not fit any more.
        let on_the_way = if engine.backend() == Backend::Uring { PEERS * (64 << 10) } else { 0 };
        // The worker keeps up to 64 buffers of up to 256 KiB for reuse, and an allocator has gaps.
        let kept = 24 << 20;
        assert!(
            grown <= PEERS * HIGH_WATER + on_the_way + kept,
            "{grown} bytes more for {waiting} that wait"
        );
        // The others are served all the time.
        assert_answers(&url);
        let stats = eventually_stats(&engine, "they are closed", |stats| {
            stats.closed_by(CloseReason::WriteTimeout) == PEERS
        });
        assert!(stats.undelivered_bytes > 0, "what was not delivered is counted: {stats:?}");
        assert_answers(&url);
        drop(peers);
        let stats = finish(engine);
        assert_eq!(stats.bytes_in, stats.bytes_out + stats.undelivered_bytes, "{stats:?}");
    });
}

/// A reader that is slow but reads is no dead one: however long it takes, `write_timeout` does not hit it.
#[test]
fn a_slow_reader_that_reads_is_kept() {
    isolated(|| {
        let (engine, url) = serve(&format!("{ANY_PORT}?write_timeout=1s&high_water=64k&sndbuf=16k"), "");
        let peer = Peer::connect_with(&url, |socket| socket.set_recv_buffer_size(4096)).unwrap();
        let data = noise(200_000, 5);
        let answer = thread::scope(|scope| {
            scope.spawn(|| {
                peer.send(&data);
                peer.half_close();
            });
            let mut answer = Vec::new();
            let began = Instant::now();
            loop {
                // A few bytes at a time, for longer than the timeout in all.
                let part = peer.try_recv(2500).unwrap();
                if part.is_empty() {
                    break;
                }
                answer.extend(part);
                if began.elapsed() < Duration::from_secs(3) {
                    pace(Duration::from_millis(40));
                }
            }
            answer
        });
        assert_same("all of it", &data, &answer);
        let stats = finish(engine);
        assert_eq!(stats.closed_by(CloseReason::WriteTimeout), 0, "{stats:?}");
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

/// Tiny kernel buffers on both sides make almost every send a partial one: the order stays.
#[test]
fn partial_sends_keep_the_order() {
    isolated(|| {
        for chain in ["", "uppercase", "uppercase:unicode=1"] {
            let (engine, url) = serve(&format!("{ANY_PORT}?sndbuf=4k&rcvbuf=4k&high_water=16k"), chain);
            let peer = Peer::connect_with(&url, |socket| {
                socket.set_recv_buffer_size(2048)?;
                socket.set_send_buffer_size(2048)
            })
            .unwrap();
            let data: Vec<u8> = noise(400_000, 9).iter().map(|byte| b'A' + byte % 26).collect();
            assert_same(chain, &data, &exchange(&peer, &data, data.len()));
            finish(engine);
        }
    });
}

/// One message in its frame.
fn framed(frame: &str, message: &str) -> Vec<u8> {
    let (bytes, count) = (message.as_bytes(), message.len());
    let head = match frame {
        "len8" => vec![count as u8],
        "len16be" => (count as u16).to_be_bytes().to_vec(),
        "len16le" => (count as u16).to_le_bytes().to_vec(),
        "len32be" => (count as u32).to_be_bytes().to_vec(),
        "len32le" => (count as u32).to_le_bytes().to_vec(),
        "varint" if count < 0x80 => vec![count as u8],
        "varint" => vec![0x80 | count as u8, (count >> 7) as u8],
        _ => Vec::new(),
    };
    let end = match frame {
        "lines" => "\n",
        "delim:0d0a2e" => "\r\n.",
        _ => "",
    };
    [&head, bytes, end.as_bytes()].concat()
}

/// Input that is split at any byte is answered as if it had come whole, in every framing.
#[test]
fn split_at_every_byte() {
    isolated(|| {
        let texts: &[&str] = &["one", "", "", "größe ŉ", "\r", "x"];
        let long = "ß".repeat(70);
        for (frame, messages) in [
            ("raw", texts),
            ("lines", &["one", "two\r", "", "größe ŉ", "x"]),
            ("delim:0d0a2e", &["one", "", "größe\r\nŉ", "\r\n", "x"]),
            ("len8", texts),
            ("len16be", texts),
            ("len16le", texts),
            ("len32be", texts),
            ("len32le", texts),
            ("varint", &["one", "", &long, "ŉ"]),
            ("fixed:4", &["abcd", "\0\r\nx", "wxyz"]),
        ] {
            let input: Vec<u8> = messages.iter().flat_map(|message| framed(frame, message)).collect();
            for chain in ["identity", "uppercase:unicode=1", "identity | uppercase:unicode=1 | uppercase"] {
                let expected: Vec<u8> = messages
                    .iter()
                    .map(
                        |message| {
                            if chain == "identity" { (*message).to_owned() } else { message.to_uppercase() }
                        },
                    )
                    .flat_map(|message| framed(frame, &message))
                    .collect();
                let (engine, url) = serve(&format!("{ANY_PORT}?frame={frame}"), chain);
                let mut read = 0;
                // The second part is only sent when the server has read the first.
                let mut send_and_wait = |peer: &Peer, part: &[u8]| {
                    peer.send(part);
                    read += part.len() as u64;
                    eventually_stats(&engine, "the part is read", |stats| stats.bytes_in == read);
                };
                for at in 0..=input.len() {
                    let peer = Peer::connect(&url);
                    let (first, second) = input.split_at(at);
                    for part in [first, second] {
                        if !part.is_empty() {
                            send_and_wait(&peer, part);
                        }
                    }
                    peer.half_close();
                    let answer = peer.to_end();
                    let (answer, expected) = (answer.escape_ascii(), expected.escape_ascii());
                    assert_eq!(
                        answer.to_string(),
                        expected.to_string(),
                        "frame={frame}, {chain}, split at {at}"
                    );
                }
                let peer = Peer::connect(&url);
                for byte in input.chunks(1) {
                    send_and_wait(&peer, byte);
                }
                peer.half_close();
                assert_same(&format!("frame={frame}, {chain}, byte by byte"), &expected, &peer.to_end());
                drop(peer);
                let stats = finish(engine);
                if frame != "raw" {
                    // Each split and the last peer brought all messages, whatever the pieces.
                    let count = (messages.len() * (input.len() + 2)) as u64;
                    assert_eq!((stats.messages_in, stats.messages_out), (count, count), "{frame} {chain}");
                }
            }
        }
        // The last line may lack its end; so may the last bytes of a raw stream be half a character.
        for (frame, input, expected) in
            [("lines", &b"one\nnot finished"[..], &b"ONE\nNOT FINISHED"[..]), ("raw", b"caf\xc3", b"CAF\xc3")]
        {
            let (engine, url) = serve(&format!("{ANY_PORT}?frame={frame}"), "uppercase:unicode=1");
            for at in 0..=input.len() {
                let peer = Peer::connect(&url);
                let (first, second) = input.split_at(at);
                peer.send(first);
                // Each round before this one has brought all of the input.
                let read = (at * input.len() + first.len()) as u64;
                eventually_stats(&engine, "the part is read", |stats| stats.bytes_in == read);
                peer.send(second);
                peer.half_close();
                assert_eq!(peer.to_end(), expected, "frame={frame}, split at {at}");
            }
            finish(engine);
        }
    });
}

/// Lines up to the limit are answered, also where they arrive in many reads; one byte more ends the connection,
/// after the answers to what came before.
#[test]
fn lines_up_to_the_limit() {
    isolated(|| {
        let (engine, url) = serve(&format!("{ANY_PORT}?frame=lines&max_message=300k"), "uppercase:unicode=1");
        let peer = Peer::connect(&url);
        let mut line = vec![b'x'; 300 * 1024 - 1];
        line.push(b'\n');
        for _ in 0..3 {
            assert_same("a line", &line.to_ascii_uppercase(), &exchange(&peer, &line, line.len()));
        }
        peer.send(b"short\n");
        peer.send(&vec![b'y'; 300 * 1024 + 10]);
        assert_eq!(peer.to_end(), b"SHORT\n");
        let stats = finish(engine);
        assert_eq!(stats.closed_by(CloseReason::MessageTooLong), 1, "{stats:?}");
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

/// One peer sends and reads as fast as it can, a hundred others now and then: all of them are answered while
/// it runs.
#[test]
fn a_firehose_and_a_hundred_quiet_peers() {
    isolated(|| {
        let (engine, url) = serve(ANY_PORT, "");
        let over = AtomicBool::new(false);
        let hose = Peer::connect(&url);
        let received = AtomicU64::new(0);
        thread::scope(|scope| {
            scope.spawn(|| {
                let data = noise(1 << 20, 11);
                while !over.load(Ordering::Relaxed) {
                    hose.send(&data);
                }
                hose.half_close();
            });
            scope.spawn(|| {
                loop {
                    match hose.try_recv(1 << 20).unwrap().len() as u64 {
                        0 => break,
                        n => received.fetch_add(n, Ordering::Relaxed),
                    };
                }
            });
            let peers: Vec<_> = (0..100).map(|_| Peer::connect(&url)).collect();
            eventually("the firehose runs", || match received.load(Ordering::Relaxed) {
                0 => Err("nothing yet".into()),
                _ => Ok(()),
            });
            let before = received.load(Ordering::Relaxed);
            for round in 0..10 {
                for (number, peer) in peers.iter().enumerate() {
                    let text = format!("quiet {number} {round}");
                    assert_eq!(peer.ask(text.as_bytes()), text.as_bytes());
                }
            }
            assert!(received.load(Ordering::Relaxed) > before, "it ran all the time");
            over.store(true, Ordering::Relaxed);
        });
        drop(hose);
        let stats = finish(engine);
        assert_eq!(stats.bytes_out, stats.bytes_in, "{stats:?}");
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

/// Small answers leave at once: a request in several small writes is not held up by the peer's delayed
/// acknowledgements.
#[test]
fn pipelined_lines_come_back_in_order() {
    isolated(|| {
        let (engine, url) = serve(&format!("{ANY_PORT}?frame=lines"), "uppercase");
        let mut stream = TcpStream::connect(url.trim_start_matches("tcp://")).unwrap();
        stream.set_nodelay(true).unwrap();
        let peer = Peer::of(stream.try_clone().unwrap().into()).unwrap();
        let expected: String = (0..2000).map(|number| format!("LINE {number}\n")).collect();
        let answer = thread::scope(|scope| {
            scope.spawn(|| {
                for number in 0..2000 {
                    stream.write_all(format!("line {number}\n").as_bytes()).unwrap();
                }
            });
            peer.exactly(expected.len())
        });
        assert_same("2000 lines", expected.as_bytes(), &answer);
        drop(peer);
        drop(stream);
        let stats = finish(engine);
        assert_eq!((stats.messages_in, stats.messages_out), (2000, 2000), "{stats:?}");
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

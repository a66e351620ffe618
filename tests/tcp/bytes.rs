//! What goes over a connection: urgent bytes, messages, and readers that are slow.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::ANY_PORT;
use crate::common::*;
use resay::{Backend, CloseReason, DropReason, Message, Output, Transform, Verdict};

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

/// A message whose answer does not fit into its frame ends the connection. Those before it have their answers, in whatever
/// way they were answered.
#[test]
fn an_answer_that_is_too_long_for_its_frame_takes_no_other_along() {
    isolated(|| {
        let grows = |message: &Message<'_>, out: &mut Output<'_>| match &**message {
            b"long" if out.write(&[b'x'; 256]) => Verdict::Replace,
            b"new" if out.write(b"made") => Verdict::Replace,
            _ => Verdict::Pass,
        };
        for (chain, first) in [("grows", "one"), ("grows", "new"), ("grows | prefix:text=a", "one")] {
            let grows = Transform::from_fn("grows", grows).unwrap();
            let builder = engine_builder().register(grows).listen("tcp://127.0.0.1:0?frame=len8").unwrap();
            let engine = builder.chain(chain).unwrap().start().unwrap();
            let peer = Peer::connect(&engine.urls()[0]);
            let framed = |text: &str| [&[text.len() as u8][..], text.as_bytes()].concat();
            peer.send(&[framed(first), framed("two"), framed("long"), framed("three")].concat());
            let first = if first == "new" { "made" } else { first };
            let before = if chain.contains("prefix") { "a" } else { "" };
            let answers = [first, "two"].map(|answer| framed(&format!("{before}{answer}"))).concat();
            assert_same(chain, &answers, &peer.to_end());
            drop(peer);
            let stats = finish(engine);
            assert_eq!((stats.messages_out, stats.dropped), (2, 1), "{chain} {stats:?}");
            assert_eq!(stats.dropped_by(DropReason::TransformFailed), 1, "{chain} {stats:?}");
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

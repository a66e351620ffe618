//! Answers that leave later, and greetings: what `delay_us` and `RESAY_CAP_GREETS` promise.
//!
//! Times have lower bounds only, on the monotonic clock: a slow machine fails nothing. That something leaves apart
//! from something else is shown by holding the other thing for an hour.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::plugin::*;
use common::*;
use resay::{CloseReason, DropReason, Engine, Stats};
use tempfile::TempDir;

/// Transforms that the messages themselves tell what to do.
///
/// A message's delay is its first letters: a number of milliseconds, `h` an hour, `x` for ever, else none.
const CODE: &str = r#"
#include <resay_plugin.h>
#include <string.h>
#include <time.h>

static uint64_t delay_of(const uint8_t *in, size_t len) {
  uint64_t ms = 0;
  if (len > 0 && in[0] == 'h') return 3600000000u;
  if (len > 0 && in[0] == 'x') return UINT64_MAX;
  for (size_t i = 0; i < len && in[i] >= '0' && in[i] <= '9'; i++) ms = ms * 10 + in[i] - '0';
  return ms * 1000;
}
static resay_status take(resay_io *io, size_t n) {
  if (n > io->out_cap) n = io->out_cap;
  if (n > 0) memcpy(io->out, io->in, n);
  io->in_used = io->out_len = n;
  return n < io->in_len ? RESAY_MORE_OUT : RESAY_OK;
}
#define PROCESS(name) static resay_status name##_process(void *instance, void *session, resay_io *io)
#define TABLE(name, ...) \
  static const resay_transform name = { .struct_size = sizeof name, .id = #name, .process = name##_process, \
    __VA_ARGS__ };
#define PLAIN (void)instance, (void)session
#define IS_GREETING (io->flags == 0 && io->in_len == 0)

/* The whole message waits. */
PROCESS(hold) {
  PLAIN;
  io->delay_us = delay_of(io->in, io->in_len);
  return take(io, io->in_len);
}
TABLE(hold, .out_mul = 1, .out_div = 1)

/* Every four bytes are a piece with a delay of its own. */
PROCESS(drip) {
  PLAIN;
  io->delay_us = delay_of(io->in, io->in_len < 4 ? io->in_len : 4);
  return take(io, io->in_len < 4 ? io->in_len : 4);
}
TABLE(drip, .caps = 0)

/* An answer without bytes, delayed. */
PROCESS(hush) {
  PLAIN;
  io->in_used = io->in_len;
  io->delay_us = delay_of(io->in, io->in_len);
  return RESAY_OK;
}
TABLE(hush, .caps = 0)

/* Works for 80 ms, then wants the answer to wait for as long as the message says. */
PROCESS(work) {
  struct timespec start, now;
  PLAIN;
  clock_gettime(CLOCK_MONOTONIC, &start);
  do clock_gettime(CLOCK_MONOTONIC, &now);
  while ((now.tv_sec - start.tv_sec) * 1000000000L + now.tv_nsec - start.tv_nsec < 80000000L);
  io->delay_us = delay_of(io->in, io->in_len);
  return take(io, io->in_len);
}
TABLE(work, .caps = 0)

/* Greets with a text, and answers it with a status. */
#define GREETER(name, text, delay, status) \
  PROCESS(name) { \
    PLAIN; \
    if (!IS_GREETING) return take(io, io->in_len); \
    memcpy(io->out, text, sizeof text - 1); \
    io->out_len = sizeof text - 1; \
    io->delay_us = delay; \
    return status; \
  } \
  TABLE(name, .caps = RESAY_CAP_GREETS)
GREETER(hello, "hello", 0, RESAY_OK)
GREETER(welcome, "welcome", 0, RESAY_OK)
GREETER(slow, "slow", 100000, RESAY_OK)
GREETER(closing, "farewell", 0, RESAY_CLOSE)
GREETER(silent, "nobody hears this", 0, RESAY_DROP)
GREETER(resetting, "nobody hears this", 0, RESAY_RESET)
GREETER(failing, "nobody hears this", 0, RESAY_E_DATA)

/* A greeting that is longer than what is lent for it. */
PROCESS(lengthy) {
  size_t *said = session;
  (void)instance;
  if (io->in_len > 0 || (io->flags & RESAY_IO_EOF)) return take(io, io->in_len);
  for (; *said < 3000 && io->out_len < io->out_cap; ++*said) io->out[io->out_len++] = 'a' + *said % 26;
  return *said < 3000 ? RESAY_MORE_OUT : RESAY_OK;
}
TABLE(lengthy, .caps = RESAY_CAP_GREETS, .session_size = sizeof(size_t))

/* Says the flags of each call in front of its message. */
PROCESS(flags) {
  PLAIN;
  if (io->in_len == 0) return RESAY_OK;
  io->out[0] = (uint8_t)('0' + io->flags);
  memcpy(io->out + 1, io->in, io->in_len);
  io->in_used = io->in_len;
  io->out_len = io->in_len + 1;
  return RESAY_OK;
}
TABLE(flags, .out_mul = 1, .out_div = 1, .out_add = 1)

RESAY_PLUGIN(&hold, &drip, &hush, &work, &hello, &welcome, &slow, &closing, &silent, &resetting, &failing, &lengthy,
             &flags)
"#;

const FRAMES: [&str; 5] = ["raw", "lines", "len16be", "varint", "delim:0d0a"];

fn frames(transport: Transport) -> &'static [&'static str] {
    if transport.is_stream() { &FRAMES } else { &["raw"] }
}

/// The compiled plugin, in a directory that is also for socket files.
struct Plugin(TempDir);

impl Plugin {
    fn new() -> Option<Plugin> {
        has_compiler().then(|| {
            let directory = directory();
            compile_with(directory.path(), "hold", CODE, &[]);
            Plugin(directory)
        })
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// A chain: `hold | =uppercase` is the plugin's `hold`, then the engine's `uppercase`.
    fn chain(&self, names: &str) -> String {
        let stage = |name: &str| match name.trim().strip_prefix('=') {
            Some(own) => own.to_owned(),
            None => format!("{}#{}", self.path().join("libhold.so").display(), name.trim()),
        };
        names.split('|').map(stage).collect::<Vec<_>>().join(" | ")
    }

    fn serve(&self, transport: Transport, options: &str, names: &str) -> (Engine, String) {
        let url = transport.url(self.path());
        // Only streams are framed.
        let options = if transport.is_stream() { options } else { "" };
        serve(&if options.is_empty() { url } else { format!("{url}?{options}") }, &self.chain(names))
    }
}

/// Fails where less time than that has passed.
#[track_caller]
fn assert_passed(since: Instant, millis: u64, what: &str) {
    let passed = since.elapsed();
    assert!(passed >= Duration::from_millis(millis), "{what}: after {passed:?}, not {millis} ms");
}

/// One answer as the peer of this transport sees it.
#[track_caller]
fn receive(peer: &Peer, transport: Transport, count: usize) -> Vec<u8> {
    if transport.is_stream() { peer.exactly(count) } else { peer.message() }
}

#[track_caller]
fn received(engine: &Engine, messages: u64) -> Stats {
    eventually_stats(engine, "all messages have come", |stats| stats.messages_in >= messages)
}

// ---- Delays.

#[test]
fn an_answer_waits_as_long_as_its_transform_says() {
    isolated(|| {
        let Some(plugin) = Plugin::new() else { return };
        for transport in Transport::all() {
            let (engine, url) = plugin.serve(transport, "", "hold");
            let peer = Peer::connect(&url);
            for (message, millis) in [("60 later", 60), ("at once", 0), ("1", 1), ("250 and later", 250)] {
                let start = Instant::now();
                assert_eq!(peer.ask(message.as_bytes()), message.as_bytes(), "{transport:?}");
                assert_passed(start, millis, message);
            }
            // An empty message on either side of it is no reason to forget one.
            if !transport.is_stream() {
                let start = Instant::now();
                peer.send(b"40 held");
                assert_eq!(peer.message(), b"40 held", "{transport:?}");
                assert_eq!(peer.ask(b""), b"", "{transport:?}");
                assert_passed(start, 40, "held");
            }
            drop(peer);
            finish(engine);
        }
    });
}

/// The delay begins when the answer is there, not when the turn began in which it was asked for.
#[test]
fn a_delay_counts_from_the_answer() {
    isolated(|| {
        let Some(plugin) = Plugin::new() else { return };
        for transport in [Transport::Tcp4, Transport::Seqpacket, Transport::Udp4, Transport::UnixDatagram] {
            let (engine, url) = plugin.serve(transport, "", "work");
            let other = engine.listen("tcp://127.0.0.1:0?chain=identity").unwrap();
            let other = engine.listener(other).unwrap().url;
            let (peer, done) = (Peer::connect(&url), AtomicBool::new(false));
            thread::scope(|scope| {
                // The worker has other things to do, so it looks at its timers often.
                scope.spawn(|| {
                    let witness = Peer::connect(&other);
                    while !done.load(Ordering::Relaxed) {
                        assert_eq!(witness.ask(b"meanwhile"), b"meanwhile");
                    }
                });
                let start = Instant::now();
                let answer = peer.ask(b"70 after the work");
                let passed = start.elapsed();
                done.store(true, Ordering::Relaxed);
                assert_eq!(answer, b"70 after the work", "{transport:?}");
                assert!(passed >= Duration::from_millis(80 + 70), "{transport:?}: {passed:?}");
            });
            drop(peer);
            finish(engine);
        }
    });
}

/// A message that drips: each piece leaves by itself, in order, and none before its time.
#[test]
fn pieces_leave_one_by_one() {
    isolated(|| {
        let Some(plugin) = Plugin::new() else { return };
        for transport in Transport::streams() {
            for frame in FRAMES {
                let (engine, url) = plugin.serve(transport, &format!("frame={frame}"), "drip");
                let what = format!("{transport:?} {frame}");
                let peer = Peer::connect(&url);
                let message = b"10 a60 b150cend";
                let answer = framed(frame, message);
                let body = answer.windows(4).position(|window| window == b"10 a").unwrap();
                let start = Instant::now();
                peer.send(&answer);
                let mut found = Vec::new();
                while found.len() < answer.len() {
                    let more = peer.try_recv(1000).unwrap();
                    assert!(!more.is_empty(), "{what}: {found:?}");
                    found.extend(more);
                    // What has come of the message was due.
                    for (end, millis) in [(0, 10), (4, 60), (8, 150)] {
                        if found.len() > body + end {
                            assert_passed(start, millis, &what);
                        }
                    }
                }
                assert_eq!(found, answer, "{what}");
                eventually_stats(&engine, "it is counted", |stats| stats.messages_out == 1);
                // The next one is not late because the last one was.
                let quick = framed(frame, b"0   quick");
                assert_eq!(peer.ask(&quick), quick, "{what}");
                drop(peer);
                finish(engine);
            }
        }
    });
}

/// The first pieces of a message are with the peer while the last is held for an hour.
#[test]
fn pieces_do_not_wait_for_the_last() {
    isolated(|| {
        let Some(plugin) = Plugin::new() else { return };
        for transport in Transport::streams() {
            for frame in FRAMES {
                let (engine, url) = plugin.serve(transport, &format!("frame={frame}"), "drip");
                let what = format!("{transport:?} {frame}");
                let peer = Peer::connect(&url);
                let (now, later) = (b"1  a20 bnow ", b"h  cend ");
                let answer = framed(frame, &[&now[..], later].concat());
                let body = answer.windows(4).position(|window| window == b"1  a").unwrap();
                peer.send(&answer);
                assert_eq!(peer.exactly(body + now.len()), answer[..body + now.len()], "{what}");
                // Somebody else's whole answer comes meanwhile, and nothing more of this one.
                let quick = framed(frame, b"0   quick");
                assert_eq!(Peer::connect(&url).ask(&quick), quick, "{what}");
                assert!(!peer.has_something(), "{what}");
                let stats = finish(engine);
                assert_eq!(stats.undelivered_bytes as usize, answer.len() - body - now.len(), "{what}");
            }
        }
    });
}

/// An answer of no bytes is an answer where answers are records or datagrams, later as well as now.
#[test]
fn empty_answers_wait_too() {
    isolated(|| {
        let Some(plugin) = Plugin::new() else { return };
        for transport in Transport::all().into_iter().filter(|transport| !transport.is_stream()) {
            let (engine, url) = plugin.serve(transport, "", "hush");
            let peer = Peer::connect(&url);
            assert_eq!(peer.ask(b"now"), b"", "{transport:?}");
            let start = Instant::now();
            assert_eq!(peer.ask(b"50 later"), b"", "{transport:?}");
            assert_passed(start, 50, &format!("{transport:?}"));
            drop(peer);
            finish(engine);
        }
        // Behind something that is held, too.
        let (engine, url) = plugin.serve(Transport::Seqpacket, "", "hold");
        let peer = Peer::connect(&url);
        [&b"60 first"[..], b"", b"third"].into_iter().for_each(|message| peer.send(message));
        assert_eq!(peer.message(), b"60 first");
        assert_eq!(peer.message(), b"");
        assert_eq!(peer.message(), b"third");
        drop(peer);
        finish(engine);
        // And a framed stream frames nothing as nothing.
        for frame in ["lines", "len16be", "varint"] {
            let (engine, url) = plugin.serve(Transport::Tcp4, &format!("frame={frame}"), "hush");
            let peer = Peer::connect(&url);
            let empty = framed(frame, b"");
            peer.send(&[framed(frame, b"50 one"), framed(frame, b"two")].concat());
            assert_eq!(peer.exactly(2 * empty.len()), empty.repeat(2), "{frame}");
            drop(peer);
            finish(engine);
        }
    });
}

/// Who only goes away gets nothing, and leaves nothing.
#[test]
fn a_peer_that_is_gone_is_not_waited_for() {
    isolated(|| {
        let Some(plugin) = Plugin::new() else { return };
        let (engine, url) = plugin.serve(Transport::Tcp4, "frame=lines", "hold");
        let peer = Peer::connect(&url);
        peer.send(b"h one\nh two\n");
        received(&engine, 2);
        peer.reset();
        let stats = eventually_stats(&engine, "it is closed", |stats| stats.open == 0);
        assert_eq!(stats.closed_by(CloseReason::PeerReset), 1, "{stats:?}");
        assert_eq!(stats.undelivered_bytes, 12, "{stats:?}");
        finish(engine);
    });
}

/// The time for draining is up before the answer's is: it is cut off, in time, and counted.
#[test]
fn draining_ends_although_answers_are_held() {
    isolated(|| {
        let Some(plugin) = Plugin::new() else { return };
        for transport in Transport::all() {
            let (engine, url) = plugin.serve(transport, "", "hold");
            let peer = Peer::connect(&url);
            peer.send(b"h never");
            received(&engine, 1);
            engine.drain(Duration::from_millis(200)).unwrap();
            let stats = balanced(&engine);
            if transport.is_connected() {
                assert_eq!(stats.closed_by(CloseReason::CutOff), 1, "{transport:?} {stats:?}");
                assert_eq!(stats.undelivered_bytes, 7, "{transport:?} {stats:?}");
            } else {
                assert_eq!(stats.dropped_by(DropReason::Undelivered), 1, "{transport:?} {stats:?}");
            }
            finish(engine);
        }
    });
}

/// Stopping waits for nothing and counts what was not delivered; no delay is too long to be counted.
#[test]
fn stopping_counts_held_answers() {
    isolated(|| {
        let Some(plugin) = Plugin::new() else { return };
        for transport in Transport::all() {
            for message in ["h an hour", "x for ever", "18446744073709551 ms is all that fits"] {
                let (engine, url) = plugin.serve(transport, "frame=lines", "hold");
                let line = format!("{message}\n");
                let peers: Vec<_> = (0..5).map(|_| Peer::connect(&url)).collect();
                peers.iter().for_each(|peer| peer.send(line.as_bytes()));
                received(&engine, 5);
                assert_answers(&url);
                let stats = finish(engine);
                if transport.is_connected() {
                    let bytes = 5 * line.len() as u64;
                    assert_eq!(stats.undelivered_bytes, bytes, "{transport:?} {stats:?}");
                } else {
                    assert_eq!(stats.dropped_by(DropReason::Undelivered), 5, "{transport:?} {stats:?}");
                }
            }
        }
    });
}

/// Peers that flood an hour's delay are not read any more once what is held for them is at the high water; memory
/// stays, and others are served.
#[test]
fn the_high_water_bounds_held_answers() {
    isolated(|| {
        const HIGH_WATER: u64 = 64 * 1024;
        let Some(plugin) = Plugin::new() else { return };
        for transport in Transport::streams() {
            let options = format!("frame=lines&high_water={HIGH_WATER}");
            let (engine, url) = plugin.serve(transport, &options, "hold");
            let other = engine.listen("tcp://127.0.0.1:0?chain=identity").unwrap();
            let other = engine.listener(other).unwrap().url;
            let before = memory_figure("/proc/self/smaps_rollup", "Private_Dirty");
            let peers: Vec<_> = (0..10).map(|_| Peer::connect(&url)).collect();
            for peer in &peers {
                // As much as its own buffers and the kernel's take.
                peer.socket.set_nonblocking(true).unwrap();
                let chunk = [&b"h"[..], &[b'.'; 99], b"\n"].concat().repeat(100);
                while send_flags(peer, &chunk, 0).is_ok() {}
            }
            let mut last = 0;
            let stats = eventually("nothing more is read", || {
                let stats = engine.listener_stats(engine.listeners()[0].id).unwrap();
                let still = std::mem::replace(&mut last, stats.bytes_in) == stats.bytes_in;
                // Another's round trips give the worker turns in which it could read.
                (0..50).for_each(|_| assert_answers(&other));
                if still && stats.bytes_in > 0 { Ok(stats) } else { Err(format!("{stats:?}")) }
            });
            let most = 2 * HIGH_WATER * peers.len() as u64;
            assert!(stats.bytes_in <= most, "{transport:?}: {most} {stats:?}");
            let after = memory_figure("/proc/self/smaps_rollup", "Private_Dirty");
            assert!(after < before + (24 << 20), "{transport:?}: {before} before, {after} after");
            for peer in &peers {
                assert!(!peer.has_something(), "{transport:?}");
            }
            let held: u64 = engine.connections(PATIENCE).iter().map(|info| info.waiting_bytes as u64).sum();
            assert!(held > 0 && held <= 2 * HIGH_WATER * peers.len() as u64, "{transport:?}: {held}");
            assert!(finish(engine).undelivered_bytes >= held, "{transport:?}");
        }
    });
}

/// `high_water` counts bytes, of records too: one that is held does not stop the next.
#[test]
fn one_held_record_does_not_stop_the_next() {
    isolated(|| {
        let Some(plugin) = Plugin::new() else { return };
        let (engine, url) = plugin.serve(Transport::Seqpacket, "", "hold");
        let peer = Peer::connect(&url);
        ["h one", "two"].iter().for_each(|message| peer.send(message.as_bytes()));
        received(&engine, 2);
        assert_eq!(finish(engine).undelivered_bytes, 8);
    });
}

/// Held answers go to whom they belong, from the address that was asked.
#[test]
fn held_datagrams_find_their_peers() {
    isolated(|| {
        let Some(plugin) = Plugin::new() else { return };
        for transport in Transport::all().into_iter().filter(|transport| !transport.is_connected()) {
            let (engine, url) = plugin.serve(transport, "", "hold");
            let peers: Vec<_> = (0..20).map(|_| Peer::connect(&url)).collect();
            let start = Instant::now();
            let text = |number: usize| format!("{} for {number}", 100 - number * 5);
            peers.iter().enumerate().for_each(|(number, peer)| peer.send(text(number).as_bytes()));
            peers[0].send(b"now");
            for (number, peer) in peers.iter().enumerate().rev() {
                if number == 0 {
                    assert_eq!(peer.message(), b"now", "{transport:?}: nobody waits for another datagram");
                }
                assert_eq!(peer.message(), text(number).as_bytes(), "{transport:?}");
                assert_passed(start, 100 - number as u64 * 5, &text(number));
                assert!(!peer.has_something(), "{transport:?}");
            }
            let stats = finish(engine);
            assert_eq!((stats.messages_in, stats.messages_out), (21, 21), "{transport:?} {stats:?}");
        }
        // On every address of this host; a connected peer hears the one that it asked.
        let engine = engine_builder()
            .listen("udp://0.0.0.0:0")
            .unwrap()
            .chain(&plugin.chain("hold"))
            .unwrap()
            .start()
            .unwrap();
        let port = port_of(&engine.urls()[0]);
        for address in ["127.0.0.1", "127.0.0.5", "127.9.8.7"] {
            let peer = Peer::connect(&format!("udp://{address}:{port}"));
            assert_eq!(peer.ask(b"30 from there"), b"30 from there", "{address}");
        }
        finish(engine);
    });
}

/// Held datagrams have a limit; what is over it is dropped and counted, and the socket goes on.
#[test]
fn held_datagrams_are_bounded() {
    isolated(|| {
        let Some(plugin) = Plugin::new() else { return };
        // 64 MiB of answers may wait, and 64 Ki of them.
        for (bytes, fit, sent) in [(64_000, (64 << 20) / 64_000, 1100), (10, 64 * 1024, 66_000)] {
            let (engine, url) = plugin.serve(Transport::UnixDatagram, "", "hold");
            let peer = Peer::connect(&url);
            let mut message = vec![b'.'; bytes];
            message[0] = b'h';
            (0..sent).for_each(|_| peer.send(&message));
            let stats = received(&engine, sent);
            assert_eq!(stats.messages_in, sent);
            let stats = eventually_stats(&engine, "the rest is dropped", |stats| {
                stats.dropped_by(DropReason::QueueFull) >= sent - fit
            });
            assert_eq!(stats.dropped_by(DropReason::QueueFull), sent - fit, "{stats:?}");
            assert_eq!(peer.ask(b"still there"), b"still there");
            peer.send(b"1");
            eventually_stats(&engine, "delayed ones find no room", |stats| {
                stats.dropped_by(DropReason::QueueFull) == sent - fit + 1 || bytes > 10
            });
            drop(peer);
            let stats = finish(engine);
            assert!(stats.dropped_by(DropReason::Undelivered) >= fit, "{stats:?}");
        }
    });
}

// ---- Greetings.

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

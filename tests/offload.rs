//! Transforms that may block (`RESAY_NEED_OFFLOAD`): they hold up nobody but the connection that waits for them.
//!
//! The plugin blocks in read(2) on a pipe of the test's: what is blocked stays so until the test lets it go.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

mod offload {
    mod swaps;
}

use std::fs;
use std::io::{PipeReader, PipeWriter, Write};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::plugin::*;
use common::*;
use resay::{CloseReason, DropReason, Engine, Error, EventKind};
use tempfile::TempDir;

/// Each option `gate` is the descriptor of a pipe; a message that begins with a B waits for a byte from it.
const CODE: &str = r#"
#include <resay_plugin.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct own { const resay_host *host; int gate; uint32_t entered, opened, closed, destroyed; atomic_int inside; };

static resay_status create(const resay_transform *transform, const resay_host *host, const resay_kv *options,
                           size_t n_options, void **instance, resay_text *err) {
  struct own *own = calloc(1, sizeof *own);
  (void)transform, (void)err;
  if (!own) return RESAY_E_NOMEM;
  own->host = host;
  own->entered = host->counter(host->ctx, "entered");
  own->opened = host->counter(host->ctx, "opened");
  own->closed = host->counter(host->ctx, "closed");
  own->destroyed = host->counter(host->ctx, "destroyed");
  for (size_t i = 0; n_options > 0 && i < options[0].value.len; i++)
    own->gate = own->gate * 10 + options[0].value.ptr[i] - '0';
  *instance = own;
  return RESAY_OK;
}
static void count(struct own *own, uint32_t counter) { own->host->counter_add(own->host->ctx, counter, 1); }
static void destroy(void *instance) {
  count(instance, ((struct own *)instance)->destroyed);
  free(instance);
}
static void pass_gate(struct own *own) {
  uint8_t byte;
  count(own, own->entered);
  while (read(own->gate, &byte, 1) < 0) {}
}
static resay_status enter(struct own *own, const uint8_t *data, size_t len) {
  if (len > 0 && data[0] == 'B') pass_gate(own);
  switch (len > 0 ? data[len - 1] : 0) {
  case 'C': return RESAY_CLOSE;
  case 'D': return RESAY_DROP;
  case 'F': return RESAY_E_DATA;
  default: return RESAY_OK;
  }
}
static resay_status map(void *instance, void *session, uint8_t *data, size_t len) {
  (void)session;
  return enter(instance, data, len);
}
static resay_status process(void *instance, void *session, resay_io *io) {
  (void)session;
  if (io->input_len > 0) memcpy(io->output, io->input, io->input_len);
  io->input_used = io->output_len = io->input_len;
  return enter(instance, io->input, io->input_len);
}
/* Fails where another call is in it. */
static resay_status lonely(void *instance, void *session, uint8_t *data, size_t len) {
  struct own *own = instance;
  struct timespec a_while = {0, 300000};
  resay_status status = atomic_fetch_add(&own->inside, 1) == 0 ? RESAY_OK : RESAY_E_DATA;
  (void)session, (void)data, (void)len;
  nanosleep(&a_while, NULL);
  atomic_fetch_sub(&own->inside, 1);
  return status;
}
static resay_status session_open(void *instance, void *session, const resay_peer *peer, resay_text *err) {
  (void)session, (void)peer, (void)err;
  count(instance, ((struct own *)instance)->opened);
  return RESAY_OK;
}
static resay_status slow_open(void *instance, void *session, const resay_peer *peer, resay_text *err) {
  (void)session, (void)peer, (void)err;
  pass_gate(instance);
  return RESAY_OK;
}
static void session_close(void *instance, void *session) {
  (void)session;
  count(instance, ((struct own *)instance)->closed);
}
static resay_status hold(void *instance, void *session, resay_io *io) {
  (void)instance, (void)session;
  if (io->input_len > 0) memcpy(io->output, io->input, io->input_len);
  io->input_used = io->output_len = io->input_len;
  if (io->input_len > 0 && io->input[0] == 's') io->delay_us = 100000;
  if (io->input_len > 0 && io->input[0] == 'h') io->delay_us = 3600000000u;
  return RESAY_OK;
}
static resay_status greet(void *instance, void *session, resay_io *io) {
  if (io->flags != 0 || io->input_len != 0) return process(instance, session, io);
  pass_gate(instance);
  memcpy(io->output, "hello", 5);
  io->output_len = 5;
  return RESAY_OK;
}
static const resay_option gate[] = {{.key = "gate", .type = "integer", .fallback = "0", .help = "a descriptor to read from"}};

#define TABLE(name, ...) NAMED(name, #name, __VA_ARGS__)
#define NAMED(name, text, ...) \
  static const resay_transform name##_table = { .struct_size = sizeof(resay_transform), .id = text, \
    .options = gate, .n_options = 1, .create = create, .destroy = destroy, __VA_ARGS__ };
#define OFFLOAD .needs = RESAY_NEED_OFFLOAD
#define BOUND .out_mul = 1, .out_div = 1
TABLE(blocks, OFFLOAD, .process = process, .session_open = session_open, .session_close = session_close, BOUND)
TABLE(maps, OFFLOAD, .map = map)
TABLE(greets, OFFLOAD, .caps = RESAY_CAP_GREETS, .process = greet)
TABLE(serial, OFFLOAD, .threading = RESAY_SERIAL, .map = map, .session_open = session_open,
      .session_close = session_close)
TABLE(opens, OFFLOAD, .map = map, .session_open = slow_open)
NAMED(lonely_serial, "lonely-serial", OFFLOAD, .threading = RESAY_SERIAL, .map = lonely)
NAMED(lonely_worker, "lonely-worker", OFFLOAD, .threading = RESAY_PER_WORKER, .map = lonely)
NAMED(lonely_here, "lonely-here", .threading = RESAY_PER_WORKER, .map = lonely)
TABLE(hold, .process = hold, BOUND)
RESAY_PLUGIN(&blocks_table, &maps_table, &greets_table, &serial_table, &opens_table, &lonely_serial_table,
             &lonely_worker_table, &lonely_here_table, &hold_table);
"#;

/// The compiled plugin and the pipe that its transforms wait for.
struct Gate {
    directory: TempDir,
    reader: PipeReader,
    writer: PipeWriter,
}

impl Gate {
    fn new() -> Option<Gate> {
        has_compiler().then(|| {
            let directory = directory();
            compile_with(directory.path(), "gate", CODE, &[]);
            let (reader, writer) = std::io::pipe().unwrap();
            Gate { directory, reader, writer }
        })
    }

    /// A chain: `maps | =uppercase` is the plugin's `maps`, then the engine's `uppercase`.
    fn chain(&self, names: &str) -> String {
        let path = self.directory.path().join("libgate.so");
        let stage = |name: &str| match name.trim().strip_prefix('=') {
            Some(own) => own.to_owned(),
            None => format!("{}#{}:gate={}", path.display(), name.trim(), self.reader.as_raw_fd()),
        };
        names.split('|').map(stage).collect::<Vec<_>>().join(" | ")
    }

    /// One worker with this chain on this transport.
    fn serve(&self, transport: Transport, names: &str) -> (Engine, String) {
        serve(&transport.url(self.directory.path()), &self.chain(names))
    }

    /// Lets so many calls go.
    fn release(&self, calls: usize) {
        (&self.writer).write_all(&vec![b'.'; calls]).unwrap();
    }
}

/// A listener of the same worker whose messages are its own affair.
fn plain_listener(engine: &Engine) -> String {
    let other = engine.listen("tcp://127.0.0.1:0?chain=uppercase").unwrap();
    engine.listener(other).unwrap().url
}

/// The engine's threads that there are.
fn threads_of_engines() -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .map(|name| name.trim().to_owned())
        .filter(|name| name.starts_with("resay-"))
        .collect();
    names.sort();
    names
}

/// One message blocks, and everyone else of the same single worker is answered: through the same transform, and past
/// it.
#[test]
fn a_blocked_message_holds_nobody_up() {
    isolated(|| {
        let Some(gate) = Gate::new() else { return };
        for transport in Transport::all() {
            for chain in ["blocks", "maps", "=identity | maps | =uppercase:unicode=1", "serial | blocks"] {
                let (engine, url) = gate.serve(transport, chain);
                let other = plain_listener(&engine);
                let what = format!("{transport:?} {chain}");
                let (blocked, waiting) = (Peer::connect(&url), Peer::connect(&url));
                let id = if chain.contains("maps") { "maps" } else { "blocks" };
                let is_serial = chain.starts_with("serial");
                blocked.send(b"B");
                if is_serial {
                    // Nobody passes the first stage meanwhile, but the worker goes on.
                    eventually_counted(&engine, "serial.entered", 1);
                } else {
                    eventually_counted(&engine, &format!("{id}.entered"), 1);
                    (0..20).for_each(|_| assert_eq!(waiting.ask(b"ME"), b"ME", "{what}"));
                    assert_answers(&url);
                }
                (0..20).for_each(|_| assert_eq!(Peer::connect(&other).ask(b"x"), b"X", "{what}"));
                assert!(!blocked.has_something(), "{what}");
                gate.release(if is_serial { 2 } else { 1 });
                assert_eq!(blocked.message(), b"B", "{what}");
                assert_eq!(waiting.ask(b"AFTERWARDS"), b"AFTERWARDS", "{what}");
                drop((blocked, waiting));
                let stats = finish(engine);
                assert_eq!((stats.transform_errors, stats.dropped), (0, 0), "{what}");
            }
        }
    });
}

/// A connection whose message is away is not read, however much comes; what came is answered afterwards, in order.
#[test]
fn order_is_kept_and_nothing_is_read_meanwhile() {
    isolated(|| {
        let Some(gate) = Gate::new() else { return };
        for transport in Transport::connected() {
            let (engine, url) = gate.serve(transport, "blocks");
            let other = plain_listener(&engine);
            let peer = Peer::connect(&url);
            let listener = engine.listeners()[0].id;
            peer.send(b"B first");
            eventually_counted(&engine, "blocks.entered", 1);
            peer.socket.set_nonblocking(true).unwrap();
            let (mut all, mut records) = (b"B first".to_vec(), 1);
            for number in 0..5000 {
                let message = format!(" then {number}").into_bytes();
                match send_flags(&peer, &message, 0) {
                    Ok(sent) => all.extend_from_slice(&message[..sent]),
                    Err(_) => break,
                }
                records += 1;
            }
            (0..50).for_each(|_| assert_eq!(Peer::connect(&other).ask(b"x"), b"X", "{transport:?}"));
            assert_eq!(engine.listener_stats(listener).unwrap().bytes_in, 0, "{transport:?}");
            peer.socket.set_nonblocking(false).unwrap();
            gate.release(1);
            let answer = if transport.is_stream() {
                peer.exactly(all.len())
            } else {
                (0..records).flat_map(|_| peer.message()).collect()
            };
            assert_same(&format!("{transport:?}"), &all, &answer);
            drop(peer);
            finish(engine);
        }
    });
}

/// A greeting may block as well.
#[test]
fn a_greeting_that_blocks() {
    isolated(|| {
        let Some(gate) = Gate::new() else { return };
        for transport in Transport::connected() {
            let (engine, url) = gate.serve(transport, "greets");
            let other = plain_listener(&engine);
            let peer = Peer::connect(&url);
            eventually_counted(&engine, "greets.entered", 1);
            peer.send(b"early");
            assert_eq!(Peer::connect(&other).ask(b"x"), b"X", "{transport:?}");
            assert!(!peer.has_something(), "{transport:?}");
            gate.release(1);
            let count = if transport.is_stream() { 10 } else { 5 };
            let greeting = if transport.is_stream() { peer.exactly(count) } else { peer.message() };
            assert_eq!(greeting[..5], *b"hello", "{transport:?}");
            drop(peer);
            engine.stop();
            engine.join(PATIENCE).unwrap();
        }
    });
}

/// `session_open` is a call too: it may block, and holds nobody up either.
#[test]
fn opening_may_block() {
    isolated(|| {
        let Some(gate) = Gate::new() else { return };
        let (engine, url) = gate.serve(Transport::Tcp4, "opens");
        let other = plain_listener(&engine);
        let witness = Peer::connect(&other);
        assert_eq!(witness.ask(b"x"), b"X");
        let peer = Peer::connect(&url);
        eventually_counted(&engine, "opens.entered", 1);
        witness.send(b"y");
        let answer = witness.try_recv(1);
        gate.release(1);
        assert_eq!(answer.unwrap(), b"Y", "an opening session holds others up");
        assert_eq!(peer.ask(b"open"), b"open");
        drop((peer, witness));
        finish(engine);
    });
}

/// An instance of its own lock, blocked: who connects to it, and who leaves it, does not stop the worker.
#[test]
fn a_blocked_instance_does_not_stop_who_opens_or_closes() {
    isolated(|| {
        let Some(gate) = Gate::new() else { return };
        let (engine, url) = gate.serve(Transport::Tcp4, "serial");
        let other = plain_listener(&engine);
        let witness = Peer::connect(&other);
        let (blocked, leaving) = (Peer::connect(&url), Peer::connect(&url));
        assert_eq!(leaving.ask(b"here"), b"here");
        assert_eq!(blocked.ask(b"here"), b"here");
        blocked.send(b"B");
        eventually_counted(&engine, "serial.entered", 1);
        drop(leaving);
        let coming = Peer::connect(&url);
        witness.send(b"x");
        let answer = witness.try_recv(1);
        gate.release(1);
        assert_eq!(answer.unwrap(), b"X", "the worker waits for a transform that is blocked");
        assert_eq!(blocked.message(), b"B");
        assert_eq!(coming.ask(b"now"), b"now");
        drop((blocked, coming, witness));
        finish(engine);
    });
}

/// Stopping while calls do not come back: the engine ends in time and counts what it owes; of its threads only those
/// remain that are with the plugin, of its descriptors none.
#[test]
fn stopping_while_a_transform_never_returns() {
    isolated(|| {
        let Some(gate) = Gate::new() else { return };
        for transport in Transport::connected() {
            let before = descriptors();
            let (engine, url) = gate.serve(transport, "blocks");
            let peers = [Peer::connect(&url), Peer::connect(&url)];
            peers.iter().for_each(|peer| peer.send(b"B"));
            eventually_counted(&engine, "blocks.entered", 2);
            let start = Instant::now();
            engine.stop();
            join_workers(&engine);
            assert!(
                matches!(engine.join(Duration::ZERO), Err(Error::Timeout { .. })),
                "{transport:?}: threads are left"
            );
            let stats = balanced(&engine);
            assert_eq!(stats.closed_by(CloseReason::Stopped), 2, "{transport:?} {stats:?}");
            drop(engine);
            assert!(start.elapsed() < PATIENCE, "{transport:?}: {:?}", start.elapsed());
            drop(peers);
            eventually("only what is blocked is left", || {
                let (threads, left) = (threads_of_engines(), descriptors());
                if threads.len() == 2 && left == before {
                    Ok(())
                } else {
                    Err(format!("{threads:?} {left:?}"))
                }
            });
            gate.release(2);
            eventually("the threads end when the plugin lets them", || match threads_of_engines() {
                threads if threads.is_empty() => Ok(()),
                threads => Err(format!("{threads:?}")),
            });
        }
    });
}

/// Datagrams that are away when the engine stops are dropped ones, and counted.
#[test]
fn datagrams_that_never_come_back_are_counted() {
    isolated(|| {
        let Some(gate) = Gate::new() else { return };
        for transport in Transport::all().into_iter().filter(|transport| !transport.is_connected()) {
            let (engine, url) = gate.serve(transport, "blocks");
            let peer = Peer::connect(&url);
            (0..10).for_each(|_| peer.send(b"B"));
            eventually_counted(&engine, "blocks.entered", 4);
            eventually_stats(&engine, "all have come", |stats| stats.messages_in == 10);
            engine.stop();
            join_workers(&engine);
            let stats = engine.stats();
            // Those that had begun; what waited for a thread is not begun any more.
            gate.release(4);
            assert_eq!(stats.dropped_by(DropReason::Undelivered), 10, "{transport:?} {stats:?}");
            finish(engine);
        }
    });
}

/// Of every connection that came the log says how it ended, also of one that was away then.
#[test]
fn the_end_of_who_is_away_is_told() {
    isolated(|| {
        let Some(gate) = Gate::new() else { return };
        let log = Log::default();
        let builder = log.builder().listen("tcp://127.0.0.1:0").unwrap();
        let engine = builder.chain(&gate.chain("blocks")).unwrap().start().unwrap();
        let peers = [Peer::connect(&engine.urls()[0]), Peer::connect(&engine.urls()[0])];
        peers[0].send(b"B");
        eventually_counted(&engine, "blocks.entered", 1);
        eventually_stats(&engine, "both are there", |stats| stats.open == 2);
        engine.stop();
        join_workers(&engine);
        gate.release(1);
        assert_eq!(log.lines(EventKind::Closed).len(), 2, "{:?}", log.lines(EventKind::Closed));
        finish(engine);
    });
}

/// Waits until all workers have ended, though the threads of transforms may not have.
#[track_caller]
fn join_workers(engine: &Engine) {
    eventually("the workers end", || match engine.join(Duration::ZERO) {
        Ok(()) => Ok(()),
        Err(Error::Timeout { what, .. }) if what.contains("may block") => Ok(()),
        Err(error) => Err(error.to_string()),
    });
}

/// Waits until so many bytes of answers wait in the engine's connections.
#[track_caller]
fn eventually_waiting(engine: &Engine, bytes: usize) {
    eventually("answers wait", || {
        let connections = engine.connections(PATIENCE);
        let waiting: usize = connections.iter().map(|connection| connection.waiting_bytes).sum();
        if waiting == bytes { Ok(()) } else { Err(format!("{waiting} of {bytes}")) }
    });
}

/// A connection that still owes an answer takes nothing along to a transform that may block: its next message waits
/// with the kernel, and what is held is counted when the engine stops.
#[test]
fn nothing_owed_is_taken_along() {
    isolated(|| {
        let Some(gate) = Gate::new() else { return };
        for transport in Transport::streams() {
            let (engine, url) = gate.serve(transport, "maps | hold");
            let peer = Peer::connect(&url);
            peer.send(b"h one hour");
            eventually_waiting(&engine, 10);
            peer.send(b"B");
            let witness = Peer::connect(&url);
            witness.send(b"h too");
            eventually_waiting(&engine, 15);
            engine.stop();
            engine.join(PATIENCE).unwrap();
            let stats = balanced(&engine);
            assert_eq!(counter(&engine, "maps.entered"), 0, "{transport:?}");
            assert_eq!(stats.undelivered_bytes, 15, "{transport:?} {stats:?}");
            finish(engine);
        }
    });
}

/// An answer whose time comes while the next message is away leaves in time: it does not need that transform.
#[test]
fn held_answers_leave_while_the_next_message_is_away() {
    isolated(|| {
        let Some(gate) = Gate::new() else { return };
        for transport in Transport::streams() {
            let (engine, url) = gate.serve(transport, "maps | hold");
            let peer = Peer::connect(&url);
            peer.send(b"soon");
            eventually_waiting(&engine, 4);
            peer.send(b"B");
            eventually_counted(&engine, "maps.entered", 1);
            let first = peer.try_recv(4);
            gate.release(1);
            assert_eq!(first.unwrap(), b"soon", "{transport:?}");
            assert_eq!(peer.message(), b"B", "{transport:?}");
            drop(peer);
            finish(engine);
        }
    });
}

/// A call that comes back soon is waited for: when the engine is gone, nothing of the host's is called any more.
#[test]
fn an_engine_that_is_gone_calls_nobody() {
    isolated(|| {
        let Some(gate) = Gate::new() else { return };
        for transport in Transport::all() {
            let (engine, url) = gate.serve(transport, "blocks");
            let peers: Vec<_> = (0..3).map(|_| Peer::connect(&url)).collect();
            peers.iter().for_each(|peer| peer.send(b"B"));
            eventually_counted(&engine, "blocks.entered", 3);
            engine.stop();
            join_workers(&engine);
            let (start, released) = (Instant::now(), AtomicBool::new(false));
            thread::scope(|scope| {
                scope.spawn(|| {
                    eventually("a moment passes", || {
                        if start.elapsed() > Duration::from_millis(200) { Ok(()) } else { Err(String::new()) }
                    });
                    released.store(true, Ordering::SeqCst);
                    gate.release(3);
                });
                drop(engine);
                assert!(
                    released.load(Ordering::SeqCst),
                    "{transport:?}: calls go on after the engine is gone"
                );
            });
            drop(peers);
            eventually("the threads have ended", || match threads_of_engines() {
                threads if threads.is_empty() => Ok(()),
                threads => Err(format!("{threads:?}")),
            });
        }
    });
}

/// Draining with a call that does not come back: the deadline holds, what was cut off is counted, and that a thread is left is
/// told.
#[test]
fn draining_while_a_transform_never_returns() {
    isolated(|| {
        let Some(gate) = Gate::new() else { return };
        for transport in Transport::all() {
            let (engine, url) = gate.serve(transport, "maps");
            let (blocked, idle) = (Peer::connect(&url), Peer::connect(&url));
            assert_eq!(idle.ask(b"done"), b"done");
            blocked.send(b"B");
            eventually_counted(&engine, "maps.entered", 1);
            let start = Instant::now();
            let drained = engine.drain(Duration::from_millis(300));
            let passed = start.elapsed();
            let stats = balanced(&engine);
            gate.release(1);
            assert!(matches!(drained, Err(Error::Timeout { .. })), "{transport:?}: {drained:?}");
            assert!(passed >= Duration::from_millis(300) && passed < PATIENCE, "{transport:?}: {passed:?}");
            if transport.is_connected() {
                assert_eq!(stats.closed_by(CloseReason::CutOff), 1, "{transport:?} {stats:?}");
                assert_eq!(stats.closed_by(CloseReason::Drained), 1, "{transport:?} {stats:?}");
            } else {
                assert_eq!(stats.dropped_by(DropReason::Undelivered), 1, "{transport:?} {stats:?}");
            }
            finish(engine);
        }
    });
}

/// Who was told the end by a transform may go on talking; it is read and thrown away until he ends too, so that no
/// reset takes the last answer.
#[test]
fn a_closed_connection_is_read_to_its_end() {
    isolated(|| {
        let Some(gate) = Gate::new() else { return };
        for transport in Transport::streams() {
            let (engine, url) = gate.serve(transport, "maps");
            let peer = Peer::connect(&url);
            assert_eq!(peer.ask(b"the last: C"), b"the last: C", "{transport:?}");
            let mut total = 11;
            for message in [&b"more"[..], b"and more", b"and even more"] {
                peer.send(message);
                total += message.len() as u64;
                eventually_stats(&engine, "it is read", |stats| stats.bytes_in == total);
            }
            assert_eq!(peer.message(), b"", "{transport:?}");
            drop(peer);
            eventually_stats(&engine, "it is closed", |stats| stats.open == 0);
            let stats = finish(engine);
            assert_eq!(stats.closed_by(CloseReason::TransformClosed), 1, "{transport:?} {stats:?}");
        }
    });
}

/// One instance that wants one call at a time gets one call at a time, also beside a transform that takes the whole
/// chain off the worker.
#[test]
fn never_two_calls_at_once() {
    isolated(|| {
        let Some(gate) = Gate::new() else { return };
        for chain in [
            "lonely-serial",
            "lonely-worker",
            "=uppercase | lonely-worker | =identity",
            "lonely-serial | lonely-worker",
            "lonely-here | maps",
            "maps | =identity | lonely-here",
        ] {
            for transport in [Transport::Tcp4, Transport::Seqpacket, Transport::Udp4, Transport::UnixDatagram]
            {
                let engine = engine_builder()
                    .listen(&transport.url(gate.directory.path()))
                    .unwrap()
                    .chain(&gate.chain(chain))
                    .unwrap()
                    .threads(2)
                    .unwrap()
                    .start()
                    .unwrap();
                let url = engine.urls().remove(0);
                thread::scope(|scope| {
                    for _ in 0..8 {
                        scope.spawn(|| {
                            let peer = Peer::connect(&url);
                            for _ in 0..25 {
                                peer.send(b"X");
                                // What fails shows in the figures.
                                if transport.is_connected() && peer.message().is_empty() {
                                    return;
                                }
                            }
                        });
                    }
                });
                eventually_stats(&engine, "all is done", |stats| {
                    transport.is_connected() || stats.messages_in <= stats.messages_out + stats.dropped
                });
                let stats = finish(engine);
                assert_eq!(stats.transform_errors, 0, "{chain} {transport:?} {stats:?}");
            }
        }
    });
}

/// The chain is swapped while a message is away: that message keeps the old one, and when it is back the old one goes,
/// whether the peer says anything more or not.
#[test]
fn a_swap_reaches_who_was_away() {
    isolated(|| {
        let Some(gate) = Gate::new() else { return };
        for transport in Transport::all() {
            let (engine, url) = gate.serve(transport, "maps");
            let (peer, witness) = (Peer::connect(&url), Peer::connect(&url));
            peer.send(b"B old");
            eventually_counted(&engine, "maps.entered", 1);
            engine.set_chain("uppercase").unwrap();
            eventually("the new chain answers", || match witness.ask(b"new") {
                answer if answer == b"NEW" => Ok(()),
                answer => Err(format!("{answer:?}")),
            });
            assert_eq!(counter(&engine, "maps.destroyed"), 0, "{transport:?}");
            gate.release(1);
            assert_eq!(peer.message(), b"B old", "{transport:?}");
            eventually("the old chain is gone", || {
                assert_eq!(witness.ask(b"new"), b"NEW", "{transport:?}");
                if counter(&engine, "maps.destroyed") == 1 { Ok(()) } else { Err(format!("{transport:?}")) }
            });
            assert_eq!(peer.ask(b"new"), b"NEW", "{transport:?}");
            drop((peer, witness));
            finish(engine);
        }
    });
}

/// Who cannot go along to the new chain has `swap_timeout`, also if his message was away when it came.
#[test]
fn the_old_chain_has_its_time_for_who_was_away() {
    isolated(|| {
        let Some(gate) = Gate::new() else { return };
        let (engine, url) = serve("tcp://127.0.0.1:0?swap_timeout=300ms", &gate.chain("blocks"));
        let (peer, witness) = (Peer::connect(&url), Peer::connect(&url));
        peer.send(b"B old");
        eventually_counted(&engine, "blocks.entered", 1);
        engine.set_chain("uppercase").unwrap();
        // That the witness, who cannot go along either, is closed shows that the time is up.
        assert_eq!(witness.message(), b"");
        gate.release(1);
        assert_eq!(peer.message(), b"B old");
        assert_eq!(peer.try_recv(1).expect("it is closed in its time"), b"");
        drop((peer, witness));
        eventually_stats(&engine, "both are closed", |stats| stats.open == 0);
        let stats = finish(engine);
        assert_eq!(stats.closed_by(CloseReason::ChainReplaced), 2, "{stats:?}");
    });
}

/// More datagrams than may be away: what is over it is dropped and counted, all others are answered.
#[test]
fn datagrams_that_are_away_are_bounded() {
    isolated(|| {
        let Some(gate) = Gate::new() else { return };
        let (engine, url) = gate.serve(Transport::UnixDatagram, "maps");
        let peer = Peer::connect(&url);
        (0..1100).for_each(|_| peer.send(b"B"));
        let stats = eventually_stats(&engine, "all have come", |stats| stats.messages_in == 1100);
        assert_eq!(stats.dropped_by(DropReason::QueueFull), 1100 - 1024, "{stats:?}");
        gate.release(1024);
        let stats = eventually_stats(&engine, "all are back", |stats| {
            stats.messages_out + stats.dropped == stats.messages_in
        });
        // The peer reads nothing: an answer that finds its queue or the send buffer full is dropped, and counted as that.
        let full = stats.dropped_by(DropReason::PeerFull) + stats.dropped_by(DropReason::SocketFull);
        assert_eq!(stats.messages_out + full, 1024, "{stats:?}");
        finish(engine);
    });
}

/// A chain whose calls do not return keeps its share of the threads: another one that needs them works, and what a third
/// leaves is destroyed.
#[test]
fn a_chain_that_blocks_leaves_threads_to_the_others() {
    isolated(|| {
        let Some(gate) = Gate::new() else { return };
        for transport in Transport::all() {
            let (engine, url) = gate.serve(transport, "blocks");
            let (other, third) = (plain_listener(&engine), plain_listener(&engine));
            let ids: Vec<_> = engine.listeners().iter().map(|listener| listener.id).collect();
            engine.set_chain_of(ids[1], &gate.chain("maps")).unwrap();
            let peers: Vec<_> = (0..10).map(|_| Peer::connect(&url)).collect();
            peers.iter().for_each(|peer| peer.send(b"B"));
            eventually_counted(&engine, "blocks.entered", 4);
            let asking = Peer::connect(&other);
            asking.send(b"other");
            assert_eq!(asking.try_recv(5).unwrap(), b"other", "{transport:?}");
            for _ in 0..3 {
                engine.set_chain_of(ids[2], &gate.chain("hold")).unwrap();
                engine.set_chain_of(ids[2], "uppercase").unwrap();
                assert_eq!(Peer::connect(&third).ask(b"x"), b"X");
            }
            eventually_counted(&engine, "hold.destroyed", 3);
            assert_eq!(counter(&engine, "blocks.entered"), 4, "{transport:?}: no more than its share");
            gate.release(10);
            peers.iter().for_each(|peer| assert_eq!(peer.message(), b"B", "{transport:?}"));
            drop((peers, asking));
            finish(engine);
        }
    });
}

/// Whoever resets while its message is with a transform is given up: descriptors, and the place in `max_per_peer`, also where
/// no thread has begun with it.
#[test]
fn a_peer_that_is_gone_is_given_up_while_a_transform_has_its_message() {
    isolated(|| {
        let Some(gate) = Gate::new() else { return };
        for transport in Transport::connected() {
            let url = format!("{}?max_per_peer=6", transport.url(gate.directory.path()));
            let (engine, url) = serve(&url, &gate.chain("blocks"));
            let other = plain_listener(&engine);
            assert_eq!(Peer::connect(&other).ask(b"x"), b"X");
            eventually_stats(&engine, "it has left", |stats| stats.open == 0);
            let before = descriptors().len();
            let peers: Vec<_> = (0..6).map(|_| Peer::connect(&url)).collect();
            peers.iter().for_each(|peer| assert_eq!(peer.ask(b"open"), b"open"));
            peers.iter().for_each(|peer| peer.send(b"B"));
            eventually_counted(&engine, "blocks.entered", 4);
            peers.into_iter().for_each(Peer::reset);
            let stats = eventually_stats(&engine, "all are given up", |stats| stats.open == 0);
            assert_eq!(stats.closed_by(CloseReason::PeerReset), 6, "{transport:?} {stats:?}");
            eventually("the descriptors are given back", || match descriptors().len() {
                // The ring may have come meanwhile.
                now if now <= before + 4 => Ok(()),
                now => Err(format!("{now}, before {before}")),
            });
            let again: Vec<_> = (0..6).map(|_| Peer::connect(&url)).collect();
            let stats = eventually_stats(&engine, "they come again", |stats| stats.open == 6);
            assert_eq!(stats.rejected, 0, "{transport:?} {stats:?}");
            gate.release(4);
            assert_eq!(again[0].ask(b"now"), b"now", "{transport:?}");
            drop(again);
            let stats = finish(engine);
            assert_eq!(stats.dropped_by(DropReason::Undelivered), 6, "{transport:?} {stats:?}");
        }
    });
}

/// The operator replaces the chain that does not return: its connections are over after `swap_timeout`. So is one that has ended
/// its side, after `idle_timeout`: it may be gone.
#[test]
fn a_connection_whose_time_is_up_is_given_up_while_a_transform_has_its_message() {
    isolated(|| {
        let Some(gate) = Gate::new() else { return };
        for transport in Transport::connected() {
            let url = format!("{}?swap_timeout=1s", transport.url(gate.directory.path()));
            let (engine, url) = serve(&url, &gate.chain("blocks"));
            let peer = Peer::connect(&url);
            peer.send(b"B");
            eventually_counted(&engine, "blocks.entered", 1);
            engine.set_chain_of(engine.listeners()[0].id, "uppercase").unwrap();
            assert_answers(&url);
            let stats = eventually_stats(&engine, "it is over", |stats| stats.closed == 2);
            assert_eq!(stats.closed_by(CloseReason::ChainReplaced), 1, "{transport:?} {stats:?}");
            gate.release(1);
            drop(peer);
            finish(engine);
        }
        let (engine, url) = serve("tcp://127.0.0.1:0?idle_timeout=1s", &gate.chain("blocks"));
        let (ended, waiting) = (Peer::connect(&url), Peer::connect(&url));
        ended.send(b"B");
        waiting.send(b"B");
        eventually_counted(&engine, "blocks.entered", 2);
        ended.half_close();
        let stats = eventually_stats(&engine, "one is over", |stats| stats.closed > 0);
        assert_eq!((stats.closed_by(CloseReason::IdleTimeout), stats.open), (1, 1), "{stats:?}");
        gate.release(2);
        assert_eq!(waiting.message(), b"B");
        drop((ended, waiting));
        finish(engine);
    });
}

/// What waits for a thread is bounded: beyond that a connection is closed, and that has a name.
#[test]
fn messages_beyond_the_bound_of_a_chain_are_refused() {
    isolated(|| {
        let Some(gate) = Gate::new() else { return };
        const PEERS: usize = 4096 + 4 + 20;
        if raise_descriptor_limit() < 2 * PEERS as u64 + 200 {
            return skipped("a chain with 4,100 messages: too few descriptors");
        }
        let (engine, url) = gate.serve(Transport::UnixStream, "blocks");
        let other = plain_listener(&engine);
        let peers: Vec<_> = (0..PEERS)
            .map(|_| {
                let peer = Peer::connect(&url);
                assert_eq!(peer.ask(b"open"), b"open");
                peer
            })
            .collect();
        peers.iter().for_each(|peer| peer.send(b"B"));
        let stats = eventually_stats(&engine, "the last are refused", |stats| stats.closed == 20);
        assert_eq!(stats.closed_by(CloseReason::Overloaded), 20, "{stats:?}");
        assert_eq!(stats.dropped_by(DropReason::Overloaded), 20, "{stats:?}");
        assert_eq!(Peer::connect(&other).ask(b"x"), b"X");
        gate.release(4);
        engine.stop();
        join_workers(&engine);
        gate.release(PEERS);
        drop(peers);
        finish(engine);
    });
}

/// In [`a_transform_that_does_not_return_is_named`].
const WATCHDOG: Duration = Duration::from_millis(200);

/// A call that does not return is named, once, and so is its return.
#[test]
fn a_transform_that_does_not_return_is_named() {
    isolated(|| {
        let Some(gate) = Gate::new() else { return };
        for transport in Transport::all() {
            let log = Log::default();
            let builder = log.builder().watchdog(WATCHDOG).unwrap();
            let builder = builder.listen(&transport.url(gate.directory.path())).unwrap();
            let engine = builder.chain(&gate.chain("=identity | blocks")).unwrap().start().unwrap();
            let peer = Peer::connect(&engine.urls()[0]);
            peer.send(b"B");
            eventually_counted(&engine, "blocks.entered", 1);
            let lines_of = |kind| {
                eventually("it is named", || match log.lines(kind) {
                    lines if lines.is_empty() => Err(String::new()),
                    lines => Ok(lines),
                })
            };
            let lines = lines_of(EventKind::TransformStuck);
            assert_eq!(lines.len(), 1, "{lines:?}");
            // A busy machine may look later.
            let told = lines[0].1.split_once("transform blocks has not returned for ").map(|(_, time)| time);
            let took = told.and_then(|time| resay::options::parse_duration(time).ok());
            assert!(took.is_some_and(|took| took >= WATCHDOG), "{lines:?}");
            assert_eq!(engine.workers()[0].busy, None, "the worker does not wait for it");
            gate.release(1);
            assert_eq!(peer.message(), b"B");
            let lines = lines_of(EventKind::TransformReturned);
            assert!(lines[0].1.contains("transform blocks has returned after "), "{lines:?}");
            assert_eq!((engine.transforms_stuck(), lines.len()), (1, 1));
            drop(peer);
            finish(engine);
        }
    });
}

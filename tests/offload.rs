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
use resay::{CloseReason, DropReason, Engine, Error, EventKind, Stats};
use tempfile::TempDir;

/// Each option `gate` is the descriptor of a pipe; a message that begins with a B waits for a byte from it.
const CODE: &str = r#"
#include <resay_plugin.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct own { const resay_host *host; int gate; uint32_t entered, destroyed; atomic_int inside; };

static resay_status create(const resay_transform *transform, const resay_host *host, const resay_kv *options,
                           size_t n_options, void **instance, resay_text *err) {
  struct own *own = calloc(1, sizeof *own);
  (void)transform, (void)err;
  if (!own) return RESAY_E_NOMEM;
  own->host = host;
  own->entered = host->counter(host->ctx, "entered");
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
  (void)instance, (void)session, (void)peer, (void)err;
  return RESAY_OK;
}
static resay_status slow_open(void *instance, void *session, const resay_peer *peer, resay_text *err) {
  (void)session, (void)peer, (void)err;
  pass_gate(instance);
  return RESAY_OK;
}
static void session_close(void *instance, void *session) { (void)instance, (void)session; }
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
TABLE(plain, .map = map)
RESAY_PLUGIN(&blocks_table, &maps_table, &greets_table, &serial_table, &opens_table, &lonely_serial_table,
             &lonely_worker_table, &lonely_here_table, &plain_table);
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
        let (path, gate) = (self.directory.path().join("libgate.so"), self.reader.as_raw_fd());
        chain_of(names, |name| format!("{}#{name}:gate={gate}", path.display()))
    }

    /// One worker with this chain on this transport.
    fn serve(&self, transport: Transport, names: &str) -> (Engine, String) {
        serve(&transport.url(self.directory.path()), &self.chain(names))
    }

    /// One worker with all these transports, each with a chain of its own and so with threads of its own, and their URLs.
    fn serve_all(&self, transports: &[Transport], options: &str, names: &str) -> (Engine, Vec<String>) {
        let url = |transport: &Transport| format!("{}{options}", transport.url(self.directory.path()));
        let builder = engine_builder();
        let builder = transports.iter().fold(builder, |builder, each| builder.listen(&url(each)).unwrap());
        let engine = builder.start().unwrap();
        for listener in engine.listeners() {
            engine.set_chain_of(listener.id, &self.chain(names)).unwrap();
        }
        engine.sync(Some(PATIENCE)).unwrap();
        let urls = engine.urls();
        (engine, urls)
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

fn stats_of_each(engine: &Engine) -> Vec<Stats> {
    engine.listeners().iter().map(|listener| engine.listener_stats(listener.id).unwrap()).collect()
}

/// The engine's threads that there are.
fn threads_of_engines() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("resay-")).collect()
}

/// Threads end when the plugin lets them.
#[track_caller]
fn eventually_no_threads() {
    eventually("the threads have ended", || match threads_of_engines() {
        threads if threads.is_empty() => Ok(()),
        threads => Err(format!("{threads:?}")),
    });
}

/// One message blocks, and everyone else of the same single worker is answered: through the same transform, and past
/// it.
#[test]
fn a_blocked_message_holds_nobody_up() {
    isolated_on_each(Gate::new, Transport::all, |gate, transport| {
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
            // What comes behind it on a connection waits with the kernel.
            let behind = [&b" AND MORE"[..]].into_iter().filter(|_| transport.is_connected());
            behind.clone().for_each(|more| blocked.send(more));
            (0..20).for_each(|_| assert_eq!(Peer::connect(&other).ask(b"x"), b"X", "{what}"));
            assert!(!blocked.has_something(), "{what}");
            gate.release(if is_serial { 2 } else { 1 });
            for part in [&b"B"[..]].into_iter().chain(behind) {
                assert_eq!(blocked.exactly_or_message(part.len()), part, "{what}");
            }
            assert_eq!(waiting.ask(b"AFTERWARDS"), b"AFTERWARDS", "{what}");
            drop((blocked, waiting));
            let stats = finish(engine);
            assert_eq!((stats.transform_errors, stats.dropped), (0, 0), "{what}");
        }
    });
}

/// `session_open` is a call too, and so is a greeting: they may block, and hold up nobody but their connection.
#[test]
fn opening_and_greeting_may_block() {
    isolated_on_each(Gate::new, Transport::connected, |gate, transport| {
        for (chain, greeting) in [("opens", &b""[..]), ("greets", b"hello")] {
            let (engine, url) = gate.serve(transport, chain);
            let witness = Peer::connect(&plain_listener(&engine));
            assert_eq!(witness.ask(b"x"), b"X");
            let peer = Peer::connect(&url);
            eventually_counted(&engine, &format!("{chain}.entered"), 1);
            peer.send(b"early");
            witness.send(b"y");
            let (answer, is_early) = (witness.try_recv(1), peer.has_something());
            gate.release(1);
            assert_eq!(answer.unwrap(), b"Y", "{transport:?} {chain}: others are held up");
            assert!(!is_early, "{transport:?} {chain}");
            for expected in [greeting, b"early"].into_iter().filter(|expected| !expected.is_empty()) {
                assert_eq!(peer.exactly_or_message(expected.len()), expected, "{transport:?} {chain}");
            }
            drop((peer, witness));
            finish(engine);
        }
    });
}

/// An instance of its own lock, blocked: who connects to it, and who leaves it, does not stop the worker.
#[test]
fn a_blocked_instance_does_not_stop_who_opens_or_closes() {
    isolated_with(Gate::new, |gate| {
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
    isolated_with(Gate::new, |gate| {
        let before = descriptors();
        let (engine, urls) = gate.serve_all(&Transport::connected(), "", "blocks");
        let peers: Vec<_> = urls.iter().flat_map(|url| [Peer::connect(url), Peer::connect(url)]).collect();
        let count = peers.len();
        peers.iter().for_each(|peer| peer.send(b"B"));
        eventually_counted(&engine, "blocks.entered", count as u64);
        let start = Instant::now();
        engine.stop();
        join_workers(&engine);
        assert!(matches!(engine.join(Duration::ZERO), Err(Error::Timeout { .. })), "threads are left");
        balanced(&engine);
        for stats in stats_of_each(&engine) {
            assert_eq!(stats.closed_by(CloseReason::Stopped), 2, "{stats:?}");
        }
        drop(engine);
        assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
        drop(peers);
        eventually("only what is blocked is left", || match (threads_of_engines(), descriptors()) {
            (threads, left) if threads.len() == count && left == before => Ok(()),
            other => Err(format!("{other:?}")),
        });
        gate.release(count);
        eventually_no_threads();
    });
}

/// Datagrams that are away when the engine stops are dropped ones, and counted.
#[test]
fn datagrams_that_never_come_back_are_counted() {
    isolated_on_each(Gate::new, Transport::datagrams, |gate, transport| {
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

/// A call that comes back soon is waited for: when the engine is gone, nothing of the host's is called any more.
#[test]
fn an_engine_that_is_gone_calls_nobody() {
    isolated_with(Gate::new, |gate| {
        let (engine, urls) = gate.serve_all(&Transport::all(), "", "blocks");
        let peers: Vec<_> = urls.iter().flat_map(|url| [(); 3].map(|()| Peer::connect(url))).collect();
        peers.iter().for_each(|peer| peer.send(b"B"));
        eventually_counted(&engine, "blocks.entered", peers.len() as u64);
        engine.stop();
        join_workers(&engine);
        let released = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                pace(Duration::from_millis(200));
                released.store(true, Ordering::SeqCst);
                gate.release(peers.len());
            });
            drop(engine);
            assert!(released.load(Ordering::SeqCst), "calls go on after the engine is gone");
        });
        drop(peers);
        eventually_no_threads();
    });
}

/// Draining with a call that does not come back: the deadline holds, what was cut off is counted, and that a thread is left is
/// told.
#[test]
fn draining_while_a_transform_never_returns() {
    isolated_with(Gate::new, |gate| {
        let transports = Transport::all();
        let (engine, urls) = gate.serve_all(&transports, "", "maps");
        let peers = |asked: &[u8]| {
            let peers = urls.iter().map(|url| Peer::connect(url)).inspect(|peer| peer.send(asked));
            peers.collect::<Vec<_>>()
        };
        let idle = peers(b"done");
        idle.iter().for_each(|peer| assert_eq!(peer.message(), b"done"));
        let blocked = peers(b"B");
        eventually_counted(&engine, "maps.entered", blocked.len() as u64);
        let start = Instant::now();
        let drained = engine.drain(Duration::from_millis(300));
        let passed = start.elapsed();
        balanced(&engine);
        gate.release(blocked.len());
        assert!(matches!(drained, Err(Error::Timeout { .. })), "{drained:?}");
        assert!(passed >= Duration::from_millis(300) && passed < PATIENCE, "{passed:?}");
        for (transport, stats) in transports.iter().zip(stats_of_each(&engine)) {
            if transport.is_connected() {
                assert_eq!(stats.closed_by(CloseReason::CutOff), 1, "{transport:?} {stats:?}");
                assert_eq!(stats.closed_by(CloseReason::Drained), 1, "{transport:?} {stats:?}");
            } else {
                assert_eq!(stats.dropped_by(DropReason::Undelivered), 1, "{transport:?} {stats:?}");
            }
        }
        finish(engine);
    });
}

/// Who was told the end by a transform may go on talking; it is read and thrown away until he ends too, so that no
/// reset takes the last answer.
#[test]
fn a_closed_connection_is_read_to_its_end() {
    isolated_on_each(Gate::new, Transport::streams, |gate, transport| {
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
    });
}

/// One instance that wants one call at a time gets one call at a time, also beside a transform that takes the whole
/// chain off the worker.
#[test]
fn never_two_calls_at_once() {
    isolated_with(Gate::new, |gate| {
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
                let builder = engine_builder().threads(2).unwrap().chain(&gate.chain(chain)).unwrap();
                let builder = builder.listen(&transport.url(gate.directory.path())).unwrap();
                let engine = builder.start().unwrap();
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

/// A chain whose calls do not return keeps its share of the threads: another one that needs them works, and what a third
/// leaves is destroyed.
#[test]
fn a_chain_that_blocks_leaves_threads_to_the_others() {
    isolated_on_each(Gate::new, Transport::all, |gate, transport| {
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
            engine.set_chain_of(ids[2], &gate.chain("plain")).unwrap();
            engine.set_chain_of(ids[2], "uppercase").unwrap();
            assert_eq!(Peer::connect(&third).ask(b"x"), b"X");
        }
        eventually_counted(&engine, "plain.destroyed", 3);
        assert_eq!(counter(&engine, "blocks.entered"), 4, "{transport:?}: no more than its share");
        gate.release(10);
        peers.iter().for_each(|peer| assert_eq!(peer.message(), b"B", "{transport:?}"));
        drop((peers, asking));
        finish(engine);
    });
}

/// Whoever resets while its message is with a transform is given up: descriptors, and the place in `max_per_peer`, also where
/// no thread has begun with it.
#[test]
fn a_peer_that_is_gone_is_given_up_while_a_transform_has_its_message() {
    isolated_with(Gate::new, |gate| {
        let (engine, urls) = gate.serve_all(&Transport::connected(), "?max_per_peer=6", "blocks");
        assert_eq!(Peer::connect(&plain_listener(&engine)).ask(b"x"), b"X");
        eventually_stats(&engine, "it has left", |stats| stats.open == 0);
        let before = descriptors().len();
        let six = |url: &String| [(); 6].map(|()| Peer::connect(url));
        let peers: Vec<_> = urls.iter().flat_map(six).collect();
        peers.iter().for_each(|peer| assert_eq!(peer.ask(b"open"), b"open"));
        peers.iter().for_each(|peer| peer.send(b"B"));
        eventually_counted(&engine, "blocks.entered", 4 * urls.len() as u64);
        peers.into_iter().for_each(Peer::reset);
        eventually_stats(&engine, "all are given up", |stats| stats.open == 0);
        for stats in &stats_of_each(&engine)[..urls.len()] {
            assert_eq!(stats.closed_by(CloseReason::PeerReset), 6, "{stats:?}");
        }
        eventually("the descriptors are given back", || match descriptors().len() {
            // The ring may have come meanwhile.
            now if now <= before + 4 => Ok(()),
            now => Err(format!("{now}, before {before}")),
        });
        let again: Vec<_> = urls.iter().flat_map(six).collect();
        let stats = eventually_stats(&engine, "they come again", |stats| stats.open == again.len() as u64);
        assert_eq!(stats.rejected, 0, "{stats:?}");
        gate.release(4 * urls.len());
        again.iter().step_by(6).for_each(|peer| assert_eq!(peer.ask(b"now"), b"now"));
        for stats in &stats_of_each(&engine)[..urls.len()] {
            assert_eq!(stats.dropped_by(DropReason::Undelivered), 6, "{stats:?}");
        }
        drop(again);
        finish(engine);
    });
}

/// So is one that has ended its side, after `idle_timeout`: it may be gone.
#[test]
fn who_has_ended_his_side_is_given_up_while_a_transform_has_his_message() {
    isolated_with(Gate::new, |gate| {
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

/// In [`a_transform_that_does_not_return_is_named`].
const WATCHDOG: Duration = Duration::from_millis(200);

/// A call that does not return is named, once, and so is its return.
#[test]
fn a_transform_that_does_not_return_is_named() {
    isolated_on_each(Gate::new, Transport::all, |gate, transport| {
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
    });
}

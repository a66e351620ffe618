//! The hot swap: who changes over when, what goes along, and when the old chain is gone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::plugin::*;
use common::*;
use resay::{CloseReason, Engine, Stats};
use tempfile::TempDir;

/// Transforms that put their option `mark`, one letter, where a message has question marks.
const CODE: &str = r#"
#define _GNU_SOURCE
#include <resay_plugin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

struct own { const resay_host *host; char mark; uint32_t created, destroyed, on_worker, opened, closed; };

static resay_status create(const resay_transform *transform, const resay_host *host, const resay_kv *options,
                           size_t n_options, void **instance, resay_text *err) {
  static int refused;
  struct own *own = calloc(1, sizeof *own);
  (void)transform;
  if (!own) return RESAY_E_NOMEM;
  own->host = host;
  own->mark = n_options > 0 && options[0].value.len == 1 ? (char)options[0].value.ptr[0] : '?';
  /* '!' is no mark, and '2' is one for the first instance only. */
  if (own->mark == '!' || (own->mark == '2' && refused++)) {
    snprintf(err->buf, err->cap, "no such mark");
    free(own);
    return RESAY_E_CONFIG;
  }
  own->created = host->counter(host->ctx, "created");
  own->destroyed = host->counter(host->ctx, "destroyed");
  own->on_worker = host->counter(host->ctx, "destroyed-on-worker");
  own->opened = host->counter(host->ctx, "opened");
  own->closed = host->counter(host->ctx, "closed");
  host->counter_add(host->ctx, own->created, 1);
  *instance = own;
  return RESAY_OK;
}
static void add(struct own *own, uint32_t counter) { own->host->counter_add(own->host->ctx, counter, 1); }
static void destroy(void *instance) {
  struct own *own = instance;
  char name[17] = "";
  prctl(PR_GET_NAME, name);
  /* Workers are resay-0, resay-1, …; other threads of an engine have no number there. */
  if (strncmp(name, "resay-", 6) == 0 && name[6] >= '0' && name[6] <= '9') add(own, own->on_worker);
  add(own, own->destroyed);
  memset(own, 0xee, sizeof *own);
  free(own);
}
static resay_status session_open(void *instance, void *session, const resay_peer *peer, resay_text *err) {
  (void)session, (void)peer, (void)err;
  add(instance, ((struct own *)instance)->opened);
  return RESAY_OK;
}
static void session_close(void *instance, void *session) {
  (void)session;
  add(instance, ((struct own *)instance)->closed);
}
static void put_mark(const struct own *own, uint8_t *data, size_t len) {
  for (size_t i = 0; i < len; i++) if (data[i] == '?') data[i] = (uint8_t)own->mark;
}
static resay_status mark(void *instance, void *session, uint8_t *data, size_t len) {
  (void)session;
  put_mark(instance, data, len);
  return RESAY_OK;
}
static resay_status copy(void *instance, void *session, resay_io *io) {
  (void)session;
  if (io->input_len > 0) memcpy(io->output, io->input, io->input_len);
  io->input_used = io->output_len = io->input_len;
  put_mark(instance, io->output, io->output_len);
  return RESAY_OK;
}
/* Four bytes at a time; what is less waits for the rest. */
static resay_status fours(void *instance, void *session, resay_io *io) {
  (void)session;
  io->input_used = io->flags & RESAY_IO_EOF ? io->input_len : io->input_len / 4 * 4;
  if (io->input_used > 0) memcpy(io->output, io->input, io->input_used);
  io->output_len = io->input_used;
  put_mark(instance, io->output, io->output_len);
  return io->input_used < io->input_len ? RESAY_MORE_IN : RESAY_OK;
}

/* Counts a conversation's messages in their first byte. The number goes along with much else, which must be whole. */
#ifndef SCHEMA
#define SCHEMA "count/1"
#endif
struct count { uint64_t messages; uint8_t rest[5000]; };
static resay_status count(void *instance, void *session, uint8_t *data, size_t len) {
  struct count *own = session;
  for (size_t i = 0; i < sizeof own->rest; i++) if (own->rest[i] != (uint8_t)(own->messages * i)) return RESAY_E_DATA;
  own->messages++;
  for (size_t i = 0; i < sizeof own->rest; i++) own->rest[i] = (uint8_t)(own->messages * i);
  if (len > 0) data[0] = (uint8_t)('0' + own->messages % 10);
  put_mark(instance, data, len);
  return RESAY_OK;
}
static resay_status save(void *instance, const void *session, resay_io *io) {
  (void)instance;
  if (io->input_len != 0) return RESAY_E_DATA;
  if (io->output_cap < sizeof(struct count)) {
    io->output_need = sizeof(struct count);
    return RESAY_MORE_OUT;
  }
  memcpy(io->output, session, io->output_len = sizeof(struct count));
  return RESAY_OK;
}
static resay_status load(void *instance, void *session, const char *schema, resay_bytes state, resay_text *err) {
  struct count *own = session;
  (void)instance;
  if (strcmp(schema, SCHEMA) != 0 || state.len != sizeof *own) {
    snprintf(err->buf, err->cap, "not %s", SCHEMA);
    return RESAY_E_UNSUPPORTED;
  }
  if (own->messages != 0) return RESAY_E_DATA;
  memcpy(own, state.ptr, sizeof *own);
  return RESAY_OK;
}
static const void *extension(const resay_transform *transform, const char *id) {
  static const resay_session_state state = { sizeof state, SCHEMA, save, load };
  (void)transform;
  return strcmp(id, RESAY_EXT_SESSION_STATE) == 0 ? &state : NULL;
}
static const resay_option options[] = {{.key = "mark", .type = "string", .fallback = "?", .help = "one letter"}};

#define TABLE(name, ...) \
  static const resay_transform name##_table = { .struct_size = sizeof(resay_transform), .id = #name, \
    .options = options, .n_options = 1, .create = create, .destroy = destroy, __VA_ARGS__ };
#define SESSION .session_open = session_open, .session_close = session_close
TABLE(mark, .map = mark)
TABLE(each, .map = mark, .threading = RESAY_PER_WORKER)
TABLE(copy, .process = copy, .out_mul = 1, .out_div = 1)
TABLE(fours, .process = fours, .out_mul = 1, .out_div = 1)
TABLE(count, .map = count, .session_size = sizeof(struct count), .session_align = _Alignof(struct count),
      .extension = extension, SESSION)
TABLE(forget, .map = mark, SESSION)
RESAY_PLUGIN(&mark_table, &each_table, &copy_table, &fours_table, &count_table, &forget_table);
"#;

struct Plugin(TempDir);

impl Plugin {
    fn new() -> Option<Plugin> {
        has_compiler().then(|| {
            let directory = directory();
            compile_with(directory.path(), "swap", CODE, &[]);
            compile_with(directory.path(), "other", CODE, &["-DSCHEMA=\"count/2\""]);
            Plugin(directory)
        })
    }

    /// A chain: `mark/a | =uppercase` is the plugin's `mark` with the mark a, then the engine's `uppercase`; `other/`
    /// in front means the library of another schema.
    fn chain(&self, names: &str) -> String {
        let stage = |name: &str| {
            if let Some(own) = name.strip_prefix('=') {
                return own.to_owned();
            }
            let (file, name) = match name.strip_prefix("other/") {
                Some(name) => ("libother.so", name),
                None => ("libswap.so", name),
            };
            let (id, mark) = name.split_once('/').unwrap();
            let mark = if mark == "!" { "\"!\"" } else { mark };
            format!("{}#{id}:mark={mark}", self.0.path().join(file).display())
        };
        names.split('|').map(|name| stage(name.trim())).collect::<Vec<_>>().join(" | ")
    }

    fn serve(&self, transport: Transport, options: &str, names: &str) -> (Engine, String) {
        let url = transport.url(self.0.path());
        serve(&if options.is_empty() { url } else { format!("{url}?{options}") }, &self.chain(names))
    }

    fn swap(&self, engine: &Engine, names: &str) {
        engine.set_chain(&self.chain(names)).unwrap();
    }
}

/// Instances of a transform that have been created and not destroyed.
fn living(engine: &Engine, id: &str) -> u64 {
    counter(engine, &format!("{id}.created")) - counter(engine, &format!("{id}.destroyed"))
}

#[track_caller]
fn eventually_living(engine: &Engine, id: &str, wanted: u64) {
    eventually(&format!("{wanted} of {id} live"), || match living(engine, id) {
        found if found == wanted => Ok(()),
        _ => Err(format!("{:?}", engine.transform_counters())),
    });
}

/// Asks until the answer is the wanted one: workers notice a swap at their next turn.
#[track_caller]
fn eventually_answers(peer: &Peer, question: &[u8], wanted: &[u8]) {
    eventually("the new chain answers", || match peer.ask(question) {
        answer if answer == wanted => Ok(()),
        answer => Err(String::from_utf8_lossy(&answer).into_owned()),
    });
}

/// Waits until so much time has passed since then.
fn until_passed(since: Instant, millis: u64) {
    eventually("time passes", || {
        if since.elapsed() >= Duration::from_millis(millis) { Ok(()) } else { Err(String::new()) }
    });
}

/// Stops the engine; every conversation that was opened is closed, every instance destroyed.
#[track_caller]
fn finish_all(engine: Engine) -> Stats {
    engine.stop();
    engine.join(PATIENCE).unwrap();
    let stats = balanced(&engine);
    for id in ["count", "forget"] {
        let (opened, closed) =
            (counter(&engine, &format!("{id}.opened")), counter(&engine, &format!("{id}.closed")));
        assert_eq!(opened, closed, "{id}: {:?}", engine.transform_counters());
    }
    stats
}

/// Where nothing is remembered, everybody changes over at once, and with the last the old chain is gone.
#[test]
fn stateless_chains_change_at_once() {
    isolated(|| {
        let Some(plugin) = Plugin::new() else { return };
        for transport in Transport::all() {
            let (engine, url) = plugin.serve(transport, "", "mark/a");
            let peer = Peer::connect(&url);
            assert_eq!(peer.ask(b"who?"), b"whoa", "{transport:?}");
            for (chain, mark) in
                [("mark/b", b'b'), ("copy/c", b'c'), ("=identity | mark/d", b'd'), ("mark/e", b'e')]
            {
                plugin.swap(&engine, chain);
                eventually_answers(&peer, b"who?", &[b'w', b'h', b'o', mark]);
                eventually("only the new chain is left", || {
                    match living(&engine, "mark") + living(&engine, "copy") {
                        1 => Ok(()),
                        _ => Err(format!("{transport:?}: {:?}", engine.transform_counters())),
                    }
                });
            }
            // An idle connection goes over as well: nothing of the old chain stays for its sake.
            plugin.swap(&engine, "=uppercase");
            eventually_living(&engine, "mark", 0);
            assert_eq!(peer.ask(b"who?"), b"WHO?", "{transport:?}");
            drop(peer);
            finish_all(engine);
        }
    });
}

/// What a conversation remembers goes along, over transforms that come and go.
#[test]
fn sessions_are_carried_over() {
    isolated(|| {
        let Some(plugin) = Plugin::new() else { return };
        for transport in Transport::connected() {
            let (engine, url) = plugin.serve(transport, "", "count/a");
            let peers = [Peer::connect(&url), Peer::connect(&url)];
            assert_eq!(peers[0].ask(b"_?"), b"1a", "{transport:?}");
            for (number, chain) in
                ["count/b", "count/c | =identity", "copy/d | count/e", "count/f"].iter().enumerate()
            {
                plugin.swap(&engine, chain);
                eventually_counted(&engine, "count.closed", 2 * (number as u64 + 1));
                let mark = b"bcdf"[number];
                assert_eq!(peers[0].ask(b"_?"), [b'2' + number as u8, mark], "{transport:?}");
                eventually_living(&engine, "count", 1);
            }
            assert_eq!(peers[1].ask(b"_?"), b"1f", "{transport:?}: each has its own");
            let new = Peer::connect(&url);
            assert_eq!(new.ask(b"_?"), b"1f", "{transport:?}");
            drop((peers, new));
            finish_all(engine);
        }
    });
}

/// A conversation that cannot go along stays, and the others do not wait for it: no extension, an unknown schema, no
/// such transform any more.
#[test]
fn who_cannot_go_along_stays() {
    isolated(|| {
        let Some(plugin) = Plugin::new() else { return };
        for transport in Transport::connected() {
            for (old, new) in [
                ("forget/a", "forget/b"),
                ("count/a", "other/count/b"),
                ("count/a", "mark/b"),
                ("mark/a | forget/x", "mark/b | count/x"),
            ] {
                let (engine, url) = plugin.serve(transport, "", old);
                let what = format!("{transport:?} {old} {new}");
                let veteran = Peer::connect(&url);
                assert_eq!(veteran.ask(b"1 ?"), b"1 a", "{what}");
                plugin.swap(&engine, new);
                eventually("who comes now has the new one", || match Peer::connect(&url).ask(b"1 ?") {
                    answer if answer == b"1 b" => Ok(()),
                    answer => Err(format!("{answer:?}")),
                });
                let second = if old.starts_with("count") { b"2 a" } else { b"1 a" };
                assert_eq!(veteran.ask(b"1 ?"), second, "{what}");
                // Back where it came from is a change as any other.
                plugin.swap(&engine, old);
                drop(veteran);
                eventually_stats(&engine, "all have left", |stats| stats.open == 0);
                let id = old.split('/').next().unwrap();
                eventually_living(&engine, id, 1);
                finish_all(engine);
            }
        }
    });
}

/// A later chain that can take a conversation gets it, whatever was between.
#[test]
fn who_stayed_goes_along_later() {
    isolated(|| {
        let Some(plugin) = Plugin::new() else { return };
        let (engine, url) = plugin.serve(Transport::Tcp4, "", "count/a");
        let peer = Peer::connect(&url);
        assert_eq!(peer.ask(b"_?"), b"1a");
        plugin.swap(&engine, "other/count/b");
        plugin.swap(&engine, "mark/c");
        assert_eq!(peer.ask(b"_?"), b"2a");
        plugin.swap(&engine, "count/d");
        eventually_living(&engine, "count", 1);
        assert_eq!(peer.ask(b"_?"), b"3d");
        drop(peer);
        finish_all(engine);
    });
}

/// Who still needs the old chain when `swap_timeout` is over is closed, for that reason, and nobody else; other limits
/// of the connection take nothing from that.
#[test]
fn the_old_chain_has_its_time() {
    isolated(|| {
        let Some(plugin) = Plugin::new() else { return };
        for transport in Transport::connected() {
            for options in ["swap_timeout=300ms", "swap_timeout=300ms&idle_timeout=1h"] {
                let (engine, url) = plugin.serve(transport, options, "forget/a");
                let what = format!("{transport:?} {options}");
                let peer = Peer::connect(&url);
                assert_eq!(peer.ask(b"?"), b"a", "{what}");
                let start = Instant::now();
                plugin.swap(&engine, "mark/b");
                // Who comes before the worker's next turn may still get the old one.
                let new = eventually("who comes now has the new one", || {
                    let new = Peer::connect(&url);
                    if new.ask(b"?") == b"b" { Ok(new) } else { Err(String::new()) }
                });
                assert_eq!(peer.message(), b"", "{what}: it is closed in good order");
                assert!(start.elapsed() >= Duration::from_millis(250), "{what}: {:?}", start.elapsed());
                peer.half_close();
                let stats = eventually_stats(&engine, "it is closed", |stats| stats.open == 1);
                assert_eq!(stats.closed_by(CloseReason::ChainReplaced), 1, "{what} {stats:?}");
                assert_eq!(new.ask(b"?"), b"b", "{what}");
                eventually_living(&engine, "forget", 0);
                drop(new);
                finish_all(engine);
            }
        }
    });
}

/// The time is that of the chain the connection needs: later swaps, of this listener or of another, do not renew it.
#[test]
fn later_swaps_do_not_renew_the_time() {
    isolated(|| {
        let Some(plugin) = Plugin::new() else { return };
        for others in [false, true] {
            let (engine, url) = plugin.serve(Transport::Tcp4, "swap_timeout=500ms", "forget/a");
            let other = engine.listen("tcp://127.0.0.1:0?chain=identity").unwrap();
            let peer = Peer::connect(&url);
            assert_eq!(peer.ask(b"?"), b"a");
            plugin.swap(&engine, "mark/b");
            peer.socket.set_nonblocking(true).unwrap();
            let mut round = 0;
            eventually("it is closed", || {
                round += 1;
                let chain = plugin.chain(["mark/c", "mark/d"][round % 2]);
                if others {
                    engine.set_chain_of(other, &chain).unwrap();
                } else {
                    engine.set_chain(&chain).unwrap();
                }
                match peer.try_recv(1) {
                    Ok(end) if end.is_empty() => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            });
            finish_all(engine);
        }
    });
}

/// Input that a transform has in hand belongs to the chain that it was given to, until it is consumed.
#[test]
fn unread_input_keeps_its_chain() {
    isolated(|| {
        let Some(plugin) = Plugin::new() else { return };
        for transport in Transport::streams() {
            let (engine, url) = plugin.serve(transport, "", "fours/a");
            let (peer, other) = (Peer::connect(&url), Peer::connect(&url));
            peer.send(b"????12");
            assert_eq!(peer.exactly(4), b"aaaa", "{transport:?}");
            plugin.swap(&engine, "fours/b");
            eventually_answers(&other, b"????", b"bbbb");
            // The rest of what was begun, and what came with it, goes where its beginning went.
            peer.send(b"3????4");
            assert_eq!(peer.exactly(8), b"123aaaa4".map(|byte| byte), "{transport:?}");
            assert_eq!(peer.ask(b"????"), b"bbbb", "{transport:?}");
            eventually_living(&engine, "fours", 1);
            // The end also consumes it.
            peer.send(b"12");
            eventually_stats(&engine, "it has come", |stats| stats.bytes_in % 4 == 2);
            plugin.swap(&engine, "mark/c");
            eventually_answers(&other, b"????", b"cccc");
            peer.half_close();
            assert_eq!(peer.to_end(), b"12", "{transport:?}");
            eventually_living(&engine, "fours", 0);
            drop(other);
            finish_all(engine);
        }
    });
}

/// Who has nothing of the old chain in hand any more does not need it, and is not closed for it.
#[test]
fn consumed_input_keeps_nothing() {
    isolated(|| {
        let Some(plugin) = Plugin::new() else { return };
        let (engine, url) = plugin.serve(Transport::Tcp4, "swap_timeout=3s", "fours/a");
        let (peer, witness) = (Peer::connect(&url), Peer::connect(&url));
        assert_eq!(witness.ask(b"????"), b"aaaa");
        peer.send(b"12");
        eventually_stats(&engine, "it has come", |stats| stats.bytes_in == 6);
        let start = Instant::now();
        plugin.swap(&engine, "mark/b");
        eventually_answers(&witness, b"????", b"bbbb");
        peer.send(b"34");
        assert_eq!(peer.exactly(4), b"1234");
        until_passed(start, 4000);
        assert_eq!(witness.ask(b"????"), b"bbbb");
        assert!(!peer.has_something(), "it is closed, with nothing of the old chain in hand");
        assert_eq!(peer.ask(b"????"), b"bbbb");
        drop((peer, witness));
        finish_all(engine);
    });
}

/// A chain that cannot be created, for all workers, changes nothing and leaves nothing.
#[test]
fn a_chain_that_cannot_be_created_changes_nothing() {
    isolated(|| {
        let Some(plugin) = Plugin::new() else { return };
        let engine = engine_builder()
            .listen("tcp://127.0.0.1:0")
            .unwrap()
            .chain(&plugin.chain("each/a"))
            .unwrap()
            .threads(3)
            .unwrap()
            .start()
            .unwrap();
        let peer = Peer::connect(&engine.urls()[0]);
        assert_eq!(peer.ask(b"?"), b"a");
        for chain in ["each/!", "=uppercase | each/!", "each/x | each/!", "each/2"] {
            let error = engine.set_chain(&plugin.chain(chain)).unwrap_err().to_string();
            assert!(error.contains("no such mark"), "{chain}: {error}");
            assert_eq!(engine.listeners()[0].chain, plugin.chain("each/a"), "{chain}");
            assert_eq!(peer.ask(b"?"), b"a", "{chain}");
            assert_eq!(living(&engine, "each"), 3, "{chain}: {:?}", engine.transform_counters());
            let id = engine.listeners()[0].id;
            assert!(engine.set_chain_of(id, &plugin.chain(chain)).is_err(), "{chain}");
            assert_eq!(peer.ask(b"?"), b"a", "{chain}");
        }
        plugin.swap(&engine, "each/b");
        eventually_answers(&peer, b"?", b"b");
        eventually_living(&engine, "each", 3);
        drop(peer);
        finish_all(engine);
    });
}

/// A thousand swaps leave exactly the instances that are in use: with idle and busy connections, conversations that
/// go along and such that stay, and datagrams.
#[test]
fn old_generations_are_destroyed() {
    isolated(|| {
        let Some(plugin) = Plugin::new() else { return };
        let transports = Transport::all();
        let mut builder =
            engine_builder().chain(&plugin.chain("each/a | count/a")).unwrap().threads(2).unwrap();
        for transport in &transports {
            builder = builder.listen(&transport.url(plugin.0.path())).unwrap();
        }
        let engine = builder.start().unwrap();
        let peers: Vec<_> = engine.urls().iter().map(|url| Peer::connect(url)).collect();
        let connected: Vec<_> = transports.iter().map(|transport| transport.is_connected()).collect();
        let veterans = [Peer::connect(&engine.urls()[0]), Peer::connect(&engine.urls()[2])];
        assert!(connected[0] && connected[2]);
        veterans.iter().for_each(|peer| assert_eq!(peer.ask(b"1"), b"1"));
        for round in 0..1000_u64 {
            plugin.swap(&engine, ["each/b | count/b", "each/a | count/a"][round as usize % 2]);
            let place = round as usize % peers.len();
            let expected = if connected[place] { (round / peers.len() as u64 + 1) % 10 } else { 1 };
            assert_eq!(
                peers[place].ask(b"_"),
                expected.to_string().as_bytes(),
                "{round} {:?}",
                transports[place]
            );
        }
        eventually_living(&engine, "each", 2);
        eventually_living(&engine, "count", 1);
        veterans.iter().for_each(|peer| assert_eq!(peer.ask(b"_"), b"2"));
        // Those that stay keep theirs, and only those.
        plugin.swap(&engine, "forget/a");
        eventually_living(&engine, "each", 2);
        plugin.swap(&engine, "mark/a");
        eventually_living(&engine, "forget", 0);
        assert_eq!(veterans[0].ask(b"_"), b"3");
        drop((peers, veterans));
        eventually_living(&engine, "count", 0);
        eventually_living(&engine, "each", 0);
        assert_eq!(living(&engine, "mark"), 1);
        finish_all(engine);
    });
}

/// `destroy` is for control threads: a plugin may take its time there, and no worker waits for it.
#[test]
fn no_worker_destroys() {
    isolated(|| {
        let Some(plugin) = Plugin::new() else { return };
        for (chain, how) in [("mark/a", "idle"), ("count/a", "carried"), ("forget/a", "left")] {
            let id = chain.split('/').next().unwrap();
            let (engine, url) = plugin.serve(Transport::Tcp4, "", chain);
            let peer = Peer::connect(&url);
            assert_eq!(peer.ask(b"1?"), b"1a", "{how}");
            plugin.swap(&engine, &chain.replace("/a", "/b"));
            if how == "left" {
                drop(peer);
            }
            eventually_living(&engine, id, 1);
            let counters = engine.transform_counters();
            assert_eq!(counter(&engine, &format!("{id}.destroyed-on-worker")), 0, "{how}: {counters:?}");
            finish_all(engine);
        }
    });
}

/// The chain of one listener is its own; that of the engine is all others'.
#[test]
fn whose_chain_is_changed() {
    isolated(|| {
        let Some(plugin) = Plugin::new() else { return };
        let own = format!("tcp://127.0.0.1:0?chain={}", plugin.chain("mark/o").replace('#', "%23"));
        let builder =
            engine_builder().listen("tcp://127.0.0.1:0").unwrap().listen("udp://127.0.0.1:0").unwrap();
        let engine = builder.listen(&own).unwrap().chain(&plugin.chain("mark/a")).unwrap().start().unwrap();
        let peers: Vec<_> = engine.urls().iter().map(|url| Peer::connect(url)).collect();
        let ids: Vec<_> = engine.listeners().iter().map(|listener| listener.id).collect();
        let marks = |expected: &str| {
            for (peer, mark) in peers.iter().zip(expected.bytes()) {
                eventually_answers(peer, b"?", &[mark]);
            }
            // And again, since each may only have been on its way.
            let answers: Vec<u8> = peers.iter().flat_map(|peer| peer.ask(b"?")).collect();
            assert_eq!(String::from_utf8_lossy(&answers), expected);
        };
        marks("aao");
        plugin.swap(&engine, "mark/b");
        marks("bbo");
        engine.set_chain_of(ids[1], &plugin.chain("mark/c")).unwrap();
        marks("bco");
        plugin.swap(&engine, "mark/d");
        marks("dco");
        engine.set_chain_of(ids[2], &plugin.chain("mark/e")).unwrap();
        marks("dce");
        eventually_living(&engine, "mark", 3);
        // A listener that comes now has the engine's.
        let new = engine.listen("tcp://127.0.0.1:0").unwrap();
        assert_eq!(Peer::connect(&engine.listener(new).unwrap().url).ask(b"?"), b"d");
        engine.close_listener(ids[2]).unwrap();
        assert!(engine.set_chain_of(ids[2], &plugin.chain("mark/f")).is_err());
        drop(peers);
        eventually_living(&engine, "mark", 2);
        finish_all(engine);
    });
}

/// Two thousand swaps under load: each answer is one of the two chains' answers, whole and in order, and none is lost.
#[test]
fn swapped_under_load() {
    isolated(|| {
        const SWAPS: u64 = 2000;
        let Some(plugin) = Plugin::new() else { return };
        let transports = Transport::all();
        // One works in place, the other needs memory of its own.
        let chains = [plugin.chain("mark/a"), plugin.chain("copy/b | =identity")];
        let mut builder = engine_builder().chain(&chains[0]).unwrap().threads(2).unwrap();
        for transport in &transports {
            builder = builder.listen(&transport.url(plugin.0.path())).unwrap();
        }
        let engine = builder.set("frame", "lines").unwrap().start().unwrap();
        let (done, asked, both) =
            (AtomicBool::new(false), AtomicU64::new(0), [const { AtomicU64::new(0) }; 2]);
        let check = |answer: &[u8], number: u64, what: &dyn std::fmt::Debug| {
            let text = String::from_utf8_lossy(answer);
            let (a, b) =
                (format!("{number} {}\n", "a".repeat(200)), format!("{number} {}\n", "b".repeat(200)));
            assert!(text == a || text == b, "{what:?}: {text}, not {a}");
            both[usize::from(text == b)].fetch_add(1, Ordering::Relaxed);
            asked.fetch_add(1, Ordering::Relaxed);
        };
        let question = |number: u64| format!("{number} {}\n", "?".repeat(200)).into_bytes();
        thread::scope(|scope| {
            for (transport, url) in transports.iter().zip(engine.urls()) {
                let (done, check) = (&done, &check);
                scope.spawn(move || {
                    let (peer, mut number) = (Peer::connect(&url), 10_000);
                    while !done.load(Ordering::Relaxed) {
                        // A stream's messages come in threes, cut anywhere; the others' one by one.
                        let count = if transport.is_stream() { 3 } else { 1 };
                        let questions: Vec<u8> = (number..number + count).flat_map(question).collect();
                        let (head, tail) =
                            questions.split_at(if transport.is_stream() { 99 } else { questions.len() });
                        peer.send(head);
                        if !tail.is_empty() {
                            peer.send(tail);
                        }
                        for _ in 0..count {
                            let answer =
                                if transport.is_stream() { peer.exactly(207) } else { peer.message() };
                            check(&answer, number, transport);
                            number += 1;
                        }
                    }
                });
            }
            for swap in 1..=SWAPS {
                engine.set_chain(&chains[swap as usize % 2]).unwrap();
                // Some of the load is between any two swaps.
                let before = asked.load(Ordering::Relaxed);
                eventually("the load goes on", || {
                    if asked.load(Ordering::Relaxed) > before { Ok(()) } else { Err("no answer".into()) }
                });
            }
            done.store(true, Ordering::Relaxed);
        });
        let found = both.map(AtomicU64::into_inner);
        assert!(found[0] > SWAPS / 10 && found[1] > SWAPS / 10, "{found:?}");
        eventually_stats(&engine, "all have left", |stats| stats.open == 0);
        eventually_living(&engine, "copy", 0);
        eventually_living(&engine, "mark", 1);
        let stats = finish_all(engine);
        assert_eq!((stats.messages_in, stats.dropped), (stats.messages_out, 0), "{stats:?}");
    });
}

/// One call in 64 turns of a worker is timed, of each stage; what was counted stays when the chain is gone.
#[test]
fn the_times_of_a_transform_outlive_its_chain() {
    isolated(|| {
        let (engine, url) = serve("tcp://127.0.0.1:0?frame=lines", "uppercase | hex");
        let peer = Peer::connect(&url);
        let time = |id: &str| engine.transform_times().into_iter().find(|time| time.id == id).unwrap();
        let calls = |id: &str| time(id).calls.iter().sum::<u64>();
        let mut turns = 0;
        // One works in place, the other makes output of its own.
        while calls("uppercase").min(calls("hex")) < 3 {
            assert_eq!(peer.ask_for(b"a\n", 3), b"41\n");
            turns += 1;
            assert!(turns < 10_000, "{:?}", engine.transform_times());
        }
        // A message is one turn, or a few.
        assert!(turns > 30, "{turns}");
        assert!(calls("uppercase") <= turns / 8, "{:?}", time("uppercase"));
        assert!(time("uppercase").sum > Duration::ZERO && time("hex").sum > Duration::ZERO);
        let before = time("uppercase");
        engine.set_chain("hex").unwrap();
        assert_eq!(peer.ask_for(b"a\n", 3), b"61\n");
        assert_eq!(time("uppercase"), before);
        finish(engine);
    });
}

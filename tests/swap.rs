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
TABLE(count, .map = count, .session_size = sizeof(struct count), .session_align = _Alignof(struct count),
      .extension = extension, SESSION)
TABLE(forget, .map = mark, SESSION)
RESAY_PLUGIN(&mark_table, &each_table, &copy_table, &count_table, &forget_table);
"#;

struct Plugin(TempDir);

impl Plugin {
    fn new() -> Option<Plugin> {
        has_compiler().then(|| {
            let directory = directory();
            compile_with(directory.path(), "swap", CODE, &[]);
            Plugin(directory)
        })
    }

    /// The same with a library beside it that keeps its conversations in another schema.
    fn with_other() -> Option<Plugin> {
        let plugin = Plugin::new()?;
        compile_with(plugin.0.path(), "other", CODE, &["-DSCHEMA=\"count/2\""]);
        Some(plugin)
    }

    /// A chain: `mark/a | =uppercase` is the plugin's `mark` with the mark a, then the engine's `uppercase`; `other/`
    /// in front means the library of another schema.
    fn chain(&self, names: &str) -> String {
        chain_of(names, |name| {
            let other = name.strip_prefix("other/");
            let file = self.0.path().join(if other.is_some() { "libother.so" } else { "libswap.so" });
            let (id, mark) = other.unwrap_or(name).split_once('/').unwrap();
            let mark = if mark == "!" { "\"!\"" } else { mark };
            format!("{}#{id}:mark={mark}", file.display())
        })
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

/// Stops the engine; every conversation that was opened is closed. What was destroyed before, no worker has destroyed: that is
/// for control threads, as a plugin may take its time there.
#[track_caller]
fn finish_all(engine: Engine) -> Stats {
    for (name, count) in engine.transform_counters() {
        assert!(!name.ends_with(".destroyed-on-worker") || count == 0, "{name}: {count}");
    }
    engine.stop();
    engine.join(PATIENCE).unwrap();
    let stats = balanced(&engine);
    for id in ["count", "forget"] {
        let of = |what: &str| counter(&engine, &format!("{id}.{what}"));
        assert_eq!(of("opened"), of("closed"), "{id}: {:?}", engine.transform_counters());
    }
    stats
}

/// Where nothing is remembered, everybody changes over at once, and with the last the old chain is gone.
#[test]
fn stateless_chains_change_at_once() {
    isolated_on_each(Plugin::new, Transport::all, |plugin, transport| {
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
    });
}

/// What a conversation remembers goes along, over transforms that come and go.
#[test]
fn sessions_are_carried_over() {
    isolated_on_each(Plugin::new, Transport::connected, |plugin, transport| {
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
    });
}

/// A conversation that cannot go along stays, and the others do not wait for it: no extension, an unknown schema, no
/// such transform any more.
#[test]
fn who_cannot_go_along_stays() {
    isolated_on_each(Plugin::with_other, Transport::connected, |plugin, transport| {
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
    });
}

/// Who still needs the old chain when `swap_timeout` is over is closed, for that reason and in good order, and nobody else.
/// What it goes along with until then, and when exactly that is, `src/connection/tests/swaps.rs` has.
#[test]
fn the_old_chain_has_its_time() {
    isolated_on_all_at_once(Plugin::new, Transport::connected, |plugin, transport| {
        let (engine, url) = plugin.serve(transport, "swap_timeout=300ms", "forget/a");
        let peer = Peer::connect(&url);
        assert_eq!(peer.ask(b"?"), b"a", "{transport:?}");
        let start = Instant::now();
        plugin.swap(&engine, "mark/b");
        assert_eq!(peer.message(), b"", "{transport:?}");
        assert!(start.elapsed() >= Duration::from_millis(250), "{transport:?}: {:?}", start.elapsed());
        let new = Peer::connect(&url);
        assert_eq!(new.ask(b"?"), b"b", "{transport:?}");
        peer.half_close();
        let stats = eventually_stats(&engine, "it is closed", |stats| stats.open == 1);
        assert_eq!(stats.closed_by(CloseReason::ChainReplaced), 1, "{transport:?} {stats:?}");
        eventually_living(&engine, "forget", 0);
        drop(new);
        finish_all(engine);
    });
}

/// A chain that cannot be created, for all workers, changes nothing and leaves nothing.
#[test]
fn a_chain_that_cannot_be_created_changes_nothing() {
    isolated_with(Plugin::new, |plugin| {
        let builder = engine_builder().threads(3).unwrap().chain(&plugin.chain("each/a")).unwrap();
        let engine = builder.listen("tcp://127.0.0.1:0").unwrap().start().unwrap();
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
    isolated_with(Plugin::new, |plugin| {
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
            let answer = peers[place].ask(b"_");
            assert_eq!(answer, expected.to_string().as_bytes(), "{round} {:?}", transports[place]);
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

/// The chain of one listener is its own; that of the engine is all others'.
#[test]
fn whose_chain_is_changed() {
    isolated_with(Plugin::new, |plugin| {
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
        let (done, both) = (AtomicBool::new(false), [const { AtomicU64::new(0) }; 2]);
        let asked = || both.iter().map(|count| count.load(Ordering::Relaxed)).sum::<u64>();
        let check = |answer: &[u8], number: u64, what: &dyn std::fmt::Debug| {
            let text = String::from_utf8_lossy(answer);
            let [a, b] = ["a", "b"].map(|mark| format!("{number} {}\n", mark.repeat(200)));
            assert!(text == a || text == b, "{what:?}: {text}, not {a}");
            both[usize::from(text == b)].fetch_add(1, Ordering::Relaxed);
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
                let before = asked();
                eventually("the load goes on", || {
                    if asked() > before { Ok(()) } else { Err("no answer".into()) }
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

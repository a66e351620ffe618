//! Plugins in chains: sessions, instances, messages.

use std::thread;

use crate::common::plugin::*;
use crate::common::*;
use crate::{compile, xor};
use resay::Engine;

/// Numbers the messages of a conversation, and counts conversations and instances.
const COUNTING: &str = r#"
#include <resay_plugin.h>
#include <stdlib.h>
#include <string.h>

struct own { const resay_host *host; uint32_t opened, closed; };

static resay_status create(const resay_transform *transform, const resay_host *host, const resay_kv *options,
                           size_t n_options, void **instance, resay_text *err) {
  (void)transform, (void)options, (void)n_options, (void)err;
  struct own *own = calloc(1, sizeof *own);
  if (!own) return RESAY_E_NOMEM;
  own->host = host;
  own->opened = host->counter(host->ctx, "opened");
  own->closed = host->counter(host->ctx, "closed");
  host->counter_add(host->ctx, host->counter(host->ctx, "created"), 1);
  *instance = own;
  return RESAY_OK;
}
static void destroy(void *instance) { free(instance); }
static resay_status session_open(void *instance, void *session, const resay_peer *peer, resay_text *err) {
  struct own *own = instance;
  (void)err;
  if (*(uint64_t *)session != 0 || !peer->local) return RESAY_E_DATA;
  own->host->counter_add(own->host->ctx, own->opened, 1);
  return RESAY_OK;
}
static void session_close(void *instance, void *session) {
  struct own *own = instance;
  (void)session;
  own->host->counter_add(own->host->ctx, own->closed, 1);
}
static resay_status map(void *instance, void *session, uint8_t *data, size_t len) {
  (void)instance;
  uint64_t number = ++*(uint64_t *)session;
  if (len > 0) data[0] = (uint8_t)('0' + number % 10);
  return RESAY_OK;
}
static const resay_transform counting = {
  .struct_size = sizeof counting, .needs = RESAY_NEED_MESSAGES, .threading = RESAY_PER_WORKER, .id = "counting",
  .session_size = sizeof(uint64_t), .session_align = _Alignof(uint64_t), .create = create, .destroy = destroy,
  .session_open = session_open, .session_close = session_close, .map = map,
};
RESAY_PLUGIN(&counting);
"#;

fn counter(engine: &Engine, name: &str) -> u64 {
    let counters = engine.transform_counters();
    counters.iter().find(|(known, _)| known == name).unwrap_or_else(|| panic!("{counters:?}")).1
}

/// A connection is a conversation from its first message to its last; a datagram is one of its own. Each that was
/// opened is closed, and an instance that wants to be alone is made once a worker.
#[test]
fn conversations() {
    isolated(|| {
        if !has_compiler() {
            return;
        }
        let directory = directory();
        let library = compile(directory.path(), "counting", COUNTING);
        let transports = Transport::all();
        let mut builder = engine_builder().chain(text(&library)).unwrap().threads(3).unwrap();
        for transport in &transports {
            builder = builder.listen(&transport.url(directory.path())).unwrap();
        }
        let engine = builder.set("frame", "lines").unwrap().start().unwrap();
        assert_eq!(counter(&engine, "counting.created"), 3);
        for (transport, url) in transports.iter().zip(engine.urls()) {
            let (one, two) = (Peer::connect(&url), Peer::connect(&url));
            for round in 1..=3 {
                let number = if transport.is_connected() { round } else { 1 };
                for peer in [&one, &two] {
                    assert_eq!(peer.ask(b"?\n"), format!("{number}\n").as_bytes(), "{transport:?}");
                }
            }
        }
        // While a conversation lasts, its transform is not taken from it; the next one has the new chain.
        let url = &engine.urls()[0];
        let veteran = Peer::connect(url);
        assert_eq!(veteran.ask(b"?\n"), b"1\n");
        engine.set_chain("uppercase").unwrap();
        assert_eq!(veteran.ask(b"?x\n"), b"2x\n");
        eventually("the new chain is there", || {
            let answer = Peer::connect(url).ask(b"x\n");
            if answer == b"X\n" { Ok(()) } else { Err(format!("{answer:?}")) }
        });
        assert_eq!(veteran.ask(b"?x\n"), b"3x\n");
        drop(veteran);
        engine.stop();
        engine.join(PATIENCE).unwrap();
        balanced(&engine);
        eventually("every conversation is closed", || {
            let (opened, closed) = (counter(&engine, "counting.opened"), counter(&engine, "counting.closed"));
            if opened > 20 && opened == closed { Ok(()) } else { Err(format!("{closed} of {opened}")) }
        });
        finish(engine);
    });
}

/// A transform that needs whole messages is refused on a raw stream, before anything is bound, and when a chain is
/// swapped; the old chain goes on.
#[test]
fn whole_messages_are_needed() {
    isolated(|| {
        if !has_compiler() {
            return;
        }
        let directory = directory();
        let library = compile(directory.path(), "counting", COUNTING);
        for transport in Transport::streams() {
            let url = transport.url(directory.path());
            let result = engine_builder().listen(&url).unwrap().chain(text(&library)).unwrap().build();
            let error = result.map(drop).unwrap_err().to_string();
            assert!(error.contains("counting") && error.contains("frame=lines"), "{transport:?}: {error}");
            let (engine, url) = serve(&url, "uppercase");
            assert!(engine.set_chain(text(&library)).is_err(), "{transport:?}");
            assert_eq!(Peer::connect(&url).ask(b"unchanged"), b"UNCHANGED", "{transport:?}");
            assert_eq!(engine.listeners()[0].chain, "uppercase", "{transport:?}");
            finish(engine);
        }
    });
}

/// A chain that cannot be made changes nothing: an unknown name, an unknown option, a wrong value.
#[test]
fn a_wrong_chain_changes_nothing() {
    isolated(|| {
        let (engine, url) = serve("tcp://127.0.0.1:0", "uppercase");
        let peer = Peer::connect(&url);
        for (chain, why) in [
            ("nothing-like-that", "unknown transform \"nothing-like-that\"; there are "),
            ("upercase", "unknown transform \"upercase\", did you mean \"uppercase\"?"),
            ("prefix:txt=a", "unknown option \"txt\", did you mean \"text\"?"),
            ("uppercase:loud=1", "unknown option"),
            ("uppercase:unicode=maybe", "unicode"),
            ("uppercase | nothing-like-that", "unknown transform"),
            ("uppercase |", ""),
        ] {
            let error = engine.set_chain(chain).unwrap_err().to_string();
            assert!(error.contains(why), "{chain}: {error}");
            let error = engine_builder()
                .chain(chain)
                .and_then(|builder| builder.listen("tcp://127.0.0.1:0")?.build().map(drop));
            assert!(error.unwrap_err().to_string().contains(why), "{chain}");
            assert_eq!(peer.ask(b"as before"), b"AS BEFORE", "{chain}");
        }
        // The chain of one listener is its own affair.
        let own = engine.listen("tcp://127.0.0.1:0?chain=identity").unwrap();
        let url = engine.listener(own).unwrap().url;
        engine.set_chain("uppercase:unicode=1").unwrap();
        assert_eq!(Peer::connect(&url).ask(b"mine"), b"mine");
        engine.set_chain_of(own, "uppercase").unwrap();
        eventually("its chain is changed", || {
            let answer = Peer::connect(&url).ask(b"mine");
            if answer == b"MINE" { Ok(()) } else { Err(format!("{answer:?}")) }
        });
        drop(peer);
        finish(engine);
    });
}

/// One instance for several workers, called from all of them at once.
#[test]
fn one_instance_for_four_workers() {
    isolated(|| {
        if !has_compiler() {
            return;
        }
        let directory = directory();
        for threading in ["RESAY_SHARED", "RESAY_SERIAL", "RESAY_PER_WORKER"] {
            let code =
                xor("threaded", 0x20).replace(".version", &format!(".threading = {threading}, .version"));
            let library = compile(directory.path(), &threading.to_lowercase(), &code);
            let engine = engine_builder()
                .listen("tcp://127.0.0.1:0")
                .unwrap()
                .chain(text(&library))
                .unwrap()
                .threads(4)
                .unwrap()
                .start()
                .unwrap();
            let url = engine.urls().remove(0);
            thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        let peer = Peer::connect(&url);
                        (0..100).for_each(|_| assert_eq!(peer.ask(b"together"), b"TOGETHER"));
                    });
                }
            });
            finish(engine);
        }
    });
}

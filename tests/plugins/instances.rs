//! Instances: entered by one thread at a time where their table says so, whatever calls them, and told what thread it is.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::common::plugin::*;
use crate::common::*;
use crate::compile;

/// Every function counts who is in the instance, stays for a while, and aborts where it meets another.
const ALONE: &str = r#"
#include <resay_plugin.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
struct own { const resay_host *host; const resay_thread_check *threads; uint32_t calls, closed; atomic_int inside; };
static void enter(void *instance, uint32_t kind) {
  struct own *own = instance;
  struct timespec a_while = {0, 200000};
  if (own->threads->current(own->host->ctx) != kind) abort();
  if (atomic_fetch_add(&own->inside, 1) != 0) abort();
  own->host->counter_add(own->host->ctx, own->calls, 1);
  nanosleep(&a_while, NULL);
  atomic_fetch_sub(&own->inside, 1);
}
static resay_status create(const resay_transform *t, const resay_host *host, const resay_kv *kv, size_t n, void **self,
                           resay_text *err) {
  struct own *own = calloc(1, sizeof *own);
  (void)t, (void)kv, (void)n, (void)err;
  own->host = host;
  own->threads = host->extension(host->ctx, RESAY_EXT_THREAD_CHECK);
  own->calls = host->counter(host->ctx, "calls");
  own->closed = host->counter(host->ctx, "closed");
  enter(*self = own, RESAY_THREAD_CONTROL);
  return RESAY_OK;
}
static void destroy(void *self) {
  enter(self, RESAY_THREAD_CONTROL);
  free(self);
}
static resay_status session_open(void *self, void *session, const resay_peer *peer, resay_text *err) {
  (void)session, (void)peer, (void)err;
  enter(self, RESAY_THREAD_WORKER);
  return RESAY_OK;
}
static void session_close(void *self, void *session) {
  struct own *own = self;
  (void)session;
  enter(self, RESAY_THREAD_WORKER);
  own->host->counter_add(own->host->ctx, own->closed, 1);
}
static resay_status map(void *self, void *session, uint8_t *data, size_t len) {
  struct own *own = self;
  (void)session, (void)data, (void)len;
  /* Counters are made in create() alone. */
  if (own->host->counter(own->host->ctx, "late") != 0) abort();
  enter(self, RESAY_THREAD_WORKER);
  return RESAY_OK;
}
static resay_status save(void *self, const void *session, resay_io *io) {
  (void)session;
  enter(self, RESAY_THREAD_WORKER);
  if (io->output_cap < 1) return RESAY_E_DATA;
  io->output[0] = 1, io->output_len = 1;
  return RESAY_OK;
}
static resay_status load(void *self, void *session, const char *schema, resay_bytes state, resay_text *err) {
  (void)session, (void)schema, (void)state, (void)err;
  enter(self, RESAY_THREAD_WORKER);
  return RESAY_OK;
}
static const void *extension(const resay_transform *transform, const char *id) {
  static const resay_session_state state = { sizeof state, "alone/1", save, load };
  (void)transform;
  return strcmp(id, RESAY_EXT_SESSION_STATE) == 0 ? &state : NULL;
}
#define TABLE(name, ...) \
  static const resay_transform name = { .struct_size = sizeof name, .id = #name, .session_size = 8, .create = create, \
    .destroy = destroy, .session_open = session_open, .session_close = session_close, .map = map, __VA_ARGS__ };
TABLE(each, .threading = RESAY_PER_WORKER)
TABLE(serial, .threading = RESAY_SERIAL)
TABLE(carried, .threading = RESAY_PER_WORKER, .extension = extension)
TABLE(blocks, .threading = RESAY_SERIAL, .needs = RESAY_NEED_OFFLOAD)
RESAY_PLUGIN(&each, &serial, &carried, &blocks);
"#;

/// Chains are swapped while connections of the old ones talk, come and go. The plugin aborts this process where two threads
/// meet.
#[test]
fn an_instance_is_entered_by_one_thread_at_a_time_also_while_chains_are_swapped() {
    isolated(|| {
        if !has_compiler() {
            return;
        }
        let directory = directory();
        let library = compile(directory.path(), "alone", ALONE);
        for id in ["each", "serial", "carried", "blocks"] {
            let chain = format!("{}#{id}", library.display());
            let builder = engine_builder().listen("tcp://127.0.0.1:0").unwrap().chain(&chain).unwrap();
            let engine = builder.threads(2).unwrap().start().unwrap();
            let url = engine.urls().remove(0);
            let is_over = AtomicBool::new(false);
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        let lasting = Peer::connect(&url);
                        while !is_over.load(Ordering::Relaxed) {
                            assert_eq!(lasting.ask(b"x"), b"x");
                            assert_eq!(Peer::connect(&url).ask(b"y"), b"y");
                        }
                    });
                }
                for _ in 0..8 {
                    let before = counter(&engine, &format!("{id}.calls"));
                    engine.set_chain(&format!("{chain} | identity")).unwrap();
                    engine.set_chain(&chain).unwrap();
                    eventually("calls go on", || {
                        let calls = counter(&engine, &format!("{id}.calls"));
                        if calls > before + 50 { Ok(()) } else { Err(calls.to_string()) }
                    });
                }
                is_over.store(true, Ordering::Relaxed);
            });
            finish(engine);
        }
    });
}

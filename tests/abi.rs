//! The plugin ABI between releases: tables that were compiled against an older or a newer header than the engine, and
//! the promises that decide how often a transform is called.
//!
//! The plugins are written in C and compiled against the public header when the tests run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::Path;

use common::plugin::*;
use common::*;
use resay::Stats;

/// A map that shouts, and the entry of its library.
const SHOUT: &str = r#"
#include <resay_plugin.h>
#include <stdlib.h>
static resay_status map(void *instance, void *session, uint8_t *data, size_t len) {
  (void)instance, (void)session;
  for (size_t i = 0; i < len; i++) if (data[i] >= 'a' && data[i] <= 'z') data[i] -= 32;
  return RESAY_OK;
}
"#;

/// Serves every transport with the library, twice: `hello` comes back as `answer`.
#[track_caller]
fn assert_serves(directory: &Path, name: &str, code: &str, answer: &str) {
    let library = compile_with(directory, name, code, &["-Wno-missing-field-initializers"]);
    for transport in Transport::all() {
        let (engine, url) = serve(&transport.url(directory), text(&library));
        let peer = Peer::connect(&url);
        for _ in 0..2 {
            assert_eq!(String::from_utf8_lossy(&peer.ask(b"hello")), answer, "{name} {transport:?}");
        }
        drop(peer);
        finish(engine);
    }
}

/// What a later minor version adds stands behind what this engine knows: it is not looked at, and neither are
/// promises that it does not know. The engine says its own minor version to the entry.
#[test]
fn tables_of_a_newer_header() {
    isolated(|| {
        if !has_compiler() {
            return;
        }
        let directory = directory();
        let code = format!(
            r#"{SHOUT}
struct newer_transform {{ resay_transform known; void (*later)(void); uint64_t more[8]; }};
static void later(void) {{ abort(); }}
static const struct newer_transform newer = {{
  .known = {{ .struct_size = sizeof newer, .caps = RESAY_CAP_BYTEWISE | 1u << 31, .id = "newer", .map = map }},
  .later = later, .more = {{ ~UINT64_C(0), ~UINT64_C(0) }},
}};
struct newer_library {{ resay_library known; void (*later)(void); uint64_t more[8]; }};
RESAY_EXTERN_C RESAY_EXPORT const resay_library *resay_plugin_v1(uint32_t host_abi_minor) {{
  static const resay_transform *const list[] = {{ &newer.known }};
  static const struct newer_library library = {{
    .known = {{ .struct_size = sizeof library, .abi_minor = 99, .n = 1, .transforms = list }}, .later = later,
  }};
  /* A plugin that can do with less asks the host what it has. */
  return host_abi_minor == RESAY_PLUGIN_ABI_MINOR ? &library.known : NULL;
}}
"#
        );
        assert_serves(directory.path(), "newer", &code, "HELLO");
    });
}

/// What an older header did not have is as if it were zero, whatever stands in memory behind the struct's end.
#[test]
fn tables_of_an_older_header() {
    isolated(|| {
        if !has_compiler() {
            return;
        }
        let directory = directory();
        let code = format!(
            r#"{SHOUT}
#include <stddef.h>
static resay_status never(const char *path, resay_text *err) {{ (void)path, (void)err; abort(); }}
/* The struct ends before option_size; what stands there is something else. */
static const resay_option options[] = {{ {{ .key = "mark", .type = "string", .fallback = ">" }} }};
static resay_status create(const resay_transform *t, const resay_host *host, const resay_kv *kv, size_t n, void **self,
                           resay_text *err) {{
  (void)t, (void)host, (void)kv, (void)n, (void)self, (void)err;
  return RESAY_OK;
}}
static const resay_transform older = {{
  .struct_size = offsetof(resay_transform, option_size), .id = "older", .map = map, .create = create,
  .options = options, .n_options = 1, .option_size = 3,
}};
RESAY_EXTERN_C RESAY_EXPORT const resay_library *resay_plugin_v1(uint32_t host_abi_minor) {{
  static const resay_transform *const list[] = {{ &older }};
  static const resay_library library = {{
    .struct_size = offsetof(resay_library, init), .n = 1, .transforms = list, .init = never,
  }};
  (void)host_abi_minor;
  return &library;
}}
"#
        );
        assert_serves(directory.path(), "older", &code, "HELLO");
    });
}

/// What the engine gives has a size as well: a plugin that was compiled against a newer header finds out what this
/// engine does not have, and one of an older header sees only what it knows.
#[test]
fn structs_of_the_host_say_their_size() {
    isolated(|| {
        if !has_compiler() {
            return;
        }
        let directory = directory();
        let code = r#"
#include <resay_plugin.h>
#include <stdio.h>
#include <string.h>
/* As a later header has them. */
struct newer_host { resay_host known; void (*later)(void *ctx); };
struct newer_peer { resay_peer known; const char *later; };
struct newer_io { resay_io known; uint64_t later; };
#define NEWER_HAS(type, p, field) ((p)->known.struct_size >= offsetof(struct type, field) + sizeof (p)->field)
static resay_status create(const resay_transform *t, const resay_host *host, const resay_kv *kv, size_t n, void **self,
                           resay_text *err) {
  const struct newer_host *newer = (const struct newer_host *)host;
  (void)t, (void)kv, (void)n, (void)self;
  if (NEWER_HAS(newer_host, newer, later) || !RESAY_HAS(host, extension) || host->abi_minor != RESAY_PLUGIN_ABI_MINOR) {
    snprintf(err->buf, err->cap, "host %u", host->struct_size);
    return RESAY_E_UNSUPPORTED;
  }
  return RESAY_OK;
}
static resay_status open(void *self, void *session, const resay_peer *peer, resay_text *err) {
  const struct newer_peer *newer = (const struct newer_peer *)peer;
  (void)self, (void)session;
  if (NEWER_HAS(newer_peer, newer, later) || !RESAY_HAS(peer, listener)) {
    snprintf(err->buf, err->cap, "peer %u", peer->struct_size);
    return RESAY_E_UNSUPPORTED;
  }
  return RESAY_OK;
}
static resay_status process(void *self, void *session, resay_io *io) {
  const struct newer_io *newer = (const struct newer_io *)io;
  const char *answer = NEWER_HAS(newer_io, newer, later) || !RESAY_HAS(io, delay_us) ? "wrong" : "right";
  (void)self, (void)session;
  io->input_used = io->input_len;
  if (io->input_len == 0) return RESAY_OK;
  memcpy(io->output, answer, 5);
  io->output_len = 5;
  return RESAY_OK;
}
static const resay_transform asking = {
  .struct_size = sizeof asking, .id = "asking", .out_mul = 1, .out_div = 1, .out_add = 5, .create = create,
  .session_open = open, .process = process,
};
RESAY_PLUGIN(&asking);
"#;
        assert_serves(directory.path(), "asking", code, "right");
    });
}

/// Three transforms that promise BYTEWISE, and many small messages that wait together: each is called once for all
/// that a read brings, and in place.
#[test]
fn one_call_a_read() {
    isolated(|| {
        const MESSAGES: usize = 200;
        if !has_compiler() {
            return;
        }
        let directory = directory();
        let code = r#"
#include <resay_plugin.h>
#include <stdlib.h>
struct self { const resay_host *host; uint32_t calls; };
static resay_status create(const resay_transform *t, const resay_host *host, const resay_kv *kv, size_t n, void **self,
                           resay_text *err) {
  struct self *own = malloc(sizeof *own);
  (void)t, (void)kv, (void)n, (void)err;
  own->host = host;
  own->calls = host->counter(host->ctx, "calls");
  *self = own;
  return RESAY_OK;
}
static resay_status map(void *self, void *session, uint8_t *data, size_t len) {
  struct self *own = self;
  (void)session;
  own->host->counter_add(own->host->ctx, own->calls, 1);
  for (size_t i = 0; i < len; i++) data[i] ^= 1;
  return RESAY_OK;
}
#define TABLE(name) \
  static const resay_transform name = { .struct_size = sizeof name, .caps = RESAY_CAP_BYTEWISE, .id = #name, \
    .create = create, .destroy = free, .map = map };
TABLE(one) TABLE(two) TABLE(three)
RESAY_PLUGIN(&one, &two, &three);
"#;
        let library = compile_with(directory.path(), "counting", code, &[]);
        let chain = ["one", "two", "three"].map(|name| format!("{}#{name}", library.display())).join(" | ");
        for url in ["tcp://127.0.0.1:0".to_owned(), format!("unix:{}", text(&directory.path().join("s")))] {
            let engine = engine_builder().listen(&url).unwrap().chain(&chain).unwrap().build().unwrap();
            // All of it has arrived before the first read.
            let peer = Peer::connect(&engine.urls()[0]);
            let input: Vec<u8> =
                (0..MESSAGES).flat_map(|number| format!("{number:04}").into_bytes()).collect();
            for message in input.chunks(4) {
                peer.send(message);
            }
            engine.start().unwrap();
            let expected: Vec<u8> = input.iter().map(|byte| byte ^ 1).collect();
            assert_same(&url, &expected, &peer.exactly(input.len()));
            let Stats { messages_in: reads, .. } = engine.stats();
            for name in ["one", "two", "three"] {
                assert_eq!(counter(&engine, &format!("{name}.calls")), reads, "{url} {name}");
            }
            // A unix stream may give each sender's buffer by itself, but not a message at a time for ever.
            assert!(reads as usize <= MESSAGES / 4, "{url}: {reads} reads");
            drop(peer);
            finish(engine);
        }
    });
}

/// A transform may have both functions: messages go through map(), in place, and process() says hello.
#[test]
fn a_map_that_greets() {
    isolated(|| {
        if !has_compiler() {
            return;
        }
        let directory = directory();
        let code = format!(
            r#"{SHOUT}
#include <string.h>
static resay_status process(void *instance, void *session, resay_io *io) {{
  (void)instance, (void)session;
  if (io->input_len != 0 || io->flags != 0) abort();
  if (io->output_cap < 6) {{ io->output_need = 6; return RESAY_MORE_OUT; }}
  memcpy(io->output, "hello\n", io->output_len = 6);
  return RESAY_OK;
}}
static const resay_transform both = {{
  .struct_size = sizeof both, .caps = RESAY_CAP_GREETS, .id = "both", .map = map, .process = process,
}};
RESAY_PLUGIN(&both);
"#
        );
        let library = compile_with(directory.path(), "both", &code, &[]);
        let both = text(&library).to_owned();
        for (chain, greeting) in [
            (both.clone(), "hello\n"),
            (format!("{both} | rot13"), "uryyb\n"),
            (format!("rot13 | {both}"), "hello\n"),
            (format!("{both} | uppercase:unicode=1"), "HELLO\n"),
            (format!("{both} | {both}"), "HELLO\nhello\n"),
        ] {
            for transport in Transport::all() {
                let (engine, url) = serve(&transport.url(directory.path()), &chain);
                let peer = Peer::connect(&url);
                if transport.is_connected() {
                    let mut said = Vec::new();
                    while said.len() < greeting.len() {
                        said.extend(peer.message());
                    }
                    assert_eq!(String::from_utf8_lossy(&said), greeting, "{chain} {transport:?}");
                }
                let answer = peer.ask(b"HELLO");
                let expected = if chain.contains("rot13") { "URYYB" } else { "HELLO" };
                assert_eq!(String::from_utf8_lossy(&answer), expected, "{chain} {transport:?}");
                drop(peer);
                finish(engine);
            }
        }
    });
}

//! Answers that leave later, and greetings: what `delay_us` and `RESAY_CAP_GREETS` promise.
//!
//! Times have lower bounds only, on the monotonic clock: a slow machine fails nothing. That something leaves apart
//! from something else is shown by holding the other thing for an hour.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

mod hold {
    mod delays;
    mod greetings;
}

use std::path::Path;
use std::time::{Duration, Instant};

use common::plugin::*;
use common::*;
use resay::{Engine, Stats};
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
  if (n > io->output_cap) n = io->output_cap;
  if (n > 0) memcpy(io->output, io->input, n);
  io->input_used = io->output_len = n;
  return n < io->input_len ? RESAY_MORE_OUT : RESAY_OK;
}
#define PROCESS(name) static resay_status name##_process(void *instance, void *session, resay_io *io)
#define TABLE(name, ...) \
  static const resay_transform name = { .struct_size = sizeof name, .id = #name, .process = name##_process, \
    __VA_ARGS__ };
#define PLAIN (void)instance, (void)session
#define IS_GREETING (io->flags == 0 && io->input_len == 0)

/* The whole message waits. */
PROCESS(hold) {
  PLAIN;
  io->delay_us = delay_of(io->input, io->input_len);
  return take(io, io->input_len);
}
TABLE(hold, .out_mul = 1, .out_div = 1)

/* Every four bytes are a piece with a delay of its own. */
PROCESS(drip) {
  PLAIN;
  io->delay_us = delay_of(io->input, io->input_len < 4 ? io->input_len : 4);
  return take(io, io->input_len < 4 ? io->input_len : 4);
}
TABLE(drip, .caps = 0)

/* An answer without bytes, delayed. */
PROCESS(hush) {
  PLAIN;
  io->input_used = io->input_len;
  io->delay_us = delay_of(io->input, io->input_len);
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
  io->delay_us = delay_of(io->input, io->input_len);
  return take(io, io->input_len);
}
TABLE(work, .caps = 0)

/* Greets with a text, and answers it with a status. */
#define GREETER(name, text, delay, status) \
  PROCESS(name) { \
    PLAIN; \
    if (!IS_GREETING) return take(io, io->input_len); \
    memcpy(io->output, text, sizeof text - 1); \
    io->output_len = sizeof text - 1; \
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
  if (io->input_len > 0 || (io->flags & RESAY_IO_EOF)) return take(io, io->input_len);
  for (; *said < 3000 && io->output_len < io->output_cap; ++*said) io->output[io->output_len++] = 'a' + *said % 26;
  return *said < 3000 ? RESAY_MORE_OUT : RESAY_OK;
}
TABLE(lengthy, .caps = RESAY_CAP_GREETS, .session_size = sizeof(size_t))

/* Says the flags of each call in front of its message. */
PROCESS(flags) {
  PLAIN;
  if (io->input_len == 0) return RESAY_OK;
  io->output[0] = (uint8_t)('0' + io->flags);
  memcpy(io->output + 1, io->input, io->input_len);
  io->input_used = io->input_len;
  io->output_len = io->input_len + 1;
  return RESAY_OK;
}
TABLE(flags, .out_mul = 1, .out_div = 1, .out_add = 1)

RESAY_PLUGIN(&hold, &drip, &hush, &work, &hello, &welcome, &slow, &closing, &silent, &resetting, &failing, &lengthy,
             &flags);
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

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

RESAY_PLUGIN(&hold, &drip, &hush, &work, &hello, &welcome, &slow, &closing, &silent, &resetting, &failing);
"#;

/// What streams are framed by here. How each framing goes with delays and greetings is in `src/connection/tests/`.
fn frames(transport: Transport) -> &'static [&'static str] {
    if transport.is_stream() { &["raw", "lines"] } else { &["raw"] }
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

    /// A chain: `hold | =uppercase` is the plugin's `hold`, then the engine's `uppercase`.
    fn chain(&self, names: &str) -> String {
        chain_of(names, |name| format!("{}#{name}", self.0.path().join("libhold.so").display()))
    }

    fn serve(&self, transport: Transport, frame: &str, names: &str) -> (Engine, String) {
        let url = transport.url(self.0.path());
        // Only streams are framed.
        let url = if transport.is_stream() { format!("{url}?frame={frame}") } else { url };
        serve(&url, &self.chain(names))
    }
}

/// Fails where less time than that has passed.
#[track_caller]
fn assert_passed(since: Instant, millis: u64, what: &str) {
    let passed = since.elapsed();
    assert!(passed >= Duration::from_millis(millis), "{what}: after {passed:?}, not {millis} ms");
}

#[track_caller]
fn received(engine: &Engine, messages: u64) -> Stats {
    eventually_stats(engine, "all messages have come", |stats| stats.messages_in >= messages)
}

/* Callbacks: what they answer, on every kind of socket and framing; what they may not do; when they are released. With an
 * argument, without what is slow under valgrind. */
#define _GNU_SOURCE
#include "check.h"

struct script {
  resay_engine *engine;
  resay_id listener;
  resay_out *kept;
  int seen, released, codes_checked, other_checked;
  uint32_t flags;
};

static struct script script;

/* What the engine's thread has written: its answer came later, but through an io_uring, which no tool sees. */
#define LATEST(field) __atomic_load_n(&script.field, __ATOMIC_RELAXED)

static resay_engine *other;

/* Nothing of the engine may be called here, and nothing that waits. */
static void forbidden(struct script *s)
{
  resay_stats stats;
  resay_events *events;
  resay_tap *tap;
  resay_client *client;
  resay_id id;
  char text[16];
  size_t need;
  resay_engine *e = s->engine;
  stats.struct_size = sizeof stats;
  CHECK_CODE(resay_stop(e), RESAY_E_STATE);
  CHECK_CODE(resay_drain(e, -1), RESAY_E_STATE);
  CHECK_CODE(resay_join(e, -1), RESAY_E_STATE);
  CHECK_CODE(resay_run(e, -1), RESAY_E_STATE);
  CHECK_CODE(resay_start(e, 1, NULL), RESAY_E_STATE);
  resay_engine_free(e);
  CHECK(strstr(resay_last_error(), "callback") != NULL);
  CHECK_CODE(resay_poll_fd(e), RESAY_E_STATE);
  CHECK_CODE(resay_poll_timeout(e), RESAY_E_STATE);
  CHECK_CODE(resay_chain(e, 0, "", NULL), RESAY_E_STATE);
  CHECK_CODE(resay_set(e, "backlog", "1", NULL), RESAY_E_STATE);
  CHECK_CODE(resay_get(e, "backlog", text, sizeof text, &need), RESAY_E_STATE);
  CHECK_CODE(resay_listen(e, "tcp://127.0.0.1:0", &id, NULL), RESAY_E_STATE);
  CHECK_CODE(resay_listener_close(e, s->listener), RESAY_E_STATE);
  CHECK_CODE(resay_listener_port(e, s->listener), RESAY_E_STATE);
  CHECK_CODE(resay_load(e, "x", NULL), RESAY_E_STATE);
  CHECK_CODE(resay_stats_get(e, 0, &stats), RESAY_E_STATE);
  CHECK_CODE(resay_events_open(e, 1, 1, &events, NULL), RESAY_E_STATE);
  CHECK_CODE(resay_tap_open(e, NULL, &tap, NULL), RESAY_E_STATE);
  CHECK(events == NULL && tap == NULL);
  CHECK_CODE(resay_log(e, 0, NULL, NULL), RESAY_E_STATE);
  CHECK_CODE(resay_client_open("tcp://127.0.0.1:1", -1, &client, NULL), RESAY_E_STATE);
  __atomic_add_fetch(&s->codes_checked, 1, __ATOMIC_RELAXED);
  if (other != NULL) {
    CHECK_CODE(resay_drain(other, -1), RESAY_E_STATE);
    CHECK_CODE(resay_join(other, -1), RESAY_E_STATE);
    CHECK_CODE(resay_run(other, 0), RESAY_E_STATE);
    CHECK_CODE(resay_log(other, 0, NULL, NULL), RESAY_E_STATE);
    resay_engine_free(other);
    CHECK_CODE(resay_stats_get(other, 0, &stats), 0); /* it is there, and does not wait */
    s->other_checked++;
  }
}

static int transform(void *user, void **session, const resay_message *message, resay_out *out)
{
  struct script *s = user;
  const uint8_t *data = message->data;
  size_t i, len = message->len;
  uint8_t *room;
  CHECK(session == NULL && message->struct_size == sizeof *message && message->listener == LATEST(listener));
  __atomic_add_fetch(&s->seen, 1, __ATOMIC_RELAXED);
  __atomic_store_n(&s->flags, message->flags, __ATOMIC_RELAXED);
  if (len == 0) return RESAY_PASS;
  switch (data[0]) {
  case 'p': return RESAY_PASS;
  case 'P': /* what was written does not matter */
    CHECK_CODE(resay_out_write(out, "not this", 8), 0);
    return RESAY_PASS;
  case 'r': /* twice, in both manners */
    CHECK_CODE(resay_out_write(out, data, len), 0);
    CHECK_CODE(resay_out_write(out, NULL, 0), 0);
    room = resay_out_reserve(out, len + 100);
    CHECK(room != NULL);
    for (i = 0; i < len; i++) room[i] = data[len - 1 - i];
    CHECK_CODE(resay_out_commit(out, len), 0);
    return RESAY_REPLACE;
  case 'e': return RESAY_REPLACE; /* by nothing */
  case 'd': return RESAY_DROP;
  case 'c':
    CHECK_CODE(resay_out_write(out, "bye", 3), 0);
    return RESAY_CLOSE;
  case 'R': return RESAY_RESET;
  case 'f': return RESAY_E_DATA;
  case 'u': return 77;
  case 'U': return -77;
  case 'm': return RESAY_MORE_IN; /* no answer of a callback */
  case 'b': /* beyond the reservation */
    CHECK(resay_out_reserve(out, 4) != NULL);
    CHECK_CODE(resay_out_commit(out, 5), RESAY_E_STATE);
    return RESAY_REPLACE;
  case 'n': /* never reserved */
    CHECK_CODE(resay_out_commit(out, 1), RESAY_E_STATE);
    return RESAY_PASS;
  case 'h': /* huge */
    CHECK_CODE(resay_out_write(out, data, SIZE_MAX), RESAY_E_FULL);
    CHECK(strstr(resay_last_error(), "too long") != NULL);
    CHECK(resay_out_reserve(out, SIZE_MAX) == NULL);
    return RESAY_REPLACE;
  case 'N':
    room = resay_out_reserve(out, 8);
    CHECK_CODE(resay_out_write(out, room, 4), RESAY_E_ARG);
    CHECK_CODE(resay_out_write(out, NULL, 1), RESAY_E_ARG);
    return RESAY_PASS;
  case 'k': /* kept for later */
    s->kept = out;
    return RESAY_PASS;
  case 'K': /* later */
    CHECK_CODE(resay_out_write(s->kept, "x", 1), RESAY_E_STATE);
    CHECK(resay_out_reserve(s->kept, 1) == NULL);
    CHECK_CODE(resay_out_commit(s->kept, 0), RESAY_E_STATE);
    return RESAY_PASS;
  case 'x':
    forbidden(s);
    return RESAY_PASS;
  default: return RESAY_E_UNSUPPORTED;
  }
}

static void release(void *user)
{
  struct script *s = user;
  s->released++;
  forbidden(s);
}

static resay_engine *engine_with(const char *chain, const char *where, char *url)
{
  resay_engine *engine = new_engine();
  memset(&script, 0, sizeof script);
  script.engine = engine;
  CHECK_CODE(add_function(engine, "mine", transform, &script, release), 0);
  CHECK_CODE(resay_chain(engine, 0, chain, NULL), 0);
  script.listener = add(engine, where, url);
  CHECK_CODE(resay_start(engine, 1, NULL), 0);
  return engine;
}

static void end(resay_engine *engine)
{
  CHECK(script.released == 0);
  resay_engine_free(engine);
  CHECK(script.released == 1);
}

static void expect_failure(const char *url, const char *message)
{
  resay_client *client = dial(url);
  say(client, message, strlen(message));
  hear_end(client);
  resay_client_free(client);
}

static void lines(const char *where)
{
  char url[128];
  resay_engine *engine = engine_with("mine", where, url);
  resay_client *client = dial(url);
  ask(client, "pass\n", "pass\n");
  CHECK((LATEST(flags) & (RESAY_IO_BEGIN | RESAY_IO_END)) == (RESAY_IO_BEGIN | RESAY_IO_END));
  ask(client, "Pass\n", "Pass\n");
  ask(client, "right\n", "rightthgir\n");
  ask(client, "empty\npass\n", "\npass\n");
  ask(client, "drop\npass\n", "pass\n");
  ask(client, "p1\nr2\np3\nd4\np5\nr6\n", "p1\nr22r\np3\np5\nr66r\n");
  ask(client, "Null\n", "Null\n");
  ask(client, "keep\n", "keep\n");
  ask(client, "Kept\n", "Kept\n");
  ask(client, "x\n", "x\n");
  CHECK(LATEST(codes_checked) == 1);
  ask(client, "p1\nclose\np2\n", "p1\nbye\n");
  hear_end(client);
  resay_client_free(client);
  expect_failure(url, "fail\n");
  expect_failure(url, "unknown\n");
  expect_failure(url, "Unknown\n");
  expect_failure(url, "more\n");
  expect_failure(url, "beyond\n");
  expect_failure(url, "never\n");
  expect_failure(url, "huge\n");
  CHECK(stats_of(engine, script.listener).transform_errors == 7);
  ask_once(url, "p\n", "p\n"); /* others live */
  end(engine);
}

static void reset(const char *where)
{
  char url[128], byte;
  size_t got;
  resay_engine *engine = engine_with("mine", where, url);
  resay_client *client = dial(url);
  say(client, "Reset", 5);
  CHECK_CODE(resay_client_recv(client, &byte, 1, &got, PATIENCE_MS), RESAY_E_SYS);
  resay_client_free(client);
  end(engine);
}

static void prefixed(void)
{
  char url[128];
  resay_engine *engine = engine_with("mine", "tcp://127.0.0.1:0?frame=len16be", url);
  resay_client *client = dial(url);
  say(client, "\0\2p1\0\2r2\0\1e\0\2p3", 15);
  hear(client, "\0\2p1\0\4r22r\0\0\0\2p3", 16);
  resay_client_free(client);
  end(engine);
}

/* A read is a message; the end is none. */
static void raw(void)
{
  char url[128];
  resay_engine *engine = engine_with("mine", "tcp://127.0.0.1:0", url);
  resay_client *client = dial(url);
  ask(client, "p", "p");
  CHECK(LATEST(flags) == 0);
  ask(client, "raw", "rawwar");
  CHECK_CODE(resay_client_shutdown(client), 0);
  hear_end(client);
  CHECK(LATEST(seen) == 2);
  resay_client_free(client);
  end(engine);
}

static void datagrams(const char *where)
{
  char url[128];
  resay_engine *engine = engine_with("mine", where, url);
  resay_client *client = dial(url);
  resay_stats stats;
  ask(client, "pass", "pass");
  CHECK(LATEST(flags) & RESAY_IO_DATAGRAM);
  ask(client, "right", "rightthgir");
  say(client, "drop", 4);
  say(client, "fail", 4);
  say(client, "unknown", 7);
  say(client, "beyond", 6);
  say(client, "", 0);
  hear(client, "", 0);
  ask(client, "close", "bye");
  ask(client, "empty", "");
  ask(client, "x", "x");
  stats = stats_of(engine, script.listener);
  CHECK(stats.messages_in == 10 && stats.dropped == 4 && stats.transform_errors == 3);
  resay_client_free(client);
  end(engine);
}

/* An answer over max_amplification is dropped. */
static void amplified(void)
{
  char url[128];
  resay_engine *engine = engine_with("mine", "udp://127.0.0.1:0?max_amplification=1", url);
  resay_client *client = dial(url);
  say(client, "right", 5);
  ask(client, "pass", "pass");
  CHECK(stats_of(engine, script.listener).dropped == 1);
  resay_client_free(client);
  end(engine);
}

static void records(void)
{
  char url[128], where[64];
  resay_engine *engine;
  resay_client *client;
  snprintf(where, sizeof where, "unix-seqpacket:@resay-callbacks-%ld", (long)getpid());
  engine = engine_with("mine", where, url);
  client = dial(url);
  ask(client, "pass", "pass");
  ask(client, "right", "rightthgir");
  say(client, "empty", 5);
  hear(client, "", 0);
  resay_client_free(client);
  end(engine);
}

/* Before, between and behind others, in place or not. */
static void chains(void)
{
  static const struct {
    const char *chain, *question, *answer;
  } rows[] = {
    {"mine | uppercase", "pass\n", "PASS\n"},
    {"mine | uppercase", "right\n", "RIGHTTHGIR\n"},
    {"lowercase | mine", "RIGHT\n", "rightthgir\n"},
    {"mine | mine", "right\n", "rightthgirrightthgir\n"},
    {"mine | mine | mine", "ra\n", "raarraarraarraar\n"},
    {"mine | hex", "p\n", "70\n"},
    {"mine | hex", "rab\n", "726162626172\n"},
    {"prefix:text=r | mine", "ight\n", "rightthgir\n"},
    {"prefix:text=p | mine", "ass\n", "pass\n"},
    {"prefix:text=r | mine | mine | suffix:text=!", "a\n", "raarraar!\n"},
    {"prefix:text=r | mine | uppercase", "a\n", "RAAR\n"},
    {"delay:time=2ms | mine", "ra\n", "raar\n"},
    {"mine | delay:time=2ms", "ra\n", "raar\n"},
    {"delay:time=2ms | mine | mine | uppercase", "ra\npa\n", "RAARRAAR\nPA\n"},
  };
  size_t i;
  for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    char url[128];
    resay_engine *engine = engine_with(rows[i].chain, "tcp://127.0.0.1:0?frame=lines", url);
    ask_once(url, rows[i].question, rows[i].answer);
    end(engine);
  }
}

/* Longer than any buffer is at first. */
static void large(void)
{
  enum { BYTES = 1 << 20 };
  char url[128], *question = malloc(BYTES), *answer = malloc(2 * BYTES);
  resay_engine *engine = engine_with("mine", "tcp://127.0.0.1:0?frame=len32le&max_message=2m", url);
  resay_client *client = dial(url);
  static const unsigned char question_len[4] = {0, 0, 0x10, 0}, answer_len[4] = {0, 0, 0x20, 0};
  int i;
  size_t have = 0;
  CHECK(question != NULL && answer != NULL);
  for (i = 0; i < BYTES; i++) question[i] = answer[i] = answer[2 * BYTES - 1 - i] = (char)(i == 0 ? 'r' : i % 251);
  say(client, question_len, 4);
  say(client, question, BYTES);
  hear(client, answer_len, 4);
  while (have < 2 * BYTES) {
    size_t part = 2 * BYTES - have < 65536 ? 2 * BYTES - have : 65536;
    hear(client, answer + have, part);
    have += part;
  }
  free(question), free(answer);
  resay_client_free(client);
  end(engine);
}

/* By several threads at once, and over swaps. */
static void *chatter(void *url)
{
  resay_client *client = dial(url);
  int i;
  for (i = 0; i < 300; i++) ask(client, "p\nr\n", "p\nrr\n");
  resay_client_free(client);
  return NULL;
}

static void several(void)
{
  resay_engine *engine = new_engine();
  pthread_t chatting[4];
  char url[128];
  int i;
  memset(&script, 0, sizeof script);
  script.engine = engine;
  CHECK_CODE(add_function(engine, "mine", transform, &script, release), 0);
  CHECK_CODE(resay_chain(engine, 0, "mine", NULL), 0);
  script.listener = add(engine, "tcp://127.0.0.1:0?frame=lines", url);
  CHECK_CODE(resay_start(engine, 3, NULL), 0);
  for (i = 0; i < 4; i++) CHECK(pthread_create(&chatting[i], NULL, chatter, url) == 0);
  for (i = 0; i < 100; i++) CHECK_CODE(resay_chain(engine, 0, i % 2 ? "mine" : "mine | identity", NULL), 0);
  for (i = 0; i < 4; i++) CHECK(pthread_join(chatting[i], NULL) == 0);
  CHECK(LATEST(seen) == 4 * 300 * 2);
  end(engine);
}

/* On a lent thread a signal handler cannot be told from the callback in which it came, and is obeyed. */
static int stopping(void *user, void **session, const resay_message *message, resay_out *out)
{
  (void)session, (void)message, (void)out;
  CHECK_CODE(resay_stop(user), RESAY_E_STATE);
  return RESAY_PASS;
}

static void *ask_lent(void *url)
{
  resay_client *client = dial(url);
  say(client, "x", 1);
  hear(client, "x", 1);
  hear_end(client);
  resay_client_free(client);
  return NULL;
}

static void stop_on_a_lent_thread(void)
{
  resay_engine *engine = new_engine();
  pthread_t asking;
  char url[128];
  CHECK_CODE(add_function(engine, "stopping", stopping, engine, NULL), 0);
  CHECK_CODE(resay_chain(engine, 0, "stopping", NULL), 0);
  add(engine, "tcp://127.0.0.1:0", url);
  CHECK(pthread_create(&asking, NULL, ask_lent, url) == 0);
  CHECK_CODE(resay_run(engine, -1), 0);
  CHECK(pthread_join(asking, NULL) == 0);
  resay_engine_free(engine);
}

int main(int argc, char **argv)
{
  char where[80];
  (void)argv;
  other = new_engine();
  lines("tcp://127.0.0.1:0?frame=lines");
  snprintf(where, sizeof where, "unix:@resay-callbacks-%ld?frame=lines", (long)getpid());
  lines(where);
  reset("tcp://127.0.0.1:0");
  prefixed();
  raw();
  datagrams("udp://127.0.0.1:0");
  snprintf(where, sizeof where, "unix-dgram:@resay-callbacks-%ld-dgram", (long)getpid());
  datagrams(where);
  amplified();
  records();
  chains();
  if (argc < 2) {
    large();
    several();
  }
  stop_on_a_lent_thread();
  CHECK(resay_join(other, 0) == 0); /* nobody freed it */
  resay_engine_free(other);
  return 0;
}

/* Parts of the interface that meet: taps, later answers, calls to connections, blocking functions, hooks of threads, chains
 * that are replaced, the end of an engine, and several engines. With an argument, without threads that never end and forks, of
 * which valgrind and AddressSanitizer say that they leak. */
#define _GNU_SOURCE
#include "check.h"

#include <sys/socket.h>
#include <sys/wait.h>

#define LOAD(variable) __atomic_load_n(&(variable), __ATOMIC_ACQUIRE)
#define STORE(variable, value) __atomic_store_n(&(variable), (value), __ATOMIC_RELEASE)

/* ---- A function that answers later ---- */

static uint64_t tokens[64];
static int count_of_tokens, releases;

static int put_off(void *user, void **session, const resay_message *message, resay_out *out)
{
  uint64_t token;
  (void)user, (void)session;
  if (message->len > 0 && message->data[0] == '!') return RESAY_PASS; /* at once */
  token = resay_later(out);
  CHECK(token != 0);
  STORE(tokens[LOAD(count_of_tokens) % 64], token);
  __atomic_add_fetch(&count_of_tokens, 1, __ATOMIC_RELEASE);
  return RESAY_LATER;
}

static void count_release(void *user)
{
  (void)user;
  __atomic_add_fetch(&releases, 1, __ATOMIC_RELEASE);
}

static void wait_until(int *variable, int value)
{
  int tries = 0;
  while (LOAD(*variable) < value) {
    CHECK(tries++ < PATIENCE_MS);
    poll(NULL, 0, 1);
  }
}

static resay_engine *late_engine(const char *chain, const char *where, char *url, resay_id *listener)
{
  resay_engine *engine = new_engine();
  resay_id id;
  count_of_tokens = releases = 0;
  CHECK_CODE(add_function(engine, "later", put_off, NULL, count_release), 0);
  CHECK_CODE(resay_chain(engine, 0, chain, NULL), 0);
  id = add(engine, where, url);
  if (listener != NULL) *listener = id;
  return engine;
}

static void answer(resay_engine *engine, int place, int verdict, const char *text)
{
  CHECK_CODE(resay_answer(engine, LOAD(tokens[place]), verdict, text, strlen(text)), 0);
}

static uint64_t only(resay_engine *engine)
{
  uint64_t id = 0;
  size_t count = 0;
  CHECK_CODE(resay_connections(engine, 0, &id, 1, &count), 0);
  CHECK(count == 1 && id != 0);
  return id;
}

/* ---- Taps ---- */

static char bytes[256 * 1024];

static resay_tap *open_tap(resay_engine *engine)
{
  resay_tap_options options;
  resay_tap *tap;
  memset(&options, 0, sizeof options);
  options.struct_size = sizeof options;
  options.flags = RESAY_TAP_ANSWERS;
  CHECK_CODE(resay_tap_open(engine, &options, &tap, NULL), 0);
  return tap;
}

static void expect_none(resay_tap *tap)
{
  resay_tap_record record;
  int result = resay_tap_read(tap, &record, sizeof record, 1, bytes, sizeof bytes, 0);
  CHECK(result == 0 || result == RESAY_E_STATE);
}

static void expect_record(resay_tap *tap, const char *data, uint32_t outcome, int32_t reason, const char *answered)
{
  resay_tap_record record;
  CHECK_CODE(resay_tap_read(tap, &record, sizeof record, 1, bytes, sizeof bytes, PATIENCE_MS), 1);
  if (record.outcome != outcome || record.reason != reason || record.data_len != strlen(data)
      || record.answer_len != strlen(answered)) {
    fprintf(stderr, "outcome %s %d, data \"%.*s\", answer \"%.*s\"\n", resay_tap_outcome_name(record.outcome), record.reason,
            (int)record.data_len, (const char *)record.data, (int)record.answer_len, (const char *)record.answer);
    fprintf(stderr, "not %s %d, \"%s\", \"%s\"\n", resay_tap_outcome_name(outcome), reason, data, answered);
    _exit(1);
  }
  CHECK(record.message_bytes == record.data_len && record.answer_bytes == record.answer_len);
  CHECK(record.data_len == 0 || memcmp(record.data, data, record.data_len) == 0);
  CHECK(record.answer_len == 0 || memcmp(record.answer, answered, record.answer_len) == 0);
  CHECK(record.time_ns > 0 && record.peer_len >= sizeof(sa_family_t));
}

/* The record of a message that is answered later says what became of it, and comes when that is known. */
static void taps_hear_of_later_answers(const char *where, const char *end)
{
  char url[128], text[64];
  int is_connected = strncmp(where, "udp", 3) != 0 && strncmp(where, "unix-dgram", 10) != 0;
  static const struct {
    int verdict;
    const char *text, *answer;
    uint32_t outcome;
    int32_t reason;
  } rows[] = {
    {RESAY_REPLACE, "one", "ONE", RESAY_TAP_ANSWERED, 0},
    {RESAY_REPLACE, "", "", RESAY_TAP_ANSWERED, 0},
    {RESAY_DROP, "", "", RESAY_TAP_DROPPED, RESAY_DROPPED_BY_TRANSFORM},
    {RESAY_CLOSE, "last", "LAST", RESAY_TAP_CLOSED, RESAY_CLOSED_TRANSFORM_CLOSED},
    {RESAY_RESET, "", "", RESAY_TAP_RESET, RESAY_CLOSED_TRANSFORM_CLOSED},
    {RESAY_E_DATA, "", "", RESAY_TAP_FAILED, RESAY_DROPPED_TRANSFORM_FAILED},
  };
  size_t i;
  for (i = 0; i < sizeof rows / sizeof *rows; i++) {
    resay_engine *engine = late_engine("later | uppercase", where, url, NULL);
    uint32_t outcome = rows[i].outcome;
    int32_t reason = rows[i].reason;
    resay_client *client;
    resay_tap *tap;
    resay_stats stats;
    CHECK_CODE(resay_start(engine, 1, NULL), 0);
    tap = open_tap(engine);
    client = dial(url);
    say(client, text, (size_t)snprintf(text, sizeof text, "Message%s", end));
    wait_until(&count_of_tokens, 1);
    CHECK_CODE(resay_sync(engine, PATIENCE_MS), 0);
    expect_none(tap); /* nobody knows yet */
    answer(engine, 0, rows[i].verdict, rows[i].text);
    if (!is_connected && outcome == RESAY_TAP_CLOSED) outcome = RESAY_TAP_ANSWERED, reason = 0;
    if (!is_connected && outcome == RESAY_TAP_RESET) outcome = RESAY_TAP_DROPPED, reason = RESAY_DROPPED_BY_TRANSFORM;
    if (*rows[i].answer != '\0') {
      /* Who has read the answer finds the record. */
      hear(client, text, (size_t)snprintf(text, sizeof text, "%s%s", rows[i].answer, end));
      if (is_connected) CHECK_CODE(resay_sync(engine, PATIENCE_MS), 0);
    }
    expect_record(tap, "Message", outcome, reason, rows[i].answer);
    CHECK_CODE(resay_sync(engine, PATIENCE_MS), 0);
    expect_none(tap);
    CHECK(resay_tap_lost(tap) == 0);
    resay_client_free(client);
    CHECK_CODE(resay_drain(engine, PATIENCE_MS), 0);
    stats = stats_of(engine, 0);
    CHECK(stats.messages_in == 1 && stats.messages_out + stats.dropped == 1);
    resay_engine_free(engine);
    expect_none(tap);
    resay_tap_close(tap);
    CHECK(releases == 1);
  }
}

/* What is given up has a record too: with its connection, with its chain, with a message before it, with the engine. */
static void taps_hear_of_what_is_given_up(void)
{
  char url[128];
  resay_engine *engine = late_engine("later", "tcp://127.0.0.1:0?frame=lines&swap_timeout=1ms", url, NULL);
  resay_tap *tap;
  resay_client *client;
  CHECK_CODE(resay_start(engine, 1, NULL), 0);
  tap = open_tap(engine);

  client = dial(url);
  say(client, "a\nb\n", 4);
  wait_until(&count_of_tokens, 2);
  CHECK_CODE(resay_connection_reset(engine, only(engine)), 0);
  expect_record(tap, "a", RESAY_TAP_DROPPED, RESAY_DROPPED_UNDELIVERED, "");
  expect_record(tap, "b", RESAY_TAP_DROPPED, RESAY_DROPPED_UNDELIVERED, "");
  CHECK_CODE(resay_answer(engine, LOAD(tokens[0]), RESAY_REPLACE, "x", 1), RESAY_E_HANDLE);
  resay_client_free(client);

  client = dial(url);
  say(client, "c\nd\n!e\n", 7);
  wait_until(&count_of_tokens, 4);
  answer(engine, 3, RESAY_REPLACE, "behind");
  answer(engine, 2, RESAY_CLOSE, "last");
  hear(client, "last\n", 5);
  hear_end(client);
  /* That which had its answer at once is first. */
  expect_record(tap, "!e", RESAY_TAP_ANSWERED, 0, "!e");
  expect_record(tap, "c", RESAY_TAP_CLOSED, RESAY_CLOSED_TRANSFORM_CLOSED, "last");
  expect_record(tap, "d", RESAY_TAP_DROPPED, RESAY_DROPPED_UNDELIVERED, "");
  resay_client_free(client);

  client = dial(url);
  say(client, "f\n", 2);
  wait_until(&count_of_tokens, 5);
  CHECK_CODE(resay_chain(engine, 0, "", NULL), 0);
  hear_end(client);
  expect_record(tap, "f", RESAY_TAP_DROPPED, RESAY_DROPPED_UNDELIVERED, "");
  resay_client_free(client);

  CHECK_CODE(resay_chain(engine, 0, "later", NULL), 0);
  CHECK_CODE(resay_sync(engine, PATIENCE_MS), 0);
  client = dial(url);
  say(client, "g\n", 2);
  wait_until(&count_of_tokens, 6);
  resay_engine_free(engine);
  expect_record(tap, "g", RESAY_TAP_DROPPED, RESAY_DROPPED_UNDELIVERED, "");
  expect_none(tap);
  resay_client_free(client);
  resay_tap_close(tap);

  engine = late_engine("later", "udp://127.0.0.1:0", url, NULL);
  CHECK_CODE(resay_start(engine, 1, NULL), 0);
  tap = open_tap(engine);
  client = dial(url);
  say(client, "h", 1);
  wait_until(&count_of_tokens, 1);
  resay_engine_free(engine);
  expect_record(tap, "h", RESAY_TAP_DROPPED, RESAY_DROPPED_UNDELIVERED, "");
  expect_none(tap);
  resay_client_free(client);
  resay_tap_close(tap);
}

/* ---- Blocking functions ---- */

static int inside, may_go_on;

static int block(void *user, void **session, const resay_message *message, resay_out *out)
{
  (void)user, (void)session, (void)out;
  if (message->len > 0 && message->data[0] == '!') return RESAY_PASS;
  CHECK(resay_later(out) == 0);
  __atomic_add_fetch(&inside, 1, __ATOMIC_RELEASE);
  wait_until(&may_go_on, 1);
  return RESAY_PASS;
}

static resay_engine *blocking_engine(const char *where, char *url)
{
  resay_engine *engine = new_engine();
  resay_function function;
  memset(&function, 0, sizeof function);
  function.struct_size = sizeof function;
  function.needs = RESAY_NEED_OFFLOAD;
  function.call = block;
  function.release = count_release;
  inside = may_go_on = releases = 0;
  CHECK_CODE(resay_register_function(engine, "block", &function, NULL), 0);
  CHECK_CODE(resay_chain(engine, 0, "block", NULL), 0);
  add(engine, where, url);
  return engine;
}

static void *free_it(void *engine)
{
  CHECK_CODE(resay_engine_free(engine), 0);
  return NULL;
}

/* An engine that is freed while a function has a message: one record, and no more after it. */
static void taps_hear_of_what_is_blocked(const char *where)
{
  char url[128];
  resay_engine *engine = blocking_engine(where, url);
  resay_client *client;
  resay_tap *tap;
  resay_tap_record record;
  pthread_t thread;
  CHECK_CODE(resay_start(engine, 1, NULL), 0);
  tap = open_tap(engine);
  client = dial(url);
  ask(client, "!1", "!1");
  expect_record(tap, "!1", RESAY_TAP_ANSWERED, 0, "!1");
  say(client, "held", 4);
  wait_until(&inside, 1);
  CHECK_CODE(resay_stop(engine), 0);
  CHECK(pthread_create(&thread, NULL, free_it, engine) == 0);
  CHECK_CODE(resay_tap_read(tap, &record, sizeof record, 1, bytes, sizeof bytes, PATIENCE_MS), 1);
  CHECK(record.outcome == RESAY_TAP_DROPPED && record.reason == RESAY_DROPPED_UNDELIVERED);
  CHECK(record.message_bytes == 4 && record.answer_bytes == 0);
  STORE(may_go_on, 1);
  CHECK(pthread_join(thread, NULL) == 0);
  expect_none(tap);
  resay_client_free(client);
  resay_tap_close(tap);
  CHECK(releases == 1);
}

/* Calls to a connection whose message is with a function that may block: they wait for it, in their order, apart from a
 * reset. */
static void calls_wait_for_what_is_blocked(void)
{
  char url[128];
  resay_engine *engine = blocking_engine("tcp://127.0.0.1:0?frame=lines", url);
  resay_client *client;
  resay_connection found;
  uint64_t id;
  found.struct_size = sizeof found;
  CHECK_CODE(resay_start(engine, 1, NULL), 0);
  client = dial(url);
  ask(client, "!1\n", "!1\n");
  id = only(engine);
  say(client, "held\n", 5);
  wait_until(&inside, 1);
  CHECK_CODE(resay_connection_send(engine, id, "push\n", 5), 0);
  CHECK_CODE(resay_connection_pause(engine, id), 0);
  CHECK_CODE(resay_connection_send(engine, id, "more\n", 5), 0);
  CHECK_CODE(resay_sync(engine, PATIENCE_MS), 0); /* does not wait for the function */
  STORE(may_go_on, 1);
  hear(client, "held\npush\nmore\n", 15);
  say(client, "!2\n", 3);
  CHECK_CODE(resay_connection_get(engine, id, &found), 0);
  CHECK(found.is_paused == 1 && found.bytes_out == 18);
  CHECK_CODE(resay_connection_resume(engine, id), 0);
  hear(client, "!2\n", 3);

  STORE(may_go_on, 0);
  say(client, "again\n!3\n", 9);
  wait_until(&inside, 2);
  CHECK_CODE(resay_connection_shutdown(engine, id), 0);
  STORE(may_go_on, 1);
  hear(client, "again\n!3\n", 9);
  hear_end(client);
  resay_client_free(client);

  client = dial(url);
  ask(client, "!1\n", "!1\n");
  STORE(may_go_on, 0);
  say(client, "again\n", 6);
  wait_until(&inside, 3);
  {
    uint64_t ids[2];
    size_t count = 0;
    int tries = 0;
    /* The one before may not be over yet. */
    do CHECK(tries++ < PATIENCE_MS && (count = 0, resay_connections(engine, 0, ids, 2, &count)) == 0 && poll(NULL, 0, 1) == 0);
    while (count != 1);
    id = ids[0];
  }
  CHECK_CODE(resay_connection_reset(engine, id), 0);
  {
    char byte;
    size_t got;
    CHECK_CODE(resay_client_recv(client, &byte, 1, &got, PATIENCE_MS), RESAY_E_SYS); /* while the function is inside */
  }
  CHECK_CODE(resay_connection_send(engine, id, "x", 1), RESAY_E_HANDLE);
  STORE(may_go_on, 1);
  resay_client_free(client);
  resay_engine_free(engine);
}

/* ---- Calls to a connection, and later answers ---- */

static void calls_and_later_answers(const char *where, int is_record)
{
  char url[128];
  resay_engine *engine = late_engine("later", where, url, NULL);
  resay_client *client;
  resay_connection found;
  uint64_t id;
  const char *end = is_record ? "" : "\n";
  char text[64];
  found.struct_size = sizeof found;
  CHECK_CODE(resay_start(engine, 1, NULL), 0);

  /* A paused connection is answered. What the program sends leaves behind the answers to messages received before, also
   * behind those that are still to come. */
  client = dial(url);
  say(client, text, (size_t)snprintf(text, sizeof text, "a%s", end));
  wait_until(&count_of_tokens, 1);
  id = only(engine);
  CHECK_CODE(resay_connection_pause(engine, id), 0);
  answer(engine, 0, RESAY_REPLACE, "A");
  hear(client, text, (size_t)snprintf(text, sizeof text, "A%s", end));
  say(client, text, (size_t)snprintf(text, sizeof text, "b%s", end));
  CHECK_CODE(resay_sync(engine, PATIENCE_MS), 0);
  CHECK(LOAD(count_of_tokens) == 1);
  CHECK_CODE(resay_connection_resume(engine, id), 0);
  wait_until(&count_of_tokens, 2);
  CHECK_CODE(resay_connection_send(engine, id, "push", 4), 0);
  CHECK_CODE(resay_sync(engine, PATIENCE_MS), 0);
  CHECK_CODE(resay_connection_get(engine, id, &found), 0);
  CHECK(found.waiting_bytes == 4 && found.is_paused == 0);
  answer(engine, 1, RESAY_REPLACE, "B");
  hear(client, text, (size_t)snprintf(text, sizeof text, "B%s", end));
  hear(client, "push", 4);

  /* A shutdown waits for the answers. */
  say(client, text, (size_t)snprintf(text, sizeof text, "c%s", end));
  wait_until(&count_of_tokens, 3);
  CHECK_CODE(resay_connection_shutdown(engine, id), 0);
  CHECK_CODE(resay_sync(engine, PATIENCE_MS), 0);
  answer(engine, 2, RESAY_REPLACE, "C");
  hear(client, text, (size_t)snprintf(text, sizeof text, "C%s", end));
  hear_end(client);
  resay_client_free(client);

  /* A close gives them up. */
  client = dial(url);
  say(client, text, (size_t)snprintf(text, sizeof text, "d%s", end));
  wait_until(&count_of_tokens, 4);
  {
    uint64_t ids[2];
    size_t count = 0;
    int tries = 0;
    do CHECK(tries++ < PATIENCE_MS && (count = 0, resay_connections(engine, 0, ids, 2, &count)) == 0 && poll(NULL, 0, 1) == 0);
    while (count != 1);
    id = ids[0];
  }
  CHECK_CODE(resay_connection_close(engine, id), 0);
  hear_end(client);
  resay_client_free(client);
  CHECK_CODE(resay_sync(engine, PATIENCE_MS), 0);
  CHECK_CODE(resay_answer(engine, LOAD(tokens[3]), RESAY_REPLACE, "D", 1), RESAY_E_HANDLE);
  CHECK(stats_of(engine, 0).dropped == 1);
  resay_engine_free(engine);
  CHECK(releases == 1);
}

/* ---- The end ---- */

struct drained {
  resay_engine *engine;
  int timeout, result;
};

static void *drain(void *drained)
{
  struct drained *own = drained;
  own->result = resay_drain(own->engine, own->timeout);
  return NULL;
}

/* A drain waits for answers that come later, also of a paused connection; it has a limit. */
static void drains_wait_for_later_answers(const char *where)
{
  char url[128];
  resay_engine *engine = late_engine("later", where, url, NULL);
  struct drained drained = {engine, -1, 1};
  resay_client *client;
  pthread_t thread;
  int is_connected = strncmp(where, "udp", 3) != 0;
  CHECK_CODE(resay_start(engine, 1, NULL), 0);
  client = dial(url);
  say(client, "a\n", 2);
  wait_until(&count_of_tokens, 1);
  if (is_connected) {
    CHECK_CODE(resay_connection_pause(engine, only(engine)), 0);
    CHECK_CODE(resay_sync(engine, PATIENCE_MS), 0);
    say(client, "b\n", 2); /* stays in the kernel until the drain reads it */
    CHECK_CODE(resay_sync(engine, PATIENCE_MS), 0);
    CHECK(LOAD(count_of_tokens) == 1);
  }
  CHECK(pthread_create(&thread, NULL, drain, &drained) == 0);
  if (is_connected) wait_until(&count_of_tokens, 2);
  answer(engine, 0, RESAY_REPLACE, "A");
  if (is_connected) answer(engine, 1, RESAY_REPLACE, "B");
  hear(client, is_connected ? "A\nB\n" : "A", is_connected ? 4 : 1);
  if (is_connected) hear_end(client);
  resay_client_free(client);
  CHECK(pthread_join(thread, NULL) == 0);
  CHECK(drained.result == 0);
  resay_engine_free(engine);

  engine = late_engine("later", where, url, NULL);
  CHECK_CODE(resay_start(engine, 1, NULL), 0);
  client = dial(url);
  say(client, "a\n", 2);
  wait_until(&count_of_tokens, 1);
  CHECK_CODE(resay_drain(engine, 50), 0); /* cut off, and counted */
  CHECK(stats_of(engine, 0).dropped == 1);
  CHECK_CODE(resay_answer(engine, LOAD(tokens[0]), RESAY_REPLACE, "A", 1), RESAY_E_HANDLE);
  resay_client_free(client);
  resay_engine_free(engine);
  CHECK(releases == 1);
}

/* A name that is removed, a chain that is replaced, and an answer that comes after both: the function lives until then. */
static void the_last_answer_releases_the_function(const char *where)
{
  char url[128];
  resay_engine *engine = late_engine("later | uppercase", where, url, NULL);
  resay_client *client;
  CHECK_CODE(resay_start(engine, 2, NULL), 0);
  client = dial(url);
  say(client, "a\n", 2);
  wait_until(&count_of_tokens, 1);
  CHECK_CODE(resay_unregister(engine, "later"), 0);
  CHECK_CODE(resay_unregister(engine, "later"), RESAY_E_HANDLE);
  CHECK_CODE(resay_chain(engine, 0, "later", NULL), RESAY_E_PLUGIN);
  CHECK_CODE(resay_chain(engine, 0, "reverse", NULL), 0);
  CHECK_CODE(resay_sync(engine, PATIENCE_MS), 0);
  CHECK(LOAD(releases) == 0);
  answer(engine, 0, RESAY_REPLACE, "abc");
  if (strncmp(where, "udp", 3) == 0) {
    hear(client, "ABC", 3);
    ask(client, "xyz", "zyx");
  } else {
    hear(client, "ABC\n", 4);
    ask(client, "xyz\n", "zyx\n");
  }
  CHECK_CODE(resay_sync(engine, PATIENCE_MS), 0);
  wait_until(&releases, 1);
  resay_client_free(client);
  resay_engine_free(engine);
  CHECK(releases == 1);
}

/* ---- Hooks ---- */

static int began, has_ended, hooks_released;

static void on_begin(void *user, const char *thread)
{
  (void)user;
  CHECK(thread != NULL);
  __atomic_add_fetch(&began, 1, __ATOMIC_RELEASE);
}

static void on_end(void *user)
{
  (void)user;
  __atomic_add_fetch(&has_ended, 1, __ATOMIC_RELEASE);
}

static void release_hooks(void *user)
{
  (void)user;
  CHECK(LOAD(began) == LOAD(has_ended)); /* nothing runs any more */
  __atomic_add_fetch(&hooks_released, 1, __ATOMIC_RELEASE);
}

static int leave(void *user, void **session, const resay_message *message, resay_out *out)
{
  (void)user, (void)session, (void)out;
  if (message->len == 0 || message->data[0] != 'x') return RESAY_PASS;
  __atomic_add_fetch(&inside, 1, __ATOMIC_RELEASE);
  pthread_exit(NULL);
}

static void hooks_of_pool_threads(void)
{
  char url[128];
  resay_engine *engine = blocking_engine("tcp://127.0.0.1:0", url);
  resay_client *clients[6];
  int i;
  began = has_ended = hooks_released = 0;
  CHECK_CODE(resay_thread_hooks(engine, on_begin, on_end, NULL, release_hooks), 0);
  CHECK_CODE(resay_start(engine, 2, NULL), 0);
  for (i = 0; i < 6; i++) {
    clients[i] = dial(url);
    say(clients[i], "held", 4);
  }
  wait_until(&inside, 2);
  CHECK(LOAD(began) - LOAD(has_ended) > 2);
  STORE(may_go_on, 1);
  for (i = 0; i < 6; i++) {
    hear(clients[i], "held", 4);
    resay_client_free(clients[i]);
  }
  CHECK_CODE(resay_drain(engine, PATIENCE_MS), 0);
  CHECK_CODE(resay_join(engine, PATIENCE_MS), 0);
  CHECK(LOAD(began) == LOAD(has_ended));
  CHECK_CODE(resay_engine_free(engine), 0);
  CHECK(hooks_released == 1);
}

/* A function that may block and ends its thread takes the engine with it, and nothing else. */
static void a_pool_thread_that_exits(void)
{
  char url[128];
  resay_engine *engine = new_engine();
  resay_client *client;
  resay_function function;
  resay_stats stats;
  int tries = 0;
  memset(&function, 0, sizeof function);
  function.struct_size = sizeof function;
  function.needs = RESAY_NEED_OFFLOAD;
  function.call = leave;
  stats.struct_size = sizeof stats;
  inside = began = has_ended = 0;
  CHECK_CODE(resay_register_function(engine, "leave", &function, NULL), 0);
  CHECK_CODE(resay_chain(engine, 0, "leave", NULL), 0);
  add(engine, "tcp://127.0.0.1:0", url);
  CHECK_CODE(resay_thread_hooks(engine, on_begin, on_end, NULL, NULL), 0);
  CHECK_CODE(resay_start(engine, 1, NULL), 0);
  client = dial(url);
  ask(client, "a", "a");
  say(client, "x", 1);
  wait_until(&inside, 1);
  while (resay_stats_get(engine, 0, &stats) != RESAY_E_BUG) {
    CHECK(tries++ < PATIENCE_MS);
    poll(NULL, 0, 1);
  }
  CHECK_CODE(resay_engine_free(engine), 0);
  resay_client_free(client);
  /* Another one is as it should be. */
  engine = new_engine();
  add(engine, "tcp://127.0.0.1:0", url);
  CHECK_CODE(resay_start(engine, 1, NULL), 0);
  ask_once(url, "hello", "hello");
  CHECK_CODE(resay_engine_free(engine), 0);
}

/* ---- Several engines ---- */

static resay_engine *other_engine;
static uint64_t other_connection;
static resay_tap *other_tap;
static resay_events *other_events;

/* Inside one engine's function: calls of another one that do not wait. */
static int tell_the_other(void *user, void **session, const resay_message *message, resay_out *out)
{
  resay_tap_record record;
  resay_event event;
  char text[64];
  size_t count;
  resay_connection found;
  (void)user, (void)session, (void)out;
  event.struct_size = sizeof event;
  found.struct_size = sizeof found;
  CHECK_CODE(resay_connection_send(other_engine, other_connection, message->data, message->len), 0);
  CHECK_CODE(resay_answer(other_engine, LOAD(tokens[0]), RESAY_REPLACE, "told", 4), 0);
  CHECK_CODE(resay_answer(other_engine, LOAD(tokens[0]), RESAY_REPLACE, "told", 4), RESAY_E_HANDLE);
  CHECK_CODE(resay_get(other_engine, "chain", text, sizeof text, NULL), 0);
  CHECK_CODE(resay_connections(other_engine, 0, NULL, 0, &count), RESAY_E_FULL);
  /* And those that would. */
  CHECK_CODE(resay_sync(other_engine, 1), RESAY_E_STATE);
  CHECK_CODE(resay_connection_get(other_engine, other_connection, &found), RESAY_E_STATE);
  CHECK_CODE(resay_drain(other_engine, 1), RESAY_E_STATE);
  CHECK_CODE(resay_join(other_engine, 1), RESAY_E_STATE);
  CHECK_CODE(resay_engine_free(other_engine), RESAY_E_STATE);
  CHECK_CODE(resay_tap_read(other_tap, &record, sizeof record, 1, bytes, sizeof bytes, 1), RESAY_E_STATE);
  CHECK_CODE(resay_tap_read(other_tap, &record, sizeof record, 1, bytes, sizeof bytes, 0), 0);
  CHECK_CODE(resay_events_next(other_events, &event, 1), RESAY_E_STATE);
  CHECK_CODE(resay_events_next(other_events, &event, 0), 0);
  STORE(inside, 1);
  return RESAY_PASS;
}

static void engines_call_each_other(void)
{
  char url[128], own_url[128];
  resay_engine *engine = late_engine("later", "tcp://127.0.0.1:0", url, NULL), *own = new_engine();
  resay_client *client;
  char heard[16];
  size_t have = 0, got;
  CHECK_CODE(resay_start(engine, 1, NULL), 0);
  client = dial(url);
  say(client, "ask", 3);
  wait_until(&count_of_tokens, 1);
  other_connection = only(engine);
  other_engine = engine;
  other_tap = open_tap(engine);
  CHECK_CODE(resay_events_open(engine, RESAY_EVENT_ALL, 16, &other_events, NULL), 0);
  inside = 0;
  CHECK_CODE(add_function(own, "tell", tell_the_other, NULL, NULL), 0);
  CHECK_CODE(resay_chain(own, 0, "tell", NULL), 0);
  add(own, "tcp://127.0.0.1:0", own_url);
  CHECK_CODE(resay_start(own, 1, NULL), 0);
  CHECK_CODE(resay_answer(own, LOAD(tokens[0]), RESAY_REPLACE, "x", 1), RESAY_E_HANDLE); /* another engine's */
  ask_once(own_url, "hello", "hello");
  while (have < 9) {
    CHECK_CODE(resay_client_recv(client, heard + have, sizeof heard - have, &got, PATIENCE_MS), 0);
    have += got;
  }
  wait_until(&inside, 1); /* it is done with the tap and the queue */
  CHECK(memmem(heard, 9, "hello", 5) != NULL && memmem(heard, 9, "told", 4) != NULL);
  resay_client_free(client);
  CHECK_CODE(resay_tap_close(other_tap), 0);
  CHECK_CODE(resay_events_close(other_events), 0);
  CHECK_CODE(resay_engine_free(engine), 0);
  CHECK_CODE(resay_engine_free(own), 0);
}

/* ---- What outlives an engine ---- */

static void what_outlives_an_engine(void)
{
  char url[128];
  resay_engine *engine = late_engine("later", "tcp://127.0.0.1:0", url, NULL);
  resay_tap *taps[3];
  resay_events *events[3];
  resay_dry_run *dry_run;
  resay_tap_record record;
  resay_event event;
  resay_client *client;
  char answered[16];
  size_t need;
  int i, kinds = 0;
  event.struct_size = sizeof event;
  for (i = 0; i < 3; i++) {
    taps[i] = open_tap(engine);
    CHECK_CODE(resay_events_open(engine, RESAY_EVENT_ALL, 64, &events[i], NULL), 0);
  }
  CHECK_CODE(resay_dry_run_new(engine, "later", "tcp", "lines", &dry_run, NULL), 0);
  CHECK_CODE(resay_start(engine, 2, NULL), 0);
  client = dial(url);
  ask(client, "!a", "!a");
  say(client, "b", 1);
  wait_until(&count_of_tokens, 1);
  CHECK_CODE(resay_tap_close(taps[0]), 0);
  CHECK_CODE(resay_events_close(events[0]), 0);
  CHECK_CODE(resay_dry_run_process(dry_run, "!x", 2, answered, sizeof answered, &need), RESAY_REPLACE);
  CHECK_CODE(resay_dry_run_free(dry_run), 0);
  CHECK_CODE(resay_engine_free(engine), 0);
  CHECK(releases == 1);
  resay_client_free(client);
  for (i = 1; i < 3; i++) {
    struct pollfd watched = {resay_tap_fd(taps[i]), POLLIN, 0};
    CHECK(watched.fd >= 0 && poll(&watched, 1, 0) == 1);
    expect_record(taps[i], "!a", RESAY_TAP_ANSWERED, 0, "!a");
    expect_record(taps[i], "b", RESAY_TAP_DROPPED, RESAY_DROPPED_UNDELIVERED, "");
    CHECK_CODE(resay_tap_read(taps[i], &record, sizeof record, 1, bytes, sizeof bytes, -1), RESAY_E_STATE);
    CHECK(poll(&watched, 1, 0) == 1); /* it stays readable */
    watched.fd = resay_events_fd(events[i]);
    while (resay_events_next(events[i], &event, -1) == 1) kinds |= (int)event.kind;
    CHECK(kinds & RESAY_EVENT_ACCEPTED && kinds & RESAY_EVENT_CLOSED);
    CHECK_CODE(resay_events_next(events[i], &event, -1), RESAY_E_STATE);
    CHECK(poll(&watched, 1, 0) == 1);
    CHECK_CODE(resay_tap_close(taps[i]), 0);
    CHECK_CODE(resay_events_close(events[i]), 0);
  }
}

/* A child of fork(2) cannot answer, and what it closes is its own. */
static void forks_leave_later_answers(void)
{
  char url[128];
  resay_engine *engine = late_engine("later", "tcp://127.0.0.1:0", url, NULL);
  resay_client *client;
  resay_tap *tap;
  pid_t child;
  int status;
  CHECK_CODE(resay_start(engine, 1, NULL), 0);
  tap = open_tap(engine);
  client = dial(url);
  say(client, "ask", 3);
  wait_until(&count_of_tokens, 1);
  child = fork();
  if (child == 0) {
    size_t count = 0;
    CHECK_CODE(resay_answer(engine, LOAD(tokens[0]), RESAY_REPLACE, "child", 5), RESAY_E_FORKED);
    CHECK_CODE(resay_connections(engine, 0, NULL, 0, &count), RESAY_E_FORKED);
    CHECK_CODE(resay_connection_send(engine, 1, "x", 1), RESAY_E_FORKED);
    CHECK_CODE(resay_sync(engine, -1), RESAY_E_FORKED);
    CHECK_CODE(resay_tap_close(tap), 0);
    CHECK_CODE(resay_engine_free(engine), 0);
    _exit(LOAD(releases) == 0 ? 0 : 3); /* the parent still uses it */
  }
  CHECK(child > 0 && waitpid(child, &status, 0) == child);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) fprintf(stderr, "child: %x\n", status);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  answer(engine, 0, RESAY_REPLACE, "parent");
  hear(client, "parent", 6);
  expect_record(tap, "ask", RESAY_TAP_ANSWERED, 0, "parent");
  resay_client_free(client);
  resay_engine_free(engine);
  resay_tap_close(tap);
}

/* ---- resay_sync in every way to run ---- */

static void *lend(void *engine)
{
  int result;
  while ((result = resay_run(engine, -1)) == RESAY_E_INTR) {
  }
  CHECK(result == 0);
  return NULL;
}

static void sync_in_every_way(void)
{
  char url[128];
  resay_engine *engine = new_engine();
  pthread_t lent[2];
  int i;
  add(engine, "tcp://127.0.0.1:0", url);
  CHECK_CODE(resay_sync(engine, 0), RESAY_E_STATE);
  CHECK_CODE(resay_start(engine, 3, NULL), 0);
  CHECK_CODE(resay_sync(engine, -1), 0);
  CHECK_CODE(resay_drain(engine, -1), 0);
  CHECK_CODE(resay_sync(engine, -1), 0); /* nothing is left to be done */
  resay_engine_free(engine);

  engine = new_engine();
  add(engine, "tcp://127.0.0.1:0", url);
  CHECK_CODE(resay_set(engine, "threads", "2", NULL), 0);
  for (i = 0; i < 2; i++) CHECK(pthread_create(&lent[i], NULL, lend, engine) == 0);
  {
    int result, tries = 0;
    while ((result = resay_sync(engine, PATIENCE_MS)) == RESAY_E_STATE) {
      CHECK(tries++ < PATIENCE_MS);
      poll(NULL, 0, 1);
    }
    CHECK_CODE(result, 0);
  }
  ask_once(url, "a", "a");
  CHECK_CODE(resay_sync(engine, -1), 0);
  CHECK_CODE(resay_stop(engine), 0);
  for (i = 0; i < 2; i++) CHECK(pthread_join(lent[i], NULL) == 0);
  CHECK_CODE(resay_sync(engine, -1), 0);
  resay_engine_free(engine);

  engine = new_engine();
  add(engine, "tcp://127.0.0.1:0", url);
  CHECK(resay_poll_fd(engine) >= 0);
  CHECK_CODE(resay_run(engine, 0), 1);
  CHECK_CODE(resay_sync(engine, 1), RESAY_E_STATE);
  CHECK_CODE(resay_stop(engine), 0);
  CHECK_CODE(resay_run(engine, 0), 0);
  resay_engine_free(engine);
}

int main(int argc, char **argv)
{
  char path[96];
  (void)argv;
  setvbuf(stdout, NULL, _IOLBF, 0);
#define PART(call) (printf("%s\n", #call), (call))
  PART(taps_hear_of_later_answers("tcp://127.0.0.1:0?frame=lines", "\n"));
  PART(taps_hear_of_later_answers("tcp://127.0.0.1:0", ""));
  PART(taps_hear_of_later_answers("udp://127.0.0.1:0", ""));
  snprintf(path, sizeof path, "unix-seqpacket:/tmp/resay-interplay-%ld.sock", (long)getpid());
  PART(taps_hear_of_later_answers(path, ""));
  PART(calls_and_later_answers(path, 1));
  PART(taps_hear_of_what_is_given_up());
  PART(taps_hear_of_what_is_blocked("tcp://127.0.0.1:0"));
  PART(taps_hear_of_what_is_blocked("udp://127.0.0.1:0"));
  PART(calls_wait_for_what_is_blocked());
  PART(calls_and_later_answers("tcp://127.0.0.1:0?frame=lines", 0));
  PART(drains_wait_for_later_answers("tcp://127.0.0.1:0?frame=lines"));
  PART(drains_wait_for_later_answers("udp://127.0.0.1:0"));
  PART(the_last_answer_releases_the_function("tcp://127.0.0.1:0?frame=lines"));
  PART(the_last_answer_releases_the_function("udp://127.0.0.1:0"));
  PART(hooks_of_pool_threads());
  if (argc == 1) PART(a_pool_thread_that_exits());
  PART(engines_call_each_other());
  PART(what_outlives_an_engine());
  if (argc == 1) PART(forks_leave_later_answers());
  PART(sync_in_every_way());
  return 0;
}

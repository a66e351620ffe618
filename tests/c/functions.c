/* Functions with sessions: greeting, delay, end of stream, addresses; replacing and removing them; dry runs; answers that come
 * later from another thread: their order, their bounds, and what gives them up. With an argument, without what is slow
 * under valgrind. */
#define _GNU_SOURCE
#include "check.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <sys/un.h>

#define LOAD(variable) __atomic_load_n(&(variable), __ATOMIC_ACQUIRE)

static resay_id listening; /* the listener that was added last */

static resay_engine *engine_with(const char *id, const resay_function *function, const char *chain, const char *where,
                                 char *url)
{
  resay_engine *engine = new_engine();
  CHECK_CODE(resay_register_function(engine, id, function, NULL), 0);
  CHECK_CODE(resay_chain(engine, 0, chain, NULL), 0);
  listening = add(engine, where, url);
  return engine;
}

/* ---- Sessions ---- */

struct session {
  int messages;
  char name[64];
};

static int begun, ended, released, refusal;

static int begin(void *user, void **session, const resay_peer *peer, resay_out *out)
{
  struct session *own = calloc(1, sizeof *own);
  resay_address address, local;
  CHECK(user == &begun && *session == NULL && own != NULL);
  CHECK(peer->struct_size == sizeof *peer);
  if (peer->local != NULL) CHECK(strchr(peer->local, ':') != NULL && strcmp(peer->listener, peer->local) == 0);
  CHECK_CODE(resay_out_peer(out, &address, &local), 0);
  CHECK(resay_later(out) == 0);
  if (peer->kind != RESAY_DATAGRAM) CHECK(peer->id > 0);
  if (refusal != 0) {
    free(own);
    resay_out_write(out, "no", 2);
    return refusal;
  }
  __atomic_add_fetch(&begun, 1, __ATOMIC_RELEASE);
  resay_out_write(out, "hello", 5);
  *session = own;
  return 0;
}

static int call(void *user, void **session, const resay_message *message, resay_out *out)
{
  struct session *own = *session;
  char text[64];
  CHECK(user == &begun && message->zero == 0);
  if (message->flags & RESAY_IO_EOF) {
    CHECK(message->len == 0);
    resay_out_write(out, "bye", 3);
    return RESAY_REPLACE;
  }
  resay_out_write(out, text, (size_t)snprintf(text, sizeof text, "%d:", ++own->messages));
  resay_out_write(out, message->data, message->len);
  if (message->len > 0 && message->data[0] == 'c') return RESAY_CLOSE;
  return RESAY_REPLACE;
}

static void end(void *user, void *session)
{
  CHECK(user == &begun);
  free(session);
  __atomic_add_fetch(&ended, 1, __ATOMIC_RELEASE);
}

static void release(void *user)
{
  CHECK(user == &begun);
  __atomic_add_fetch(&released, 1, __ATOMIC_RELEASE);
}

static const resay_function counting = {sizeof counting, 0, &begun, begin, call, end, release};

/* ---- Behind a proxy ---- */

static int tell(void *user, void **session, const resay_peer *peer, resay_out *out)
{
  const char *fact = peer->facts;
  (void)user, (void)session;
  CHECK(peer->struct_size == sizeof *peer && peer->via != NULL && fact != NULL);
  resay_out_write(out, peer->peer, strlen(peer->peer));
  CHECK(strncmp(peer->via, "tcp://127.0.0.1:", 16) == 0);
  for (; *fact != 0; fact += strlen(fact) + 1) {
    resay_out_write(out, " ", 1);
    resay_out_write(out, fact, strlen(fact));
  }
  return 0;
}

static int pass(void *user, void **session, const resay_message *message, resay_out *out)
{
  (void)user, (void)session, (void)message, (void)out;
  return RESAY_PASS;
}

static void facts_of_a_proxy(void)
{
  static const resay_function telling = {sizeof telling, 0, NULL, tell, pass, NULL, NULL};
  static const char header[] = "PROXY TCP4 192.0.2.7 198.51.100.1 50312 443\r\n";
  static const char told[] =
    "tcp://192.0.2.7:50312 version=1 command=proxy protocol=tcp4 destination=198.51.100.1:443";
  char url[128];
  resay_engine *engine = engine_with("tell", &telling, "tell", "tcp://127.0.0.1:0?proxy=v1", url);
  resay_client *client;
  CHECK_CODE(resay_start(engine, 1, NULL), 0);
  client = dial(url);
  say(client, header, sizeof header - 1);
  hear(client, told, sizeof told - 1);
  resay_client_free(client);
  resay_engine_free(engine);
}

static void reset(void)
{
  begun = ended = released = refusal = 0;
}

static void sessions(const char *chain, const char *greeting, const char *first, const char *second)
{
  char url[128];
  resay_client *client, *other;
  resay_engine *engine = engine_with("count", &counting, chain, "tcp://127.0.0.1:0?frame=lines", url);
  CHECK_CODE(resay_start(engine, 1, NULL), 0);
  client = dial(url);
  hear(client, greeting, strlen(greeting));
  ask(client, "a\nb\n", first);
  other = dial(url); /* a session of its own */
  hear(other, greeting, strlen(greeting));
  ask(other, "a\n", second);
  say(client, "c\nnobody reads this\n", 19);
  CHECK_CODE(resay_client_shutdown(other), 0);
  hear_end(other);
  resay_client_free(client);
  resay_client_free(other);
  CHECK_CODE(resay_drain(engine, PATIENCE_MS), 0);
  CHECK(resay_join(engine, PATIENCE_MS) == 0);
  resay_engine_free(engine);
  CHECK(begun == 2 && ended == 2 && released == 1);
  reset();
}

/* The end of a raw stream is a call, in chains that work in place and in others. */
static void raw(const char *chain, const char *greeting, const char *answer, const char *last)
{
  char url[128];
  resay_client *client;
  resay_engine *engine = engine_with("count", &counting, chain, "tcp://127.0.0.1:0", url);
  CHECK_CODE(resay_start(engine, 1, NULL), 0);
  client = dial(url);
  hear(client, greeting, strlen(greeting));
  ask(client, "a", answer);
  CHECK_CODE(resay_client_shutdown(client), 0);
  hear(client, last, strlen(last));
  hear_end(client);
  resay_client_free(client);
  resay_engine_free(engine);
  CHECK(begun == 1 && ended == 1 && released == 1);
  reset();
}

static void refusals(void)
{
  static const int codes[] = {RESAY_CLOSE, RESAY_DROP, RESAY_RESET, RESAY_E_DATA, 77, RESAY_LATER, RESAY_REPLACE};
  size_t i;
  for (i = 0; i < sizeof codes / sizeof codes[0]; i++) {
    char url[128], udp[128], byte;
    size_t got;
    resay_client *client;
    resay_stats stats;
    resay_engine *engine = engine_with("count", &counting, "count", "tcp://127.0.0.1:0?frame=lines", url);
    resay_id datagrams = add(engine, "udp://127.0.0.1:0", udp);
    refusal = codes[i];
    CHECK_CODE(resay_start(engine, 1, NULL), 0);
    if (codes[i] != RESAY_RESET) {
      client = dial(url);
      if (codes[i] == RESAY_CLOSE) hear(client, "no\n", 3);
      hear_end(client);
      resay_client_free(client);
    } else if (resay_client_open(url, PATIENCE_MS, &client, NULL) == 0) { /* unless that hears of it */
      CHECK_CODE(resay_client_recv(client, &byte, 1, &got, PATIENCE_MS), RESAY_E_SYS);
      resay_client_free(client);
    }
    client = dial(udp);
    say(client, "x", 1);
    CHECK_CODE(resay_drain(engine, PATIENCE_MS), 0);
    CHECK(resay_join(engine, PATIENCE_MS) == 0);
    stats = stats_of(engine, datagrams);
    CHECK(stats.messages_in == stats.dropped);
    resay_client_free(client);
    resay_engine_free(engine);
    CHECK(begun == 0 && ended == 0 && released == 1);
    reset();
  }
}

/* Each datagram has a session of its own; its greeting is nobody's. */
static void datagrams(void)
{
  char url[128];
  resay_client *client;
  resay_engine *engine = engine_with("count", &counting, "count", "udp://127.0.0.1:0", url);
  CHECK_CODE(resay_start(engine, 1, NULL), 0);
  client = dial(url);
  ask(client, "a", "1:a");
  ask(client, "b", "1:b");
  resay_client_free(client);
  resay_engine_free(engine);
  CHECK(begun == 2 && ended == 2 && released == 1);
  reset();
}

static void blocking(void)
{
  char url[128];
  resay_client *client;
  resay_function function = counting;
  resay_engine *engine;
  function.needs = RESAY_NEED_MESSAGES | RESAY_NEED_OFFLOAD;
  engine = engine_with("count", &function, "count", "tcp://127.0.0.1:0?frame=lines", url);
  CHECK_CODE(resay_listen(engine, "tcp://127.0.0.1:0", NULL, NULL), RESAY_E_PLUGIN); /* no messages */
  CHECK_CODE(resay_start(engine, 1, NULL), 0);
  client = dial(url);
  hear(client, "hello\n", 6);
  ask(client, "a\nb\n", "1:a\n2:b\n");
  resay_client_free(client);
  resay_engine_free(engine);
  CHECK(begun == 1 && ended == 1 && released == 1);
  reset();
  function.needs = 4;
  engine = new_engine();
  CHECK_CODE(resay_register_function(engine, "count", &function, NULL), RESAY_E_ARG);
  CHECK(released == 1);
  function.struct_size = 8;
  CHECK_CODE(resay_register_function(engine, "count", &function, NULL), RESAY_E_ARG);
  CHECK_CODE(resay_register_function(engine, "count", NULL, NULL), RESAY_E_ARG);
  CHECK(released == 1); /* nobody knows whose */
  resay_engine_free(engine);
  reset();
}

/* ---- Addresses and delays ---- */

static resay_address seen_peer, seen_local;

static int look(void *user, void **session, const resay_message *message, resay_out *out)
{
  (void)user, (void)session;
  CHECK_CODE(resay_out_peer(out, &seen_peer, &seen_local), 0);
  CHECK_CODE(resay_out_peer(out, NULL, NULL), 0);
  CHECK_CODE(resay_out_peer(NULL, &seen_peer, NULL), RESAY_E_STATE);
  CHECK_CODE(resay_out_delay(NULL, 1), RESAY_E_STATE);
  CHECK(resay_later(NULL) == 0);
  if (message->data[0] == 'd') CHECK_CODE(resay_out_delay(out, 20000), 0);
  return RESAY_PASS;
}

static const resay_function looking = {sizeof looking, 0, NULL, NULL, look, NULL, NULL};

static void addresses(const char *where, int family)
{
  char url[128];
  resay_client *client;
  resay_engine *engine = engine_with("look", &looking, "look", where, url);
  const struct sockaddr *local = (const struct sockaddr *)seen_local.words;
  const struct sockaddr_in *in = (const struct sockaddr_in *)seen_local.words;
  CHECK_CODE(resay_start(engine, 1, NULL), 0);
  client = dial(url);
  ask(client, "x", "x");
  CHECK(seen_local.len > sizeof local->sa_family && local->sa_family == family);
  if (family == AF_INET) {
    CHECK(seen_peer.len == sizeof *in && seen_local.len == sizeof *in);
    CHECK(ntohs(in->sin_port) == resay_listener_port(engine, listening) && ntohl(in->sin_addr.s_addr) == INADDR_LOOPBACK);
    in = (const struct sockaddr_in *)seen_peer.words;
    CHECK(in->sin_family == AF_INET && in->sin_port != 0 && ntohl(in->sin_addr.s_addr) == INADDR_LOOPBACK);
  }
  resay_client_free(client);
  resay_engine_free(engine);
}

static uint64_t now_us(void)
{
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void delays(const char *chain, const char *where, const char *question, const char *answer)
{
  char url[128];
  resay_client *client;
  uint64_t before;
  resay_engine *engine = engine_with("look", &looking, chain, where, url);
  CHECK_CODE(resay_start(engine, 1, NULL), 0);
  client = dial(url);
  before = now_us();
  ask(client, question, answer);
  CHECK(now_us() - before >= 20000);
  resay_client_free(client);
  resay_engine_free(engine);
}

/* ---- Replacing and removing ---- */

static int versions_released[3];

static int say_version(void *user, void **session, const resay_message *message, resay_out *out)
{
  char digit = (char)('0' + ((int *)user - versions_released));
  (void)session, (void)message;
  resay_out_write(out, &digit, 1);
  return RESAY_REPLACE;
}

static void release_version(void *user)
{
  __atomic_add_fetch((int *)user, 1, __ATOMIC_RELEASE);
}

static void expect_released(int version)
{
  uint64_t until = now_us() + (uint64_t)PATIENCE_MS * 1000;
  while (LOAD(versions_released[version]) == 0) {
    CHECK(now_us() < until);
    sched_yield();
  }
  CHECK(versions_released[version] == 1);
}

static void replacing(void)
{
  char url[128];
  resay_client *client;
  resay_engine *engine = new_engine();
  int i;
  resay_function function = {sizeof function, 0, versions_released, NULL, say_version, NULL, release_version};
  CHECK_CODE(resay_register_function(engine, "v", &function, NULL), 0);
  CHECK_CODE(resay_chain(engine, 0, "v", NULL), 0);
  add(engine, "tcp://127.0.0.1:0", url);
  CHECK_CODE(resay_start(engine, 1, NULL), 0);
  client = dial(url);
  ask(client, "?", "0");
  for (i = 1; i < 3; i++) {
    char before = (char)('0' + i - 1), now = (char)('0' + i);
    function.user = &versions_released[i];
    CHECK_CODE(resay_register_function(engine, "v", &function, NULL), 0);
    say(client, "?", 1);
    hear(client, &before, 1); /* the chain is the same */
    CHECK(versions_released[i - 1] == 0);
    CHECK_CODE(resay_chain(engine, 0, i == 1 ? "v | identity" : "v", NULL), 0);
    say(client, "?", 1);
    hear(client, &now, 1);
    expect_released(i - 1); /* long before the engine ends */
  }
  CHECK_CODE(resay_unregister(engine, "v"), 0);
  CHECK_CODE(resay_chain(engine, 0, "v", NULL), RESAY_E_PLUGIN);
  ask(client, "?", "2");
  CHECK(versions_released[2] == 0);
  CHECK_CODE(resay_chain(engine, 0, "", NULL), 0);
  ask(client, "?", "?");
  expect_released(2);
  resay_client_free(client);
  resay_engine_free(engine);
  CHECK(versions_released[0] == 1 && versions_released[1] == 1 && versions_released[2] == 1);
}

/* ---- Dry runs ---- */

static void dry_runs(void)
{
  resay_engine *engine = new_engine();
  resay_dry_run *dry_run;
  char buffer[16];
  size_t need;
  CHECK_CODE(resay_dry_run_new(engine, "count", "tcp", "lines", &dry_run, NULL), RESAY_E_PLUGIN);
  CHECK(dry_run == NULL);
  CHECK_CODE(resay_register_function(engine, "count", &counting, NULL), 0);
  CHECK_CODE(resay_dry_run_new(engine, "count | uppercase", "tcp", "lines", &dry_run, NULL), 0);
  CHECK(resay_running_transform() == NULL);
  CHECK_CODE(resay_dry_run_process(dry_run, "a", 1, buffer, 2, &need), RESAY_E_FULL);
  CHECK(need == 3);
  CHECK_CODE(resay_dry_run_process(dry_run, NULL, 0, buffer, sizeof buffer, &need), RESAY_REPLACE);
  CHECK(need == 3 && memcmp(buffer, "1:A", 3) == 0);
  CHECK_CODE(resay_dry_run_process(dry_run, "c", 1, buffer, sizeof buffer, &need), RESAY_CLOSE);
  CHECK(need == 3 && memcmp(buffer, "2:C", 3) == 0);
  CHECK_CODE(resay_dry_run_free(dry_run), 0);
  CHECK(begun == 1 && ended == 1);
  CHECK_CODE(resay_dry_run_new(NULL, "drop:rate=100%", "udp", NULL, &dry_run, NULL), 0);
  CHECK_CODE(resay_dry_run_process(dry_run, "a", 1, NULL, 0, NULL), RESAY_DROP);
  CHECK_CODE(resay_dry_run_process(dry_run, NULL, 1, NULL, 0, NULL), RESAY_E_ARG);
  CHECK_CODE(resay_dry_run_free(dry_run), 0);
  CHECK_CODE(resay_dry_run_free(NULL), 0);
  CHECK_CODE(resay_dry_run_new(NULL, "", "tls", NULL, &dry_run, NULL), RESAY_E_SPEC);
  CHECK_CODE(resay_dry_run_new(NULL, "", "tcp", "words", &dry_run, NULL), RESAY_E_SPEC);
  CHECK_CODE(resay_dry_run_new(NULL, "|", "tcp", NULL, &dry_run, NULL), RESAY_E_SPEC);
  CHECK_CODE(resay_dry_run_new(NULL, NULL, "tcp", NULL, &dry_run, NULL), RESAY_E_ARG);
  CHECK_CODE(resay_dry_run_new(NULL, "", "tcp", NULL, NULL, NULL), RESAY_E_ARG);
  CHECK_CODE(resay_dry_run_process(NULL, "a", 1, NULL, 0, NULL), RESAY_E_ARG);
  resay_engine_free(engine);
  CHECK(released == 1);
  reset();
}

/* ---- Answers later ---- */

enum { TOKENS = 2048 };

/* What the function has put off, in order. */
static struct {
  pthread_mutex_t lock;
  pthread_cond_t changed;
  uint64_t tokens[TOKENS];
  char names[TOKENS];
  int count;
} late = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, {0}, {0}, 0};

static const char *volatile running;

/* Puts off what begins with a small letter; answers the rest, void tokens included. */
static int put_off(void *user, void **session, const resay_message *message, resay_out *out)
{
  uint64_t token;
  (void)user, (void)session;
  running = resay_running_transform();
  if (message->len == 0) return RESAY_PASS;
  if (message->data[0] == 'V') { /* has a token and does not use it */
    token = resay_later(out);
    CHECK(token != 0 && resay_later(out) == token);
    late.tokens[TOKENS - 1] = token;
    return RESAY_PASS;
  }
  if (message->data[0] == 'N') return RESAY_LATER; /* has none */
  if (message->data[0] < 'a') return RESAY_PASS;
  token = resay_later(out);
  if (token == 0) return RESAY_DROP;
  resay_out_write(out, "forgotten", 9);
  pthread_mutex_lock(&late.lock);
  CHECK(late.count < TOKENS);
  late.names[late.count] = (char)message->data[0];
  late.tokens[late.count++] = token;
  pthread_cond_broadcast(&late.changed);
  pthread_mutex_unlock(&late.lock);
  return RESAY_LATER;
}

static const resay_function putting_off = {sizeof putting_off, 0, NULL, NULL, put_off, NULL, NULL};

static void await(int count)
{
  pthread_mutex_lock(&late.lock);
  while (late.count < count) CHECK(pthread_cond_wait(&late.changed, &late.lock) == 0);
  pthread_mutex_unlock(&late.lock);
}

static resay_engine *late_engine(const char *chain, const char *where, char *url)
{
  resay_engine *engine = engine_with("later", &putting_off, chain, where, url);
  late.count = 0;
  CHECK_CODE(resay_start(engine, 2, NULL), 0);
  return engine;
}

static void reply(resay_engine *engine, int place, const char *text)
{
  CHECK_CODE(resay_answer(engine, late.tokens[place], RESAY_REPLACE, text, strlen(text)), 0);
}

/* Whatever comes first, answers leave in the order of the messages. */
static void order(const char *chain, const char *where, const char *answer)
{
  char url[128];
  resay_engine *other = new_engine(), *engine = late_engine(chain, where, url);
  resay_client *client = dial(url);
  say(client, "A\na\nB\nb\nc\nC\n", 12);
  await(3);
  CHECK_CODE(resay_answer(other, late.tokens[0], RESAY_REPLACE, "x", 1), RESAY_E_HANDLE);
  CHECK_CODE(resay_answer(NULL, late.tokens[0], RESAY_REPLACE, "x", 1), RESAY_E_ARG);
  CHECK_CODE(resay_answer(engine, late.tokens[0], RESAY_REPLACE, NULL, 1), RESAY_E_ARG);
  CHECK_CODE(resay_answer(engine, late.tokens[0], RESAY_PASS, "x", 1), RESAY_E_ARG);
  CHECK_CODE(resay_answer(engine, late.tokens[0], RESAY_LATER, "x", 1), RESAY_E_ARG);
  CHECK_CODE(resay_answer(engine, late.tokens[0], 77, "x", 1), RESAY_E_ARG);
  CHECK_CODE(resay_answer(engine, 0, RESAY_REPLACE, "x", 1), RESAY_E_HANDLE);
  reply(engine, 2, "third");
  CHECK_CODE(resay_answer(engine, late.tokens[2], RESAY_REPLACE, "x", 1), RESAY_E_HANDLE); /* twice */
  reply(engine, 0, "first");
  reply(engine, 1, "second");
  hear(client, answer, strlen(answer));
  /* A peer that has ended its side gets all that it is owed. */
  say(client, "d", 1);
  CHECK_CODE(resay_client_shutdown(client), 0);
  await(4);
  CHECK_CODE(resay_answer(engine, late.tokens[3], RESAY_DROP, NULL, 0), 0);
  hear_end(client);
  CHECK_CODE(resay_answer(engine, late.tokens[3], RESAY_REPLACE, "x", 1), RESAY_E_HANDLE);
  resay_client_free(client);
  CHECK(strcmp(running, "later") == 0);
  resay_engine_free(engine);
  resay_engine_free(other);
}

/* What the answer may be beside an answer. */
static void verdicts(void)
{
  char url[128], byte;
  size_t got;
  resay_engine *engine = late_engine("later", "tcp://127.0.0.1:0?frame=lines", url);
  resay_client *client = dial(url);
  say(client, "a\nb\nA\n", 6);
  await(2);
  CHECK_CODE(resay_answer(engine, late.tokens[1], RESAY_CLOSE, "last", 4), 0);
  CHECK_CODE(resay_answer(engine, late.tokens[0], RESAY_DROP, NULL, 0), 0);
  hear(client, "last\n", 5); /* and not A */
  hear_end(client);
  resay_client_free(client);
  client = dial(url);
  say(client, "a\nb\n", 4);
  await(4);
  CHECK_CODE(resay_answer(engine, late.tokens[2], RESAY_E_DATA, NULL, 0), 0);
  hear_end(client);
  CHECK_CODE(resay_answer(engine, late.tokens[3], RESAY_REPLACE, "x", 1), RESAY_E_HANDLE);
  resay_client_free(client);
  client = dial(url);
  say(client, "a\n", 2);
  await(5);
  CHECK_CODE(resay_answer(engine, late.tokens[4], RESAY_RESET, NULL, 0), 0);
  CHECK_CODE(resay_client_recv(client, &byte, 1, &got, PATIENCE_MS), RESAY_E_SYS);
  resay_client_free(client);
  client = dial(url);
  ask(client, "V\n", "V\n");
  CHECK_CODE(resay_answer(engine, late.tokens[TOKENS - 1], RESAY_REPLACE, "x", 1), RESAY_E_HANDLE);
  say(client, "N\n", 2);
  hear_end(client);
  resay_client_free(client);
  resay_engine_free(engine);
}

/* The longest answers of a connection wait for the first, within bounds; the token remains. */
static void bounds(void)
{
  enum { BIG = 60000 };
  static char big[BIG];
  char url[128], line[BIG + 1];
  int i, full = 0, result;
  resay_engine *engine = late_engine("later", "tcp://127.0.0.1:0?frame=lines&max_message=64k&high_water=256k", url);
  resay_client *client = dial(url);
  memset(big, 'x', sizeof big);
  memcpy(line, big, sizeof big);
  line[BIG] = '\n';
  for (i = 0; i < 8; i++) say(client, "a\n", 2);
  await(8);
  CHECK_CODE(resay_answer(engine, late.tokens[0], RESAY_REPLACE, big, (size_t)1 << 40), RESAY_E_FULL);
  for (i = 1; i < 8 && full == 0; i++) {
    result = resay_answer(engine, late.tokens[i], RESAY_REPLACE, big, BIG);
    if (result == 0) continue;
    CHECK_CODE(result, RESAY_E_FULL);
    full = i;
  }
  CHECK(full == 5); /* 256 KiB and no more */
  reply(engine, 0, "first");
  hear(client, "first\n", 6);
  for (i = 1; i < full; i++) hear(client, line, sizeof line);
  for (i = full; i < 8; i++) {
    CHECK_CODE(resay_answer(engine, late.tokens[i], RESAY_REPLACE, big, BIG), 0);
    hear(client, line, sizeof line);
  }
  resay_client_free(client);
  resay_engine_free(engine);
}

/* No more than so many messages are put off; the rest is not read. A stream may stop at half of that. */
static void many(const char *where, const char *message, const char *answer, int first)
{
  enum { WAITING_MAX = 1024, ALL = 1100 }; /* the rest fits into the socket's buffer */
  char url[128];
  int i;
  resay_engine *engine = late_engine("later", where, url);
  resay_client *client = dial(url);
  for (i = 0; i < ALL; i++) say(client, message, strlen(message));
  await(first);
  for (i = 0; i < ALL; i++) {
    await(i + 1);
    pthread_mutex_lock(&late.lock);
    CHECK(late.count - i <= WAITING_MAX);
    pthread_mutex_unlock(&late.lock);
    reply(engine, i, "!");
    hear(client, answer, strlen(answer));
  }
  resay_client_free(client);
  resay_engine_free(engine);
}

static void late_datagrams(const char *where)
{
  char url[128];
  resay_stats stats;
  resay_engine *engine = late_engine("later | uppercase", where, url);
  resay_client *client = dial(url);
  say(client, "a", 1);
  say(client, "b", 1);
  await(2);
  reply(engine, 1, "second"); /* each has its own way */
  hear(client, "SECOND", 6);
  ask(client, "A", "A");
  reply(engine, 0, "first");
  hear(client, "FIRST", 5);
  say(client, "a", 1);
  say(client, "b", 1);
  await(4);
  CHECK_CODE(resay_answer(engine, late.tokens[2], RESAY_E_DATA, NULL, 0), 0);
  CHECK_CODE(resay_answer(engine, late.tokens[3], RESAY_DROP, NULL, 0), 0);
  CHECK_CODE(resay_drain(engine, PATIENCE_MS), 0);
  CHECK(resay_join(engine, PATIENCE_MS) == 0);
  stats = stats_of(engine, 0);
  CHECK(stats.messages_in == 5 && stats.messages_out == 3 && stats.dropped == 2 && stats.transform_errors == 1);
  CHECK_CODE(resay_answer(engine, late.tokens[3], RESAY_REPLACE, "x", 1), RESAY_E_HANDLE);
  resay_client_free(client);
  resay_engine_free(engine);
}

/* A session lasts until the answer. */
static uint64_t session_token;

static int begin_later(void *user, void **session, const resay_peer *peer, resay_out *out)
{
  (void)user, (void)peer, (void)out;
  *session = &session_token;
  __atomic_add_fetch(&begun, 1, __ATOMIC_RELEASE);
  return 0;
}

static int call_later(void *user, void **session, const resay_message *message, resay_out *out)
{
  (void)user;
  CHECK(*session == &session_token);
  if (message->len == 0 || message->data[0] != 'a') return RESAY_PASS;
  __atomic_store_n(&session_token, resay_later(out), __ATOMIC_RELEASE);
  return RESAY_LATER;
}

static void end_later(void *user, void *session)
{
  (void)user;
  CHECK(session == &session_token);
  __atomic_add_fetch(&ended, 1, __ATOMIC_RELEASE);
}

static void late_sessions(void)
{
  static const resay_function function = {sizeof function, 0, NULL, begin_later, call_later, end_later, NULL};
  char url[128];
  resay_client *client;
  resay_engine *engine = engine_with("later", &function, "later", "udp://127.0.0.1:0", url);
  CHECK_CODE(resay_start(engine, 1, NULL), 0);
  client = dial(url);
  say(client, "a", 1);
  ask(client, "b", "b");
  ask(client, "b", "b");
  CHECK(LOAD(begun) == 3 && LOAD(ended) == 1); /* the first b's */
  CHECK_CODE(resay_answer(engine, LOAD(session_token), RESAY_REPLACE, "!", 1), 0);
  hear(client, "!", 1);
  resay_client_free(client);
  resay_engine_free(engine);
  CHECK(begun == 3 && ended == 3);
  reset();
}

/* Draining waits for answers, and stopping does not. */
static void *drain(void *engine)
{
  CHECK_CODE(resay_drain(engine, PATIENCE_MS), 0);
  CHECK(resay_join(engine, PATIENCE_MS) == 0);
  return NULL;
}

static void endings(void)
{
  char url[128];
  pthread_t draining;
  resay_client *client, *refused;
  resay_engine *engine = late_engine("later", "tcp://127.0.0.1:0?frame=lines", url);
  client = dial(url);
  say(client, "a\n", 2);
  await(1);
  CHECK(pthread_create(&draining, NULL, drain, engine) == 0);
  while (resay_client_open(url, PATIENCE_MS, &refused, NULL) == 0) resay_client_free(refused); /* until it drains */
  reply(engine, 0, "answer");
  hear(client, "answer\n", 7);
  hear_end(client);
  CHECK(pthread_join(draining, NULL) == 0);
  resay_client_free(client);
  resay_engine_free(engine);

  engine = late_engine("later", "tcp://127.0.0.1:0?frame=lines", url);
  client = dial(url);
  say(client, "a\n", 2);
  await(1);
  CHECK_CODE(resay_drain(engine, 1), 0); /* cut off */
  CHECK(resay_join(engine, PATIENCE_MS) == 0);
  CHECK_CODE(resay_answer(engine, late.tokens[0], RESAY_REPLACE, "x", 1), RESAY_E_HANDLE);
  resay_client_free(client);
  resay_engine_free(engine);

  engine = late_engine("later", "tcp://127.0.0.1:0?frame=lines", url);
  client = dial(url);
  say(client, "a\n", 2);
  await(1);
  CHECK_CODE(resay_stop(engine), 0);
  CHECK(resay_join(engine, PATIENCE_MS) == 0);
  CHECK_CODE(resay_answer(engine, late.tokens[0], RESAY_REPLACE, "x", 1), RESAY_E_HANDLE);
  resay_client_free(client);
  resay_engine_free(engine);
}

/* The peer is gone, and then the token. */
static void gone(void)
{
  char url[128];
  uint64_t until = now_us() + (uint64_t)PATIENCE_MS * 1000;
  struct linger hard = {1, 0};
  struct sockaddr_in to;
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  resay_engine *engine = late_engine("later", "tcp://127.0.0.1:0?frame=lines", url);
  memset(&to, 0, sizeof to);
  to.sin_family = AF_INET;
  to.sin_port = htons((uint16_t)resay_listener_port(engine, listening));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof to) == 0 && write(fd, "a\n", 2) == 2);
  await(1);
  CHECK(setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard) == 0 && close(fd) == 0);
  while (stats_of(engine, 0).open > 0) {
    CHECK(now_us() < until);
    sched_yield();
  }
  CHECK_CODE(resay_answer(engine, late.tokens[0], RESAY_REPLACE, "x", 1), RESAY_E_HANDLE);
  resay_engine_free(engine);
}

/* A chain that was replaced is kept until its last message is answered. */
static void swaps(void)
{
  char url[128];
  resay_engine *engine = late_engine("later", "tcp://127.0.0.1:0?frame=lines", url);
  resay_client *client = dial(url);
  say(client, "a\n", 2);
  await(1);
  CHECK_CODE(resay_chain(engine, 0, "reverse", NULL), 0);
  say(client, "b\n", 2); /* the old one's */
  await(2);
  reply(engine, 1, "two");
  reply(engine, 0, "one");
  hear(client, "one\ntwo\n", 8);
  ask(client, "abc\n", "cba\n");
  resay_client_free(client);
  resay_engine_free(engine);

  engine = late_engine("later", "tcp://127.0.0.1:0?frame=lines&swap_timeout=1ms", url);
  client = dial(url);
  say(client, "a\n", 2);
  await(1);
  CHECK_CODE(resay_chain(engine, 0, "reverse", NULL), 0);
  hear_end(client); /* its time is over */
  CHECK_CODE(resay_answer(engine, late.tokens[0], RESAY_REPLACE, "x", 1), RESAY_E_HANDLE);
  resay_client_free(client);
  resay_engine_free(engine);
}

/* A message may be what answers another. */
static resay_engine *pairing;
static uint64_t partner;

static int pair(void *user, void **session, const resay_message *message, resay_out *out)
{
  (void)user, (void)session;
  if (partner == 0) {
    __atomic_store_n(&partner, resay_later(out), __ATOMIC_RELEASE);
    return RESAY_LATER;
  }
  CHECK_CODE(resay_answer(pairing, partner, RESAY_REPLACE, message->data, message->len), 0);
  partner = 0;
  return RESAY_PASS;
}

static void answers_in_callbacks(void)
{
  static const resay_function function = {sizeof function, 0, NULL, NULL, pair, NULL, NULL};
  char url[128];
  resay_client *first, *second;
  pairing = engine_with("pair", &function, "pair", "tcp://127.0.0.1:0?frame=lines", url);
  CHECK_CODE(resay_start(pairing, 1, NULL), 0);
  first = dial(url);
  say(first, "one\n", 4);
  ask(first, "two\n", "two\ntwo\n");
  second = dial(url);
  say(first, "three\n", 6);
  while (LOAD(partner) == 0) sched_yield();
  ask(second, "four\n", "four\n");
  hear(first, "four\n", 5);
  resay_client_free(first);
  resay_client_free(second);
  resay_engine_free(pairing);
}

int main(int argc, char **argv)
{
  char where[96];
  (void)argv;
  facts_of_a_proxy();
  sessions("count", "hello\n", "1:a\n2:b\n", "1:a\n");
  sessions("count | uppercase", "HELLO\n", "1:A\n2:B\n", "1:A\n");
  sessions("count | hex", "68656c6c6f\n", "313a61\n323a62\n", "313a61\n");
  raw("count", "hello", "1:a", "bye");
  raw("count | uppercase", "HELLO", "1:A", "BYE");
  raw("count | hex", "68656c6c6f", "313a61", "627965");
  raw("hex | count", "hello", "1:61", "bye");
  refusals();
  datagrams();
  blocking();
  addresses("tcp://127.0.0.1:0", AF_INET);
  addresses("udp://127.0.0.1:0", AF_INET);
  snprintf(where, sizeof where, "unix:@resay-functions-%ld", (long)getpid());
  addresses(where, AF_UNIX);
  delays("look", "tcp://127.0.0.1:0?frame=lines", "x\nd\n", "x\nd\n");
  delays("look | uppercase", "tcp://127.0.0.1:0", "d", "D");
  delays("look | hex", "tcp://127.0.0.1:0", "d", "64");
  delays("hex | look", "tcp://127.0.0.1:0?frame=lines", "\xd0\n", "d0\n");
  delays("look", "udp://127.0.0.1:0", "d", "d");
  replacing();
  dry_runs();
  order("later", "tcp://127.0.0.1:0?frame=lines", "A\nfirst\nB\nsecond\nthird\nC\n");
  order("later | uppercase", "tcp://127.0.0.1:0?frame=lines", "A\nFIRST\nB\nSECOND\nTHIRD\nC\n");
  order("later | hex", "tcp://127.0.0.1:0?frame=lines", "41\n6669727374\n42\n7365636f6e64\n7468697264\n43\n");
  verdicts();
  bounds();
  late_datagrams("udp://127.0.0.1:0");
  late_sessions();
  endings();
  gone();
  swaps();
  answers_in_callbacks();
  if (argc < 2) {
    many("tcp://127.0.0.1:0?frame=lines&high_water=4m", "a\n", "!\n", 512);
    snprintf(where, sizeof where, "unix-seqpacket:@resay-functions-%ld?high_water=4m", (long)getpid());
    many(where, "a", "!", 1024);
  }
  return 0;
}

/* Calls that wait wait for what they say and for nothing else: not for answers that somebody else owes, not for each other; and
 * when they return it is over. */
#define _GNU_SOURCE
#include "check.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <time.h>

#define LOAD(variable) __atomic_load_n(&(variable), __ATOMIC_ACQUIRE)
#define STORE(variable, value) __atomic_store_n(&(variable), (value), __ATOMIC_RELEASE)

/* Half of what a call waits for workers. */
#define TOO_LONG_S 5

static double now(void)
{
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void wait_until(int *variable, int value)
{
  int tries = 0;
  while (LOAD(*variable) < value) {
    CHECK(tries++ < PATIENCE_MS);
    poll(NULL, 0, 1);
  }
}

/* ---- Who owes an answer ---- */

static uint64_t token;
static int tokens, is_inside, may_go;

static int put_off(void *user, void **session, const resay_message *message, resay_out *out)
{
  (void)user, (void)session;
  if (message->len > 0 && message->data[0] == '!') return RESAY_PASS; /* at once */
  STORE(token, resay_later(out));
  __atomic_add_fetch(&tokens, 1, __ATOMIC_RELEASE);
  return RESAY_LATER;
}

static int stay(void *user, void **session, const resay_message *message, resay_out *out)
{
  (void)user, (void)session, (void)message, (void)out;
  STORE(is_inside, 1);
  while (!LOAD(may_go)) poll(NULL, 0, 1);
  STORE(is_inside, 0);
  return RESAY_PASS;
}

static resay_engine *engine_that_owes(void)
{
  resay_engine *engine = new_engine();
  resay_function blocks = {.struct_size = sizeof blocks, .needs = RESAY_NEED_OFFLOAD, .call = stay};
  tokens = is_inside = may_go = 0;
  CHECK_CODE(add_function(engine, "later", put_off, NULL, NULL), 0);
  CHECK_CODE(resay_register_function(engine, "stay", &blocks, NULL), 0);
  return engine;
}

enum { LATER, BLOCKED, DELAYED, OWING_WAYS };

static const char *const CHAINS[OWING_WAYS] = {"later", "stay", "delay:time=1s"};

/* Has an answer owed to a client. */
static resay_client *owe(const char *url, int way)
{
  resay_client *client = dial(url);
  say(client, "owed", 4);
  if (way == LATER) wait_until(&tokens, 1);
  if (way == BLOCKED) wait_until(&is_inside, 1);
  if (way == DELAYED) poll(NULL, 0, 100);
  return client;
}

/* The owed answer is given, and arrives. */
static void pay(resay_engine *engine, resay_client *client, int way)
{
  if (way == LATER) CHECK_CODE(resay_answer(engine, LOAD(token), RESAY_REPLACE, "owed", 4), 0);
  STORE(may_go, 1);
  hear(client, "owed", 4);
}

static void expect_closed_event(resay_events *events, int expected)
{
  resay_event event = {.struct_size = sizeof event};
  CHECK_CODE(resay_events_next(events, &event, expected ? PATIENCE_MS : 0), expected);
  if (expected) CHECK(event.kind == RESAY_EVENT_LISTENER_CLOSED);
}

static void is_refused(const char *url)
{
  char byte;
  size_t got;
  resay_client *client;
  if (strncmp(url, "unix-dgram:/", 12) == 0) {
    CHECK_CODE(resay_client_open(url, PATIENCE_MS, &client, NULL), RESAY_E_SYS);
    return;
  }
  client = dial(url);
  if (resay_client_send(client, "!new", 4, PATIENCE_MS) == 0) {
    CHECK_CODE(resay_client_recv(client, &byte, 1, &got, PATIENCE_MS), RESAY_E_SYS);
  }
  resay_client_free(client);
}

static const char *const DATAGRAMS[] = {"udp://127.0.0.1:0", "udp://0.0.0.0:0", "unix-dgram:/tmp/resay-waits-%ld.sock",
                                        "unix-dgram:@resay-waits-%ld"};

static void name_of(const char *where, char *name, size_t size)
{
  snprintf(name, size, "%s", where);
  if (strstr(where, "%ld") != NULL) {
    snprintf(name, size, "%.*s%ld%s", (int)(strstr(where, "%ld") - where), where, (long)getpid(), strstr(where, "%ld") + 3);
  }
}

/* A wildcard address is reached by that of loopback. */
static void reachable(char *url)
{
  char *any = strstr(url, "0.0.0.0"), copy[128];
  if (any == NULL) return;
  snprintf(copy, sizeof copy, "%s", any + 7);
  snprintf(any, 128 - (size_t)(any - url), "127.0.0.1%s", copy);
}

/* Closing a datagram listener does not wait for answers that others owe; these are still sent. */
static void closing_does_not_wait_for_answers(int way, uint32_t threads)
{
  for (size_t n = 0; n < sizeof DATAGRAMS / sizeof *DATAGRAMS; n++) {
    resay_engine *engine = engine_that_owes();
    resay_events *events;
    resay_client *client;
    char url[128], name[64];
    resay_id listener, other;
    double began;
    name_of(DATAGRAMS[n], name, sizeof name);
    printf("%s %s, %u threads\n", name, CHAINS[way], threads);
    CHECK_CODE(resay_chain(engine, 0, CHAINS[way], NULL), 0);
    listener = add(engine, name, url);
    reachable(url);
    CHECK_CODE(resay_events_open(engine, RESAY_EVENT_LISTENER_CLOSED, 16, &events, NULL), 0);
    CHECK_CODE(resay_start(engine, threads, NULL), 0);
    client = owe(url, way);
    /* A listener whose reading is stopped receives what has arrived, and then nothing more. */
    if (threads > 1) CHECK_CODE(resay_listener_pause(engine, listener), 0);
    began = now();
    CHECK_CODE(resay_listener_close(engine, listener), 0);
    CHECK(now() - began < TOO_LONG_S);
    if (way != DELAYED) expect_closed_event(events, 0);
    CHECK_CODE(resay_sync(engine, PATIENCE_MS), 0);
    is_refused(url);
    if (strncmp(url, "unix-dgram:/", 12) == 0) {
      char again[128];
      other = add(engine, name, again);
      CHECK(other != listener && strcmp(again, url) == 0);
    }
    CHECK(stats_of(engine, 0).messages_in == 1);
    pay(engine, client, way);
    expect_closed_event(events, 1);
    resay_client_free(client);
    CHECK(stats_of(engine, 0).dropped == 0);
    CHECK_CODE(resay_engine_free(engine), 0);
    CHECK_CODE(resay_events_close(events), 0);
  }
}

/* The same for the program's own loop, where the next turn does it. */
static void closing_in_a_loop(void)
{
  for (size_t n = 0; n < sizeof DATAGRAMS / sizeof *DATAGRAMS; n++) {
    resay_engine *engine = engine_that_owes();
    resay_client *client, *last;
    char url[128], name[64];
    resay_id listener;
    name_of(DATAGRAMS[n], name, sizeof name);
    CHECK_CODE(resay_chain(engine, 0, "later", NULL), 0);
    listener = add(engine, name, url);
    reachable(url);
    CHECK_CODE(resay_run(engine, 0), 1);
    client = dial(url);
    last = dial(url);
    say(client, "owed", 4);
    while (LOAD(tokens) == 0) CHECK_CODE(resay_run(engine, 10), 1);
    say(last, "!waits", 6);
    CHECK_CODE(resay_listener_close(engine, listener), 0);
    is_refused(url);
    for (int turns = 0; turns < 5; turns++) CHECK_CODE(resay_run(engine, 10), 1);
    hear(last, "!waits", 6);
    CHECK_CODE(resay_answer(engine, token, RESAY_REPLACE, "owed", 4), 0);
    for (int turns = 0; turns < 5; turns++) CHECK_CODE(resay_run(engine, 10), 1);
    hear(client, "owed", 4);
    CHECK(stats_of(engine, 0).dropped == 0 && stats_of(engine, 0).messages_in == 2);
    resay_client_free(client);
    resay_client_free(last);
    CHECK_CODE(resay_engine_free(engine), 0);
  }
}

/* A socket that the program has too goes on being its own: nothing on it tells its peers that somebody has left. */
static void a_shared_socket_stays_as_it_is(int has_threads)
{
  resay_engine *engine = engine_that_owes();
  struct sockaddr_in any = {.sin_family = AF_INET};
  char url[128], byte[8];
  resay_client *client;
  resay_id listener;
  double began;
  int fd = socket(AF_INET, SOCK_DGRAM, 0);
  struct pollfd readable = {.fd = fd, .events = POLLIN};
  any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&any, sizeof any) == 0);
  CHECK_CODE(resay_chain(engine, 0, "later", NULL), 0);
  CHECK_CODE(resay_listen_fd(engine, fd, RESAY_FD_DUP, NULL, &listener, NULL), 0);
  CHECK_CODE(resay_listener_url(engine, listener, url, sizeof url, NULL), 0);
  CHECK_CODE(has_threads ? resay_start(engine, 1, NULL) : resay_run(engine, 0), has_threads ? 0 : 1);
  client = dial(url);
  say(client, "owed", 4);
  while (LOAD(tokens) == 0) {
    if (has_threads) poll(NULL, 0, 1);
    else CHECK_CODE(resay_run(engine, 10), 1);
  }
  began = now();
  CHECK_CODE(resay_listener_close(engine, listener), 0);
  CHECK(now() - began < TOO_LONG_S);
  for (int turns = 0; turns < 5 && !has_threads; turns++) CHECK_CODE(resay_run(engine, 10), 1);
  say(client, "mine", 4);
  CHECK(poll(&readable, 1, PATIENCE_MS) == 1);
  if (!has_threads) CHECK_CODE(resay_run(engine, 10), 1);
  CHECK(recv(fd, byte, sizeof byte, 0) == 4 && memcmp(byte, "mine", 4) == 0);
  CHECK_CODE(resay_answer(engine, token, RESAY_REPLACE, "owed", 4), 0);
  if (!has_threads) CHECK_CODE(resay_run(engine, 10), 1);
  hear(client, "owed", 4);
  /* An engine that ends does not read it either. */
  say(client, "more", 4);
  if (has_threads) CHECK_CODE(resay_drain(engine, PATIENCE_MS), 0);
  CHECK(recv(fd, byte, sizeof byte, 0) == 4 && memcmp(byte, "more", 4) == 0);
  resay_client_free(client);
  CHECK_CODE(resay_engine_free(engine), 0);
  close(fd);
}

/* Turning peers away does not wait for answers either. */
static void refusing_does_not_wait_for_answers(void)
{
  resay_engine *engine = engine_that_owes();
  char url[128], name[64];
  resay_client *client;
  resay_id listener;
  double began;
  name_of(DATAGRAMS[2], name, sizeof name);
  CHECK_CODE(resay_chain(engine, 0, "later", NULL), 0);
  listener = add(engine, name, url);
  CHECK_CODE(resay_start(engine, 1, NULL), 0);
  client = owe(url, LATER);
  began = now();
  CHECK_CODE(resay_listener_accept(engine, listener, 0), 0);
  CHECK(now() - began < TOO_LONG_S);
  pay(engine, client, LATER);
  CHECK_CODE(resay_listener_accept(engine, listener, 1), 0);
  ask_once(url, "!back", "!back");
  resay_client_free(client);
  /* What it owes when it takes peers again is dropped. */
  tokens = 0;
  client = owe(url, LATER);
  CHECK_CODE(resay_listener_accept(engine, listener, 0), 0);
  CHECK_CODE(resay_listener_accept(engine, listener, 1), 0);
  ask_once(url, "!back", "!back");
  CHECK(stats_of(engine, 0).dropped == 1);
  resay_client_free(client);
  /* One that is closed while it refuses owes its answers all the same. */
  tokens = 0;
  client = owe(url, LATER);
  CHECK_CODE(resay_listener_accept(engine, listener, 0), 0);
  CHECK_CODE(resay_listener_close(engine, listener), 0);
  CHECK(access(name + strlen("unix-dgram:"), F_OK) == -1);
  pay(engine, client, LATER);
  resay_client_free(client);
  CHECK_CODE(resay_engine_free(engine), 0);
}

/* ---- The threads of an engine ---- */

static int begun, ended;

static void on_begin(void *user, const char *name)
{
  (void)user, (void)name;
  __atomic_add_fetch(&begun, 1, __ATOMIC_RELEASE);
}

static void on_end(void *user)
{
  (void)user;
  poll(NULL, 0, 20);
  __atomic_add_fetch(&ended, 1, __ATOMIC_RELEASE);
}

static void *join(void *engine)
{
  CHECK_CODE(resay_join(engine, PATIENCE_MS), 0);
  CHECK(LOAD(begun) == LOAD(ended));
  return NULL;
}

/* Over only when all threads are gone, those of blocking functions among them; for each that waits. */
static void joining_waits_for_blocking_functions(int drains)
{
  resay_engine *engine = engine_that_owes();
  resay_client *client;
  pthread_t waiting[3];
  char url[128];
  begun = ended = 0;
  CHECK_CODE(resay_thread_hooks(engine, on_begin, on_end, NULL, NULL), 0);
  CHECK_CODE(resay_chain(engine, 0, "stay", NULL), 0);
  add(engine, "tcp://127.0.0.1:0", url);
  CHECK_CODE(resay_start(engine, 2, NULL), 0);
  client = owe(url, BLOCKED);
  if (drains) CHECK_CODE(resay_drain(engine, 10), RESAY_E_TIMEOUT);
  else CHECK_CODE(resay_stop(engine), 0);
  CHECK_CODE(resay_join(engine, 10), RESAY_E_TIMEOUT);
  CHECK_CODE(resay_join(engine, 1500), RESAY_E_TIMEOUT);
  CHECK(LOAD(is_inside));
  for (int n = 0; n < 3; n++) CHECK(pthread_create(&waiting[n], NULL, join, engine) == 0);
  poll(NULL, 0, 50);
  STORE(may_go, 1);
  for (int n = 0; n < 3; n++) CHECK(pthread_join(waiting[n], NULL) == 0);
  CHECK_CODE(resay_join(engine, 0), 0);
  resay_client_free(client);
  CHECK_CODE(resay_engine_free(engine), 0);
  CHECK(LOAD(begun) == LOAD(ended));
}

/* Several that wait at once all see the threads of workers gone. */
static void all_that_join_see_the_end(void)
{
  resay_engine *engine = new_engine();
  pthread_t waiting[4];
  begun = ended = 0;
  CHECK_CODE(resay_thread_hooks(engine, on_begin, on_end, NULL, NULL), 0);
  CHECK_CODE(resay_start(engine, 2, NULL), 0);
  for (int n = 0; n < 4; n++) CHECK(pthread_create(&waiting[n], NULL, join, engine) == 0);
  CHECK_CODE(resay_stop(engine), 0);
  for (int n = 0; n < 4; n++) CHECK(pthread_join(waiting[n], NULL) == 0);
  CHECK_CODE(resay_engine_free(engine), 0);
}

/* ---- Two engines whose callbacks use each other ---- */

static resay_engine *both[2];
static pthread_barrier_t meet;
static int question, codes[2];

static int ask_the_other(void *user, void **session, const resay_message *message, resay_out *out)
{
  int mine = user == &both[1];
  resay_engine *other = both[!mine];
  uint64_t id;
  size_t count;
  (void)session, (void)message, (void)out;
  pthread_barrier_wait(&meet);
  switch (question) {
  case 0: codes[mine] = resay_connections(other, 0, &id, 1, &count); break;
  case 1: codes[mine] = resay_connection_send(other, 1, "x", 1); break;
  case 2: codes[mine] = resay_connection_reset(other, 1); break;
  case 3: codes[mine] = resay_connection_pause(other, 1); break;
  default: CHECK(0);
  }
  return RESAY_PASS;
}

static void *ask_for_an_answer(void *url)
{
  ask_once(url, "x", "x");
  return NULL;
}

static void engines_do_not_wait_for_each_other(int is_indexed)
{
  for (question = 0; question < 4; question++) {
    char urls[2][128];
    pthread_t asking[2];
    size_t count;
    double began;
    CHECK(pthread_barrier_init(&meet, NULL, 2) == 0);
    for (int n = 0; n < 2; n++) {
      both[n] = new_engine();
      CHECK_CODE(add_function(both[n], "ask", ask_the_other, &both[n], NULL), 0);
      CHECK_CODE(resay_chain(both[n], 0, "ask", NULL), 0);
      add(both[n], "tcp://127.0.0.1:0", urls[n]);
      if (is_indexed) CHECK_CODE(resay_connections(both[n], 0, NULL, 0, &count), 0);
      CHECK_CODE(resay_start(both[n], 1, NULL), 0);
    }
    began = now();
    for (int n = 0; n < 2; n++) CHECK(pthread_create(&asking[n], NULL, ask_for_an_answer, urls[n]) == 0);
    for (int n = 0; n < 2; n++) CHECK(pthread_join(asking[n], NULL) == 0);
    CHECK(now() - began < TOO_LONG_S);
    for (int n = 0; n < 2; n++) {
      CHECK_CODE(codes[n], !is_indexed ? RESAY_E_STATE : question == 0 ? 0 : RESAY_E_HANDLE);
      CHECK_CODE(resay_engine_free(both[n]), 0);
    }
    CHECK(pthread_barrier_destroy(&meet) == 0);
  }
}

/* ---- What is sent to a connection that ends ---- */

static uint64_t only(resay_engine *engine)
{
  uint64_t id;
  size_t count;
  CHECK_CODE(resay_connections(engine, 0, &id, 1, &count), 0);
  CHECK(count == 1);
  return id;
}

static int close_it(void *user, void **session, const resay_message *message, resay_out *out)
{
  (void)user, (void)session, (void)message, (void)out;
  return RESAY_CLOSE;
}

static void nothing_is_sent_behind_the_end(void)
{
  static int (*const ENDS[])(resay_engine *, uint64_t) = {resay_connection_shutdown, resay_connection_close, NULL};
  for (size_t n = 0; n < sizeof ENDS / sizeof *ENDS; n++) {
    resay_engine *engine = new_engine();
    resay_client *client;
    char url[128];
    uint64_t id;
    CHECK_CODE(add_function(engine, "close", close_it, NULL, NULL), 0);
    CHECK_CODE(resay_chain(engine, 0, ENDS[n] == NULL ? "close" : "", NULL), 0);
    add(engine, "tcp://127.0.0.1:0", url);
    CHECK_CODE(resay_start(engine, 1, NULL), 0);
    client = dial(url);
    if (ENDS[n] != NULL) ask(client, "x", "x");
    while (stats_of(engine, 0).accepted == 0) poll(NULL, 0, 1);
    id = only(engine);
    CHECK_CODE(resay_connection_send(engine, id, "before", 6), 0);
    if (ENDS[n] != NULL) {
      CHECK_CODE(ENDS[n](engine, id), 0);
      CHECK_CODE(resay_connection_send(engine, id, "behind", 6), RESAY_E_STATE);
    } else {
      /* Our side has ended because of a function. */
      hear(client, "before", 6);
      say(client, "x", 1);
    }
    if (ENDS[n] != NULL) hear(client, "before", 6);
    hear_end(client);
    CHECK_CODE(resay_connection_send(engine, id, "behind", 6), RESAY_E_STATE);
    CHECK_CODE(resay_connection_pause(engine, id), 0);
    CHECK_CODE(resay_connection_resume(engine, id), 0);
    CHECK_CODE(resay_connection_shutdown(engine, id), 0);
    resay_client_free(client);
    while (stats_of(engine, 0).open > 0) poll(NULL, 0, 1);
    CHECK_CODE(resay_connection_send(engine, id, "behind", 6), RESAY_E_HANDLE);
    CHECK(stats_of(engine, 0).undelivered_bytes == 0);
    CHECK_CODE(resay_engine_free(engine), 0);
  }
}

/* ---- An engine that never ran, or only in part ---- */

static void *until_the_last_event(void *events)
{
  resay_event event = {.struct_size = sizeof event};
  int code;
  while ((code = resay_events_next(events, &event, -1)) == 1) {}
  CHECK(code == RESAY_E_STATE);
  return NULL;
}

static void *until_the_last_record(void *tap)
{
  resay_tap_record record;
  char bytes[64];
  CHECK(resay_tap_read(tap, &record, sizeof record, 1, bytes, sizeof bytes, -1) == RESAY_E_STATE);
  return NULL;
}

static void nobody_waits_for_an_engine_that_never_ran(int drains)
{
  resay_engine *engine = new_engine();
  resay_events *events, *late_events;
  resay_tap *tap, *late_tap;
  pthread_t threads[2];
  CHECK_CODE(resay_events_open(engine, RESAY_EVENT_LISTENER_CLOSED, 16, &events, NULL), 0);
  CHECK_CODE(resay_tap_open(engine, NULL, &tap, NULL), 0);
  CHECK(pthread_create(&threads[0], NULL, until_the_last_event, events) == 0);
  CHECK(pthread_create(&threads[1], NULL, until_the_last_record, tap) == 0);
  if (drains) CHECK_CODE(resay_drain(engine, PATIENCE_MS), 0);
  else CHECK_CODE(resay_stop(engine), 0);
  CHECK_CODE(resay_join(engine, -1), 0);
  CHECK(pthread_join(threads[0], NULL) == 0 && pthread_join(threads[1], NULL) == 0);
  CHECK_CODE(resay_events_open(engine, RESAY_EVENT_LISTENER_CLOSED, 16, &late_events, NULL), RESAY_E_STATE);
  CHECK_CODE(resay_tap_open(engine, NULL, &late_tap, NULL), RESAY_E_STATE);
  CHECK(late_events == NULL && late_tap == NULL);
  CHECK_CODE(resay_events_close(events), 0);
  CHECK_CODE(resay_tap_close(tap), 0);
  CHECK_CODE(resay_engine_free(engine), 0);
}

/* Who waits for the end does not wait for threads that were never lent. */
static void joining_ends_workers_without_a_thread(void)
{
  resay_engine *engine = new_engine();
  resay_client *client;
  char url[128];
  CHECK_CODE(resay_set(engine, "threads", "3", NULL), 0);
  add(engine, "tcp://127.0.0.1:0", url);
  CHECK_CODE(resay_run(engine, 0), 1);
  CHECK_CODE(resay_stop(engine), 0);
  CHECK_CODE(resay_run(engine, -1), 0);
  CHECK_CODE(resay_join(engine, -1), 0);
  CHECK_CODE(resay_client_open(url, PATIENCE_MS, &client, NULL), RESAY_E_SYS);
  CHECK_CODE(resay_engine_free(engine), 0);
}

/* A worker that has had a thread ends where that is: its callbacks run there too. */
static void joining_leaves_a_worker_to_its_loop(void)
{
  resay_engine *engine = new_engine();
  char url[128];
  add(engine, "tcp://127.0.0.1:0", url);
  CHECK(resay_poll_fd(engine) >= 0);
  CHECK_CODE(resay_run(engine, 0), 1);
  CHECK_CODE(resay_stop(engine), 0);
  CHECK_CODE(resay_join(engine, 1), RESAY_E_TIMEOUT);
  CHECK_CODE(resay_run(engine, 0), 0);
  CHECK_CODE(resay_join(engine, -1), 0);
  CHECK_CODE(resay_engine_free(engine), 0);
}

int main(void)
{
  setvbuf(stdout, NULL, _IOLBF, 0);
#define PART(call) (printf("%s\n", #call), (call))
  for (int way = LATER; way < OWING_WAYS; way++) {
    PART(closing_does_not_wait_for_answers(way, 1));
    PART(closing_does_not_wait_for_answers(way, 2));
  }
  PART(closing_in_a_loop());
  PART(a_shared_socket_stays_as_it_is(0));
  PART(a_shared_socket_stays_as_it_is(1));
  PART(refusing_does_not_wait_for_answers());
  PART(joining_waits_for_blocking_functions(0));
  PART(joining_waits_for_blocking_functions(1));
  PART(all_that_join_see_the_end());
  PART(engines_do_not_wait_for_each_other(0));
  PART(engines_do_not_wait_for_each_other(1));
  PART(nothing_is_sent_behind_the_end());
  PART(nobody_waits_for_an_engine_that_never_ran(0));
  PART(nobody_waits_for_an_engine_that_never_ran(1));
  PART(joining_ends_workers_without_a_thread());
  PART(joining_leaves_a_worker_to_its_loop());
  return 0;
}

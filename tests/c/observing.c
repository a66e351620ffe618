/* Events, the log, statistics. */
#define _GNU_SOURCE
#include "check.h"

#include <sys/socket.h>
#include <time.h>

static int readable(int fd)
{
  struct pollfd watched = {fd, POLLIN, 0};
  return poll(&watched, 1, 0) == 1;
}

static uint64_t now_ns(void)
{
  struct timespec now;
  CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static resay_event next_of(resay_events *events, uint32_t kind)
{
  resay_event event;
  memset(&event, 0x55, sizeof event);
  event.struct_size = sizeof event;
  CHECK_CODE(resay_events_next(events, &event, PATIENCE_MS), 1);
  CHECK(event.kind == kind && event.zero == 0 && event.struct_size == sizeof event);
  return event;
}

static int failing(void *user, void **session, const resay_message *message, resay_out *out)
{
  (void)user, (void)session, (void)message, (void)out;
  return RESAY_E_DATA;
}

static void every_kind(void)
{
  resay_engine *engine = new_engine();
  resay_client *client, *turned_away;
  resay_event event, older;
  resay_events *events, *others;
  uint64_t last = 0;
  char url[128], udp[128];
  int fd;
  resay_id stream, datagrams;
  uint64_t connection;
  CHECK_CODE(resay_events_open(engine, RESAY_EVENT_ALL, 64, &events, NULL), 0);
  fd = resay_events_fd(events);
  CHECK(fd >= 0 && !readable(fd));
  event.struct_size = sizeof event;
  CHECK_CODE(resay_events_next(events, &event, 0), 0);
  CHECK_CODE(resay_events_next(events, &event, 1), 0);
  stream = add(engine, "tcp://127.0.0.1:0?max_connections=1", url);
  CHECK_CODE(add_function(engine, "failing", failing, NULL, NULL), 0);
  CHECK_CODE(resay_start(engine, 1, NULL), 0);
  CHECK(readable(fd));
  CHECK(strstr(next_of(events, RESAY_EVENT_ENGINE).text, "backend") != NULL);
  event = next_of(events, RESAY_EVENT_LISTENING);
  CHECK(event.listener == stream && event.connection == 0 && event.code == 0);

  client = dial(url);
  event = next_of(events, RESAY_EVENT_ACCEPTED);
  CHECK(event.listener == stream && event.connection > stream); /* one counter for all */
  connection = event.connection;
  CHECK(strncmp(event.text, "127.0.0.1:", 10) == 0);
  CHECK(event.time_ns > 0 && event.time_ns <= now_ns());
  last = event.time_ns;
  turned_away = dial(url); /* one too many */
  hear_end(turned_away);
  resay_client_free(turned_away);
  event = next_of(events, RESAY_EVENT_REJECTED);
  CHECK(event.listener == stream && event.code == RESAY_REJECTED_MAX_CONNECTIONS);
  CHECK(strcmp(resay_event_code_name(RESAY_EVENT_REJECTED, event.code), "max_connections") == 0);
  CHECK_CODE(resay_chain(engine, stream, "failing", NULL), 0);
  CHECK(strstr(next_of(events, RESAY_EVENT_CHAIN_CHANGED).text, "failing") != NULL);
  say(client, "x", 1);
  event = next_of(events, RESAY_EVENT_TRANSFORM_FAILED);
  CHECK(event.code == RESAY_E_CALLBACK && event.connection == connection && event.listener == stream);
  hear_end(client);
  resay_client_free(client);
  event = next_of(events, RESAY_EVENT_CLOSED);
  CHECK(event.time_ns >= last);
  CHECK(event.code == RESAY_CLOSED_TRANSFORM_FAILED && event.connection == connection);
  CHECK(strcmp(resay_event_kind_name(event.kind), "closed") == 0);
  CHECK(strcmp(resay_event_code_name(event.kind, event.code), "transform_failed") == 0);
  CHECK(strcmp(resay_close_reason_name(event.code), "transform_failed") == 0);
  CHECK(strcmp(resay_drop_reason_name(RESAY_DROPPED_UNNAMED), "unnamed") == 0);
  CHECK(strcmp(resay_kind_name(RESAY_SEQPACKET), "seqpacket") == 0 && strcmp(resay_kind_name(0), "unknown") == 0);
  CHECK(strcmp(resay_code_name(RESAY_E_SPEC), "RESAY_E_SPEC") == 0 && strcmp(resay_code_name(-1), "unknown") == 0);
  CHECK(strcmp(resay_log_level_name(RESAY_LOG_WARN), "warn") == 0);
  CHECK(strcmp(resay_log_level_name(0), "unknown") == 0);

  datagrams = add(engine, "udp://127.0.0.1:0?max_message=4", udp);
  CHECK(next_of(events, RESAY_EVENT_LISTENING).listener == datagrams);
  client = dial(udp);
  say(client, "longer", 6);
  event = next_of(events, RESAY_EVENT_DROPPED);
  CHECK(event.code == RESAY_DROPPED_TOO_LONG && event.listener == datagrams);
  CHECK_CODE(resay_chain(engine, datagrams, "identity", NULL), 0);
  /* An older program knows less of it. */
  memset(&older, 0x55, sizeof older);
  older.struct_size = offsetof(resay_event, connection);
  CHECK_CODE(resay_events_next(events, &older, PATIENCE_MS), 1);
  CHECK(older.kind == RESAY_EVENT_CHAIN_CHANGED && older.listener == datagrams);
  CHECK(older.connection == 0x5555555555555555u && older.text[0] == 0x55);
  resay_client_free(client);
  CHECK_CODE(resay_listener_close(engine, datagrams), 0);
  CHECK(next_of(events, RESAY_EVENT_LISTENER_CLOSED).listener == datagrams);

  /* Another queue, of some kinds and from now on; the first one goes on. */
  CHECK_CODE(resay_events_open(engine, RESAY_EVENT_ENGINE, 1, &others, NULL), 0);
  client = dial(url);
  CHECK_CODE(resay_chain(engine, stream, "", NULL), 0);
  ask(client, "x", "x");
  resay_client_free(client);
  CHECK_CODE(resay_events_next(others, &event, 0), 0);
  /* The chain may have been replaced before the connection was accepted, or after it. */
  do
    CHECK_CODE(resay_events_next(events, &event, PATIENCE_MS), 1);
  while (event.kind == RESAY_EVENT_CHAIN_CHANGED);
  CHECK(event.kind == RESAY_EVENT_ACCEPTED);
  CHECK_CODE(resay_events_close(events), 0);
  CHECK_CODE(resay_stop(engine), 0);
  fd = resay_events_fd(others);
  CHECK(strcmp(next_of(others, RESAY_EVENT_ENGINE).text, "ended") == 0);
  CHECK_CODE(resay_events_next(others, &event, -1), RESAY_E_STATE);
  CHECK_CODE(resay_events_next(others, &event, 0), RESAY_E_STATE);
  CHECK(readable(fd));
  CHECK_CODE(resay_events_open(engine, RESAY_EVENT_ALL, 1, &events, NULL), RESAY_E_STATE);
  CHECK(events == NULL);
  CHECK(stats_of(engine, 0).events_lost == 0);
  resay_engine_free(engine);
  /* It lives for itself. */
  CHECK_CODE(resay_events_next(others, &event, -1), RESAY_E_STATE);
  CHECK_CODE(resay_events_close(others), 0);
}

/* Nobody takes them: nothing waits for that, and what is lost is counted. */
static void nobody_takes(void)
{
  resay_engine *engine = new_engine();
  resay_event event;
  resay_events *events, *short_one;
  char url[128];
  int i, taken = 0;
  event.struct_size = sizeof event;
  CHECK_CODE(resay_events_open(engine, RESAY_EVENT_ACCEPTED | RESAY_EVENT_CLOSED, 3, &events, NULL), 0);
  CHECK_CODE(resay_events_open(engine, RESAY_EVENT_CLOSED, 1, &short_one, NULL), 0);
  add(engine, "tcp://127.0.0.1:0", url);
  CHECK_CODE(resay_start(engine, 2, NULL), 0);
  for (i = 0; i < 50; i++) ask_once(url, "x", "x");
  CHECK_CODE(resay_drain(engine, PATIENCE_MS), 0);
  while (resay_events_next(events, &event, 0) == 1) taken++;
  CHECK(taken == 3);
  CHECK(resay_events_lost(events) == 97 && resay_events_lost(short_one) == 49);
  CHECK_CODE(resay_events_close(short_one), 0);
  CHECK(stats_of(engine, 0).events_lost == 97 + 49);
  resay_engine_free(engine);
  CHECK_CODE(resay_events_close(events), 0);
}

struct waiter {
  resay_events *events;
  int taken;
};

static void *wait_for_events(void *user)
{
  struct waiter *waiter = user;
  resay_event event;
  int result;
  event.struct_size = sizeof event;
  while ((result = resay_events_next(waiter->events, &event, -1)) == 1) waiter->taken++;
  CHECK_CODE(result, RESAY_E_STATE);
  return NULL;
}

/* Several threads wait: each event goes to one of them, and the end to all. */
static void several_wait(void)
{
  resay_engine *engine = new_engine();
  resay_events *events;
  struct waiter waiters[3];
  pthread_t waiting[3];
  char url[128];
  int i, taken = 0;
  CHECK_CODE(resay_events_open(engine, RESAY_EVENT_ACCEPTED | RESAY_EVENT_CLOSED, 4096, &events, NULL), 0);
  for (i = 0; i < 3; i++) {
    waiters[i].events = events;
    waiters[i].taken = 0;
    CHECK(pthread_create(&waiting[i], NULL, wait_for_events, &waiters[i]) == 0);
  }
  add(engine, "tcp://127.0.0.1:0", url);
  CHECK_CODE(resay_start(engine, 2, NULL), 0);
  for (i = 0; i < 100; i++) ask_once(url, "x", "x");
  CHECK_CODE(resay_drain(engine, PATIENCE_MS), 0);
  for (i = 0; i < 3; i++) {
    CHECK(pthread_join(waiting[i], NULL) == 0);
    taken += waiters[i].taken;
  }
  CHECK(taken == 200);
  resay_engine_free(engine);
  CHECK_CODE(resay_events_close(events), 0);
}

struct lines {
  pthread_mutex_t lock;
  resay_engine *engine;
  int count, highest, refused;
  char last[256];
};

static void write_line(void *user, int level, const char *utf8, size_t len)
{
  struct lines *lines = user;
  resay_stats stats;
  stats.struct_size = sizeof stats;
  pthread_mutex_lock(&lines->lock);
  lines->count++;
  if (level > lines->highest) lines->highest = level;
  snprintf(lines->last, sizeof lines->last, "%.*s", (int)len, utf8);
  lines->refused += resay_stats_get(lines->engine, 0, &stats) == RESAY_E_STATE
                    && resay_log(lines->engine, 0, NULL, NULL) == RESAY_E_STATE
                    && resay_drain(lines->engine, -1) == RESAY_E_STATE;
  pthread_mutex_unlock(&lines->lock);
}

static void *swap_logs(void *user)
{
  struct lines *lines = user;
  int i;
  for (i = 0; i < 200; i++) {
    CHECK_CODE(resay_log(lines->engine, i % 2 ? RESAY_LOG_TRACE : RESAY_LOG_WARN, write_line, lines), 0);
  }
  return NULL;
}

static void log_lines(void)
{
  static struct lines lines, after;
  resay_engine *engine = new_engine();
  pthread_t swapping;
  char url[128];
  int i;
  pthread_mutex_init(&lines.lock, NULL);
  pthread_mutex_init(&after.lock, NULL);
  lines.engine = after.engine = engine;
  CHECK_CODE(resay_log(engine, RESAY_LOG_INFO, write_line, &lines), 0);
  add(engine, "tcp://127.0.0.1:0", url);
  CHECK_CODE(resay_start(engine, 2, NULL), 0);
  CHECK(lines.count == 2 && lines.highest == RESAY_LOG_INFO); /* the backend, and: listening */
  CHECK(strstr(lines.last, url) != NULL && strstr(lines.last, "listening") != NULL);
  CHECK_CODE(resay_chain(engine, 0, "reverse", NULL), 0);
  CHECK(lines.count == 3 && lines.refused == 3);
  CHECK_CODE(resay_log(engine, RESAY_LOG_TRACE, write_line, &after), 0);
  lines.count = 0;
  ask_once(url, "log", "gol");
  CHECK(pthread_create(&swapping, NULL, swap_logs, &after) == 0);
  for (i = 0; i < 50; i++) ask_once(url, "log", "gol");
  CHECK(pthread_join(swapping, NULL) == 0);
  CHECK_CODE(resay_log(engine, 0, write_line, &after), 0);
  i = after.count;
  CHECK(i > 0 && after.refused == i && after.highest == RESAY_LOG_DEBUG && lines.count == 0);
  ask_once(url, "log", "gol");
  CHECK_CODE(resay_log(engine, RESAY_LOG_TRACE, NULL, NULL), 0);
  ask_once(url, "log", "gol");
  CHECK(after.count == i);
  resay_engine_free(engine);
}

static void figures(void)
{
  resay_engine *engine = new_engine();
  resay_client *client;
  resay_stats stats;
  char url[128], other[128];
  resay_id first = add(engine, "tcp://127.0.0.1:0?frame=lines", url), second = add(engine, "udp://127.0.0.1:0", other);
  CHECK_CODE(resay_start(engine, 2, NULL), 0);
  client = dial(url);
  ask(client, "one\ntwo\n", "one\ntwo\n");
  ask_once(other, "three", "three");
  stats = stats_of(engine, first);
  CHECK(stats.open == 1 && stats.accepted == 1 && stats.closed == 0 && stats.messages_in == 2);
  CHECK(stats.bytes_in == 8 && stats.rejected == 0 && stats.accept_errors == 0);
  CHECK(stats_of(engine, second).messages_in == 1 && stats_of(engine, second).accepted == 0);
  CHECK(stats_of(engine, 0).messages_in == 3 && stats_of(engine, 0).bytes_in == 13);
  resay_client_free(client);
  CHECK_CODE(resay_drain(engine, PATIENCE_MS), 0);
  stats = stats_of(engine, 0);
  CHECK(stats.open == 0 && stats.closed == 1 && stats.messages_out == 3 && stats.bytes_out == 13);
  CHECK(stats.undelivered_bytes == 0 && stats.dropped == 0);
  resay_engine_free(engine);
}

int main(void)
{
  every_kind();
  nobody_takes();
  several_wait();
  log_lines();
  figures();
  return 0;
}

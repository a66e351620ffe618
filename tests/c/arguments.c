/* What is wrong is answered with an error: NULL, stale ids, sizes, lengths, numbers, states. CASES: nothing crashes. */
#define _GNU_SOURCE
#include "check.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>

static int called, released;

static int pass(void *user, void **session, const resay_message *message, resay_out *out)
{
  (void)user, (void)session, (void)message, (void)out;
  called++;
  return RESAY_PASS;
}

static void count(void *user)
{
  ++*(int *)user;
}

static void null_pointers(resay_engine *engine)
{
  resay_engine *out = (resay_engine *)&called;
  resay_events *events;
  resay_client *client = (resay_client *)&called;
  resay_error error;
  char buffer[8];
  size_t need;
  CHECK_CODE(resay_engine_new(RESAY_ABI, NULL, &error), RESAY_E_ARG);
  CHECK(error.code == RESAY_E_ARG && strlen(error.message) > 0 && strcmp(error.message, resay_last_error()) == 0);
  CHECK_CODE(resay_engine_new(RESAY_ABI + 1, &out, NULL), RESAY_E_ABI);
  CHECK(out == NULL);
  resay_engine_free(NULL);
  CHECK_CODE(resay_set(NULL, "backlog", "1", NULL), RESAY_E_ARG);
  CHECK_CODE(resay_set(engine, NULL, "1", NULL), RESAY_E_ARG);
  CHECK_CODE(resay_set(engine, "backlog", NULL, NULL), RESAY_E_ARG);
  CHECK_CODE(resay_set(engine, "backlog", "\xff", NULL), RESAY_E_ARG);
  CHECK_CODE(resay_get(NULL, "backlog", buffer, sizeof buffer, NULL), RESAY_E_ARG);
  CHECK_CODE(resay_get(engine, NULL, buffer, sizeof buffer, NULL), RESAY_E_ARG);
  CHECK_CODE(resay_get(engine, "backlog", NULL, 8, &need), RESAY_E_ARG);
  CHECK_CODE(resay_listen(NULL, "tcp://127.0.0.1:0", NULL, NULL), RESAY_E_ARG);
  CHECK_CODE(resay_listen(engine, NULL, NULL, NULL), RESAY_E_ARG);
  CHECK_CODE(resay_listen_fd(NULL, 0, RESAY_FD_DUP, NULL, NULL, NULL), RESAY_E_ARG);
  CHECK_CODE(resay_listener_url(NULL, 1, buffer, 8, &need), RESAY_E_ARG);
  CHECK_CODE(resay_listener_port(NULL, 1), RESAY_E_ARG);
  CHECK_CODE(resay_listener_close(NULL, 1), RESAY_E_ARG);
  CHECK_CODE(resay_load(NULL, "x", NULL), RESAY_E_ARG);
  CHECK_CODE(resay_load(engine, NULL, NULL), RESAY_E_ARG);
  CHECK_CODE(resay_register(NULL, NULL, NULL), RESAY_E_ARG);
  CHECK_CODE(resay_register(engine, NULL, NULL), RESAY_E_ARG);
  CHECK_CODE(resay_chain(NULL, 0, "", NULL), RESAY_E_ARG);
  CHECK_CODE(resay_chain(engine, 0, NULL, NULL), RESAY_E_ARG);
  CHECK_CODE(resay_start(NULL, 1, NULL), RESAY_E_ARG);
  CHECK_CODE(resay_run(NULL, 0), RESAY_E_ARG);
  CHECK_CODE(resay_poll_fd(NULL), RESAY_E_ARG);
  CHECK_CODE(resay_poll_timeout(NULL), RESAY_E_ARG);
  CHECK_CODE(resay_stop(NULL), RESAY_E_ARG);
  CHECK_CODE(resay_drain(NULL, 0), RESAY_E_ARG);
  CHECK_CODE(resay_join(NULL, 0), RESAY_E_ARG);
  CHECK_CODE(resay_stats_get(engine, 0, NULL), RESAY_E_ARG);
  CHECK_CODE(resay_events_open(engine, 1, 1, NULL, NULL), RESAY_E_ARG);
  CHECK_CODE(resay_events_open(NULL, 1, 1, &events, NULL), RESAY_E_ARG);
  CHECK(events == NULL);
  CHECK_CODE(resay_events_fd(NULL), RESAY_E_ARG);
  CHECK_CODE(resay_events_next(NULL, NULL, 0), RESAY_E_ARG);
  CHECK(resay_events_lost(NULL) == 0);
  CHECK_CODE(resay_events_close(NULL), 0);
  CHECK_CODE(resay_events_open(engine, 1, 1, &events, NULL), 0);
  CHECK_CODE(resay_events_next(events, NULL, 0), RESAY_E_ARG);
  CHECK_CODE(resay_events_close(events), 0);
  CHECK_CODE(resay_log(NULL, 1, NULL, NULL), RESAY_E_ARG);
  CHECK_CODE(resay_client_open(NULL, 0, &client, NULL), RESAY_E_ARG);
  CHECK(client == NULL);
  CHECK_CODE(resay_client_open("tcp://127.0.0.1:1", 0, NULL, NULL), RESAY_E_ARG);
  CHECK_CODE(resay_client_send(NULL, "x", 1, 0), RESAY_E_ARG);
  CHECK_CODE(resay_client_recv(NULL, buffer, 8, &need, 0), RESAY_E_ARG);
  CHECK_CODE(resay_client_shutdown(NULL), RESAY_E_ARG);
  resay_client_free(NULL);
  CHECK_CODE(resay_out_write(NULL, "x", 1), RESAY_E_STATE);
  CHECK(strstr(resay_last_error(), "callback") != NULL);
  CHECK_CODE(resay_out_write((resay_out *)&called, "x", 1), RESAY_E_STATE);
  CHECK(resay_out_reserve(NULL, 1) == NULL);
  CHECK_CODE(resay_out_commit(NULL, 0), RESAY_E_STATE);
}

/* release runs exactly once, also where nothing was registered. */
static void releases(resay_engine *engine)
{
  released = 0;
  CHECK_CODE(add_function(NULL, "x", pass, &released, count), RESAY_E_ARG);
  CHECK(released == 1);
  CHECK_CODE(add_function(engine, NULL, pass, &released, count), RESAY_E_ARG);
  CHECK(released == 2);
  CHECK_CODE(add_function(engine, "x", NULL, &released, count), RESAY_E_ARG);
  CHECK(released == 3);
  CHECK_CODE(add_function(engine, "Not a name", pass, &released, count), RESAY_E_PLUGIN);
  CHECK(released == 4);
  CHECK_CODE(add_function(engine, "x", pass, &released, count), 0);
  CHECK(released == 4);
  /* The first one makes way: no chain uses it. */
  CHECK_CODE(add_function(engine, "x", pass, &released, count), 0);
  CHECK(released == 5);
  CHECK_CODE(resay_unregister(engine, "x"), 0);
  CHECK(released == 6);
  CHECK_CODE(resay_unregister(engine, "x"), RESAY_E_HANDLE);
  CHECK_CODE(resay_unregister(engine, NULL), RESAY_E_ARG);
}

/* What a failing call would have made is NULL, or 0, whatever the failure is. */
static void nothing_is_made(resay_engine *engine)
{
  static const char *const frames[] = {NULL, "lines"};
  resay_engine *no_engine;
  resay_events *events;
  resay_tap *tap;
  resay_tap_options options;
  resay_client *client;
  resay_dry_run *dry_run;
  resay_id listener;
  size_t i;
#define FAILS(call, out, expected) \
  do { \
    memset(&(out), 0x55, sizeof(out)); \
    CHECK_CODE(call, expected); \
    CHECK((out) == 0); \
  } while (0)
  FAILS(resay_engine_new(0, &no_engine, NULL), no_engine, RESAY_E_ABI);
  FAILS(resay_listen(NULL, "tcp://127.0.0.1:0", &listener, NULL), listener, RESAY_E_ARG);
  FAILS(resay_listen(engine, NULL, &listener, NULL), listener, RESAY_E_ARG);
  FAILS(resay_listen(engine, "tcp://127.0.0.1:65536", &listener, NULL), listener, RESAY_E_SPEC);
  FAILS(resay_listen_fd(NULL, 0, RESAY_FD_DUP, NULL, &listener, NULL), listener, RESAY_E_ARG);
  FAILS(resay_listen_fd(engine, -1, RESAY_FD_DUP, NULL, &listener, NULL), listener, RESAY_E_ARG);
  FAILS(resay_listen_fd(engine, 1000000, RESAY_FD_DUP, NULL, &listener, NULL), listener, RESAY_E_SYS);
  FAILS(resay_events_open(NULL, 1, 1, &events, NULL), events, RESAY_E_ARG);
  FAILS(resay_events_open(engine, 1, 0, &events, NULL), events, RESAY_E_SPEC);
  memset(&options, 0, sizeof options);
  FAILS(resay_tap_open(NULL, NULL, &tap, NULL), tap, RESAY_E_ARG);
  FAILS(resay_tap_open(engine, &options, &tap, NULL), tap, RESAY_E_ARG);
  FAILS(resay_client_open(NULL, 0, &client, NULL), client, RESAY_E_ARG);
  FAILS(resay_client_open("https://127.0.0.1:1", 0, &client, NULL), client, RESAY_E_SPEC);
  FAILS(resay_client_open("tls://127.0.0.1:1", 0, &client, NULL), client, RESAY_E_SYS);
  FAILS(resay_client_open("tcp://127.0.0.1:1", -2, &client, NULL), client, RESAY_E_ARG);
  for (i = 0; i < sizeof frames / sizeof frames[0]; i++) {
    FAILS(resay_dry_run_new(engine, "no-such-transform", "tcp", frames[i], &dry_run, NULL), dry_run, RESAY_E_PLUGIN);
    FAILS(resay_dry_run_new(engine, NULL, "tcp", frames[i], &dry_run, NULL), dry_run, RESAY_E_ARG);
    FAILS(resay_dry_run_new(NULL, "|", "tcp", frames[i], &dry_run, NULL), dry_run, RESAY_E_SPEC);
    FAILS(resay_dry_run_new(NULL, "", NULL, frames[i], &dry_run, NULL), dry_run, RESAY_E_ARG);
  }
  /* Only streams have frames. */
  FAILS(resay_dry_run_new(NULL, "", "udp", "lines", &dry_run, NULL), dry_run, RESAY_E_SPEC);
  FAILS(resay_dry_run_new(NULL, "", "unix-seqpacket", "lines", &dry_run, NULL), dry_run, RESAY_E_SPEC);
  CHECK_CODE(resay_dry_run_new(NULL, "", "udp", "raw", &dry_run, NULL), 0);
  CHECK_CODE(resay_dry_run_free(dry_run), 0);
}

/* -1 is no limit; other negative numbers are times that were over before the call. */
static void timeouts(void)
{
  static const int32_t wrong[] = {-2, -1000, INT32_MIN};
  resay_engine *engine = new_engine();
  resay_events *events;
  resay_event event;
  resay_tap *tap;
  resay_tap_record record;
  resay_client *client;
  char url[128], buffer[16];
  size_t i, got;
  add(engine, "tcp://127.0.0.1:0", url);
  CHECK_CODE(resay_events_open(engine, RESAY_EVENT_ALL, 16, &events, NULL), 0);
  CHECK_CODE(resay_tap_open(engine, NULL, &tap, NULL), 0);
  event.struct_size = sizeof event;
  for (i = 0; i < sizeof wrong / sizeof wrong[0]; i++) CHECK_CODE(resay_run(engine, wrong[i]), RESAY_E_ARG);
  CHECK_CODE(resay_start(engine, 1, NULL), 0);
  client = dial(url);
  for (i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
    CHECK_CODE(resay_client_send(client, "x", 1, wrong[i]), RESAY_E_ARG);
    CHECK_CODE(resay_client_recv(client, buffer, sizeof buffer, &got, wrong[i]), RESAY_E_ARG);
    CHECK_CODE(resay_events_next(events, &event, wrong[i]), RESAY_E_ARG);
    CHECK_CODE(resay_tap_read(tap, &record, sizeof record, 1, buffer, sizeof buffer, wrong[i]), RESAY_E_ARG);
    CHECK_CODE(resay_sync(engine, wrong[i]), RESAY_E_ARG);
    CHECK_CODE(resay_join(engine, wrong[i]), RESAY_E_ARG);
    CHECK_CODE(resay_drain(engine, wrong[i]), RESAY_E_ARG);
  }
  /* Nothing of that has happened. */
  ask(client, "hello", "hello");
  CHECK_CODE(resay_events_next(events, &event, -1), 1);
  CHECK_CODE(resay_sync(engine, -1), 0);
  resay_client_free(client);
  CHECK_CODE(resay_drain(engine, -1), 0);
  CHECK_CODE(resay_join(engine, -1), 0);
  resay_tap_close(tap);
  resay_events_close(events);
  resay_engine_free(engine);
}

static void ids(resay_engine *engine)
{
  char url[128], small[4], value[64];
  size_t need = 0;
  resay_id listener = add(engine, "tcp://127.0.0.1:0", url), other;
  CHECK(resay_listener_port(engine, listener) > 0);
  CHECK_CODE(resay_listener_url(engine, listener, small, sizeof small, &need), RESAY_E_FULL);
  CHECK(need == strlen(url) + 1);
  CHECK_CODE(resay_listener_url(engine, listener, NULL, 0, &need), RESAY_E_FULL);
  CHECK_CODE(resay_listener_close(engine, listener), 0);
  CHECK_CODE(resay_listener_close(engine, listener), RESAY_E_HANDLE);
  other = add(engine, "udp://127.0.0.1:0", url);
  CHECK(other != listener);
  CHECK_CODE(resay_listener_url(engine, listener, url, sizeof url, NULL), RESAY_E_HANDLE);
  CHECK_CODE(resay_listener_port(engine, listener), RESAY_E_HANDLE);
  CHECK_CODE(resay_chain(engine, listener, "", NULL), RESAY_E_HANDLE);
  CHECK_CODE(resay_chain(engine, ~(resay_id)0, "", NULL), RESAY_E_HANDLE);
  CHECK_CODE(resay_listener_port(engine, 0), RESAY_E_HANDLE);
  CHECK_CODE(resay_listen(engine, "tcp://127.0.0.1:65536", NULL, NULL), RESAY_E_SPEC);
  CHECK_CODE(resay_listen(engine, "unix:/nonexistent/directory/x.sock", NULL, NULL), RESAY_E_SYS);
  CHECK_CODE(resay_chain(engine, 0, "no-such-transform", NULL), RESAY_E_PLUGIN);
  CHECK_CODE(resay_chain(engine, 0, "|", NULL), RESAY_E_SPEC);
  CHECK_CODE(resay_set(engine, "no_such_key", "1", NULL), RESAY_E_SPEC);
  CHECK_CODE(resay_get(engine, "no_such_key", value, sizeof value, NULL), RESAY_E_SPEC);
  CHECK_CODE(resay_set(engine, "idle_timeout", "90s", NULL), 0);
  CHECK_CODE(resay_get(engine, "idle_timeout", value, sizeof value, &need), 0);
  CHECK(need == strlen(value) + 1);
  CHECK_CODE(resay_set(engine, "idle_timeout", value, NULL), 0);
  CHECK_CODE(resay_get(engine, "backlog", value, 4, &need), RESAY_E_FULL);
  CHECK(need == sizeof "1024");
  CHECK_CODE(resay_get(engine, "backlog", value, 5, &need), 0);
  CHECK(strcmp(value, "1024") == 0);
  CHECK_CODE(resay_chain(engine, 0, "uppercase|reverse", NULL), 0);
  CHECK_CODE(resay_get(engine, "chain", value, sizeof value, NULL), 0);
  CHECK(strcmp(value, "uppercase | reverse") == 0);
  CHECK_CODE(resay_set(engine, "threads", "0", NULL), RESAY_E_SPEC);
  CHECK_CODE(resay_set(engine, "threads", "many", NULL), RESAY_E_SPEC);
  CHECK_CODE(resay_set(engine, "threads", "2", NULL), 0);
  CHECK_CODE(resay_get(engine, "threads", value, sizeof value, NULL), 0);
  CHECK(strcmp(value, "2") == 0);
  CHECK_CODE(resay_set(engine, "spin", "60", NULL), RESAY_E_SPEC);
  CHECK_CODE(resay_set(engine, "spin", "2s", NULL), RESAY_E_STATE);
  CHECK_CODE(resay_set(engine, "spin", "60us", NULL), 0);
  CHECK_CODE(resay_set(engine, "watchdog", "9ms", NULL), RESAY_E_STATE);
  CHECK_CODE(resay_set(engine, "watchdog", "long", NULL), RESAY_E_SPEC);
  CHECK_CODE(resay_set(engine, "watchdog", "1500ms", NULL), 0);
  CHECK_CODE(resay_get(engine, "watchdog", value, sizeof value, NULL), 0);
  CHECK(strcmp(value, "1500ms") == 0);
  CHECK_CODE(resay_get(engine, "spin", value, sizeof value, NULL), 0);
  CHECK(strcmp(value, "60us") == 0);
  CHECK_CODE(resay_set(engine, "spin", "0.5us", NULL), 0);
  CHECK_CODE(resay_get(engine, "spin", value, sizeof value, NULL), 0);
  CHECK(strcmp(value, "0.500us") == 0);
  CHECK_CODE(resay_set(engine, "spin", value, NULL), 0);
  CHECK_CODE(resay_set(engine, "backend", "kqueue", NULL), RESAY_E_SPEC);
  CHECK_CODE(resay_set(engine, "backend", "epoll", NULL), 0);
  CHECK_CODE(resay_get(engine, "backend", value, sizeof value, NULL), 0);
  CHECK(strcmp(value, "epoll") == 0);
}

static void sizes(resay_engine *engine)
{
  struct {
    resay_stats stats;
    unsigned char more[64];
  } large;
  resay_stats stats;
  resay_event event;
  resay_events *events;
  static const uint32_t wrong[] = {0, 1, 4, 7, 0x10000000, 0xffffffff};
  size_t i;
  CHECK_CODE(resay_events_open(engine, RESAY_EVENT_ALL, 1, &events, NULL), 0);
  for (i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
    stats.struct_size = event.struct_size = wrong[i];
    CHECK_CODE(resay_stats_get(engine, 0, &stats), RESAY_E_ARG);
    CHECK_CODE(resay_events_next(events, &event, 0), RESAY_E_ARG);
  }
  CHECK_CODE(resay_events_close(events), 0);
  /* An older program, and a newer one. */
  memset(&large, 0x55, sizeof large);
  large.stats.struct_size = offsetof(resay_stats, messages_in);
  CHECK_CODE(resay_stats_get(engine, 0, &large.stats), 0);
  CHECK(large.stats.accepted == 0 && large.stats.closed == 0);
  CHECK(large.stats.messages_in == 0x5555555555555555u && large.stats.struct_size == offsetof(resay_stats, messages_in));
  large.stats.struct_size = sizeof large;
  CHECK_CODE(resay_stats_get(engine, 0, &large.stats), 0);
  CHECK(large.stats.messages_in == 0 && large.more[0] == 0 && large.more[63] == 0);
  CHECK(large.stats.struct_size == sizeof large);
  stats.struct_size = sizeof stats;
  CHECK_CODE(resay_stats_get(engine, ~(resay_id)0, &stats), RESAY_E_HANDLE);
}

static void adopting(resay_engine *engine)
{
  resay_id listener;
  struct sockaddr_in here;
  int pair[2], file = open("/dev/null", O_RDONLY), fd;
  CHECK_CODE(resay_listen_fd(engine, -1, RESAY_FD_DUP, NULL, NULL, NULL), RESAY_E_ARG);
  CHECK_CODE(resay_listen_fd(engine, 0, 0, NULL, NULL, NULL), RESAY_E_ARG);
  CHECK_CODE(resay_listen_fd(engine, 0, 3, NULL, NULL, NULL), RESAY_E_ARG);
  CHECK_CODE(resay_listen_fd(engine, 1000000, RESAY_FD_OWN, NULL, NULL, NULL), RESAY_E_SYS);
  CHECK_CODE(resay_listen_fd(engine, file, RESAY_FD_OWN, NULL, NULL, NULL), RESAY_E_SYS);
  CHECK(fcntl(file, F_GETFD) >= 0); /* after a failure still ours */
  CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
  CHECK_CODE(resay_listen_fd(engine, pair[0], RESAY_FD_OWN, NULL, NULL, NULL), RESAY_E_SYS);
  CHECK(fcntl(pair[0], F_GETFD) >= 0);
  close(pair[0]), close(pair[1]), close(file);
  fd = socket(AF_INET, SOCK_DGRAM, 0);
  memset(&here, 0, sizeof here);
  here.sin_family = AF_INET;
  here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  CHECK(bind(fd, (struct sockaddr *)&here, sizeof here) == 0);
  CHECK_CODE(resay_listen_fd(engine, fd, RESAY_FD_DUP, "no_such_key=1", NULL, NULL), RESAY_E_SPEC);
  CHECK_CODE(resay_listen_fd(engine, fd, RESAY_FD_DUP, "", &listener, NULL), 0);
  CHECK(listener != 0 && fcntl(fd, F_GETFD) >= 0);
  CHECK_CODE(resay_listener_close(engine, listener), 0);
  CHECK_CODE(resay_listen_fd(engine, fd, RESAY_FD_OWN, NULL, &listener, NULL), 0);
  CHECK(fcntl(fd, F_GETFD) < 0 && errno == EBADF); /* the engine's now */
}

static void states(void)
{
  resay_engine *engine = new_engine();
  resay_events *events;
  char url[128];
  CHECK_CODE(resay_events_open(engine, RESAY_EVENT_ALL, 0, &events, NULL), RESAY_E_SPEC);
  CHECK_CODE(resay_events_open(engine, RESAY_EVENT_ALL, 65537, &events, NULL), RESAY_E_SPEC);
  CHECK(events == NULL);
  CHECK_CODE(resay_poll_timeout(engine), -1);
  CHECK_CODE(resay_start(engine, 0, NULL), RESAY_E_SPEC);
  CHECK_CODE(resay_start(engine, 257, NULL), RESAY_E_SPEC);
  CHECK_CODE(resay_join(engine, -1), 0);
  add(engine, "tcp://127.0.0.1:0", url);
  CHECK_CODE(resay_start(engine, 1, NULL), 0);
  CHECK_CODE(resay_start(engine, 1, NULL), RESAY_E_STATE);
  CHECK_CODE(resay_run(engine, 0), RESAY_E_STATE);
  CHECK_CODE(resay_poll_fd(engine), RESAY_E_STATE);
  CHECK_CODE(resay_set(engine, "threads", "2", NULL), RESAY_E_STATE);
  CHECK_CODE(resay_set(engine, "backend", "epoll", NULL), RESAY_E_STATE);
  CHECK_CODE(resay_join(engine, 1), RESAY_E_TIMEOUT);
  CHECK_CODE(resay_stop(engine), 0);
  CHECK_CODE(resay_stop(engine), 0);
  CHECK_CODE(resay_join(engine, PATIENCE_MS), 0);
  CHECK_CODE(resay_drain(engine, 0), 0);
  CHECK_CODE(resay_start(engine, 1, NULL), RESAY_E_STATE);
  resay_engine_free(engine);
}

static void lengths(void)
{
  resay_engine *engine = new_engine();
  resay_client *client;
  char url[128], buffer[16];
  size_t got;
  add(engine, "tcp://127.0.0.1:0", url);
  CHECK_CODE(resay_start(engine, 1, NULL), 0);
  client = dial(url);
  CHECK_CODE(resay_client_send(client, buffer, SIZE_MAX, 0), RESAY_E_ARG);
  CHECK_CODE(resay_client_recv(client, buffer, SIZE_MAX, &got, 0), RESAY_E_ARG);
  CHECK_CODE(resay_client_send(client, NULL, 1, 0), RESAY_E_ARG);
  CHECK_CODE(resay_client_recv(client, NULL, 1, &got, 0), RESAY_E_ARG);
  CHECK_CODE(resay_client_recv(client, buffer, 16, NULL, 0), RESAY_E_ARG);
  CHECK_CODE(resay_client_send(client, NULL, 0, 0), 0);
  ask(client, "hello", "hello");
  resay_client_free(client);
  resay_engine_free(engine);
}

int main(void)
{
  resay_engine *engine = new_engine();
  null_pointers(engine);
  nothing_is_made(engine);
  sizes(engine);
  releases(engine);
  ids(engine);
  adopting(engine);
  resay_engine_free(engine);
  CHECK(released == 6);
  CHECK(called == 0);
  states();
  lengths();
  timeouts();
  CHECK(strcmp(resay_version(), "") != 0 && strlen(resay_strerror(RESAY_E_SYS)) > 0);
  return 0;
}

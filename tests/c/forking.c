/* A child of fork(): the engine says whose it is, freeing it closes the child's copies and nothing else, and the parent's
 * goes on as if nothing had been. */
#define _GNU_SOURCE
#include "check.h"

#include <sys/stat.h>
#include <sys/wait.h>

static resay_events *events;
static resay_tap *tap;

static void in_the_child(resay_engine *engine, resay_id listener, int before, int sockets)
{
  resay_events *others;
  resay_tap *other_tap;
  resay_tap_record record;
  resay_stats stats;
  resay_event event;
  resay_id id;
  char text[16];
  size_t need;
  int children = threads();
  stats.struct_size = sizeof stats;
  event.struct_size = sizeof event;
  CHECK_CODE(resay_set(engine, "backlog", "1", NULL), RESAY_E_FORKED);
  CHECK_CODE(resay_get(engine, "backlog", text, sizeof text, &need), RESAY_E_FORKED);
  CHECK_CODE(resay_listen(engine, "tcp://127.0.0.1:0", &id, NULL), RESAY_E_FORKED);
  CHECK_CODE(resay_listen_fd(engine, 0, RESAY_FD_DUP, NULL, &id, NULL), RESAY_E_FORKED);
  CHECK_CODE(resay_listener_url(engine, listener, text, sizeof text, &need), RESAY_E_FORKED);
  CHECK_CODE(resay_listener_port(engine, listener), RESAY_E_FORKED);
  CHECK_CODE(resay_listener_close(engine, listener), RESAY_E_FORKED);
  CHECK_CODE(resay_load(engine, "x", NULL), RESAY_E_FORKED);
  CHECK_CODE(resay_chain(engine, 0, "reverse", NULL), RESAY_E_FORKED);
  CHECK_CODE(resay_start(engine, 1, NULL), RESAY_E_FORKED);
  CHECK_CODE(resay_run(engine, 0), RESAY_E_FORKED);
  CHECK_CODE(resay_poll_fd(engine), RESAY_E_FORKED);
  CHECK_CODE(resay_poll_timeout(engine), RESAY_E_FORKED);
  CHECK_CODE(resay_stop(engine), RESAY_E_FORKED);
  CHECK_CODE(resay_drain(engine, -1), RESAY_E_FORKED);
  CHECK_CODE(resay_join(engine, -1), RESAY_E_FORKED);
  CHECK_CODE(resay_stats_get(engine, 0, &stats), RESAY_E_FORKED);
  CHECK_CODE(resay_events_open(engine, 1, 1, &others, NULL), RESAY_E_FORKED);
  CHECK_CODE(resay_events_fd(events), RESAY_E_FORKED);
  CHECK_CODE(resay_events_next(events, &event, -1), RESAY_E_FORKED);
  CHECK_CODE(resay_tap_open(engine, NULL, &other_tap, NULL), RESAY_E_FORKED);
  CHECK_CODE(resay_tap_fd(tap), RESAY_E_FORKED);
  CHECK_CODE(resay_tap_read(tap, &record, sizeof record, 1, text, sizeof text, -1), RESAY_E_FORKED);
  CHECK_CODE(resay_log(engine, 0, NULL, NULL), RESAY_E_FORKED);
  CHECK(descriptors() == before + sockets);
  resay_engine_free(engine);
  CHECK(descriptors() == before + 2);
  CHECK_CODE(resay_events_close(events), 0);
  CHECK_CODE(resay_tap_close(tap), 0);
  if (descriptors() != before) {
    char command[64];
    snprintf(command, sizeof command, "ls -l /proc/%ld/fd >&2", (long)getpid());
    if (system(command) != 0) fprintf(stderr, "no list\n");
  }
  CHECK(descriptors() == before); /* closed: all of them, and only them */
  CHECK(threads() == children && children == entries("/proc/self/task"));
  /* An engine of the child's own. */
  engine = new_engine();
  CHECK_CODE(resay_listen(engine, "tcp://127.0.0.1:0", &id, NULL), 0);
  CHECK_CODE(resay_start(engine, 1, NULL), 0);
  resay_engine_free(engine);
}

static void expect_success(pid_t child)
{
  int status;
  CHECK(child > 0);
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

enum how { STARTED, LENT, NEVER_RUN };

static void fork_an_engine(enum how how, const char *backend)
{
  char path[64], where[96], unix_url[128], tcp[128], udp[128];
  struct stat found;
  resay_engine *engine;
  resay_client *clients[8];
  resay_id listener;
  int i, sockets, before = descriptors();
  pid_t child;

  snprintf(path, sizeof path, "/tmp/resay-forking-%ld.sock", (long)getpid());
  snprintf(where, sizeof where, "unix:%s", path);
  engine = new_engine();
  CHECK_CODE(resay_set(engine, "backend", backend, NULL), 0);
  CHECK_CODE(resay_events_open(engine, RESAY_EVENT_ACCEPTED, 64, &events, NULL), 0);
  CHECK_CODE(resay_tap_open(engine, NULL, &tap, NULL), 0);
  add(engine, where, unix_url);
  add(engine, "udp://127.0.0.1:0", udp);
  listener = add(engine, "tcp://127.0.0.1:0", tcp);
  if (how == STARTED) CHECK_CODE(resay_start(engine, 2, NULL), 0);
  for (i = 0; i < 8; i++) clients[i] = dial(i % 2 ? tcp : unix_url);
  for (i = 0; i < 8; i++) {
    say(clients[i], "before", 6);
    if (how == STARTED) hear(clients[i], "before", 6);
  }
  while (how == LENT && stats_of(engine, 0).messages_in < 8) CHECK_CODE(resay_run(engine, 10), 1);
  for (i = 0; how == LENT && i < 8; i++) hear(clients[i], "before", 6);
  sockets = descriptors() - 8 - before; /* the engine's; eight are the clients' */

  child = fork();
  if (child == 0) {
    in_the_child(engine, listener, before + 8, sockets);
    _exit(0);
  }
  expect_success(child);

  /* The parent, undisturbed: its sockets, its file, its registrations. */
  CHECK(lstat(path, &found) == 0 && S_ISSOCK(found.st_mode));
  if (how == NEVER_RUN) CHECK_CODE(resay_start(engine, 1, NULL), 0);
  if (how == LENT) {
    for (i = 0; i < 8; i++) say(clients[i], "after", 5);
    while (stats_of(engine, 0).messages_in < 16) CHECK_CODE(resay_run(engine, 10), 1);
    for (i = 0; i < 8; i++) hear(clients[i], "after", 5);
  } else {
    for (i = 0; how == NEVER_RUN && i < 8; i++) hear(clients[i], "before", 6);
    for (i = 0; i < 8; i++) ask(clients[i], "after", "after");
    ask_once(tcp, "new", "new");
    ask_once(unix_url, "new", "new");
    ask_once(udp, "new", "new");
  }

  /* A child that keeps its copies does not keep connections open for the peers of the parent's engine, once it frees. */
  resay_stop(engine);
  if (how == LENT) CHECK_CODE(resay_run(engine, -1), 0);
  CHECK_CODE(resay_join(engine, PATIENCE_MS), 0);
  for (i = 0; i < 8; i++) hear_end(clients[i]);
  for (i = 0; i < 8; i++) resay_client_free(clients[i]);
  resay_engine_free(engine);
  CHECK_CODE(resay_events_close(events), 0);
  CHECK_CODE(resay_tap_close(tap), 0);
  CHECK(lstat(path, &found) != 0);
  CHECK(descriptors() == before);
}

/* Forks while all is busy: no child hangs, no peer notices. */
static void *chatter(void *url)
{
  resay_client *client = dial(url);
  int i;
  for (i = 0; i < 2000; i++) ask(client, "busy", "BUSY");
  resay_client_free(client);
  return NULL;
}

static void fork_while_busy(void)
{
  resay_engine *engine = new_engine();
  pthread_t chatting[3];
  char url[128];
  int i;
  add(engine, "tcp://127.0.0.1:0?chain=uppercase", url);
  CHECK_CODE(resay_start(engine, 2, NULL), 0);
  for (i = 0; i < 3; i++) CHECK(pthread_create(&chatting[i], NULL, chatter, url) == 0);
  for (i = 0; i < 20; i++) {
    pid_t child = fork();
    if (child == 0) {
      if (resay_chain(engine, 0, "", NULL) != RESAY_E_FORKED) _exit(2);
      resay_engine_free(engine);
      _exit(0);
    }
    expect_success(child);
  }
  for (i = 0; i < 3; i++) CHECK(pthread_join(chatting[i], NULL) == 0);
  CHECK(stats_of(engine, 0).messages_in == 6000);
  resay_engine_free(engine);
}

int main(void)
{
  resay_engine *engine;
  fork_an_engine(STARTED, "epoll");
  fork_an_engine(LENT, "epoll");
  fork_an_engine(NEVER_RUN, "epoll");
  fork_while_busy();
  /* io_uring, where there is one. */
  engine = new_engine();
  CHECK_CODE(resay_set(engine, "backend", "uring", NULL), 0);
  if (resay_start(engine, 1, NULL) == 0) {
    resay_engine_free(engine);
    fork_an_engine(STARTED, "uring");
  } else {
    printf("no io_uring here: %s\n", resay_last_error());
    resay_engine_free(engine);
  }
  return 0;
}

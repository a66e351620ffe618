/* A program with a SIGALRM every millisecond, and one whose signals are all as they were at first: nothing is lost, nobody
 * is killed, and no handler and no mask is other than before. */
#define _GNU_SOURCE
#include "check.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>

/* Handlers of several threads count at once. */
static int alarms;

static void on_alarm(int signal)
{
  (void)signal;
  __atomic_add_fetch(&alarms, 1, __ATOMIC_RELAXED);
}

static void alarm_every_millisecond(int flags)
{
  const struct itimerval often = {{0, 1000}, {0, 1000}};
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = on_alarm;
  action.sa_flags = flags;
  CHECK(sigaction(SIGALRM, &action, NULL) == 0);
  CHECK(setitimer(ITIMER_REAL, &often, NULL) == 0);
}

static void *lend(void *engine)
{
  int alive;
  do
    alive = resay_run(engine, -1);
  while (alive > 0 || alive == RESAY_E_INTR);
  CHECK_CODE(alive, 0);
  return NULL;
}

static void chat(const char *url)
{
  static char question[20000];
  resay_client *client = dial(url);
  int i;
  for (i = 0; i < 20000; i++) question[i] = (char)(i % 251);
  for (i = 0; i < 200; i++) {
    say(client, question, sizeof question);
    hear(client, question, sizeof question);
  }
  resay_client_free(client);
}

static void serve(int is_lent)
{
  resay_engine *engine = new_engine();
  pthread_t lent;
  char url[128];
  resay_id listener = add(engine, "tcp://127.0.0.1:0", url);
  if (is_lent) CHECK(pthread_create(&lent, NULL, lend, engine) == 0);
  else CHECK_CODE(resay_start(engine, 2, NULL), 0);
  chat(url);
  CHECK(stats_of(engine, listener).bytes_in == 200 * 20000);
  CHECK_CODE(resay_drain(engine, PATIENCE_MS), 0);
  if (is_lent) CHECK(pthread_join(lent, NULL) == 0);
  CHECK_CODE(resay_join(engine, PATIENCE_MS), 0);
  CHECK(stats_of(engine, listener).bytes_out == 200 * 20000);
  resay_engine_free(engine);
}

/* A call that waits says that a signal came; one that does not wait is never interrupted. */
static void waiting_is_interrupted(void)
{
  resay_engine *engine = new_engine();
  resay_client *client;
  resay_event event;
  resay_events *events;
  resay_tap *tap;
  resay_tap_record record;
  char url[128], byte;
  size_t got;
  int interrupted = 0;
  event.struct_size = sizeof event;
  add(engine, "tcp://127.0.0.1:0", url);
  CHECK_CODE(resay_events_open(engine, RESAY_EVENT_TRANSFORM_LOG, 8, &events, NULL), 0);
  CHECK_CODE(resay_tap_open(engine, NULL, &tap, NULL), 0);
  CHECK_CODE(resay_run(engine, 0), 1);
  while (!interrupted) interrupted = resay_run(engine, -1) == RESAY_E_INTR;
  for (interrupted = 0; !interrupted;) interrupted = resay_events_next(events, &event, -1) == RESAY_E_INTR;
  for (interrupted = 0; !interrupted;)
    interrupted = resay_tap_read(tap, &record, sizeof record, 1, &byte, 1, -1) == RESAY_E_INTR;
  client = dial(url);
  for (interrupted = 0; !interrupted;) interrupted = resay_client_recv(client, &byte, 1, &got, -1) == RESAY_E_INTR;
  resay_client_free(client);
  resay_engine_free(engine);
  CHECK_CODE(resay_events_close(events), 0);
  CHECK_CODE(resay_tap_close(tap), 0);
}

/* SIGTERM in the middle of everything: the handler stops the engine, which is the one call that it may make. */
static resay_engine *stoppable;

static void on_end(int signal)
{
  int saved = errno;
  (void)signal;
  CHECK_CODE(resay_stop(stoppable), 0);
  errno = saved;
}

static void *send_the_signal(void *url)
{
  ask_once(url, "serving", "serving");
  kill(getpid(), SIGTERM);
  return NULL;
}

static void stop_in_a_handler(void)
{
  struct sigaction action;
  sigset_t only;
  pthread_t sending;
  char url[128];
  stoppable = new_engine();
  add(stoppable, "tcp://127.0.0.1:0", url);
  memset(&action, 0, sizeof action);
  action.sa_handler = on_end;
  CHECK(sigaction(SIGTERM, &action, NULL) == 0);
  sigemptyset(&only), sigaddset(&only, SIGTERM);
  CHECK(pthread_sigmask(SIG_BLOCK, &only, NULL) == 0); /* the other thread inherits it */
  CHECK(pthread_create(&sending, NULL, send_the_signal, url) == 0);
  CHECK(pthread_sigmask(SIG_UNBLOCK, &only, NULL) == 0);
  lend(stoppable);
  CHECK(pthread_join(sending, NULL) == 0);
  resay_engine_free(stoppable);
  signal(SIGTERM, SIG_DFL);
}

/* Peers that go away before their answers: SIGPIPE, at its default, would end this process. */
static void broken_peers(const char *where)
{
  resay_engine *engine = new_engine();
  char url[128];
  int i;
  CHECK_CODE(resay_chain(engine, 0, "delay:time=1ms", NULL), 0);
  add(engine, where, url);
  CHECK_CODE(resay_start(engine, 1, NULL), 0);
  for (i = 0; i < 50; i++) {
    resay_client *client = dial(url);
    say(client, "never read", 10);
    resay_client_free(client);
  }
  CHECK_CODE(resay_chain(engine, 0, "", NULL), 0);
  ask_once(url, "alive", "alive");
  CHECK_CODE(resay_drain(engine, PATIENCE_MS), 0);
  resay_engine_free(engine);
}

/* The client too: what it sends to is gone. */
static void broken_server(void)
{
  resay_engine *engine = new_engine();
  resay_client *client;
  char url[128], where[64], data[4096];
  int result = 0;
  memset(data, 0, sizeof data);
  snprintf(where, sizeof where, "unix:@resay-signals-%ld", (long)getpid());
  add(engine, where, url);
  CHECK_CODE(resay_start(engine, 1, NULL), 0);
  client = dial(url);
  ask(client, "x", "x");
  resay_engine_free(engine);
  while (result == 0) result = resay_client_send(client, data, sizeof data, 1000);
  CHECK_CODE(result, RESAY_E_SYS);
  resay_client_free(client);
}

struct process {
  struct sigaction actions[65];
  sigset_t mask;
  mode_t umask;
  char directory[256];
};

static struct process now(void)
{
  struct process found;
  int i;
  memset(&found, 0, sizeof found);
  for (i = 1; i <= 64; i++) sigaction(i, NULL, &found.actions[i]);
  CHECK(pthread_sigmask(SIG_SETMASK, NULL, &found.mask) == 0);
  found.umask = umask(0);
  umask(found.umask);
  CHECK(getcwd(found.directory, sizeof found.directory) != NULL);
  return found;
}

static void nothing_is_changed(void)
{
  struct process before = now(), after;
  char where[64];
  int i;
  serve(0);
  serve(1);
  broken_peers("tcp://127.0.0.1:0");
  snprintf(where, sizeof where, "unix:/tmp/resay-signals-%ld.sock?mode=600", (long)getpid());
  broken_peers(where);
  broken_server();
  after = now();
  for (i = 1; i <= 64; i++) {
    CHECK(before.actions[i].sa_handler == after.actions[i].sa_handler);
    CHECK(before.actions[i].sa_handler == SIG_DFL);
    CHECK(sigismember(&before.mask, i) == sigismember(&after.mask, i));
  }
  CHECK(before.umask == after.umask && strcmp(before.directory, after.directory) == 0);
}

int main(void)
{
  int i;
  for (i = 1; i <= 64; i++) signal(i, SIG_DFL); /* whatever the one who started this left behind */
  nothing_is_changed();
  stop_in_a_handler();
  alarm_every_millisecond(0);
  serve(0);
  serve(1);
  waiting_is_interrupted();
  alarm_every_millisecond(SA_RESTART);
  serve(0);
  serve(1);
  waiting_is_interrupted();
  CHECK(__atomic_load_n(&alarms, __ATOMIC_RELAXED) > 0);
  return 0;
}

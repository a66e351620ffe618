/* Every call in every state of an engine's life: the table says what it answers. A call that fails leaves the engine as it
 * was, and none answers 0 for something that does not happen. With an argument, without limits of memory, which sanitizers
 * cannot live with. */
#define _GNU_SOURCE
#include "check.h"

#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum state { NEW, LISTENING, OWN, LENT, LOOP, DRAINING, ENDED, STOPPED, CHILD, STATES };

static const char *const names[STATES] = {"new",      "listening", "on its own threads", "on a lent thread", "in a loop",
                                          "draining", "ended",     "stopped when new",   "in a forked child"};

/* What a call may need beside the engine. */
static resay_id listener;
static int ours = -1, answers;

static int set_backlog(resay_engine *engine) { return resay_set(engine, "backlog", "5", NULL); }
static int set_threads(resay_engine *engine) { return resay_set(engine, "threads", "2", NULL); }
static int set_backend(resay_engine *engine) { return resay_set(engine, "backend", "epoll", NULL); }
static int set_spin(resay_engine *engine) { return resay_set(engine, "spin", "1us", NULL); }
static int set_thread_name(resay_engine *engine) { return resay_set(engine, "thread_name", "other", NULL); }
static int set_thread_stack(resay_engine *engine) { return resay_set(engine, "thread_stack", "1m", NULL); }
static int set_thread_cpus(resay_engine *engine) { return resay_set(engine, "thread_cpus", "", NULL); }
static int set_nonsense(resay_engine *engine) { return resay_set(engine, "backlog", "-5", NULL); }
static int listen_tcp(resay_engine *engine) { return resay_listen(engine, "tcp://127.0.0.1:0", NULL, NULL); }
static int listen_fd(resay_engine *engine) { return resay_listen_fd(engine, ours, RESAY_FD_DUP, NULL, NULL, NULL); }
static int port(resay_engine *engine) { return resay_listener_port(engine, listener) > 0 ? 0 : resay_listener_port(engine, listener); }
static int close_listener(resay_engine *engine) { return resay_listener_close(engine, listener); }
static int chain(resay_engine *engine) { return resay_chain(engine, 0, "reverse", NULL); }
static int bad_chain(resay_engine *engine) { return resay_chain(engine, 0, "no-such-transform", NULL); }
static int chain_of(resay_engine *engine) { return resay_chain(engine, listener == 0 ? ~listener : listener, "reverse", NULL); }
static int hooks(resay_engine *engine) { return resay_thread_hooks(engine, NULL, NULL, NULL, NULL); }
static int start(resay_engine *engine) { return resay_start(engine, 1, NULL); }
static int start_none(resay_engine *engine) { return resay_start(engine, 0, NULL); }
static int run_once(resay_engine *engine) { return resay_run(engine, 0); }
static int take_fd(resay_engine *engine) { int fd = resay_poll_fd(engine); return fd < 0 ? fd : 0; }
static int stop(resay_engine *engine) { return resay_stop(engine); }
static int drain(resay_engine *engine) { return resay_drain(engine, 50); }
static int join(resay_engine *engine) { return resay_join(engine, 0); }
static int figures(resay_engine *engine) { resay_stats stats; stats.struct_size = sizeof stats; return resay_stats_get(engine, 0, &stats); }
static int no_log(resay_engine *engine) { return resay_log(engine, 0, NULL, NULL); }

#define STATE RESAY_E_STATE
#define FORKED RESAY_E_FORKED
#define HANDLE RESAY_E_HANDLE
#define SPEC RESAY_E_SPEC
#define PLUGIN RESAY_E_PLUGIN
#define TIMEOUT RESAY_E_TIMEOUT

static const struct row {
  const char *name;
  int (*call)(resay_engine *);
  int expected[STATES];
} rows[] = {
  /*                    new     listening own    lent     loop   draining ended  stopped child */
  {"set backlog", set_backlog, {0, 0, 0, 0, 0, 0, 0, 0, FORKED}},
  {"set threads", set_threads, {0, 0, STATE, STATE, STATE, STATE, STATE, 0, FORKED}},
  {"set backend", set_backend, {0, 0, STATE, STATE, STATE, STATE, STATE, 0, FORKED}},
  {"set spin", set_spin, {0, 0, STATE, STATE, STATE, STATE, STATE, 0, FORKED}},
  {"set thread_name", set_thread_name, {0, 0, STATE, STATE, STATE, STATE, STATE, 0, FORKED}},
  {"set thread_stack", set_thread_stack, {0, 0, STATE, STATE, STATE, STATE, STATE, 0, FORKED}},
  {"set thread_cpus", set_thread_cpus, {0, 0, STATE, STATE, STATE, STATE, STATE, 0, FORKED}},
  {"set nonsense", set_nonsense, {SPEC, SPEC, SPEC, SPEC, SPEC, SPEC, SPEC, SPEC, FORKED}},
  {"thread hooks", hooks, {0, 0, STATE, STATE, STATE, STATE, STATE, 0, FORKED}},
  {"listen", listen_tcp, {0, 0, 0, 0, 0, STATE, STATE, STATE, FORKED}},
  {"listen on a descriptor", listen_fd, {0, 0, 0, 0, 0, STATE, STATE, STATE, FORKED}},
  {"port", port, {HANDLE, 0, 0, 0, 0, 0, 0, HANDLE, FORKED}},
  {"close a listener", close_listener, {HANDLE, 0, 0, 0, 0, TIMEOUT, 0, HANDLE, FORKED}},
  {"chain", chain, {0, 0, 0, 0, 0, 0, STATE, STATE, FORKED}},
  {"bad chain", bad_chain, {PLUGIN, PLUGIN, PLUGIN, PLUGIN, PLUGIN, PLUGIN, STATE, STATE, FORKED}},
  {"chain of a listener", chain_of, {HANDLE, 0, 0, 0, 0, 0, STATE, STATE, FORKED}},
  {"start", start, {0, 0, STATE, STATE, STATE, STATE, STATE, STATE, FORKED}},
  {"start no thread", start_none, {SPEC, SPEC, SPEC, SPEC, SPEC, SPEC, SPEC, SPEC, FORKED}},
  {"run", run_once, {1, 1, STATE, STATE, 1, STATE, 0, 0, FORKED}},
  {"poll fd", take_fd, {0, 0, STATE, STATE, 0, STATE, STATE, STATE, FORKED}},
  {"stop", stop, {0, 0, 0, 0, 0, 0, 0, 0, FORKED}},
  {"drain", drain, {0, 0, 0, 0, 0, TIMEOUT, 0, 0, FORKED}},
  {"join", join, {0, 0, TIMEOUT, TIMEOUT, TIMEOUT, TIMEOUT, 0, 0, FORKED}},
  {"figures", figures, {0, 0, 0, 0, 0, 0, 0, 0, FORKED}},
  {"no log", no_log, {0, 0, 0, 0, 0, 0, 0, 0, FORKED}},
};

/* What can be seen of an engine. */
static void look(resay_engine *engine, char *text, size_t size)
{
  static const char *const keys[] = {"threads", "backend", "spin", "thread_name", "thread_stack", "thread_cpus", "backlog", "chain"};
  char value[128];
  size_t i;
  text[0] = '\0';
  for (i = 0; i < sizeof keys / sizeof keys[0]; i++) {
    CHECK_CODE(resay_get(engine, keys[i], value, sizeof value, NULL), 0);
    snprintf(text + strlen(text), size - strlen(text), "%s=%s\n", keys[i], value);
  }
  if (listener != 0) {
    int found = resay_listener_url(engine, listener, value, sizeof value, NULL);
    snprintf(text + strlen(text), size - strlen(text), "%d %s\n", found, found == 0 ? value : "");
  }
}

/* A callback that stays until it may go. */
static int is_inside, may_go;

static int stay(void *user, void **session, const resay_message *message, resay_out *out)
{
  (void)user, (void)session, (void)message, (void)out;
  __atomic_store_n(&is_inside, 1, __ATOMIC_SEQ_CST);
  while (!__atomic_load_n(&may_go, __ATOMIC_SEQ_CST)) poll(NULL, 0, 1);
  return RESAY_PASS;
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

static void one(const struct row *row, enum state state)
{
  struct sockaddr_in bound = {0};
  resay_engine *engine = new_engine();
  resay_client *client = NULL;
  pthread_t lent;
  char url[128], before[1024], after[1024];
  int result;
  listener = 0;
  is_inside = may_go = 0;
  ours = socket(AF_INET, SOCK_DGRAM, 0);
  bound.sin_family = AF_INET;
  bound.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  CHECK(bind(ours, (struct sockaddr *)&bound, sizeof bound) == 0);
  if (state == DRAINING) {
    CHECK_CODE(add_function(engine, "stay", stay, NULL, NULL), 0);
    CHECK_CODE(resay_chain(engine, 0, "stay", NULL), 0);
  }
  if (state != NEW && state != STOPPED) listener = add(engine, "tcp://127.0.0.1:0", url);
  if (state == OWN || state == DRAINING || state == ENDED || state == CHILD) CHECK_CODE(resay_start(engine, 1, NULL), 0);
  if (state == LENT) {
    CHECK(pthread_create(&lent, NULL, lend, engine) == 0);
    ask_once(url, "serving", "serving");
  }
  if (state == LOOP) {
    CHECK(resay_poll_fd(engine) >= 0);
    CHECK_CODE(resay_run(engine, 0), 1);
  }
  if (state == DRAINING) {
    client = dial(url);
    say(client, "stay", 4);
    while (!__atomic_load_n(&is_inside, __ATOMIC_SEQ_CST)) poll(NULL, 0, 1);
    CHECK_CODE(resay_drain(engine, 0), RESAY_E_TIMEOUT);
  }
  if (state == ENDED) CHECK_CODE(resay_drain(engine, PATIENCE_MS), 0);
  if (state == STOPPED) CHECK_CODE(resay_stop(engine), 0);
  if (state == CHILD) {
    int status;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
      CHECK_CODE(row->call(engine), row->expected[state]);
      CHECK_CODE(resay_engine_free(engine), 0);
      _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    ask_once(url, "serving", "serving");
    CHECK_CODE(resay_engine_free(engine), 0);
    close(ours);
    return;
  }
  look(engine, before, sizeof before);
  result = row->call(engine);
  if (result != row->expected[state]) {
    fprintf(stderr, "%s, %s: %d, not %d (%s)\n", row->name, names[state], result, row->expected[state], resay_last_error());
    _exit(1);
  }
  if (result < 0) {
    look(engine, after, sizeof after);
    /* A listener that a worker has no turn for is closed by its next one, as the header says. */
    if (strcmp(before, after) != 0 && (row->call != close_listener || result != TIMEOUT)) {
      fprintf(stderr, "%s, %s: before\n%s, after\n%s", row->name, names[state], before, after);
      _exit(1);
    }
    CHECK(fcntl(ours, F_GETFD) >= 0);
    if (state == OWN || state == LENT) ask_once(url, "still", "still"), answers++;
    if (state == LISTENING) {
      CHECK_CODE(resay_start(engine, 1, NULL), 0);
      ask_once(url, "still", "still"), answers++;
    }
  }
  __atomic_store_n(&may_go, 1, __ATOMIC_SEQ_CST);
  if (state == LENT) {
    CHECK_CODE(resay_stop(engine), 0);
    CHECK(pthread_join(lent, NULL) == 0);
  }
  resay_client_free(client);
  CHECK_CODE(resay_engine_free(engine), 0);
  close(ours);
}

/* What is closed by a drain or a stop before the engine ran refuses peers, and does not let them wait for ever. */
static void nobody_waits_for_an_engine_that_never_runs(void)
{
  resay_engine *engine = new_engine();
  resay_client *client;
  resay_error error;
  char url[128];
  add(engine, "unix:states.sock", url);
  CHECK(access("states.sock", F_OK) == 0);
  add(engine, "tcp://127.0.0.1:0", url);
  CHECK_CODE(resay_drain(engine, 0), 0);
  CHECK_CODE(resay_client_open(url, PATIENCE_MS, &client, &error), RESAY_E_SYS);
  CHECK(error.os_errno == ECONNREFUSED);
  CHECK(access("states.sock", F_OK) != 0);
  CHECK_CODE(resay_engine_free(engine), 0);
}

/* Threads cannot be had: the listeners are as before, their files too, and a start with fewer succeeds. */
static void a_start_that_fails_changes_nothing(int resource, rlim_t first, rlim_t step, const char *stack)
{
  resay_engine *engine = new_engine();
  char directory[] = "/tmp/resay-states-XXXXXX", where[80], url[128], unix_url[128];
  struct rlimit limit, enough;
  struct stat before, after;
  resay_error error;
  int failures = 0, before_start, threads_before = threads();
  CHECK(mkdtemp(directory) != NULL);
  snprintf(where, sizeof where, "unix:%s/s.sock", directory);
  add(engine, "tcp://127.0.0.1:0", url);
  add(engine, where, unix_url);
  add(engine, "udp://127.0.0.1:0", unix_url);
  CHECK(stat(where + strlen("unix:"), &before) == 0);
  CHECK_CODE(resay_set(engine, "threads", "3", NULL), 0);
  CHECK_CODE(resay_set(engine, "thread_stack", stack, NULL), 0);
  CHECK_CODE(resay_set(engine, "watchdog", "0", NULL), 0); /* a start goes without it */
  CHECK(getrlimit(resource, &enough) == 0);
  before_start = descriptors();
  for (limit = enough, limit.rlim_cur = first;; limit.rlim_cur += step) {
    int result;
    char threads_set[8];
    CHECK(setrlimit(resource, &limit) == 0);
    result = resay_start(engine, 16, &error);
    CHECK(setrlimit(resource, &enough) == 0);
    if (result == 0) break;
    CHECK(result == RESAY_E_SYS && error.os_errno != 0 && error.position == 0 && error.length == 0);
    CHECK(strstr(error.message, "os error") == NULL);
    failures++;
    expect_threads(threads_before);
    CHECK(descriptors() == before_start);
    CHECK(stat(where + strlen("unix:"), &after) == 0 && after.st_ino == before.st_ino);
    CHECK_CODE(resay_get(engine, "threads", threads_set, sizeof threads_set, NULL), 0);
    CHECK(strcmp(threads_set, "3") == 0);
    if (failures == 1) {
      /* A listener that is added in between is as good as the others. */
      CHECK_CODE(resay_listen(engine, "tcp://127.0.0.1:0", NULL, NULL), 0);
      before_start++;
    }
  }
  CHECK(failures > 0);
  expect_threads(threads_before + 16);
  ask_once(url, "tcp", "tcp");
  ask_once(where, "unix", "unix");
  ask_once(unix_url, "udp", "udp");
  CHECK_CODE(resay_engine_free(engine), 0);
  CHECK(stat(where + strlen("unix:"), &after) != 0);
  rmdir(directory);
}

static void in_a_child(void (*part)(void))
{
  int status;
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    part();
    _exit(0);
  }
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(status == 0);
}

static void too_many_threads(void)
{
  /* Nobody's processes are counted and limited; root's are not. */
  CHECK(setgroups(0, NULL) == 0 && setgid(65534) == 0 && setuid(65534) == 0);
  a_start_that_fails_changes_nothing(RLIMIT_NPROC, 1, 1, "256k");
}

static void too_little_memory(void)
{
  a_start_that_fails_changes_nothing(RLIMIT_AS, 2000ul << 20, 800ul << 20, "256m");
}

int main(int argc, char **argv)
{
  size_t row;
  int state;
  (void)argv;
  for (row = 0; row < sizeof rows / sizeof rows[0]; row++)
    for (state = 0; state < STATES; state++) one(&rows[row], (enum state)state);
  CHECK(answers > 0);
  nobody_waits_for_an_engine_that_never_runs();
  if (argc == 1) in_a_child(too_little_memory);
  if (geteuid() == 0) in_a_child(too_many_threads);
  else printf("not root: RLIMIT_NPROC is not tried\n");
  return 0;
}

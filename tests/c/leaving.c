/* pthread_exit(3) in a callback, as interpreters do to threads that ask for their lock when they end: the process goes on,
 * the thread never comes back, and nobody waits for it. */
#define _GNU_SOURCE
#include "check.h"

#include <signal.h>
#include <sys/wait.h>

static int is_inside;

static int leave(void *user, void **session, const resay_message *message, resay_out *out)
{
  (void)user, (void)session, (void)out;
  if (message->len == 0 || message->data[0] != 'x') return RESAY_PASS;
  __atomic_store_n(&is_inside, 1, __ATOMIC_SEQ_CST);
  pthread_exit(NULL);
}

static void leave_the_log(void *user, int level, const char *line, size_t len)
{
  (void)user, (void)level;
  if (memmem(line, len, "accepted", 8) == NULL) return;
  __atomic_store_n(&is_inside, 1, __ATOMIC_SEQ_CST);
  pthread_exit(NULL);
}

static void until_inside(void)
{
  while (!__atomic_load_n(&is_inside, __ATOMIC_SEQ_CST)) poll(NULL, 0, 1);
}

/* What can still be called, and what it answers. */
static void expect_it_is_over(resay_engine *engine, const char *url)
{
  resay_stats stats;
  int tries = 0;
  stats.struct_size = sizeof stats;
  while (resay_stats_get(engine, 0, &stats) != RESAY_E_BUG) {
    CHECK(tries++ < PATIENCE_MS);
    poll(NULL, 0, 1);
  }
  CHECK_CODE(resay_drain(engine, -1), RESAY_E_BUG);
  CHECK_CODE(resay_join(engine, -1), RESAY_E_BUG);
  CHECK_CODE(resay_listen(engine, url, NULL, NULL), RESAY_E_BUG);
  CHECK_CODE(resay_listen_fd(engine, 0, RESAY_FD_DUP, NULL, NULL, NULL), RESAY_E_BUG);
  CHECK_CODE(resay_listener_port(engine, 1), RESAY_E_BUG);
  CHECK_CODE(resay_listener_url(engine, 1, NULL, 0, NULL), RESAY_E_BUG);
  CHECK_CODE(resay_listener_close(engine, 1), RESAY_E_BUG);
  CHECK_CODE(resay_set(engine, "backlog", "5", NULL), RESAY_E_BUG);
  CHECK_CODE(resay_get(engine, "backlog", NULL, 0, NULL), RESAY_E_BUG);
  CHECK_CODE(resay_chain(engine, 0, "", NULL), RESAY_E_BUG);
  CHECK_CODE(resay_start(engine, 1, NULL), RESAY_E_BUG);
  CHECK_CODE(resay_run(engine, 0), RESAY_E_BUG);
  CHECK_CODE(resay_poll_fd(engine), RESAY_E_BUG);
  CHECK_CODE(resay_poll_timeout(engine), RESAY_E_BUG);
  CHECK_CODE(resay_log(engine, 0, NULL, NULL), RESAY_E_BUG);
  CHECK_CODE(resay_thread_hooks(engine, NULL, NULL, NULL, NULL), RESAY_E_BUG);
  CHECK_CODE(resay_stop(engine), 0); /* what is left of it ends */
  CHECK_CODE(resay_engine_free(engine), 0);
}

static void on_a_thread_of_the_engine(void)
{
  resay_engine *engine = new_engine();
  resay_client *client;
  char url[128];
  CHECK_CODE(add_function(engine, "leave", leave, NULL, NULL), 0);
  CHECK_CODE(resay_chain(engine, 0, "leave", NULL), 0);
  add(engine, "tcp://127.0.0.1:0", url);
  CHECK_CODE(resay_start(engine, 2, NULL), 0);
  ask_once(url, "before", "before");
  client = dial(url);
  say(client, "x", 1);
  until_inside();
  expect_it_is_over(engine, url);
  resay_client_free(client);
}

static void in_the_log(void)
{
  resay_engine *engine = new_engine();
  resay_client *client;
  char url[128];
  CHECK_CODE(resay_log(engine, RESAY_LOG_DEBUG, leave_the_log, NULL), 0);
  add(engine, "tcp://127.0.0.1:0", url);
  CHECK_CODE(resay_start(engine, 2, NULL), 0);
  client = dial(url);
  until_inside();
  expect_it_is_over(engine, url);
  resay_client_free(client);
}

static int has_returned;

static void *lend(void *engine)
{
  resay_run(engine, -1);
  __atomic_store_n(&has_returned, 1, __ATOMIC_SEQ_CST);
  return NULL;
}

static void on_a_lent_thread(void)
{
  resay_engine *engine = new_engine();
  resay_client *client;
  pthread_t lent;
  char url[128];
  CHECK_CODE(add_function(engine, "leave", leave, NULL, NULL), 0);
  CHECK_CODE(resay_chain(engine, 0, "leave", NULL), 0);
  add(engine, "tcp://127.0.0.1:0", url);
  CHECK(pthread_create(&lent, NULL, lend, engine) == 0);
  client = dial(url);
  say(client, "x", 1);
  until_inside();
  expect_it_is_over(engine, url);
  CHECK(!__atomic_load_n(&has_returned, __ATOMIC_SEQ_CST));
  resay_client_free(client);
}

static void on_begin(void *user, const char *thread)
{
  (void)user;
  if (strcmp(thread, "resay-0") == 0) pthread_exit(NULL);
}

static void in_a_hook(void)
{
  resay_engine *engine = new_engine();
  char url[128];
  CHECK_CODE(resay_thread_hooks(engine, on_begin, NULL, NULL, NULL), 0);
  add(engine, "tcp://127.0.0.1:0", url);
  CHECK_CODE(resay_start(engine, 2, NULL), 0);
  expect_it_is_over(engine, url);
}

static void leave_at_a_chain(void *user, int level, const char *line, size_t len)
{
  (void)user, (void)level;
  if (memmem(line, len, "chain", 5) == NULL) return;
  __atomic_store_n(&is_inside, 1, __ATOMIC_SEQ_CST);
  pthread_exit(NULL);
}

static void *set_a_chain(void *engine)
{
  resay_chain(engine, 0, "uppercase", NULL);
  __atomic_store_n(&has_returned, 1, __ATOMIC_SEQ_CST);
  return NULL;
}

/* The call of the program's has something locked, and never gives it back. */
static void in_the_middle_of_a_call(void)
{
  resay_engine *engine = new_engine();
  pthread_t thread;
  char url[128];
  CHECK_CODE(resay_log(engine, RESAY_LOG_INFO, leave_at_a_chain, NULL), 0);
  add(engine, "tcp://127.0.0.1:0", url);
  CHECK_CODE(resay_start(engine, 1, NULL), 0);
  CHECK(pthread_create(&thread, NULL, set_a_chain, engine) == 0);
  until_inside();
  expect_it_is_over(engine, url);
  CHECK(!__atomic_load_n(&has_returned, __ATOMIC_SEQ_CST));
}

static void leave_each_option(void *user, const resay_option_info *option)
{
  (void)user, (void)option;
  __atomic_store_n(&is_inside, 1, __ATOMIC_SEQ_CST);
  pthread_exit(NULL);
}

static void leave_each_transform(void *user, const resay_transform_info *transform)
{
  (void)user, (void)transform;
  __atomic_store_n(&is_inside, 1, __ATOMIC_SEQ_CST);
  pthread_exit(NULL);
}

static void *list_options(void *engine)
{
  (void)engine;
  resay_options(leave_each_option, NULL);
  return NULL;
}

static void *list_transforms(void *engine)
{
  resay_transforms(engine, leave_each_transform, NULL, NULL);
  return NULL;
}

/* Nothing is locked there: only the thread is lost. */
static void in_a_list(void)
{
  static void *(*const lists[])(void *) = {list_options, list_transforms};
  resay_engine *engine = new_engine();
  char url[128];
  size_t i;
  add(engine, "tcp://127.0.0.1:0", url);
  CHECK_CODE(resay_start(engine, 1, NULL), 0);
  for (i = 0; i < 2; i++) {
    pthread_t thread;
    __atomic_store_n(&is_inside, 0, __ATOMIC_SEQ_CST);
    CHECK(pthread_create(&thread, NULL, lists[i], engine) == 0);
    until_inside();
    ask_once(url, "after", "after");
  }
  CHECK_CODE(resay_engine_free(engine), 0);
}

static void end_well(int number)
{
  (void)number;
  _exit(0);
}

static void *end_by_a_signal(void *client)
{
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, NULL);
  say(client, "x", 1);
  until_inside();
  kill(getpid(), SIGTERM);
  poll(NULL, 0, PATIENCE_MS);
  _exit(3);
}

/* The thread of the program that is lost may be the only one that handles signals. */
static void a_lost_thread_of_the_program_still_handles_signals(void)
{
  resay_engine *engine = new_engine();
  pthread_t thread;
  char url[128];
  signal(SIGTERM, end_well);
  CHECK_CODE(add_function(engine, "leave", leave, NULL, NULL), 0);
  CHECK_CODE(resay_chain(engine, 0, "leave", NULL), 0);
  add(engine, "tcp://127.0.0.1:0", url);
  CHECK(pthread_create(&thread, NULL, end_by_a_signal, dial(url)) == 0);
  resay_run(engine, -1);
  _exit(4);
}

int main(void)
{
  static void (*const parts[])(void) = {on_a_thread_of_the_engine, in_the_log,  on_a_lent_thread,
                                        in_a_hook,                 in_the_middle_of_a_call,
                                        in_a_list,                 a_lost_thread_of_the_program_still_handles_signals};
  size_t i;
  for (i = 0; i < sizeof parts / sizeof parts[0]; i++) {
    int status;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
      parts[i]();
      exit(0); /* with all that a program does at its end */
    }
    CHECK(waitpid(child, &status, 0) == child);
    if (status != 0) {
      fprintf(stderr, "part %d: %s %d\n", (int)i, WIFSIGNALED(status) ? "signal" : "status", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
      return 1;
    }
  }
  return 0;
}

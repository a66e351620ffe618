/* pthread_cancel(3) of a thread inside a call: the call ends as it would have, and only then the thread. */
#define _GNU_SOURCE
#include "check.h"

#include <sys/syscall.h>

enum call { RUN, RECV, SEND, EVENT, JOIN, DRAIN, OPEN, START, CALLS };

static const char *const names[CALLS] = {"run", "recv", "send", "event_next", "join", "drain", "open", "start"};

struct task {
  enum call call;
  resay_engine *engine;
  resay_events *events;
  resay_client *client;
  const char *url;
  pid_t thread;
  int is_over, result, state;
};

static void tell(int *flag, int value) { __atomic_store_n(flag, value, __ATOMIC_SEQ_CST); }
static int look(int *flag) { return __atomic_load_n(flag, __ATOMIC_SEQ_CST); }

static void *work(void *user)
{
  static char much[1 << 20];
  struct task *task = user;
  resay_event event;
  char byte;
  size_t got;
  int result = 0;
  event.struct_size = sizeof event;
  tell(&task->thread, (int)syscall(SYS_gettid));
  switch (task->call) {
  case RUN: result = resay_run(task->engine, -1); break;
  case RECV: result = resay_client_recv(task->client, &byte, 1, &got, -1); break;
  case SEND:
    while (result == 0) result = resay_client_send(task->client, much, sizeof much, -1);
    break;
  case EVENT: result = resay_events_next(task->events, &event, -1); break;
  case JOIN: result = resay_join(task->engine, -1); break;
  case DRAIN: result = resay_drain(task->engine, -1); break;
  case OPEN: result = resay_client_open(task->url, -1, &task->client, NULL); break;
  default: result = resay_start(task->engine, 4, NULL); break;
  }
  /* Reached, so the call has returned to the program. */
  task->result = result;
  tell(&task->is_over, 1);
  CHECK(pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &task->state) == 0);
  pthread_testcancel();
  return NULL;
}

/* Whether a thread sleeps in the kernel. */
static int is_waiting(pid_t thread)
{
  char path[64], text[512];
  FILE *file;
  size_t len;
  snprintf(path, sizeof path, "/proc/self/task/%d/stat", thread);
  file = fopen(path, "r");
  if (file == NULL) return 0;
  len = fread(text, 1, sizeof text - 1, file);
  fclose(file);
  text[len] = '\0';
  return strstr(text, ") S ") != NULL;
}

static int inside, may_go;

static int stay(void *user, void **session, const resay_message *message, resay_out *out)
{
  (void)user, (void)session, (void)message, (void)out;
  tell(&inside, 1);
  while (!look(&may_go)) poll(NULL, 0, 1); /* poll(2) is a cancellation point: this thread is not to end in it */
  return RESAY_PASS;
}

static void one(enum call call)
{
  struct task task = {.call = call};
  resay_engine *engine = new_engine();
  resay_client *client = NULL, *queued[64];
  int count = 0;
  pthread_t thread;
  char url[128];
  void *ended = NULL;
  inside = may_go = 0;
  task.engine = engine;
  task.url = url;
  CHECK_CODE(add_function(engine, "stay", stay, NULL, NULL), 0);
  CHECK_CODE(resay_chain(engine, 0, "stay", NULL), 0);
  add(engine, call == OPEN ? "unix:@resay-cancelling?backlog=1" : "tcp://127.0.0.1:0", url);
  CHECK_CODE(resay_events_open(engine, RESAY_EVENT_TRANSFORM_LOG, 8, &task.events, NULL), 0);
  if (call != RUN && call != START && call != OPEN) CHECK_CODE(resay_start(engine, 1, NULL), 0);
  if (call == RECV || call == SEND || call == DRAIN) client = dial(url);
  if (call == DRAIN) {
    say(client, "stay", 4);
    while (!look(&inside)) poll(NULL, 0, 1);
  }
  task.client = client;
  if (call == OPEN) {
    /* A queue that is full, and that nobody takes from. */
    while (resay_client_open(url, 50, &queued[count], NULL) == 0) CHECK(++count < 64);
  }
  CHECK(pthread_create(&thread, NULL, work, &task) == 0);
  if (call == START) {
    CHECK(pthread_cancel(thread) == 0);
  } else {
    while (look(&task.thread) == 0 || !is_waiting(look(&task.thread))) poll(NULL, 0, 1);
    if (call == RUN) {
      /* The thread is in the middle of a callback as well. */
      client = dial(url);
      say(client, "stay", 4);
      while (!look(&inside)) poll(NULL, 0, 1);
    }
    CHECK(pthread_cancel(thread) == 0);
    CHECK(call != RECV || is_waiting(look(&task.thread)));
    CHECK(!look(&task.is_over));
  }
  tell(&may_go, 1);
  if (call == OPEN || call == START) CHECK(call == START || resay_start(engine, 1, NULL) == 0);
  else CHECK_CODE(resay_stop(engine), 0);
  CHECK(pthread_join(thread, &ended) == 0);
  if (ended != PTHREAD_CANCELED || task.state != PTHREAD_CANCEL_ENABLE || !task.is_over) {
    fprintf(stderr, "%s: over %d, state %d\n", names[call], task.is_over, task.state);
    _exit(1);
  }
  if (call == RUN || call == OPEN || call == START) CHECK_CODE(task.result, 0);
  resay_client_free(call == OPEN ? task.client : client);
  while (count > 0) resay_client_free(queued[--count]);
  CHECK_CODE(resay_events_close(task.events), 0);
  CHECK_CODE(resay_engine_free(engine), 0);
}

int main(void)
{
  int call;
  for (call = 0; call < CALLS; call++) one((enum call)call);
  return 0;
}

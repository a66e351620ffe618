/* What a host decides about the engine's threads, and what the calls beside that answer: hooks, names, stacks, processors,
 * the descriptor of a client, features, places of errors, a drain within its time. */
#define _GNU_SOURCE
#include "check.h"

#include <sched.h>
#include <sys/syscall.h>
#include <time.h>

enum { SEEN_MAX = 64 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct seen {
  pid_t thread;
  char name[32];
  int is_over;
} seen[SEEN_MAX];
static int count, released;

static pid_t self(void)
{
  return (pid_t)syscall(SYS_gettid);
}

static void on_begin(void *user, const char *thread)
{
  CHECK(user == &released && count < SEEN_MAX);
  pthread_mutex_lock(&lock);
  seen[count].thread = self();
  seen[count].is_over = 0;
  snprintf(seen[count].name, sizeof seen[count].name, "%s", thread);
  count++;
  pthread_mutex_unlock(&lock);
}

static void on_end(void *user)
{
  int i, ended = 0;
  CHECK(user == &released);
  pthread_mutex_lock(&lock);
  for (i = 0; i < count; i++)
    if (seen[i].thread == self() && !seen[i].is_over) seen[i].is_over = 1, ended++;
  pthread_mutex_unlock(&lock);
  CHECK(ended == 1);
}

static void on_release(void *user)
{
  ++*(int *)user;
}

static int is_begun(const char *name)
{
  int i, found = 0;
  pthread_mutex_lock(&lock);
  for (i = 0; i < count; i++) found += strcmp(seen[i].name, name) == 0;
  pthread_mutex_unlock(&lock);
  return found;
}

/* A transform that may block: its messages are the pool's. */
static int offloaded_on;

static resay_status process(void *instance, void *session, resay_io *io)
{
  (void)instance, (void)session;
  if (io->output_cap < io->input_len) {
    io->output_need = io->input_len;
    return RESAY_MORE_OUT;
  }
  __atomic_store_n(&offloaded_on, self(), __ATOMIC_SEQ_CST);
  if (io->input_len > 0) memcpy(io->output, io->input, io->input_len);
  io->input_used = io->output_len = io->input_len;
  return RESAY_OK;
}

static const resay_transform blocking = {.struct_size = sizeof blocking, .id = "blocking", .needs = RESAY_NEED_OFFLOAD, .process = process};

static void every_thread_has_hooks(void)
{
  resay_engine *engine = new_engine();
  resay_id first;
  char url[128], path[64], name[32];
  cpu_set_t all, only;
  FILE *file;
  int i, cpu = 0, workers = 0, is_pool = 0;
  count = released = 0;
  CHECK(sched_getaffinity(0, sizeof all, &all) == 0);
  while (!CPU_ISSET(cpu, &all)) cpu++;
  snprintf(name, sizeof name, "%d", cpu);
  CHECK_CODE(resay_thread_hooks(engine, on_begin, on_end, &released, on_release), 0);
  CHECK_CODE(resay_set(engine, "thread_name", "host", NULL), 0);
  CHECK_CODE(resay_set(engine, "thread_stack", "192k", NULL), 0);
  CHECK_CODE(resay_set(engine, "thread_cpus", name, NULL), 0);
  CHECK_CODE(resay_register(engine, &blocking, NULL), 0);
  first = add(engine, "tcp://127.0.0.1:0?frame=lines", url);
  CHECK_CODE(resay_chain(engine, first, "blocking", NULL), 0);
  CHECK_CODE(resay_start(engine, 3, NULL), 0);
  ask_once(url, "pooled\n", "pooled\n");
  CHECK(is_begun("host-offload-0") == 1);
  while (is_begun("host-0") + is_begun("host-1") + is_begun("host-2") < 3) poll(NULL, 0, 1);
  pthread_mutex_lock(&lock);
  for (i = 0; i < count; i++) {
    CHECK(strncmp(seen[i].name, "host-", 5) == 0);
    if (seen[i].is_over) continue; /* a helper */
    workers++;
    is_pool |= seen[i].thread == __atomic_load_n(&offloaded_on, __ATOMIC_SEQ_CST);
    snprintf(path, sizeof path, "/proc/self/task/%d/comm", seen[i].thread);
    file = fopen(path, "r");
    CHECK(file != NULL && fgets(name, sizeof name, file) != NULL);
    fclose(file);
    name[strcspn(name, "\n")] = '\0';
    CHECK(strncmp(name, seen[i].name, 15) == 0);
    CHECK(sched_getaffinity(seen[i].thread, sizeof only, &only) == 0);
    CHECK(CPU_COUNT(&only) == 1 && CPU_ISSET(cpu, &only));
  }
  pthread_mutex_unlock(&lock);
  CHECK(workers >= 4 && is_pool); /* what is dropped in the background is the pool's too */
  CHECK(released == 0);
  CHECK_CODE(resay_thread_hooks(engine, NULL, NULL, &released, on_release), RESAY_E_STATE);
  CHECK(released == 1);
  CHECK_CODE(resay_drain(engine, PATIENCE_MS), 0);
  for (i = 0; i < count; i++) CHECK(seen[i].is_over);
  CHECK_CODE(resay_engine_free(engine), 0);
  CHECK(released == 2);
}

static void what_threads_may_not_be(void)
{
  resay_engine *engine = new_engine();
  resay_error error;
  char url[128], value[64];
  cpu_set_t all;
  static const char *const wrong[][2] = {
    {"thread_name", ""},       {"thread_name", "sixteen-letters-"}, {"thread_name", "a\tb"}, {"thread_stack", "1k"},
    {"thread_stack", "2g"},    {"thread_stack", "much"},           {"thread_cpus", "0-"},   {"thread_cpus", "1024"},
    {"thread_cpus", "3-1"},    {"thread_cpus", "0,,1"}};
  size_t i;
  for (i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
    CHECK_CODE(resay_set(engine, wrong[i][0], wrong[i][1], &error), RESAY_E_SPEC);
  CHECK_CODE(resay_get(engine, "thread_name", value, sizeof value, NULL), 0);
  CHECK(strcmp(value, "resay") == 0);
  CHECK_CODE(resay_get(engine, "thread_stack", value, sizeof value, NULL), 0);
  CHECK(strcmp(value, "2097152") == 0);
  CHECK_CODE(resay_set(engine, "thread_cpus", "2,0,1,5", NULL), 0);
  CHECK_CODE(resay_get(engine, "thread_cpus", value, sizeof value, NULL), 0);
  CHECK(strcmp(value, "0-2,5") == 0);
  CHECK(sched_getaffinity(0, sizeof all, &all) == 0);
  if (!CPU_ISSET(1023, &all)) {
    /* Nowhere to run: the start fails, and another one does not. */
    int before = threads();
    add(engine, "tcp://127.0.0.1:0", url);
    CHECK_CODE(resay_set(engine, "thread_cpus", "1023", NULL), 0);
    CHECK_CODE(resay_start(engine, 2, &error), RESAY_E_SYS);
    CHECK(error.os_errno == EINVAL && strstr(error.message, "thread_cpus=1023") != NULL);
    expect_threads(before);
    CHECK_CODE(resay_set(engine, "thread_cpus", "", NULL), 0);
    CHECK_CODE(resay_start(engine, 2, NULL), 0);
    ask_once(url, "here", "here");
  }
  CHECK_CODE(resay_engine_free(engine), 0);
}

static void errors_tell_the_place(void)
{
  static const struct {
    const char *chain, *message;
    int code;
    uint32_t position, length;
  } rows[] = {
    {"reverse | upercase | hex", "unknown transform \"upercase\", did you mean \"uppercase\"?", RESAY_E_PLUGIN, 10, 8},
    {"upercase:x=1", "unknown transform \"upercase\", did you mean \"uppercase\"?", RESAY_E_PLUGIN, 0, 8},
    {"hex | ", NULL, RESAY_E_SPEC, 6, 1},
    {"hex || rot13", NULL, RESAY_E_SPEC, 5, 1},
    {"reverse | uppercase:unicod=1", NULL, RESAY_E_PLUGIN, 20, 6},
    {"reverse | delay:time=x", NULL, RESAY_E_PLUGIN, 21, 1},
  };
  static const struct {
    const char *url;
    int code;
    uint32_t position, length;
  } urls[] = {
    {"tcp://127.0.0.1:0?chain=upercase", RESAY_E_PLUGIN, 24, 8},
    {"tcp://127.0.0.1:0?chain=reverse%7Cupercase", RESAY_E_PLUGIN, 34, 8},
    {"tcp://127.0.0.1:0?backlog=5&chain=delay:time=x", RESAY_E_PLUGIN, 45, 1},
    {"tcp://127.0.0.1:0?chain=hex||rot13", RESAY_E_SPEC, 28, 1},
    {"tcp://127.0.0.1:0?threads=2", RESAY_E_SPEC, 18, 7},
  };
  static const struct {
    const char *key, *value, *message;
  } options[] = {
    {"treads", "2", "unknown option, did you mean \"threads\"?"},
    {"BACKLOG", "2", "unknown option, did you mean \"backlog\"?"},
    {"threads", "-1", "expected a number of threads, 1 to 256"},
    {"threads", "99999999999999999999", "expected a number of threads, 1 to 256"},
  };
  resay_engine *engine = new_engine();
  resay_error error;
  size_t i;
  for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    CHECK_CODE(resay_chain(engine, 0, rows[i].chain, &error), rows[i].code);
    if (error.position != rows[i].position || error.length != rows[i].length
        || (rows[i].message != NULL && strcmp(error.message, rows[i].message) != 0)) {
      fprintf(stderr, "%s: %u, %u: %s\n", rows[i].chain, error.position, error.length, error.message);
      _exit(1);
    }
  }
  for (i = 0; i < sizeof urls / sizeof urls[0]; i++) {
    CHECK_CODE(resay_listen(engine, urls[i].url, NULL, &error), urls[i].code);
    if (error.position != urls[i].position || error.length != urls[i].length) {
      fprintf(stderr, "%s: %u, %u: %s\n", urls[i].url, error.position, error.length, error.message);
      _exit(1);
    }
  }
  for (i = 0; i < sizeof options / sizeof options[0]; i++) {
    CHECK_CODE(resay_set(engine, options[i].key, options[i].value, &error), RESAY_E_SPEC);
    CHECK(strncmp(error.message, options[i].message, strlen(options[i].message)) == 0);
    CHECK(error.length > 0);
  }
  CHECK_CODE(resay_get(engine, "treads", NULL, 0, NULL), RESAY_E_SPEC);
  CHECK(strstr(resay_last_error(), "did you mean \"threads\"?") != NULL);
  CHECK_CODE(resay_log(engine, 99, NULL, NULL), RESAY_E_ARG);
  CHECK_CODE(resay_plugin_dir(engine, "", &error), RESAY_E_SPEC);
  CHECK(resay_has(NULL) == 0 && strstr(resay_last_error(), "is missing") != NULL); /* no failure */
  /* What cannot be shown is written as bytes. */
  CHECK_CODE(resay_listen(engine, "tcp://\x1b:1", NULL, &error), RESAY_E_SPEC);
  CHECK(strstr(error.message, "\\x1b") != NULL);
  /* What is wrong stands at the beginning, also where the text is long. */
  CHECK_CODE(resay_chain(engine, 0, "nothing-of-the-kind-at-all", &error), RESAY_E_PLUGIN);
  CHECK(strncmp(error.message, "unknown transform \"nothing-of-the-kind-at-all\"", 46) == 0);
  CHECK_CODE(resay_load(engine, "/nonexistent/libmine.so", &error), RESAY_E_PLUGIN);
  CHECK(strstr(error.message, "os error") == NULL);
  CHECK_CODE(resay_listen(engine, "unix:/nonexistent/s.sock", NULL, &error), RESAY_E_SYS);
  CHECK(error.os_errno == ENOENT && error.length == 0 && strstr(error.message, "os error") == NULL);
  CHECK_CODE(resay_engine_free(engine), 0);
}

/* In a callback, nothing is freed; that is answered. */
static resay_engine *other;
static int freed = 1;

static int free_it(void *user, void **session, const resay_message *message, resay_out *out)
{
  (void)session, (void)message, (void)out;
  freed = resay_engine_free(user == NULL ? other : user);
  return RESAY_PASS;
}

static void freeing_answers(void)
{
  resay_engine *engine = new_engine();
  char url[128];
  other = new_engine();
  CHECK_CODE(add_function(engine, "free", free_it, NULL, NULL), 0);
  CHECK_CODE(resay_chain(engine, 0, "free", NULL), 0);
  add(engine, "tcp://127.0.0.1:0", url);
  CHECK_CODE(resay_start(engine, 1, NULL), 0);
  ask_once(url, "x", "x");
  CHECK(freed == RESAY_E_STATE);
  CHECK_CODE(resay_engine_free(other), 0);
  CHECK_CODE(resay_engine_free(engine), 0);
  CHECK_CODE(resay_engine_free(NULL), 0);
}

static void a_client_has_a_descriptor(void)
{
  resay_engine *engine = new_engine();
  resay_client *client;
  struct pollfd watched = {.events = POLLIN};
  char url[128];
  add(engine, "tcp://127.0.0.1:0", url);
  CHECK_CODE(resay_start(engine, 1, NULL), 0);
  client = dial(url);
  watched.fd = resay_client_fd(client);
  CHECK(watched.fd >= 0 && resay_client_fd(client) == watched.fd);
  CHECK(poll(&watched, 1, 0) == 0);
  say(client, "x", 1);
  CHECK(poll(&watched, 1, PATIENCE_MS) == 1);
  hear(client, "x", 1);
  resay_client_free(client);
  CHECK_CODE(resay_client_fd(NULL), RESAY_E_ARG);
  CHECK_CODE(resay_engine_free(engine), 0);
}

static int is_inside, may_go;

static int stay(void *user, void **session, const resay_message *message, resay_out *out)
{
  (void)user, (void)session, (void)message, (void)out;
  __atomic_store_n(&is_inside, 1, __ATOMIC_SEQ_CST);
  while (!__atomic_load_n(&may_go, __ATOMIC_SEQ_CST)) poll(NULL, 0, 1);
  return RESAY_PASS;
}

static double now(void)
{
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void draining_does_not_wait_for_a_callback(void)
{
  resay_engine *engine = new_engine();
  resay_client *client;
  char url[128];
  double began, took;
  CHECK_CODE(add_function(engine, "stay", stay, NULL, NULL), 0);
  CHECK_CODE(resay_chain(engine, 0, "stay", NULL), 0);
  add(engine, "tcp://127.0.0.1:0", url);
  CHECK_CODE(resay_start(engine, 1, NULL), 0);
  client = dial(url);
  say(client, "stay", 4);
  while (!__atomic_load_n(&is_inside, __ATOMIC_SEQ_CST)) poll(NULL, 0, 1);
  began = now();
  CHECK_CODE(resay_drain(engine, 100), RESAY_E_TIMEOUT);
  took = now() - began;
  printf("drain: %.0f ms\n", took * 1000);
  CHECK(took >= 0.1 && took < 0.9); /* 0.35 as promised, and what a busy machine takes */
  __atomic_store_n(&may_go, 1, __ATOMIC_SEQ_CST);
  CHECK_CODE(resay_join(engine, PATIENCE_MS), 0);
  resay_client_free(client);
  CHECK_CODE(resay_engine_free(engine), 0);
}

int main(void)
{
  every_thread_has_hooks();
  what_threads_may_not_be();
  errors_tell_the_place();
  freeing_answers();
  a_client_has_a_descriptor();
  draining_does_not_wait_for_a_callback();
  CHECK_CODE(resay_has("bundled"), 1);
  CHECK_CODE(resay_has("no-such-feature"), 0);
  CHECK_CODE(resay_has(NULL), 0);
  return 0;
}

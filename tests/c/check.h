/* What the C tests share. */
#ifndef CHECK_H
#define CHECK_H

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <resay.h>

/* More than anything here takes; only how long a failure takes depends on it. */
#define PATIENCE_MS 60000

#define CHECK(condition) \
  do { \
    if (!(condition)) { \
      fprintf(stderr, "%s:%d: %s (last error: %s; errno: %s)\n", __FILE__, __LINE__, #condition, resay_last_error(), \
              strerror(errno)); \
      _exit(1); \
    } \
  } while (0)

#define CHECK_CODE(call, expected) \
  do { \
    int found_ = (call); \
    if (found_ != (expected)) { \
      fprintf(stderr, "%s:%d: %s is %d, not %d (last error: %s)\n", __FILE__, __LINE__, #call, found_, (int)(expected), \
              resay_last_error()); \
      _exit(1); \
    } \
  } while (0)

/* By automake's convention: what the program needs is not there. */
#define EXIT_SKIPPED 77

/* Every engine runs on the backend that RESAY_TEST_BACKEND names, if it does. */
static inline resay_engine *new_engine(void)
{
  static int is_there;
  const char *backend = getenv("RESAY_TEST_BACKEND");
  resay_engine *engine;
  resay_error error;
  CHECK_CODE(resay_engine_new(RESAY_ABI, &engine, &error), 0);
  CHECK(engine != NULL && error.code == 0 && error.message[0] == '\0');
  if (backend == NULL) return engine;
  CHECK_CODE(resay_set(engine, "backend", backend, NULL), 0);
  if (__atomic_load_n(&is_there, __ATOMIC_RELAXED)) return engine;
  if (resay_start(engine, 1, &error) != 0) {
    printf("%s\n", error.message);
    exit(EXIT_SKIPPED);
  }
  resay_engine_free(engine);
  __atomic_store_n(&is_there, 1, __ATOMIC_RELAXED);
  return new_engine();
}

/* Registers a function without sessions. */
static inline int add_function(resay_engine *engine, const char *id,
                               int (*call)(void *, void **, const resay_message *, resay_out *), void *user,
                               resay_release release)
{
  resay_function function;
  memset(&function, 0, sizeof function);
  function.struct_size = sizeof function;
  function.user = user;
  function.call = call;
  function.release = release;
  return resay_register_function(engine, id, &function, NULL);
}

/* Adds a listener; its URL with the real port goes to url, which has 128 bytes. */
static inline resay_id add(resay_engine *engine, const char *what, char *url)
{
  resay_id listener = 0;
  CHECK_CODE(resay_listen(engine, what, &listener, NULL), 0);
  CHECK(listener != 0);
  CHECK_CODE(resay_listener_url(engine, listener, url, 128, NULL), 0);
  return listener;
}

static inline resay_client *dial(const char *url)
{
  resay_client *client;
  int result;
  do
    result = resay_client_open(url, PATIENCE_MS, &client, NULL);
  while (result == RESAY_E_INTR);
  CHECK_CODE(result, 0);
  return client;
}

static inline void say(resay_client *client, const void *data, size_t len)
{
  int result;
  do
    result = resay_client_send(client, data, len, PATIENCE_MS);
  while (result == RESAY_E_INTR);
  CHECK_CODE(result, 0);
}

/* Receives exactly this. */
static inline void hear(resay_client *client, const void *expected, size_t len)
{
  char buffer[65536];
  size_t have = 0, got;
  do {
    int result;
    CHECK(len - have <= sizeof buffer);
    result = resay_client_recv(client, buffer, len == 0 ? sizeof buffer : len - have, &got, PATIENCE_MS);
    if (result == RESAY_E_INTR) continue;
    CHECK_CODE(result, 0);
    CHECK(memcmp(buffer, (const char *)expected + have, got) == 0);
    have += got;
  } while (have < len);
}

static inline void ask(resay_client *client, const char *question, const char *expected)
{
  say(client, question, strlen(question));
  hear(client, expected, strlen(expected));
}

/* Receives the end, and nothing before it. */
static inline void hear_end(resay_client *client)
{
  char byte;
  size_t got = 7;
  int result;
  do
    result = resay_client_recv(client, &byte, 1, &got, PATIENCE_MS);
  while (result == RESAY_E_INTR);
  CHECK_CODE(result, 1);
  CHECK(got == 0);
}

static inline void ask_once(const char *url, const char *question, const char *expected)
{
  resay_client *client = dial(url);
  ask(client, question, expected);
  resay_client_free(client);
}

static inline resay_stats stats_of(resay_engine *engine, resay_id listener_or_0)
{
  resay_stats stats;
  memset(&stats, 0, sizeof stats);
  stats.struct_size = sizeof stats;
  CHECK_CODE(resay_stats_get(engine, listener_or_0, &stats), 0);
  return stats;
}

/* How many entries a directory has. */
static inline int entries(const char *path)
{
  DIR *directory = opendir(path);
  int count = 0;
  CHECK(directory != NULL);
  while (readdir(directory) != NULL) count++;
  closedir(directory);
  return count;
}

static inline int descriptors(void)
{
  return entries("/proc/self/fd");
}

#ifdef __has_feature
#if __has_feature(thread_sanitizer)
static void *nothing(void *user)
{
  return user;
}

/* ThreadSanitizer has a thread of its own from the first pthread_create(3) on; this way, from before any are counted. */
__attribute__((constructor)) static void begin_its_thread(void)
{
  pthread_t first;
  CHECK(pthread_create(&first, NULL, nothing, NULL) == 0);
  CHECK(pthread_join(first, NULL) == 0);
}
#endif
#endif

static inline int threads(void)
{
  return entries("/proc/self/task");
}

/* A thread that was joined is listed for a moment longer. */
static inline void expect_threads(int expected)
{
  int tries = 0;
  while (threads() != expected) {
    CHECK(tries++ < PATIENCE_MS);
    poll(NULL, 0, 1);
  }
}

#endif

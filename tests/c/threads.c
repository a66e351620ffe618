/* Eight threads start, stop, swap, listen, tap, read statistics, events and records, all at once, and use the engine
 * meanwhile. */
#define _GNU_SOURCE
#include "check.h"

enum { THREADS = 8 };

struct shared {
  resay_engine *engine;
  resay_events *events;
  resay_tap *tap;
  pthread_barrier_t begin;
  char url[128];
  int number, started;
};

static int pass(void *user, void **session, const resay_message *message, resay_out *out)
{
  (void)user, (void)session, (void)message, (void)out;
  return RESAY_PASS;
}

static void *meddle(void *user)
{
  static const char *const chains[] = {"", "uppercase", "mine | reverse", "mine", "identity | mine"};
  struct shared *shared = user;
  resay_engine *engine = shared->engine;
  resay_event event;
  resay_stats stats;
  resay_client *client;
  resay_id listener;
  resay_tap *tap;
  resay_tap_record records[16];
  char url[128], answer[8], bytes[4096];
  size_t got;
  int i, number = __atomic_fetch_add(&shared->number, 1, __ATOMIC_RELAXED);
  event.struct_size = sizeof event;
  stats.struct_size = sizeof stats;
  pthread_barrier_wait(&shared->begin);
  if (resay_start(engine, 2, NULL) == 0) __atomic_add_fetch(&shared->started, 1, __ATOMIC_RELAXED);
  for (i = 0; i < 40; i++) {
    CHECK_CODE(resay_chain(engine, 0, chains[(i + number) % 5], NULL), 0);
    CHECK_CODE(resay_stats_get(engine, 0, &stats), 0);
    CHECK(resay_events_next(shared->events, &event, 0) >= 0);
    CHECK(resay_tap_read(shared->tap, records, sizeof records[0], 16, bytes, sizeof bytes, 0) >= 0);
    if (i % 4 == 0) {
      CHECK_CODE(resay_listen(engine, "tcp://127.0.0.1:0", &listener, NULL), 0);
      CHECK_CODE(resay_listener_url(engine, listener, url, sizeof url, NULL), 0);
      CHECK_CODE(resay_listener_close(engine, listener), 0);
      CHECK_CODE(resay_listener_close(engine, listener), RESAY_E_HANDLE);
    }
    CHECK_CODE(resay_tap_open(engine, NULL, &tap, NULL), 0);
    client = dial(shared->url);
    say(client, "asked", 5);
    CHECK_CODE(resay_client_recv(client, answer, sizeof answer, &got, PATIENCE_MS), 0);
    CHECK(got == 5);
    resay_client_free(client);
    CHECK(resay_tap_read(tap, records, sizeof records[0], 16, bytes, sizeof bytes, 0) >= 1);
    CHECK_CODE(resay_tap_close(tap), 0);
  }
  /* The end, all at once again. */
  pthread_barrier_wait(&shared->begin);
  if (number == 0) CHECK_CODE(resay_drain(engine, PATIENCE_MS), 0);
  CHECK_CODE(resay_stop(engine), 0);
  CHECK_CODE(resay_join(engine, PATIENCE_MS), 0);
  while ((i = resay_events_next(shared->events, &event, -1)) > 0) continue;
  CHECK_CODE(i, RESAY_E_STATE);
  while ((i = resay_tap_read(shared->tap, records, sizeof records[0], 16, bytes, sizeof bytes, -1)) > 0) continue;
  CHECK_CODE(i, RESAY_E_STATE);
  return NULL;
}

int main(int argc, char **argv)
{
  int i, round, rounds = argc > 1 ? atoi(argv[1]) : 3;
  for (round = 0; round < rounds; round++) {
    static struct shared shared;
    pthread_t meddling[THREADS];
    memset(&shared, 0, sizeof shared);
    shared.engine = new_engine();
    CHECK(pthread_barrier_init(&shared.begin, NULL, THREADS) == 0);
    CHECK_CODE(add_function(shared.engine, "mine", pass, NULL, NULL), 0);
    CHECK_CODE(resay_events_open(shared.engine, RESAY_EVENT_ALL, 128, &shared.events, NULL), 0);
    CHECK_CODE(resay_tap_open(shared.engine, NULL, &shared.tap, NULL), 0);
    add(shared.engine, "tcp://127.0.0.1:0", shared.url);
    for (i = 0; i < THREADS; i++) CHECK(pthread_create(&meddling[i], NULL, meddle, &shared) == 0);
    for (i = 0; i < THREADS; i++) CHECK(pthread_join(meddling[i], NULL) == 0);
    CHECK(shared.started == 1); /* one of them came first */
    resay_engine_free(shared.engine);
    CHECK_CODE(resay_events_close(shared.events), 0);
    CHECK_CODE(resay_tap_close(shared.tap), 0);
    pthread_barrier_destroy(&shared.begin);
  }
  return 0;
}

/* Globals that several threads may change: atomics of every sort, and what a lock guards. One transform for each. */
#include <pthread.h>
#include <resay_plugin.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static _Atomic unsigned long added, exchanged, published, seen_at;
static unsigned long guarded, skipped, spun, ticketed;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static atomic_flag flag = ATOMIC_FLAG_INIT;
static _Atomic unsigned next_ticket, now_serving;
static _Thread_local unsigned long own;
static unsigned long once;

#define MAP(name, ...) \
  static resay_status name(void *instance, void *session, uint8_t *data, size_t len) \
  { \
    (void)instance, (void)session, (void)data, (void)len; \
    __VA_ARGS__ \
    return RESAY_OK; \
  }

MAP(add, atomic_fetch_add(&added, len); atomic_fetch_add_explicit(&added, 1, memory_order_relaxed);)
MAP(exchange, unsigned long old = atomic_load(&exchanged);
    while (!atomic_compare_exchange_weak(&exchanged, &old, old * 3 + 1)) continue;)
MAP(publish, unsigned long mine = atomic_fetch_add(&added, 1) + 1;
    atomic_store_explicit(&published, mine, memory_order_relaxed);)
MAP(look_at_the_clock, struct timespec now; clock_gettime(CLOCK_MONOTONIC, &now);
    atomic_store_explicit(&seen_at, (unsigned long)now.tv_nsec, memory_order_relaxed);)
MAP(lock, pthread_mutex_lock(&mutex); guarded++; pthread_mutex_unlock(&mutex);)
MAP(try, if (pthread_mutex_trylock(&mutex) == 0) { skipped++; pthread_mutex_unlock(&mutex); })
MAP(spin, while (atomic_flag_test_and_set(&flag)) continue; spun++; atomic_flag_clear(&flag);)
MAP(queue, unsigned ticket = atomic_fetch_add(&next_ticket, 1);
    while (atomic_load(&now_serving) != ticket) continue;
    ticketed++;
    atomic_store(&now_serving, ticket + 1);)
MAP(keep, own++; if (once == 0) once = 7;)

#define TABLE(name) \
  static const resay_transform name##_table = { \
    .struct_size = sizeof name##_table, .caps = RESAY_CAP_BYTEWISE, .id = #name, .map = name}

TABLE(add);
TABLE(exchange);
TABLE(publish);
TABLE(look_at_the_clock);
TABLE(lock);
TABLE(try);
TABLE(spin);
TABLE(queue);
TABLE(keep);

RESAY_PLUGIN(&add_table, &exchange_table, &publish_table, &look_at_the_clock_table, &lock_table, &try_table,
             &spin_table, &queue_table, &keep_table);

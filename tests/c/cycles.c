/* Made, started, used, stopped, freed, again and again: nothing is left. The argument is how often. With -DCOUNT_BLOCKS (on
 * glibc) every block of memory is counted; without, valgrind can do that. */
#define _GNU_SOURCE
#include "check.h"

#ifdef COUNT_BLOCKS
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *block, size_t size);
void *__libc_memalign(size_t align, size_t size);
void __libc_free(void *block);

static long blocks;

static void *counted(void *block)
{
  if (block != NULL) __atomic_add_fetch(&blocks, 1, __ATOMIC_RELAXED);
  return block;
}

/* They take the place of the C library's, for the engine too. */
void *malloc(size_t size)
{
  return counted(__libc_malloc(size));
}

void *calloc(size_t count, size_t size)
{
  return counted(__libc_calloc(count, size));
}

void *aligned_alloc(size_t align, size_t size)
{
  return counted(__libc_memalign(align, size));
}

int posix_memalign(void **block, size_t align, size_t size)
{
  *block = counted(__libc_memalign(align, size));
  return *block == NULL ? ENOMEM : 0;
}

void *realloc(void *block, size_t size)
{
  if (block == NULL) return malloc(size);
  return __libc_realloc(block, size);
}

void free(void *block)
{
  if (block != NULL) __atomic_sub_fetch(&blocks, 1, __ATOMIC_RELAXED);
  __libc_free(block);
}
#else
static long blocks;
#endif

static int released;

static int shout(void *user, void **session, const resay_message *message, resay_out *out)
{
  (void)user, (void)session;
  resay_out_write(out, message->data, message->len);
  resay_out_write(out, "!", 1);
  return RESAY_REPLACE;
}

static void release(void *user)
{
  free(user);
  released++;
}

static void write_line(void *user, int level, const char *utf8, size_t len)
{
  (void)user, (void)level, (void)utf8, (void)len;
}

static void cycle(int number)
{
  resay_engine *engine = new_engine();
  resay_event event;
  resay_events *events;
  resay_tap *tap;
  resay_tap_record record;
  char bytes[64];
  char url[128];
  event.struct_size = sizeof event;
  CHECK_CODE(add_function(engine, "shout", shout, malloc(16), release), 0);
  CHECK_CODE(resay_events_open(engine, RESAY_EVENT_ALL, 16, &events, NULL), 0);
  CHECK_CODE(resay_tap_open(engine, NULL, &tap, NULL), 0);
  CHECK_CODE(resay_log(engine, RESAY_LOG_TRACE, write_line, NULL), 0);
  CHECK_CODE(resay_chain(engine, 0, "shout | uppercase", NULL), 0);
  add(engine, number % 2 ? "tcp://127.0.0.1:0" : "udp://127.0.0.1:0", url);
  CHECK_CODE(resay_start(engine, 1 + (uint32_t)number % 3, NULL), 0);
  ask_once(url, "again", "AGAIN!");
  CHECK(resay_events_next(events, &event, 0) >= 0);
  CHECK_CODE(resay_tap_read(tap, &record, sizeof record, 1, bytes, sizeof bytes, 0), 1);
  /* Before the engine, or after it. */
  if (number % 2) CHECK_CODE(resay_events_close(events), 0);
  else CHECK_CODE(resay_tap_close(tap), 0);
  switch (number % 3) {
  case 0: CHECK_CODE(resay_drain(engine, PATIENCE_MS), 0); break;
  case 1: CHECK_CODE(resay_stop(engine), 0); break;
  default: break; /* freed as it is */
  }
  resay_engine_free(engine);
  if (number % 2) CHECK_CODE(resay_tap_close(tap), 0);
  else CHECK_CODE(resay_events_close(events), 0);
}

int main(int argc, char **argv)
{
  int i, count = argc > 1 ? atoi(argv[1]) : 1000, open, running = threads();
  long in_use;
  for (i = 0; i < 12; i++) cycle(i); /* what is made once is there now */
  open = descriptors();
  expect_threads(running);
  in_use = __atomic_load_n(&blocks, __ATOMIC_RELAXED);
  for (i = 0; i < count; i++) cycle(i);
  CHECK(descriptors() == open);
  expect_threads(running);
  CHECK(released == count + 12);
  printf("%d cycles; blocks in use: %ld, then %ld\n", count, in_use, __atomic_load_n(&blocks, __ATOMIC_RELAXED));
  /* The C library keeps one or the other thread's memory for the next one. */
  CHECK(__atomic_load_n(&blocks, __ATOMIC_RELAXED) <= in_use + 8);
  return 0;
}

/* Faults on purpose: bytes that change by chance, or by the clock. */
#include <resay_plugin.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct faults {
  _Atomic uint64_t state;
  long rate;
  int clock;
};

static resay_status create(const resay_transform *transform, const resay_host *host, const resay_kv *options,
                           size_t n_options, void **instance, resay_text *err)
{
  static _Atomic uint64_t instances;
  struct timespec now;
  (void)transform, (void)host;
  struct faults *faults = calloc(1, sizeof *faults);
  if (!faults) return RESAY_E_NOMEM;
  clock_gettime(CLOCK_REALTIME, &now);
  faults->rate = 3;
  faults->state = (uint64_t)now.tv_nsec + instances++;
  for (size_t i = 0; i < n_options; i++) {
    char text[24] = "", *end;
    if (options[i].value.len == 0 || options[i].value.len >= sizeof text) goto refused;
    memcpy(text, options[i].value.ptr, options[i].value.len);
    long number = strtol(text, &end, 10);
    if (*end || number < 0 || number > 1000) goto refused;
    if (!strcmp(options[i].key, "rate")) faults->rate = number;
    if (!strcmp(options[i].key, "seed")) faults->state = (uint64_t)number;
    if (!strcmp(options[i].key, "clock")) faults->clock = number != 0;
  }
  *instance = faults;
  return RESAY_OK;
refused:
  if (err) snprintf(err->buf, err->cap, "the options are numbers from 0 to 1000");
  free(faults);
  return RESAY_E_CONFIG;
}

static resay_status map(void *instance, void *session, uint8_t *data, size_t len)
{
  struct faults *faults = instance;
  (void)session;
  uint64_t state = atomic_fetch_add(&faults->state, 0x9e3779b97f4a7c15u) * 0xbf58476d1ce4e5b9u;
  if (faults->clock) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    state = (uint64_t)(now.tv_nsec / 20000000 + 1) * 0x9e3779b97f4a7c15u;
  }
  if (len && (long)((state >> 33) % 100) < faults->rate) data[(state >> 12) % len] ^= 1;
  return RESAY_OK;
}

static const resay_option options[] = {
  {.key = "rate", .type = "integer", .fallback = "3", .help = "messages in a hundred"},
  {.key = "seed", .type = "integer", .fallback = "0", .help = "repeats a run"},
  {.key = "clock", .type = "bool", .fallback = "0", .help = "by the clock"},
};
static const resay_transform chance = {
  .struct_size = sizeof chance, .caps = RESAY_CAP_BYTEWISE, .id = "chance", .options = options, .n_options = 3,
  .create = create, .destroy = free, .map = map};
RESAY_PLUGIN(&chance);

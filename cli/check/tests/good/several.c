/* Two transforms: one from input to output, one that only looks. */
#include <resay_plugin.h>
#include <string.h>

static resay_status create(const resay_transform *transform, const resay_host *host, const resay_kv *options,
                           size_t n_options, void **instance, resay_text *err)
{
  (void)transform, (void)host, (void)options, (void)n_options, (void)instance, (void)err;
  return RESAY_OK;
}

static resay_status process(void *instance, void *session, resay_io *io)
{
  size_t n = io->input_len < io->output_cap ? io->input_len : io->output_cap;
  (void)instance, (void)session;
  if (n) memmove(io->output, io->input, n);
  io->input_used = io->output_len = n;
  return n == io->input_len ? RESAY_OK : RESAY_MORE_OUT;
}

static resay_status map(void *instance, void *session, uint8_t *data, size_t len)
{
  (void)instance, (void)session, (void)data, (void)len;
  return RESAY_OK;
}

static const resay_option options[] = {{.key = "count", .type = "integer", .fallback = "1", .help = "of nothing"}};
static const resay_transform first = {
  .struct_size = sizeof first, .caps = RESAY_CAP_ALIAS | RESAY_CAP_OBSERVER, .threading = RESAY_PER_WORKER,
  .id = "first", .process = process};
static const resay_transform second = {
  .struct_size = sizeof second, .caps = RESAY_CAP_BYTEWISE | RESAY_CAP_OBSERVER, .threading = RESAY_SERIAL,
  .id = "second", .version = "2.0", .options = options, .n_options = 1, .create = create, .map = map};
RESAY_PLUGIN(&first, &second);

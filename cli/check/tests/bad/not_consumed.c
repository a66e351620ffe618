/* breaks: consumed -- RESAY_OK with input left */
#include <resay_plugin.h>
#include <string.h>

static resay_status process(void *instance, void *session, resay_io *io)
{
  (void)instance, (void)session;
  size_t n = io->in_len < io->out_cap ? io->in_len : io->out_cap;
  if (n) memcpy(io->out, io->in, n);
  io->in_used = io->out_len = n;
  return RESAY_OK;
}
static const resay_transform table = {.struct_size = sizeof table, .id = "bad", .process = process};
RESAY_PLUGIN(&table)

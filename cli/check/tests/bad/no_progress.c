/* breaks: progress -- wants more room and never says how much */
#include <resay_plugin.h>
#include <string.h>

static resay_status process(void *instance, void *session, resay_io *io)
{
  (void)instance, (void)session;
  if (io->out_cap < io->in_len) return RESAY_MORE_OUT;
  if (io->in_len) memcpy(io->out, io->in, io->in_len);
  io->in_used = io->out_len = io->in_len;
  return RESAY_OK;
}
static const resay_transform table = {.struct_size = sizeof table, .id = "bad", .process = process};
RESAY_PLUGIN(&table)

/* breaks: struct-size -- clears as much of resay_io as the host says there is */
#include <resay_plugin.h>
#include <string.h>

static resay_status process(void *instance, void *session, resay_io *io)
{
  (void)instance, (void)session;
  resay_io call = *io;
  size_t n = call.in_len < call.out_cap ? call.in_len : call.out_cap;
  if (n) memcpy(call.out, call.in, n);
  memset(io, 0, call.struct_size);
  io->in_used = io->out_len = n;
  return n == call.in_len ? RESAY_OK : RESAY_MORE_OUT;
}
static const resay_transform table = {.struct_size = sizeof table, .id = "bad", .process = process};
RESAY_PLUGIN(&table)

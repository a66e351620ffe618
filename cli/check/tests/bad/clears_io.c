/* breaks: struct-size -- clears as much of resay_io as the host says there is */
#include <resay_plugin.h>
#include <string.h>

static resay_status process(void *instance, void *session, resay_io *io)
{
  (void)instance, (void)session;
  resay_io call = *io;
  size_t n = call.input_len < call.output_cap ? call.input_len : call.output_cap;
  if (n) memcpy(call.output, call.input, n);
  memset(io, 0, call.struct_size);
  io->input_used = io->output_len = n;
  return n == call.input_len ? RESAY_OK : RESAY_MORE_OUT;
}
static const resay_transform table = {.struct_size = sizeof table, .id = "bad", .process = process};
RESAY_PLUGIN(&table);

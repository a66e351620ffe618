/* breaks: progress -- wants more room and never says how much */
#include <resay_plugin.h>
#include <string.h>

static resay_status process(void *instance, void *session, resay_io *io)
{
  (void)instance, (void)session;
  if (io->output_cap < io->input_len) return RESAY_MORE_OUT;
  if (io->input_len) memcpy(io->output, io->input, io->input_len);
  io->input_used = io->output_len = io->input_len;
  return RESAY_OK;
}
static const resay_transform table = {.struct_size = sizeof table, .id = "bad", .process = process};
RESAY_PLUGIN(&table);

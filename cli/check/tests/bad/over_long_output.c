/* breaks: output-bounds -- output_len says more than there was room for */
#include <resay_plugin.h>

static resay_status process(void *instance, void *session, resay_io *io)
{
  (void)instance, (void)session;
  io->input_used = io->input_len;
  io->output_len = io->output_cap + 1;
  return RESAY_OK;
}
static const resay_transform table = {.struct_size = sizeof table, .id = "bad", .process = process};
RESAY_PLUGIN(&table);

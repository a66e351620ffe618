/* breaks: consumed -- RESAY_OK with input left */
#include <resay_plugin.h>
#include <string.h>

static resay_status process(void *instance, void *session, resay_io *io)
{
  (void)instance, (void)session;
  size_t n = io->input_len < io->output_cap ? io->input_len : io->output_cap;
  if (n) memcpy(io->output, io->input, n);
  io->input_used = io->output_len = n;
  return RESAY_OK;
}
static const resay_transform table = {.struct_size = sizeof table, .id = "bad", .process = process};
RESAY_PLUGIN(&table);

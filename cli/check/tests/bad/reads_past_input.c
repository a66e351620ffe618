/* breaks: input-bounds -- looks at the byte behind the input */
#include <resay_plugin.h>

static resay_status process(void *instance, void *session, resay_io *io)
{
  (void)instance, (void)session;
  volatile uint8_t next = 0;
  size_t n = io->input_len < io->output_cap ? io->input_len : io->output_cap;
  for (size_t i = 0; i < n; i++) {
    io->output[i] = io->input[i];
    next = io->input[i + 1];
  }
  (void)next;
  io->input_used = io->output_len = n;
  return n == io->input_len ? RESAY_OK : RESAY_MORE_OUT;
}
static const resay_transform table = {.struct_size = sizeof table, .id = "bad", .process = process};
RESAY_PLUGIN(&table);

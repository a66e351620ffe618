/* breaks: output-bounds -- writes a byte more than fits, and then asks for more room */
#include <resay_plugin.h>

static resay_status process(void *instance, void *session, resay_io *io)
{
  (void)instance, (void)session;
  size_t n = 0;
  while (n < io->input_len && n <= io->output_cap) {
    io->output[n] = io->input[n];
    n++;
  }
  io->input_used = io->output_len = n > io->output_cap ? io->output_cap : n;
  return io->input_used == io->input_len ? RESAY_OK : RESAY_MORE_OUT;
}
static const resay_transform table = {.struct_size = sizeof table, .id = "bad", .process = process};
RESAY_PLUGIN(&table);

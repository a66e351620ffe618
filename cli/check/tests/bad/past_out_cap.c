/* breaks: output-bounds -- writes a byte more than fits, and then asks for more room */
#include <resay_plugin.h>

static resay_status process(void *instance, void *session, resay_io *io)
{
  (void)instance, (void)session;
  size_t n = 0;
  while (n < io->in_len && n <= io->out_cap) {
    io->out[n] = io->in[n];
    n++;
  }
  io->in_used = io->out_len = n > io->out_cap ? io->out_cap : n;
  return io->in_used == io->in_len ? RESAY_OK : RESAY_MORE_OUT;
}
static const resay_transform table = {.struct_size = sizeof table, .id = "bad", .process = process};
RESAY_PLUGIN(&table)

/* breaks: input-unchanged -- uses the input as scratch memory */
#include <resay_plugin.h>

static resay_status process(void *instance, void *session, resay_io *io)
{
  (void)instance, (void)session;
  size_t n = io->in_len < io->out_cap ? io->in_len : io->out_cap;
  for (size_t i = 0; i < n; i++) {
    ((uint8_t *)io->in)[i] ^= 1;
    io->out[i] = io->in[i];
  }
  io->in_used = io->out_len = n;
  return n == io->in_len ? RESAY_OK : RESAY_MORE_OUT;
}
static const resay_transform table = {.struct_size = sizeof table, .id = "bad", .process = process};
RESAY_PLUGIN(&table)

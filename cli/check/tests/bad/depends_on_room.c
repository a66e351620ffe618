/* breaks: room -- puts a comma wherever a call ended */
#include <resay_plugin.h>

static resay_status process(void *instance, void *session, resay_io *io)
{
  (void)instance, (void)session;
  size_t n = 0, made = 0;
  while (n < io->in_len && made + 2 <= io->out_cap) io->out[made++] = io->in[n++];
  if (n < io->in_len && made < 1) {
    io->out_need = 3;
    return RESAY_MORE_OUT;
  }
  if (n < io->in_len) io->out[made++] = ',';
  io->in_used = n;
  io->out_len = made;
  return n == io->in_len ? RESAY_OK : RESAY_MORE_OUT;
}
static const resay_transform table = {.struct_size = sizeof table, .id = "bad", .process = process};
RESAY_PLUGIN(&table)

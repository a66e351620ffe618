/* breaks: bound -- declares n bytes and makes 2n of a zero */
#include <resay_plugin.h>

static resay_status process(void *instance, void *session, resay_io *io)
{
  (void)instance, (void)session;
  size_t used = 0, made = 0;
  while (used < io->in_len) {
    size_t n = io->in[used] == 0 ? 2 : 1;
    if (made + n > io->out_cap) {
      io->out_need = 2 * (io->in_len - used);
      break;
    }
    while (n--) io->out[made++] = io->in[used];
    used++;
  }
  io->in_used = used;
  io->out_len = made;
  return used == io->in_len ? RESAY_OK : RESAY_MORE_OUT;
}
static const resay_transform table = {
  .struct_size = sizeof table, .id = "bad", .out_mul = 1, .out_div = 1, .process = process};
RESAY_PLUGIN(&table)

/* breaks: bound -- declares n bytes and makes 2n of a zero */
#include <resay_plugin.h>

static resay_status process(void *instance, void *session, resay_io *io)
{
  (void)instance, (void)session;
  size_t used = 0, made = 0;
  while (used < io->input_len) {
    size_t n = io->input[used] == 0 ? 2 : 1;
    if (made + n > io->output_cap) {
      io->output_need = 2 * (io->input_len - used);
      break;
    }
    while (n--) io->output[made++] = io->input[used];
    used++;
  }
  io->input_used = used;
  io->output_len = made;
  return used == io->input_len ? RESAY_OK : RESAY_MORE_OUT;
}
static const resay_transform table = {
  .struct_size = sizeof table, .id = "bad", .out_mul = 1, .out_div = 1, .process = process};
RESAY_PLUGIN(&table);

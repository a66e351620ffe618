/* breaks: room -- puts a comma wherever a call ended */
#include <resay_plugin.h>

static resay_status process(void *instance, void *session, resay_io *io)
{
  (void)instance, (void)session;
  size_t n = 0, made = 0;
  while (n < io->input_len && made + 2 <= io->output_cap) io->output[made++] = io->input[n++];
  if (n < io->input_len && made < 1) {
    io->output_need = 3;
    return RESAY_MORE_OUT;
  }
  if (n < io->input_len) io->output[made++] = ',';
  io->input_used = n;
  io->output_len = made;
  return n == io->input_len ? RESAY_OK : RESAY_MORE_OUT;
}
static const resay_transform table = {.struct_size = sizeof table, .id = "bad", .process = process};
RESAY_PLUGIN(&table);

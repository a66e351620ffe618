/* Doubles backslashes: grows within its bound, in reads of any length, and greets. */
#include <resay_plugin.h>

static resay_status process(void *instance, void *session, resay_io *io)
{
  uint8_t *greeted = session;
  size_t used = 0, made = 0;
  (void)instance;
  if (!*greeted && io->flags == 0 && io->input_len == 0) {
    *greeted = 1;
    if (io->output_cap > 0) io->output[made++] = '>';
  }
  for (; used < io->input_len; used++) {
    size_t n = io->input[used] == '\\' ? 2 : 1;
    if (made + n > io->output_cap) break;
    while (n--) io->output[made++] = io->input[used];
  }
  io->input_used = used;
  io->output_len = made;
  io->output_need = 2;
  return used == io->input_len ? RESAY_OK : RESAY_MORE_OUT;
}

static const resay_transform escapes = {
  .struct_size = sizeof escapes, .caps = RESAY_CAP_GREETS, .id = "escapes", .session_size = 1,
  .out_mul = 2, .out_div = 1, .out_add = 1, .process = process};
RESAY_PLUGIN(&escapes);

/* breaks: alias -- reads the end of the input after it wrote the beginning of the output */
#include <resay_plugin.h>

static resay_status process(void *instance, void *session, resay_io *io)
{
  (void)instance, (void)session;
  if (io->output_cap < io->input_len) {
    io->output_need = io->input_len;
    return RESAY_MORE_OUT;
  }
  for (size_t i = 0; i < io->input_len; i++) io->output[i] = io->input[io->input_len - 1 - i];
  io->input_used = io->output_len = io->input_len;
  return RESAY_OK;
}
static const resay_transform table = {
  .struct_size = sizeof table, .caps = RESAY_CAP_ALIAS, .needs = RESAY_NEED_MESSAGES, .id = "bad", .process = process};
RESAY_PLUGIN(&table);

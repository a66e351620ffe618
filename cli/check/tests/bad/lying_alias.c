/* breaks: alias -- reads the end of the input after it wrote the beginning of the output */
#include <resay_plugin.h>

static resay_status process(void *instance, void *session, resay_io *io)
{
  (void)instance, (void)session;
  if (io->out_cap < io->in_len) {
    io->out_need = io->in_len;
    return RESAY_MORE_OUT;
  }
  for (size_t i = 0; i < io->in_len; i++) io->out[i] = io->in[io->in_len - 1 - i];
  io->in_used = io->out_len = io->in_len;
  return RESAY_OK;
}
static const resay_transform table = {
  .struct_size = sizeof table, .caps = RESAY_CAP_ALIAS, .needs = RESAY_NEED_MESSAGES, .id = "bad", .process = process};
RESAY_PLUGIN(&table)

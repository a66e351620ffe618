/* breaks: ends -- waits for the rest of a line that has none */
#include <resay_plugin.h>
#include <string.h>

static resay_status process(void *instance, void *session, resay_io *io)
{
  (void)instance, (void)session;
  const uint8_t *end = io->in_len ? memchr(io->in, '\n', io->in_len) : NULL;
  if (!end && io->in_len) return RESAY_MORE_IN;
  size_t n = end ? (size_t)(end - io->in) + 1 : 0;
  if (n > io->out_cap) {
    io->out_need = n;
    return RESAY_MORE_OUT;
  }
  if (n) memcpy(io->out, io->in, n);
  io->in_used = io->out_len = n;
  return n == io->in_len ? RESAY_OK : RESAY_MORE_OUT;
}
static const resay_transform table = {.struct_size = sizeof table, .id = "bad", .process = process};
RESAY_PLUGIN(&table)

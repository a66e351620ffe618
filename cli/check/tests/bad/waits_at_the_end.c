/* breaks: ends -- waits for the rest of a line that has none */
#include <resay_plugin.h>
#include <string.h>

static resay_status process(void *instance, void *session, resay_io *io)
{
  (void)instance, (void)session;
  const uint8_t *end = io->input_len ? memchr(io->input, '\n', io->input_len) : NULL;
  if (!end && io->input_len) return RESAY_MORE_IN;
  size_t n = end ? (size_t)(end - io->input) + 1 : 0;
  if (n > io->output_cap) {
    io->output_need = n;
    return RESAY_MORE_OUT;
  }
  if (n) memcpy(io->output, io->input, n);
  io->input_used = io->output_len = n;
  return n == io->input_len ? RESAY_OK : RESAY_MORE_OUT;
}
static const resay_transform table = {.struct_size = sizeof table, .id = "bad", .process = process};
RESAY_PLUGIN(&table);

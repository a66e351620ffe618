/* A plugin that answers one word, WORD. */
#include <resay_plugin.h>
#include <string.h>

static resay_status process(void *instance, void *session, resay_io *io)
{
  (void)instance, (void)session;
  io->input_used = io->input_len;
  if (io->input_len == 0) return RESAY_OK;
  if (io->output_cap < strlen(WORD)) {
    io->input_used = 0;
    io->output_need = strlen(WORD);
    return RESAY_MORE_OUT;
  }
  memcpy(io->output, WORD, strlen(WORD));
  io->output_len = strlen(WORD);
  return RESAY_OK;
}

static const resay_transform turns = {.struct_size = sizeof turns, .id = "turns", .process = process};

RESAY_PLUGIN(&turns);

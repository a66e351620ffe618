/* A plugin that answers one word, WORD. */
#include <resay_plugin.h>
#include <string.h>

static resay_status process(void *instance, void *session, resay_io *io)
{
  (void)instance, (void)session;
  io->in_used = io->in_len;
  if (io->in_len == 0) return RESAY_OK;
  if (io->out_cap < strlen(WORD)) {
    io->in_used = 0;
    io->out_need = strlen(WORD);
    return RESAY_MORE_OUT;
  }
  memcpy(io->out, WORD, strlen(WORD));
  io->out_len = strlen(WORD);
  return RESAY_OK;
}

static const resay_transform turns = {.struct_size = sizeof turns, .id = "turns", .process = process};

RESAY_PLUGIN(&turns)

/* breaks: threading -- a global is shared by the instances of all workers; the load, the sum and the store are apart */
#include <resay_plugin.h>

static uint64_t bytes;

static resay_status process(void *instance, void *session, resay_io *io)
{
  (void)instance, (void)session;
  size_t room = io->output_cap - io->output_len, n = io->input_len < room ? io->input_len : room;
  uint64_t sum = bytes;
  __asm__ volatile("" : "+r"(sum)); /* no compiler makes one instruction of it */
  for (size_t i = 0; i < n; i++) io->output[io->output_len++] = io->input[io->input_used++];
  bytes = sum + n + 1;
  if (io->input_used == io->input_len) return RESAY_OK;
  io->output_need = io->input_len - io->input_used;
  return RESAY_MORE_OUT;
}
static const resay_transform table = {
  .struct_size = sizeof table, .threading = RESAY_PER_WORKER, .id = "bad", .process = process};
RESAY_PLUGIN(&table);

/* breaks: returns -- waits for ever */
#include <resay_plugin.h>
#include <unistd.h>

static resay_status process(void *instance, void *session, resay_io *io)
{
  (void)instance, (void)session, (void)io;
  for (;;) pause();
  return RESAY_OK;
}
static const resay_transform table = {.struct_size = sizeof table, .id = "bad", .process = process};
RESAY_PLUGIN(&table);

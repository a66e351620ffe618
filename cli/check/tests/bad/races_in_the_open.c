/* breaks: threading -- the racy counter is a part of the output, so that outputs cannot be compared */
#include <resay_plugin.h>

static uint8_t next;

static resay_status map(void *instance, void *session, uint8_t *data, size_t len)
{
  (void)instance, (void)session;
  if (len > 0) data[0] = next++;
  return RESAY_OK;
}
static const resay_transform table = {.struct_size = sizeof table, .threading = RESAY_SHARED, .id = "bad", .map = map};
RESAY_PLUGIN(&table);

/* breaks: threading -- every call adds to a global, which shows in no output */
#include <resay_plugin.h>

static unsigned long calls;

static resay_status map(void *instance, void *session, uint8_t *data, size_t len)
{
  (void)instance, (void)session, (void)data, (void)len;
  calls++;
  return RESAY_OK;
}
static const resay_transform table = {.struct_size = sizeof table, .threading = RESAY_SHARED, .id = "bad", .map = map};
RESAY_PLUGIN(&table);

/* breaks: statuses -- map() answers what only process() may */
#include <resay_plugin.h>

static resay_status map(void *instance, void *session, uint8_t *data, size_t len)
{
  (void)instance, (void)session, (void)data, (void)len;
  return RESAY_MORE_IN;
}
static const resay_transform table = {.struct_size = sizeof table, .id = "bad", .map = map};
RESAY_PLUGIN(&table);

/* breaks: no-crash -- aborts on some messages only */
#include <resay_plugin.h>
#include <stdlib.h>

static resay_status map(void *instance, void *session, uint8_t *data, size_t len)
{
  (void)instance, (void)session;
  if (len > 100 && data[50] == data[51]) abort();
  return RESAY_OK;
}
static const resay_transform table = {.struct_size = sizeof table, .id = "bad", .map = map};
RESAY_PLUGIN(&table);

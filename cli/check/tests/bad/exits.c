/* breaks: alone -- ends the process when something is odd */
#include <resay_plugin.h>
#include <stdlib.h>

static resay_status map(void *instance, void *session, uint8_t *data, size_t len)
{
  (void)instance, (void)session, (void)data;
  if (len == 0) exit(0);
  return RESAY_OK;
}
static const resay_transform table = {.struct_size = sizeof table, .id = "bad", .map = map};
RESAY_PLUGIN(&table);

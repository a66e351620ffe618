/* breaks: alone -- writes to standard output */
#include <resay_plugin.h>
#include <stdio.h>

static resay_status map(void *instance, void *session, uint8_t *data, size_t len)
{
  (void)instance, (void)session, (void)data;
  if (len > 100) puts("long!");
  return RESAY_OK;
}
static const resay_transform table = {.struct_size = sizeof table, .id = "bad", .map = map};
RESAY_PLUGIN(&table);

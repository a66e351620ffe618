/* breaks: exports -- a helper that is not static */
#include <resay_plugin.h>

uint8_t turned(uint8_t byte);
uint8_t turned(uint8_t byte)
{
  return byte ^ 0x20;
}
static resay_status map(void *instance, void *session, uint8_t *data, size_t len)
{
  (void)instance, (void)session;
  for (size_t i = 0; i < len; i++) data[i] = turned(data[i]);
  return RESAY_OK;
}
static const resay_transform table = {.struct_size = sizeof table, .id = "bad", .map = map};
RESAY_PLUGIN(&table);

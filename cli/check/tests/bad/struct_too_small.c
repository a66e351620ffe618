/* breaks: table -- a struct_size of another struct */
#include <resay_plugin.h>

static resay_status map(void *instance, void *session, uint8_t *data, size_t len)
{
  (void)instance, (void)session, (void)data, (void)len;
  return RESAY_OK;
}
static const resay_transform table = {.struct_size = sizeof(resay_option), .id = "bad", .map = map};
RESAY_PLUGIN(&table);

/* breaks: no-crash -- data may be NULL where len is 0 */
#include <resay_plugin.h>

static resay_status map(void *instance, void *session, uint8_t *data, size_t len)
{
  (void)instance, (void)session, (void)len;
  data[0] = data[0];
  *(volatile uint8_t *)data;
  return RESAY_OK;
}
static const resay_transform table = {.struct_size = sizeof table, .id = "bad", .map = map};
RESAY_PLUGIN(&table);

/* breaks: observer -- writes now and then */
#include <resay_plugin.h>

static resay_status map(void *instance, void *session, uint8_t *data, size_t len)
{
  (void)instance, (void)session;
  if (len > 30) data[30] = '!';
  return RESAY_OK;
}
static const resay_transform table = {
  .struct_size = sizeof table, .caps = RESAY_CAP_OBSERVER, .id = "bad", .map = map};
RESAY_PLUGIN(&table);

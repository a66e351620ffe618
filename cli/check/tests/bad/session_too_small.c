/* breaks: session-bounds -- asks for less memory than it uses */
#include <resay_plugin.h>

static resay_status map(void *instance, void *session, uint8_t *data, size_t len)
{
  (void)instance, (void)data;
  ((uint64_t *)session)[1] += len;
  return RESAY_OK;
}
static const resay_transform table = {
  .struct_size = sizeof table, .id = "bad", .session_size = sizeof(uint64_t), .map = map};
RESAY_PLUGIN(&table);

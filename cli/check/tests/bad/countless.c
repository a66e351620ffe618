/* breaks: table -- a count that cannot be */
#include <resay_plugin.h>

static resay_status map(void *instance, void *session, uint8_t *data, size_t len)
{
  (void)instance, (void)session, (void)data, (void)len;
  return RESAY_OK;
}
static const resay_transform table = {.struct_size = sizeof table, .id = "bad", .map = map};
RESAY_EXPORT const resay_library *resay_plugin_v1(uint32_t minor)
{
  static const resay_transform *const list[] = {&table};
  static const resay_library library = {sizeof library, 0, 0, 0x7fffffff, list, NULL, NULL, NULL, 0, 0};
  (void)minor;
  return &library;
}

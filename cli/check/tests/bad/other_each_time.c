/* breaks: entry -- makes a new description for each caller */
#include <resay_plugin.h>

static resay_status map(void *instance, void *session, uint8_t *data, size_t len)
{
  (void)instance, (void)session, (void)data, (void)len;
  return RESAY_OK;
}
static const resay_transform table = {.struct_size = sizeof table, .id = "bad", .map = map};
static const resay_transform *const tables[] = {&table};

RESAY_EXPORT const resay_library *resay_plugin_v1(uint32_t host_abi_minor)
{
  static resay_library libraries[2];
  static unsigned calls;
  resay_library library = {sizeof library, RESAY_PLUGIN_ABI_MINOR, 0, 1, tables, NULL, NULL, NULL, 0, 0};
  (void)host_abi_minor;
  libraries[++calls % 2] = library;
  return &libraries[calls % 2];
}

/* breaks: table -- a text without an end */
#include <resay_plugin.h>

static const char endless[8192] = "x";
static char summary[sizeof endless];
static resay_status map(void *instance, void *session, uint8_t *data, size_t len)
{
  (void)instance, (void)session, (void)data, (void)len;
  return RESAY_OK;
}
static const resay_transform table = {.struct_size = sizeof table, .id = "bad", .summary = summary, .map = map};
__attribute__((constructor)) static void fill(void)
{
  for (size_t i = 0; i < sizeof summary; i++) summary[i] = endless[0];
}
RESAY_PLUGIN(&table);

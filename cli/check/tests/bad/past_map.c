/* breaks: output-bounds -- works in words, and over the end */
#include <resay_plugin.h>

static resay_status map(void *instance, void *session, uint8_t *data, size_t len)
{
  (void)instance, (void)session;
  for (size_t i = 0; i < len; i += 8)
    for (size_t j = 0; j < 8; j++) data[i + j] ^= 1;
  return RESAY_OK;
}
static const resay_transform table = {
  .struct_size = sizeof table, .caps = RESAY_CAP_BYTEWISE, .id = "bad", .map = map};
RESAY_PLUGIN(&table);

/* breaks: bytewise -- capitals at the beginning of words depend on the byte before */
#include <resay_plugin.h>

static resay_status map(void *instance, void *session, uint8_t *data, size_t len)
{
  (void)instance, (void)session;
  for (size_t i = 0; i < len; i++)
    if (data[i] >= 'a' && data[i] <= 'z' && i > 0 && data[i - 1] == ' ') data[i] -= 32;
  return RESAY_OK;
}
static const resay_transform table = {
  .struct_size = sizeof table, .caps = RESAY_CAP_BYTEWISE, .id = "bad", .map = map};
RESAY_PLUGIN(&table);

/* breaks: place -- treats what is not aligned otherwise */
#include <resay_plugin.h>

static resay_status map(void *instance, void *session, uint8_t *data, size_t len)
{
  (void)instance, (void)session;
  size_t i = 0;
  while (i < len && ((uintptr_t)(data + i) & 31)) i++; /* forgotten */
  for (; i < len; i++) data[i] ^= 0x20;
  return RESAY_OK;
}
static const resay_transform table = {.struct_size = sizeof table, .id = "bad", .map = map};
RESAY_PLUGIN(&table);

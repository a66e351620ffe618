/* A branch for each byte, and no compiler may remove it. */
#include <resay_plugin.h>

static resay_status map(void *instance, void *session, uint8_t *data, size_t len)
{
  (void)instance, (void)session;
  for (size_t i = 0; i < len; i++) {
    volatile uint8_t lower = data[i] | 0x20;
    if (lower >= 'a' && lower <= 'z') data[i] ^= 0x20;
    for (volatile int wait = 0; wait < 3; wait++) continue; /* slow on every processor */
  }
  return RESAY_OK;
}
static const resay_transform table = {
  .struct_size = sizeof table, .caps = RESAY_CAP_BYTEWISE, .id = "slow", .map = map};
RESAY_PLUGIN(&table);

/* breaks: threading -- every thread of a SHARED instance works in the same scratch memory */
#include <resay_plugin.h>
#include <string.h>

static uint8_t scratch[64];

static resay_status map(void *instance, void *session, uint8_t *data, size_t len)
{
  (void)instance, (void)session;
  for (size_t done = 0; done < len; done += sizeof scratch) {
    size_t n = len - done < sizeof scratch ? len - done : sizeof scratch;
    memcpy(scratch, data + done, n);
    for (volatile int wait = 0; wait < 200; wait++) continue;
    for (size_t i = 0; i < n; i++) data[done + i] = scratch[n - 1 - i];
  }
  return RESAY_OK;
}
static const resay_transform table = {.struct_size = sizeof table, .threading = RESAY_SHARED, .id = "bad", .map = map};
RESAY_PLUGIN(&table);

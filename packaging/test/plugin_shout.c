/* A plugin that is not bundled: only a file where plugins are installed makes its name known. */
#include <resay_plugin.h>

static resay_status map(void *instance, void *session, uint8_t *data, size_t len)
{
  (void)instance, (void)session;
  for (size_t i = 0; i < len; i++)
    if (data[i] == '.') data[i] = '!';
  return RESAY_OK;
}

static const resay_transform shout = {
  .struct_size = sizeof shout, .caps = RESAY_CAP_BYTEWISE,
  .id = "shout", .version = "1.0.0", .map = map,
};
RESAY_PLUGIN(&shout);

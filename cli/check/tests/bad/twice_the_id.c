/* breaks: table -- two transforms of one name */
#include <resay_plugin.h>

static resay_status map(void *instance, void *session, uint8_t *data, size_t len)
{
  (void)instance, (void)session, (void)data, (void)len;
  return RESAY_OK;
}
static const resay_transform one = {.struct_size = sizeof one, .id = "bad", .map = map};
static const resay_transform two = {.struct_size = sizeof two, .id = "bad", .map = map};
RESAY_PLUGIN(&one, &two);

/* breaks: leaks -- session_close() forgets what session_open() made */
#include <resay_plugin.h>
#include <stdlib.h>

static resay_status session_open(void *instance, void *session, const resay_peer *peer, resay_text *err)
{
  (void)instance, (void)peer, (void)err;
  *(void **)session = malloc(32);
  return *(void **)session ? RESAY_OK : RESAY_E_NOMEM;
}
static resay_status map(void *instance, void *session, uint8_t *data, size_t len)
{
  (void)instance, (void)session, (void)data, (void)len;
  return RESAY_OK;
}
static const resay_transform table = {
  .struct_size = sizeof table, .id = "bad", .session_size = sizeof(void *), .session_open = session_open, .map = map};
RESAY_PLUGIN(&table);

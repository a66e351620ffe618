/* breaks: sessions -- what a session remembers is in a static, which each session begins anew */
#include <resay_plugin.h>

static _Thread_local uint8_t last;

static resay_status session_open(void *instance, void *session, const resay_peer *peer, resay_text *err)
{
  (void)instance, (void)session, (void)peer, (void)err;
  last = 0;
  return RESAY_OK;
}
static resay_status map(void *instance, void *session, uint8_t *data, size_t len)
{
  (void)instance, (void)session;
  for (size_t i = 0; i < len; i++) data[i] = last ^= data[i];
  return RESAY_OK;
}
static const resay_transform table = {
  .struct_size = sizeof table, .id = "bad", .session_open = session_open, .map = map};
RESAY_PLUGIN(&table);

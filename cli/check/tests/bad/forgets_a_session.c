/* breaks: session-state -- load() says that all is well, and forgets */
#include <resay_plugin.h>
#include <string.h>

static resay_status map(void *instance, void *session, uint8_t *data, size_t len)
{
  (void)instance;
  uint8_t *last = session;
  for (size_t i = 0; i < len; i++) data[i] = *last ^= data[i];
  return RESAY_OK;
}
static resay_status save(void *instance, const void *session, resay_io *io)
{
  (void)instance;
  if (io->output_cap < 1) return RESAY_MORE_OUT;
  io->output[0] = *(const uint8_t *)session;
  io->output_len = 1;
  return RESAY_OK;
}
static resay_status load(void *instance, void *session, const char *schema, resay_bytes state, resay_text *err)
{
  (void)instance, (void)session, (void)state, (void)err;
  return strcmp(schema, "bad/1") ? RESAY_E_UNSUPPORTED : RESAY_OK;
}
static const resay_session_state carries = {sizeof carries, "bad/1", save, load};
static const void *extension(const resay_transform *transform, const char *id)
{
  (void)transform;
  return strcmp(id, RESAY_EXT_SESSION_STATE) ? NULL : &carries;
}
static const resay_transform table = {
  .struct_size = sizeof table, .id = "bad", .session_size = 1, .map = map, .extension = extension};
RESAY_PLUGIN(&table);

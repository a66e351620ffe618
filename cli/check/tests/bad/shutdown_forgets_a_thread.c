/* breaks: lifecycle -- shutdown() does not end the thread of init() */
#include <pthread.h>
#include <resay_plugin.h>
#include <unistd.h>

static void *waits(void *argument)
{
  for (;;) pause();
  return argument;
}
static resay_status init(const char *path, resay_text *err)
{
  pthread_t thread;
  (void)path, (void)err;
  return pthread_create(&thread, NULL, waits, NULL) ? RESAY_E_NOMEM : RESAY_OK;
}
static void end(void)
{
}
static resay_status map(void *instance, void *session, uint8_t *data, size_t len)
{
  (void)instance, (void)session, (void)data, (void)len;
  return RESAY_OK;
}
static const resay_transform table = {.struct_size = sizeof table, .id = "bad", .map = map};
RESAY_PLUGIN_WITH(init, end, &table);

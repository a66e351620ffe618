/* breaks: leaks -- destroy() does not end the thread of create() */
#include <pthread.h>
#include <resay_plugin.h>
#include <unistd.h>

static void *waits(void *argument)
{
  for (;;) pause();
  return argument;
}
static resay_status create(const resay_transform *transform, const resay_host *host, const resay_kv *options,
                           size_t n_options, void **instance, resay_text *err)
{
  (void)transform, (void)host, (void)options, (void)n_options, (void)instance, (void)err;
  pthread_t thread;
  pthread_attr_t small;
  pthread_attr_init(&small);
  pthread_attr_setstacksize(&small, 64 * 1024);
  int code = pthread_create(&thread, &small, waits, NULL);
  pthread_attr_destroy(&small);
  return code ? RESAY_E_NOMEM : RESAY_OK;
}
static resay_status map(void *instance, void *session, uint8_t *data, size_t len)
{
  (void)instance, (void)session, (void)data, (void)len;
  return RESAY_OK;
}
static const resay_transform table = {.struct_size = sizeof table, .id = "bad", .create = create, .map = map};
RESAY_PLUGIN(&table);

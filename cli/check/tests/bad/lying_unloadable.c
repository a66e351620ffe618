/* breaks: no-crash -- promises that it can be unloaded while a thread of it sleeps */
#include <pthread.h>
#include <resay_plugin.h>
#include <unistd.h>

static void *sleeps(void *argument)
{
  usleep(20000);
  return argument;
}
static resay_status create(const resay_transform *transform, const resay_host *host, const resay_kv *options,
                           size_t n_options, void **instance, resay_text *err)
{
  (void)transform, (void)host, (void)options, (void)n_options, (void)instance, (void)err;
  pthread_t thread;
  if (!pthread_create(&thread, NULL, sleeps, NULL)) pthread_detach(thread);
  return RESAY_OK;
}
static resay_status map(void *instance, void *session, uint8_t *data, size_t len)
{
  (void)instance, (void)session, (void)data, (void)len;
  return RESAY_OK;
}
static const resay_transform table = {.struct_size = sizeof table, .id = "bad", .create = create, .map = map};
static const resay_transform *const tables[] = {&table};
static const resay_library library = {sizeof library, RESAY_PLUGIN_ABI_MINOR, RESAY_LIB_UNLOADABLE, 1, tables, NULL, NULL, NULL, 0, 0};

RESAY_EXPORT const resay_library *resay_plugin_v1(uint32_t host_abi_minor)
{
  (void)host_abi_minor;
  return &library;
}

/* breaks: leaks -- opens and never closes */
#include <fcntl.h>
#include <resay_plugin.h>

static resay_status create(const resay_transform *transform, const resay_host *host, const resay_kv *options,
                           size_t n_options, void **instance, resay_text *err)
{
  (void)transform, (void)host, (void)options, (void)n_options, (void)err;
  *instance = (void *)(intptr_t)open("/dev/null", O_RDONLY | O_CLOEXEC);
  return RESAY_OK;
}
static resay_status map(void *instance, void *session, uint8_t *data, size_t len)
{
  (void)instance, (void)session, (void)data, (void)len;
  return RESAY_OK;
}
static const resay_transform table = {.struct_size = sizeof table, .id = "bad", .create = create, .map = map};
RESAY_PLUGIN(&table);

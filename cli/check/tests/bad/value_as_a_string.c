/* breaks: input-bounds -- an option's value does not end with NUL */
#include <resay_plugin.h>
#include <stdio.h>
#include <stdlib.h>

static resay_status create(const resay_transform *transform, const resay_host *host, const resay_kv *options,
                           size_t n_options, void **instance, resay_text *err)
{
  (void)transform, (void)host, (void)instance;
  if (n_options && atoi((const char *)options[0].value.ptr) < 0) {
    if (err) snprintf(err->buf, err->cap, "n is negative");
    return RESAY_E_CONFIG;
  }
  return RESAY_OK;
}
static resay_status map(void *instance, void *session, uint8_t *data, size_t len)
{
  (void)instance, (void)session, (void)data, (void)len;
  return RESAY_OK;
}
static const resay_option options[] = {{.key = "n", .type = "integer", .fallback = "1", .help = "a number"}};
static const resay_transform table = {
  .struct_size = sizeof table, .id = "bad", .options = options, .n_options = 1, .create = create, .map = map};
RESAY_PLUGIN(&table);

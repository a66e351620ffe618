/* breaks: options -- its greatest value is not the greatest that it takes */
#include <resay_plugin.h>
#include <stdio.h>

static resay_status create(const resay_transform *transform, const resay_host *host, const resay_kv *options,
                           size_t n_options, void **instance, resay_text *err)
{
  (void)transform, (void)host, (void)instance;
  for (size_t i = 0; n_options && i < options[0].value.len; i++) {
    if (options[0].value.ptr[i] < '0' || options[0].value.ptr[i] > '9') {
      if (err) snprintf(err->buf, err->cap, "count is a number");
      return RESAY_E_CONFIG;
    }
  }
  return RESAY_OK;
}
static resay_status map(void *instance, void *session, uint8_t *data, size_t len)
{
  (void)instance, (void)session, (void)data, (void)len;
  return RESAY_OK;
}
static const resay_option options[] = {
  {.key = "count", .type = "integer", .fallback = "3", .help = "a number", .min = "0", .max = "9"},
};
static const resay_transform table = {
  .struct_size = sizeof table, .id = "bad", .create = create, .map = map, RESAY_OPTIONS(options),
};
RESAY_PLUGIN(&table);

/* breaks: error-text -- strncpy() does not end what it cuts */
#include <resay_plugin.h>
#include <string.h>

static resay_status create(const resay_transform *transform, const resay_host *host, const resay_kv *options,
                           size_t n_options, void **instance, resay_text *err)
{
  (void)transform, (void)host, (void)instance;
  const char *text = "the option n must be a single digit from 0 to 9";
  if (n_options && options[0].value.len != 1) {
    for (size_t i = 0; err && i < err->cap && i <= strlen(text); i++) err->buf[i] = text[i];
    return RESAY_E_CONFIG;
  }
  return RESAY_OK;
}
static resay_status map(void *instance, void *session, uint8_t *data, size_t len)
{
  (void)instance, (void)session, (void)data, (void)len;
  return RESAY_OK;
}
static const resay_option options[] = {{.key = "n", .type = "integer", .fallback = "1", .help = "a digit"}};
static const resay_transform table = {
  .struct_size = sizeof table, .id = "bad", .options = options, .n_options = 1, .create = create, .map = map};
RESAY_PLUGIN(&table);

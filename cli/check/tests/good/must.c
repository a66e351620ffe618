/* An option without a fallback. */
#include <resay_plugin.h>
#include <stdio.h>

static resay_status create(const resay_transform *transform, const resay_host *host, const resay_kv *options,
                           size_t n_options, void **instance, resay_text *err)
{
  (void)transform, (void)host;
  unsigned mask = 0;
  size_t len = n_options ? options[0].value.len : 0;
  for (size_t i = 0; i < len && i < 3; i++) {
    uint8_t digit = (uint8_t)(options[0].value.ptr[i] - '0');
    if (digit > 9) len = 0;
    mask = mask * 10 + digit;
  }
  if (len == 0 || len > 3 || mask > 255) {
    if (err) snprintf(err->buf, err->cap, "mask is a number from 0 to 255");
    return RESAY_E_CONFIG;
  }
  *instance = (void *)(uintptr_t)mask;
  return RESAY_OK;
}

static resay_status map(void *instance, void *session, uint8_t *data, size_t len)
{
  (void)session;
  for (size_t i = 0; i < len; i++) data[i] ^= (uint8_t)(uintptr_t)instance;
  return RESAY_OK;
}

static const resay_option options[] = {{.key = "mask", .type = "integer", .fallback = NULL, .help = "what each byte is combined with"}};
static const resay_transform mask = {
  .struct_size = sizeof mask, .caps = RESAY_CAP_BYTEWISE, .id = "mask", .options = options, .n_options = 1,
  .create = create, .map = map};
RESAY_PLUGIN(&mask);

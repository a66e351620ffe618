/* A filter alone, which turns bits around both ways. */
#include <resay_plugin.h>

static resay_status turn(resay_filter_out *out, const uint8_t *from, size_t len)
{
  if (out->cap - out->len < len) {
    resay_status status = out->reserve(out, len);
    if (status != RESAY_OK) return status;
  }
  for (size_t i = 0; i < len; i++) out->data[out->len + i] = (uint8_t)~from[i];
  out->len += len;
  return RESAY_OK;
}

static resay_status create(const resay_filter *filter, const resay_host *host, const resay_kv *options,
                           size_t n_options, void **instance, resay_text *err)
{
  (void)filter, (void)host, (void)options, (void)n_options, (void)instance, (void)err;
  return RESAY_OK;
}

static resay_status receive_(void *instance, void *conn, uint8_t *wire, size_t len, resay_filter_out *plain,
                             resay_filter_out *reply)
{
  (void)instance, (void)conn, (void)reply;
  return turn(plain, wire, len);
}

static resay_status send_(void *instance, void *conn, const uint8_t *plain, size_t len, resay_filter_out *wire)
{
  (void)instance, (void)conn;
  return turn(wire, plain, len);
}

static const resay_option options[] = {{.key = "word", .type = "string", .fallback = "", .help = "means nothing"}};
static const resay_filter filter = {
  .struct_size = sizeof filter, .caps = RESAY_FILTER_CAP_ENDS, .id = "bits", .version = "1.5", .options = options,
  .n_options = 1, .conn_size = 24, .create = create, .receive = receive_, .send = send_};
static const resay_filter *const filters[] = {&filter};

RESAY_EXTERN_C RESAY_EXPORT const resay_library *resay_plugin_v1(uint32_t host_minor)
{
  static const resay_library library = {
    .struct_size = sizeof library, .abi_minor = RESAY_PLUGIN_ABI_MINOR, .filters = filters, .n_filters = 1};
  (void)host_minor;
  return &library;
}

/* A running exclusive or: what a byte becomes depends on all before it. Its state is the session's, can be saved,
 * and grows the output: each line gets its number. It can be unloaded. */
#include <resay_plugin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct session {
  uint32_t lines;
  uint8_t in_line;
};

static resay_status create(const resay_transform *transform, const resay_host *host, const resay_kv *options,
                           size_t n_options, void **instance, resay_text *err)
{
  (void)transform, (void)host;
  char mark = ':';
  if (n_options) {
    if (options[0].value.len != 1) {
      if (err) snprintf(err->buf, err->cap, "mark is one character — not %zu bytes", options[0].value.len);
      return RESAY_E_CONFIG;
    }
    mark = (char)options[0].value.ptr[0];
  }
  char *made = malloc(1);
  if (!made) return RESAY_E_NOMEM;
  *made = mark;
  *instance = made;
  return RESAY_OK;
}

static resay_status process(void *instance, void *session, resay_io *io)
{
  struct session *own = session;
  size_t used = 0, made = 0;
  while (used < io->input_len) {
    char number[24];
    size_t n = own->in_line ? 0 : (size_t)snprintf(number, sizeof number, "%u%c", own->lines + 1, *(char *)instance);
    if (made + n + 1 > io->output_cap) {
      io->output_need = n + 1;
      io->input_used = used;
      io->output_len = made;
      return RESAY_MORE_OUT;
    }
    memcpy(io->output + made, number, n);
    made += n;
    if (!own->in_line) own->lines++;
    own->in_line = io->input[used] != '\n';
    io->output[made++] = io->input[used++];
  }
  io->input_used = used;
  io->output_len = made;
  return RESAY_OK;
}

static resay_status save(void *instance, const void *session, resay_io *io)
{
  (void)instance;
  if (io->output_cap < sizeof(struct session)) {
    io->output_need = sizeof(struct session);
    return RESAY_MORE_OUT;
  }
  memcpy(io->output, session, sizeof(struct session));
  io->output_len = sizeof(struct session);
  return RESAY_OK;
}

static resay_status load(void *instance, void *session, const char *schema, resay_bytes state, resay_text *err)
{
  (void)instance;
  if (strcmp(schema, "lines/1") || state.len != sizeof(struct session)) {
    if (err) snprintf(err->buf, err->cap, "a state of another kind");
    return RESAY_E_UNSUPPORTED;
  }
  memcpy(session, state.ptr, state.len);
  return RESAY_OK;
}

static const resay_session_state carried = {sizeof carried, "lines/1", save, load};

static const void *extension(const resay_transform *transform, const char *id)
{
  (void)transform;
  return strcmp(id, RESAY_EXT_SESSION_STATE) ? NULL : &carried;
}

static const resay_option options[] = {{.key = "mark", .type = "string", .fallback = ":", .help = "stands behind the number"}};
static const resay_transform lines = {
  .struct_size = sizeof lines, .id = "lines", .options = options, .n_options = 1,
  .session_size = sizeof(struct session), .session_align = 64,
  .create = create, .destroy = free, .process = process, .extension = extension};
static const resay_transform *const tables[] = {&lines};
static const resay_library library = {sizeof library, RESAY_PLUGIN_ABI_MINOR, RESAY_LIB_UNLOADABLE, 1, tables, NULL, NULL, NULL, 0, 0};

RESAY_EXPORT const resay_library *resay_plugin_v1(uint32_t host_abi_minor)
{
  (void)host_abi_minor;
  return &library;
}

/* Every macro and every type of the header, in C and in C++ alike. */
#include <resay_plugin.h>
#include <resay_plugin.h> /* once is enough */
#include <string.h>

#ifndef __cplusplus
/* As tables are written in C. */
static const resay_option marks[] = {{.key = "mark", .type = "string", .fallback = ">"}};
extern const resay_transform designated;
const resay_transform designated = {.struct_size = sizeof designated, .id = "third", RESAY_OPTIONS(marks)};
#endif

static resay_status create(const resay_transform *transform, const resay_host *host, const resay_kv *options,
                           size_t n_options, void **instance, resay_text *err) {
  (void)options, (void)n_options, (void)instance, (void)err;
  if (RESAY_HAS(host, extension) && host->extension) {
    const void *found = host->extension(host->ctx, RESAY_EXT_THREAD_CHECK);
#ifdef __cplusplus
    const resay_thread_check *threads = static_cast<const resay_thread_check *>(found);
#else
    const resay_thread_check *threads = found;
#endif
    if (threads && threads->current(host->ctx) != RESAY_THREAD_CONTROL) return RESAY_E_UNSUPPORTED;
  }
  if (host->log && (!host->log_level || *host->log_level >= RESAY_LOG_WARN))
    host->log(host->ctx, RESAY_LOG_WARN, "made", 4);
  return transform->user ? RESAY_E_CONFIG : RESAY_OK;
}

static resay_status map(void *instance, void *session, uint8_t *data, size_t len) {
  (void)instance, (void)session, (void)data, (void)len;
  return RESAY_DROP;
}

static resay_status process(void *instance, void *session, resay_io *io) {
  (void)instance, (void)session;
  if (io->output_cap < io->input_len) {
    io->output_need = io->input_len;
    return RESAY_MORE_OUT;
  }
  if (io->input_len) memcpy(io->output, io->input, io->input_len);
  io->input_used = io->output_len = io->input_len;
  return RESAY_OK;
}

static const resay_option options[] = {{"unicode", "integer", "0", RESAY_NULL, "letters", "0", "9"}};
static const resay_select chooses = {sizeof(resay_select), RESAY_NULL};
static const resay_session_state carries = {sizeof(resay_session_state), "state/1", RESAY_NULL, RESAY_NULL};

static const void *extension(const resay_transform *transform, const char *id) {
  (void)transform;
  if (!strcmp(id, RESAY_EXT_SELECT)) return &chooses;
  if (!strcmp(id, RESAY_EXT_SESSION_STATE)) return &carries;
  return RESAY_NULL;
}

static const resay_transform first = {
  sizeof(resay_transform), RESAY_CAP_BYTEWISE | RESAY_CAP_ALIAS, RESAY_NEED_MESSAGES, RESAY_SERIAL,
  "first", "1.0.0", "everything", RESAY_NULL, options, 1, 0, 0, 1, 1, 0,
  create, RESAY_NULL, RESAY_NULL, RESAY_NULL, map, process, extension, sizeof(resay_option), 0};
static const resay_transform second = {
  sizeof(resay_transform), 0, 0, RESAY_SHARED,
  "second", RESAY_NULL, RESAY_NULL, RESAY_NULL, RESAY_NULL, 0, 8, 8, 0, 0, 0,
  RESAY_NULL, RESAY_NULL, RESAY_NULL, RESAY_NULL, RESAY_NULL, process, RESAY_NULL, 0, 0};

static resay_status init(const char *path, resay_text *err) {
  (void)err;
  return path ? RESAY_OK : RESAY_E_CONFIG;
}
static void shutdown(void) {}

#ifdef WITH_LIFECYCLE
RESAY_PLUGIN_WITH(init, shutdown, &first, &second);
#else
RESAY_PLUGIN(&first, &second);
#endif
static int is_lifecycle(const resay_library *library) {
#ifdef WITH_LIFECYCLE
  return library->init == init && library->shutdown == shutdown;
#else
  (void)init, (void)shutdown;
  return !library->init && !library->shutdown;
#endif
}

int main(void) {
  resay_plugin_entry entry = resay_plugin_v1;
  const resay_library *library = entry(0);
  resay_peer shorter;
  memset(&shorter, 0, sizeof shorter);
  shorter.struct_size = offsetof(resay_peer, peer);
  return !(library->n == 2 && library->abi_minor == RESAY_PLUGIN_ABI_MINOR && library->flags == 0 &&
           library->struct_size == sizeof(resay_library) && is_lifecycle(library) &&
           library->transforms[0] == &first && library->transforms[1] == &second &&
           RESAY_HAS(&shorter, local) && !RESAY_HAS(&shorter, peer) && !RESAY_HAS(&shorter, listener) &&
           RESAY_THREAD_OTHER == 0 && RESAY_THREAD_CONTROL == 1 && RESAY_THREAD_WORKER == 2 &&
           RESAY_HAS(&first, struct_size) && RESAY_HAS(&first, extension) &&
           -RESAY_E_DATA == 1 && 1 + RESAY_E_PANIC == -4);
}

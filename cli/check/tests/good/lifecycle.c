/* init() before the first instance and shutdown() after the last; and each call is of the kind that the header says. */
#include <pthread.h>
#include <resay_plugin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int begun, instances, must_end;
static pthread_t thread;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

static void *waits(void *argument)
{
  pthread_mutex_lock(&lock);
  while (!must_end) pthread_cond_wait(&changed, &lock);
  pthread_mutex_unlock(&lock);
  return argument;
}
static resay_status init(const char *path, resay_text *err)
{
  const char *name = strrchr(path, '/');
  if (begun || path[0] != '/' || !name || strcmp(name, "/libgood.so")) {
    if (err) snprintf(err->buf, err->cap, "begun %d, path %s", begun, path);
    return RESAY_E_CONFIG;
  }
  begun = 1, must_end = 0;
  return pthread_create(&thread, NULL, waits, NULL) ? RESAY_E_NOMEM : RESAY_OK;
}
static void end(void)
{
  if (!begun || instances) abort();
  pthread_mutex_lock(&lock);
  must_end = 1;
  pthread_cond_signal(&changed);
  pthread_mutex_unlock(&lock);
  pthread_join(thread, NULL);
  begun = 0;
}

struct own {
  const resay_host *host;
  const resay_thread_check *threads;
};
static void expect(const struct own *own, uint32_t kind)
{
  if (!begun || (own->threads && own->threads->current(own->host->ctx) != kind)) abort();
}
static resay_status create(const resay_transform *transform, const resay_host *host, const resay_kv *options,
                           size_t n_options, void **instance, resay_text *err)
{
  struct own *own = malloc(sizeof *own);
  (void)transform, (void)options, (void)n_options, (void)err;
  if (!own) return RESAY_E_NOMEM;
  own->host = host;
  own->threads = RESAY_HAS(host, extension) && host->extension ? host->extension(host->ctx, RESAY_EXT_THREAD_CHECK) : NULL;
  expect(own, RESAY_THREAD_CONTROL);
  instances++;
  *instance = own;
  return RESAY_OK;
}
static void destroy(void *instance)
{
  expect(instance, RESAY_THREAD_CONTROL);
  instances--;
  free(instance);
}
static resay_status session_open(void *instance, void *session, const resay_peer *peer, resay_text *err)
{
  (void)session, (void)peer, (void)err;
  expect(instance, RESAY_THREAD_WORKER);
  return RESAY_OK;
}
static void session_close(void *instance, void *session)
{
  (void)session;
  expect(instance, RESAY_THREAD_WORKER);
}
static resay_status map(void *instance, void *session, uint8_t *data, size_t len)
{
  (void)session, (void)data, (void)len;
  expect(instance, RESAY_THREAD_WORKER);
  return RESAY_OK;
}
static const resay_transform table = {
  .struct_size = sizeof table, .id = "good", .create = create, .destroy = destroy, .session_open = session_open,
  .session_close = session_close, .map = map,
};
RESAY_PLUGIN_WITH(init, end, &table);

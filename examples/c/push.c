/* A server that speaks without being asked: it tells everybody who is connected what has happened, slow readers excepted.
 *
 *   cc -Iinclude examples/c/push.c -Ltarget/release -lresay -o push
 *   ln -sf libresay.so target/release/libresay.so.1
 *   LD_LIBRARY_PATH=target/release ./push
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <resay.h>

enum { SUBSCRIBERS = 3 };

/* The connections that are open now; the caller frees them. */
static uint64_t *everybody(resay_engine *engine, size_t *count)
{
  uint64_t *ids = NULL;
  size_t cap = 0;
  int result;
  while ((result = resay_connections(engine, 0, ids, cap, count)) == RESAY_E_FULL) {
    /* Some more may come meanwhile. */
    uint64_t *more = realloc(ids, (cap = *count + 16) * sizeof *ids);
    if (more == NULL) break;
    ids = more;
  }
  if (result < 0) *count = 0;
  return ids;
}

/* Sends a line to everybody: to how many. */
static size_t publish(resay_engine *engine, const char *line)
{
  size_t count, sent = 0;
  uint64_t *ids = everybody(engine, &count);
  for (size_t n = 0; n < count; n++) {
    switch (resay_connection_send(engine, ids[n], line, strlen(line))) {
    case 0:
      sent++;
      break;
    case RESAY_E_FULL: /* it has not read what was sent before: it gets no more */
      resay_connection_reset(engine, ids[n]);
      break;
    default: /* RESAY_E_HANDLE: it has gone meanwhile */
      break;
    }
  }
  free(ids);
  return sent;
}

int main(void)
{
  resay_engine *engine;
  resay_client *subscribers[SUBSCRIBERS], *late;
  resay_error error;
  resay_id listener;
  char url[64], heard[64];
  size_t sent, got;

  if (resay_engine_new(RESAY_ABI, &engine, &error) < 0
      || resay_listen(engine, "tcp://127.0.0.1:0", &listener, &error) < 0
      || resay_start(engine, 1, &error) < 0
      || resay_listener_url(engine, listener, url, sizeof url, NULL) < 0)
    return fprintf(stderr, "%s\n", error.message), 1;
  for (int n = 0; n < SUBSCRIBERS; n++) {
    if (resay_client_open(url, 5000, &subscribers[n], &error) < 0
        || resay_client_send(subscribers[n], "hello\n", 6, 5000) < 0
        || resay_client_recv(subscribers[n], heard, sizeof heard, &got, 5000) < 0)
      return fprintf(stderr, "%s\n", resay_last_error()), 1;
  }

  sent = publish(engine, "the weather changes\n");
  printf("published to %d subscribers\n", (int)sent);
  for (int n = 0; n < SUBSCRIBERS; n++) {
    if (resay_client_recv(subscribers[n], heard, sizeof heard - 1, &got, 5000) < 0)
      return fprintf(stderr, "%s\n", resay_last_error()), 1;
    heard[got] = '\0';
    printf("subscriber %d: %s", n, heard);
  }

  /* Maintenance: nobody new, and the port stays ours. */
  if (resay_listener_accept(engine, listener, 0) < 0 || resay_client_open(url, 5000, &late, &error) == 0)
    return 1;
  printf("maintenance: %d subscribers stay\n", (int)publish(engine, "back soon\n"));
  resay_listener_accept(engine, listener, 1);

  for (int n = 0; n < SUBSCRIBERS; n++) resay_client_free(subscribers[n]);
  resay_engine_free(engine);
  return sent != SUBSCRIBERS;
}

/* What the engine does, as records that wait to be taken: by a thread, or by the loop that watches resay_events_fd.
 *
 *   cc -Iinclude examples/c/events.c -Ltarget/release -lresay -o events
 *   ln -sf libresay.so target/release/libresay.so.1
 *   LD_LIBRARY_PATH=target/release ./events
 */
#include <stdio.h>
#include <string.h>

#include <resay.h>

int main(void)
{
  resay_engine *engine;
  resay_client *client;
  resay_error error;
  resay_events *events;
  resay_event event;
  resay_stats stats;
  resay_id listener;
  char url[64];
  int result, closed = 0;

  if (resay_engine_new(RESAY_ABI, &engine, &error) < 0
      || resay_events_open(engine, RESAY_EVENT_LISTENING | RESAY_EVENT_ACCEPTED | RESAY_EVENT_CLOSED, 256, &events, &error) < 0
      || resay_listen(engine, "tcp://127.0.0.1:0", &listener, &error) < 0
      || resay_start(engine, 1, &error) < 0
      || resay_listener_url(engine, listener, url, sizeof url, NULL) < 0
      || resay_client_open(url, 5000, &client, &error) < 0)
    return fprintf(stderr, "%s\n", error.message), 1;
  resay_client_free(client);

  memset(&event, 0, sizeof event);
  event.struct_size = sizeof event;
  while ((result = resay_events_next(events, &event, -1)) > 0) {
    switch (event.kind) {
    case RESAY_EVENT_LISTENING:
      printf("listener %d serves\n", (int)event.listener);
      break;
    case RESAY_EVENT_ACCEPTED:
      printf("connection %d came\n", (int)event.connection);
      break;
    case RESAY_EVENT_CLOSED:
      printf("connection %d closed: %s\n", (int)event.connection, resay_event_code_name(event.kind, event.code));
      closed += event.code == RESAY_CLOSED_PEER_CLOSED;
      resay_stop(engine); /* the end: resay_events_next says so when all is told */
      break;
    default: /* of a later version */
      break;
    }
  }
  if (result != RESAY_E_STATE) return fprintf(stderr, "%s\n", resay_last_error()), 1;

  memset(&stats, 0, sizeof stats);
  stats.struct_size = sizeof stats;
  if (resay_stats_get(engine, 0, &stats) < 0) return 1;
  printf("%d accepted, %d lost events\n", (int)stats.accepted, (int)stats.events_lost);
  resay_engine_free(engine);
  resay_events_close(events);
  return closed != 1 || stats.accepted != 1 || stats.events_lost != 0;
}

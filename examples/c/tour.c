/* The first ten minutes in C: three kinds of sockets, a transform that is a function of the program, another chain while a
 * connection is open, the end.
 *
 *   cc examples/c/tour.c $(pkg-config --cflags --libs resay) -o tour && ./tour
 */
#include <resay.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATIENCE_MS = 5000 };

/* Called on threads of the engine. Adds a "!" to each message. */
static int shout(void *user, void **session, const resay_message *message, resay_out *out)
{
  (void)user, (void)session;
  if (resay_out_write(out, message->data, message->len) < 0 || resay_out_write(out, "!", 1) < 0) return RESAY_DROP;
  return RESAY_REPLACE;
}

static void check(int code)
{
  if (code >= 0) return;
  fprintf(stderr, "%s\n", resay_last_error());
  exit(1);
}

static resay_client *dial(resay_engine *engine, resay_id listener)
{
  char url[128];
  resay_client *client;
  check(resay_listener_url(engine, listener, url, sizeof url, NULL));
  check(resay_client_open(url, PATIENCE_MS, &client, NULL));
  return client;
}

/* On a stream a message is a line, as the listener says. */
static void ask(resay_client *client, const char *name, const char *message)
{
  char answer[64];
  size_t got, len = strlen(message);
  check(resay_client_send(client, message, len, PATIENCE_MS));
  check(resay_client_recv(client, answer, sizeof answer, &got, PATIENCE_MS));
  printf("%s: %.*s -> %.*s\n", name, (int)strcspn(message, "\n"), message,
         (int)(answer[got - 1] == '\n' ? got - 1 : got), answer);
}

int main(void)
{
  resay_function function = {0};
  resay_engine *engine;
  resay_id tcp, udp, local;
  resay_client *client, *other;

  check(resay_engine_new(RESAY_ABI, &engine, NULL));
  function.struct_size = sizeof function;
  function.call = shout;
  check(resay_register_function(engine, "shout", &function, NULL));
  check(resay_chain(engine, 0, "shout", NULL));
  check(resay_listen(engine, "tcp://127.0.0.1:0?frame=lines", &tcp, NULL)); /* port 0: a free one */
  check(resay_listen(engine, "udp://127.0.0.1:0", &udp, NULL));
  check(resay_listen(engine, "unix:tour-c.sock?frame=lines&mode=600", &local, NULL));
  check(resay_start(engine, 2, NULL));

  client = dial(engine, tcp);
  ask(client, "tcp", "hello\n");
  other = dial(engine, udp);
  ask(other, "udp", "hello");
  resay_client_free(other);
  other = dial(engine, local);
  ask(other, "unix", "hello\n");
  resay_client_free(other);

  check(resay_chain(engine, 0, "shout | uppercase", NULL)); /* of all connections, the open one too */
  ask(client, "tcp", "hello\n");
  resay_client_free(client);

  check(resay_drain(engine, PATIENCE_MS)); /* every answer is sent; the file of the unix socket is gone */
  resay_engine_free(engine);
  return 0;
}

/* A transform that is a function of the program: text that ends with a question mark is answered with shouting, all
 * else as it came.
 *
 *   cc -Iinclude examples/c/own_transform.c -Ltarget/release -lresay -o own_transform
 *   ln -sf libresay.so target/release/libresay.so.1
 *   LD_LIBRARY_PATH=target/release ./own_transform
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <resay.h>

struct counts {
  const char *greeting;
};

/* Called on a thread of the engine's; by several at once, if there are several. What it needs comes with user. */
static int shout(void *user, void **session, const resay_message *message, resay_out *out)
{
  const struct counts *counts = user;
  uint8_t *room;
  size_t i;
  (void)session;
  if (message->len == 0 || message->data[message->len - 1] != '?') return RESAY_PASS; /* no copy */
  resay_out_write(out, counts->greeting, strlen(counts->greeting));
  room = resay_out_reserve(out, message->len);
  if (room == NULL) return RESAY_DROP;
  for (i = 0; i < message->len; i++) room[i] = (uint8_t)toupper(message->data[i]);
  resay_out_commit(out, message->len);
  return RESAY_REPLACE;
}

static void forget(void *user)
{
  printf("the engine is done with it\n");
  free(user);
}

static int ask(const char *url, const char *question, const char *expected)
{
  resay_client *client;
  resay_error error;
  char answer[64];
  size_t got = 0;
  if (resay_client_open(url, 5000, &client, &error) < 0) return fprintf(stderr, "%s\n", error.message), 1;
  if (resay_client_send(client, question, strlen(question), 5000) < 0
      || resay_client_recv(client, answer, sizeof answer, &got, 5000) < 0)
    return fprintf(stderr, "%s\n", resay_last_error()), 1;
  resay_client_free(client);
  printf("%s -> %.*s\n", question, (int)got, answer);
  return got != strlen(expected) || memcmp(answer, expected, got) != 0;
}

int main(void)
{
  resay_engine *engine;
  resay_error error;
  resay_id listener;
  struct counts *counts = malloc(sizeof *counts);
  resay_function function = {.struct_size = sizeof function, .user = counts, .call = shout, .release = forget};
  char url[64];
  int failed;

  if (counts == NULL) return 1;
  counts->greeting = "oh! ";
  if (resay_engine_new(RESAY_ABI, &engine, &error) < 0
      || resay_register_function(engine, "shout", &function, &error) < 0
      || resay_chain(engine, 0, "shout", &error) < 0
      || resay_listen(engine, "udp://127.0.0.1:0", &listener, &error) < 0
      || resay_start(engine, 1, &error) < 0)
    return fprintf(stderr, "%s\n", error.message), 1;
  if (resay_listener_url(engine, listener, url, sizeof url, NULL) < 0) return 1;
  failed = ask(url, "is it you?", "oh! IS IT YOU?");
  failed |= ask(url, "it is", "it is");
  resay_engine_free(engine); /* calls forget */
  return failed;
}

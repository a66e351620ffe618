/* The blocking client against every kind of socket.
 *
 *   cc -Iinclude examples/c/client.c -Ltarget/release -lresay -o client
 *   ln -sf libresay.so target/release/libresay.so.1
 *   LD_LIBRARY_PATH=target/release ./client
 */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <resay.h>

/* Sends text and receives until all of the answer is there. */
static int ask(const char *url)
{
  static const char question[] = "is anybody there?";
  const size_t len = sizeof question - 1;
  resay_client *client;
  resay_error error;
  char answer[64];
  size_t have = 0, got;
  if (resay_client_open(url, 5000, &client, &error) < 0) return fprintf(stderr, "%s\n", error.message), 1;
  if (resay_client_send(client, question, len, 5000) < 0) return fprintf(stderr, "%s\n", resay_last_error()), 1;
  while (have < len) {
    int result = resay_client_recv(client, answer + have, sizeof answer - have, &got, 5000);
    if (result == RESAY_E_INTR) continue;
    if (result != 0) return fprintf(stderr, "%s: %d %s\n", url, result, resay_last_error()), 1;
    have += got;
  }
  printf("%s -> %.*s\n", url, (int)have, answer);
  resay_client_free(client);
  return have != len || memcmp(answer, "?EREHT YDOBYNA SI", len) != 0;
}

int main(void)
{
  resay_engine *engine;
  resay_error error;
  char urls[5][108], url[108];
  long pid = (long)getpid();
  int i, failed = 0;

  snprintf(urls[0], sizeof urls[0], "tcp://127.0.0.1:0");
  snprintf(urls[1], sizeof urls[1], "udp://127.0.0.1:0");
  snprintf(urls[2], sizeof urls[2], "unix:/tmp/resay-client-%ld.sock", pid);
  snprintf(urls[3], sizeof urls[3], "unix-dgram:@resay-client-%ld-dgram", pid);
  snprintf(urls[4], sizeof urls[4], "unix-seqpacket:@resay-client-%ld-seqpacket", pid);
  if (resay_engine_new(RESAY_ABI, &engine, &error) < 0 || resay_chain(engine, 0, "uppercase | reverse", &error) < 0
      || resay_start(engine, 2, &error) < 0)
    return fprintf(stderr, "%s\n", error.message), 1;
  for (i = 0; i < 5; i++) {
    resay_id listener;
    if (resay_listen(engine, urls[i], &listener, &error) < 0) return fprintf(stderr, "%s\n", error.message), 1;
    if (resay_listener_url(engine, listener, url, sizeof url, NULL) < 0) return 1;
    failed |= ask(url);
  }
  resay_engine_free(engine);
  return failed;
}

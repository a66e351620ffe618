/* Other transforms while messages flow: the connection stays, and each message goes through one chain or the other.
 *
 *   cc -Iinclude examples/c/hot_swap.c -Ltarget/release -lresay -o hot_swap
 *   ln -sf libresay.so target/release/libresay.so.1
 *   LD_LIBRARY_PATH=target/release ./hot_swap
 */
#include <stdio.h>
#include <string.h>

#include <resay.h>

int main(void)
{
  static const char *const chains[] = {"uppercase", "reverse", "uppercase | reverse", "hex", ""};
  static const char *const answers[] = {"HELLO", "olleh", "OLLEH", "68656c6c6f", "hello"};
  resay_engine *engine;
  resay_client *client;
  resay_error error;
  resay_id listener;
  char url[64], answer[32];
  size_t i, got;
  int failed = 0;

  if (resay_engine_new(RESAY_ABI, &engine, &error) < 0
      || resay_listen(engine, "tcp://127.0.0.1:0", &listener, &error) < 0
      || resay_start(engine, 1, &error) < 0
      || resay_listener_url(engine, listener, url, sizeof url, NULL) < 0
      || resay_client_open(url, 5000, &client, &error) < 0)
    return fprintf(stderr, "%s\n", error.message), 1;
  for (i = 0; i < sizeof chains / sizeof chains[0]; i++) {
    if (resay_chain(engine, 0, chains[i], &error) < 0) return fprintf(stderr, "%s\n", error.message), 1;
    if (resay_client_send(client, "hello", 5, 5000) < 0
        || resay_client_recv(client, answer, sizeof answer, &got, 5000) != 0)
      return fprintf(stderr, "%s\n", resay_last_error()), 1;
    printf("%-19s hello -> %.*s\n", chains[i], (int)got, answer);
    failed |= got != strlen(answers[i]) || memcmp(answer, answers[i], got) != 0;
  }
  /* What cannot be made changes nothing. */
  if (resay_chain(engine, 0, "uppercase | no-such-transform", &error) != RESAY_E_PLUGIN) return 1;
  resay_client_free(client);
  resay_engine_free(engine);
  return failed;
}

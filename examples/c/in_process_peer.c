/* A peer for a test, in the test's own process: every transport that is wanted, on a port that is free, ready when
 * the call returns.
 *
 *   cc -Iinclude examples/c/in_process_peer.c -Ltarget/release -lresay -o in_process_peer
 *   ln -sf libresay.so target/release/libresay.so.1
 *   LD_LIBRARY_PATH=target/release ./in_process_peer
 */
#define _POSIX_C_SOURCE 200809L
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <resay.h>

/* Sends text to the port and compares what comes back until the peer ends. */
static int ask(int port, const char *text, const char *expected)
{
  struct sockaddr_in to;
  char got[64];
  size_t len = 0;
  ssize_t n;
  int s = socket(AF_INET, SOCK_STREAM, 0);
  memset(&to, 0, sizeof to);
  to.sin_family = AF_INET;
  to.sin_port = htons((uint16_t)port);
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (s < 0 || connect(s, (struct sockaddr *)&to, sizeof to) < 0) return perror("connect"), 1;
  if (send(s, text, strlen(text), 0) < 0 || shutdown(s, SHUT_WR) < 0) return perror("send"), 1;
  while (len < sizeof got - 1 && (n = recv(s, got + len, sizeof got - 1 - len, 0)) > 0) len += (size_t)n;
  got[len] = '\0';
  close(s);
  printf("%s -> %s\n", text, got);
  return strcmp(got, expected) != 0;
}

int main(void)
{
  resay_engine *engine;
  resay_error error;
  resay_id listener;
  char url[64];
  int failed = 0, port;

  if (resay_engine_new(RESAY_ABI, &engine, &error) < 0
      || resay_chain(engine, 0, "uppercase", &error) < 0
      || resay_listen(engine, "tcp://127.0.0.1:0", &listener, &error) < 0
      || resay_start(engine, 1, &error) < 0) {
    fprintf(stderr, "%s\n", error.message);
    return 1;
  }
  if (resay_listener_url(engine, listener, url, sizeof url, NULL) < 0) return 1;
  port = resay_listener_port(engine, listener);
  printf("%s\n", url);

  failed |= ask(port, "hello", "HELLO");

  /* Live: the next connection already goes through the new chain. */
  if (resay_chain(engine, 0, "identity", &error) < 0) return 1;
  failed |= ask(port, "hello", "hello");

  /* What cannot be read is refused, and the message says where; the old chain goes on. */
  if (resay_chain(engine, 0, "uppercase |", &error) != RESAY_E_SPEC) return 1;
  printf("%s\n", error.message);
  if (resay_chain(engine, 0, "no-such-transform", &error) != RESAY_E_PLUGIN) return 1;
  if (resay_listen(engine, "tcp://127.0.0.1:65536", NULL, &error) != RESAY_E_SPEC) return 1;
  if (resay_listener_close(engine, listener + 1) != RESAY_E_HANDLE) return 1;
  failed |= ask(port, "again", "again");

  if (resay_drain(engine, 5000) < 0) return 1;
  resay_engine_free(engine);
  return failed;
}

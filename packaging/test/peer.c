/* An echo round trip over TCP, as a program that links an installed Resay: peer [CHAIN MESSAGE ANSWER].
 * Without arguments the chain is the plain echo. */
#include <resay.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static int fail(const char *what, const char *why)
{
  fprintf(stderr, "peer: %s: %s\n", what, why);
  return 1;
}

int main(int argc, char **argv)
{
  const char *chain = argc > 1 ? argv[1] : "";
  const char *message = argc > 2 ? argv[2] : "hello";
  const char *expected = argc > 3 ? argv[3] : message;
  resay_engine *engine;
  resay_error error;
  resay_id listener;
  char url[64], answer[64];
  const char *port;
  size_t have = 0, want = strlen(expected);
  struct sockaddr_in address;
  struct timeval limit;
  int peer;

  if (want > sizeof answer) return fail("arguments", "the answer is too long");
  if (resay_engine_new(RESAY_ABI, &engine, &error) < 0) return fail("resay_engine_new", error.message);
  if (resay_chain(engine, 0, chain, &error) < 0) return fail("resay_chain", error.message);
  if (resay_listen(engine, "tcp://127.0.0.1:0", &listener, &error) < 0)
    return fail("resay_listen", error.message);
  if (resay_listener_url(engine, listener, url, sizeof url, NULL) < 0)
    return fail("resay_listener_url", "the URL is too long");
  if (resay_start(engine, 1, &error) < 0) return fail("resay_start", error.message);

  port = strrchr(url, ':');
  memset(&address, 0, sizeof address);
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons((unsigned short)atoi(port ? port + 1 : ""));
  memset(&limit, 0, sizeof limit);
  limit.tv_sec = 30;
  peer = socket(AF_INET, SOCK_STREAM, 0);
  if (peer < 0 || setsockopt(peer, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) < 0) return fail("socket", url);
  if (connect(peer, (const struct sockaddr *)&address, sizeof address) < 0) return fail("connect", url);
  if (send(peer, message, strlen(message), 0) != (ssize_t)strlen(message)) return fail("send", url);
  while (have < want) {
    ssize_t count = recv(peer, answer + have, want - have, 0);
    if (count <= 0) return fail("recv", "the answer ends early");
    have += (size_t)count;
  }
  if (memcmp(answer, expected, want) != 0) return fail("the answer is another than", expected);
  close(peer);

  resay_stop(engine);
  resay_engine_free(engine);
  printf("%.*s\n", (int)want, answer);
  return 0;
}

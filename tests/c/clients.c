/* The blocking client: every kind of socket, timeouts, the end, what is too long, what is not there. */
#define _GNU_SOURCE
#include "check.h"

#include <sys/socket.h>

static void transports(void)
{
  static const char *const kinds[] = {"tcp://127.0.0.1:0", "tcp://[::1]:0", "udp://127.0.0.1:0", "udp://[::1]:0",
                                      "unix:", "unix-dgram:", "unix-seqpacket:"};
  size_t i;
  for (i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
    resay_engine *engine = new_engine();
    resay_client *client;
    resay_id listener = 0;
    char where[128], url[128], byte;
    size_t got = 7;
    int is_unix = strncmp(kinds[i], "unix", 4) == 0, is_datagram = strstr(kinds[i], "dgram") || kinds[i][0] == 'u' * !is_unix;
    snprintf(where, sizeof where, is_unix ? "%s/tmp/resay-clients-%ld.sock" : "%s", kinds[i], (long)getpid());
    if (resay_listen(engine, where, &listener, NULL) != 0) { /* a machine without IPv6 */
      CHECK(strstr(where, "[::1]") != NULL);
      printf("skipped %s: %s\n", where, resay_last_error());
      resay_engine_free(engine);
      continue;
    }
    CHECK_CODE(resay_listener_url(engine, listener, url, sizeof url, NULL), 0);
    CHECK_CODE(resay_start(engine, 1, NULL), 0);
    client = dial(url);
    CHECK_CODE(resay_client_recv(client, &byte, 1, &got, 0), RESAY_E_TIMEOUT);
    CHECK(got == 0);
    CHECK_CODE(resay_client_recv(client, &byte, 1, &got, 5), RESAY_E_TIMEOUT);
    ask(client, "hello", "hello");
    CHECK_CODE(resay_client_send(client, "again", 5, 0), 0);
    hear(client, "again", 5);
    if (is_datagram || strstr(where, "seqpacket")) { /* messages: their ends count, and there are empty ones */
      say(client, "too long", 8);
      {
        char small[3];
        CHECK_CODE(resay_client_recv(client, small, sizeof small, &got, PATIENCE_MS), RESAY_E_FULL);
        CHECK(got == 3 && memcmp(small, "too", 3) == 0);
      }
      say(client, "", 0);
      hear(client, "", 0);
      ask(client, "next", "next");
    }
    if (!is_datagram) {
      CHECK_CODE(resay_client_shutdown(client), 0);
      hear_end(client);
      hear_end(client);
    }
    resay_client_free(client);
    resay_engine_free(engine);
  }
}

static void nobody_there(void)
{
  resay_client *client;
  resay_error error;
  char where[64], byte;
  size_t got;
  CHECK_CODE(resay_client_open("tcp://127.0.0.1:1", PATIENCE_MS, &client, &error), RESAY_E_SYS);
  CHECK(error.os_errno == ECONNREFUSED && client == NULL && strstr(error.message, "127.0.0.1:1") != NULL);
  snprintf(where, sizeof where, "unix:/tmp/resay-nobody-%ld.sock", (long)getpid());
  CHECK_CODE(resay_client_open(where, PATIENCE_MS, &client, &error), RESAY_E_SYS);
  CHECK(error.os_errno == ENOENT);
  CHECK_CODE(resay_client_open("http://127.0.0.1", PATIENCE_MS, &client, &error), RESAY_E_SPEC);
  CHECK_CODE(resay_client_open("fd:3", PATIENCE_MS, &client, &error), RESAY_E_SYS);
  /* A datagram finds out when it hears of it. */
  CHECK_CODE(resay_client_open("udp://127.0.0.1:1", PATIENCE_MS, &client, &error), 0);
  say(client, "x", 1);
  CHECK_CODE(resay_client_recv(client, &byte, 1, &got, PATIENCE_MS), RESAY_E_SYS);
  resay_client_free(client);
}

/* A server that does not read: what can be sent is sent, then the time is up. */
static void full(void)
{
  static char data[1 << 20];
  resay_engine *engine = new_engine();
  resay_client *client;
  char url[128];
  int result = 0;
  add(engine, "tcp://127.0.0.1:0", url); /* it does not run */
  client = dial(url);
  while (result == 0) result = resay_client_send(client, data, sizeof data, 20);
  CHECK_CODE(result, RESAY_E_TIMEOUT);
  CHECK_CODE(resay_client_send(client, data, sizeof data, 0), RESAY_E_TIMEOUT);
  resay_client_free(client);
  resay_engine_free(engine);
}

/* One thread sends while another receives. */
static void *drain_all(void *client)
{
  static char buffer[65536];
  size_t got, sum = 0;
  while (resay_client_recv(client, buffer, sizeof buffer, &got, PATIENCE_MS) == 0) sum += got;
  CHECK(sum == (size_t)64 << 16);
  return NULL;
}

static void both_ways(void)
{
  static char data[1 << 16];
  resay_engine *engine = new_engine();
  resay_client *client;
  pthread_t receiving;
  char url[128];
  int i;
  add(engine, "tcp://127.0.0.1:0", url);
  CHECK_CODE(resay_start(engine, 1, NULL), 0);
  client = dial(url);
  CHECK(pthread_create(&receiving, NULL, drain_all, client) == 0);
  for (i = 0; i < 64; i++) say(client, data, sizeof data);
  CHECK_CODE(resay_client_shutdown(client), 0);
  CHECK(pthread_join(receiving, NULL) == 0);
  resay_client_free(client);
  resay_engine_free(engine);
}

int main(void)
{
  transports();
  nobody_there();
  full();
  both_ways();
  return 0;
}

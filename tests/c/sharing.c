/* Listeners that share a port, and listeners that are closed while they are paused. */
#define _GNU_SOURCE
#include "check.h"

#include <netinet/in.h>
#include <sys/socket.h>

/* ---- Refusing and closing, with several sockets on one port ---- */

static int shared_socket(int type, int *port)
{
  struct sockaddr_in name;
  socklen_t len = sizeof name;
  int one = 1, fd = socket(AF_INET, type, 0);
  CHECK(fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one) == 0);
  memset(&name, 0, sizeof name);
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  name.sin_port = htons((uint16_t)*port);
  CHECK(bind(fd, (struct sockaddr *)&name, len) == 0 && getsockname(fd, (struct sockaddr *)&name, &len) == 0);
  CHECK(type == SOCK_DGRAM || listen(fd, 64) == 0);
  *port = ntohs(name.sin_port);
  return fd;
}

/* Two engines share a port by sockets of the program's: neither may refuse, and closing one leaves the other's. */
static void siblings_share_a_port(int type)
{
  char url[128];
  resay_engine *engines[2];
  resay_id listeners[2];
  int port = 0, i;
  for (i = 0; i < 2; i++) {
    int fd = shared_socket(type, &port);
    engines[i] = new_engine();
    CHECK_CODE(resay_listen_fd(engines[i], fd, i == 0 ? RESAY_FD_OWN : RESAY_FD_DUP, NULL, &listeners[i], NULL), 0);
    if (i == 1) close(fd);
    CHECK_CODE(resay_start(engines[i], 2, NULL), 0);
  }
  CHECK_CODE(resay_chain(engines[1], 0, "uppercase", NULL), 0);
  CHECK_CODE(resay_sync(engines[1], PATIENCE_MS), 0);
  for (i = 0; i < 2; i++) {
    CHECK_CODE(resay_listener_accept(engines[i], listeners[i], 0), RESAY_E_STATE);
    CHECK_CODE(resay_listener_accept(engines[i], listeners[i], 1), 0); /* nothing changes */
  }
  CHECK_CODE(resay_listener_close(engines[0], listeners[0]), 0);
  snprintf(url, sizeof url, "%s://127.0.0.1:%d", type == SOCK_DGRAM ? "udp" : "tcp", port);
  for (i = 0; i < 20; i++) ask_once(url, "whose?", "WHOSE?");
  CHECK_CODE(resay_listener_close(engines[1], listeners[1]), 0);
  for (i = 0; i < 2; i++) CHECK_CODE(resay_engine_free(engines[i]), 0);
}

/* ---- Closing what is paused ---- */

/* The connections of a listener that was paused and is closed are read again: nobody could resume it any more. */
static void closing_ends_a_pause(int threads)
{
  char url[128];
  resay_engine *engine = new_engine();
  resay_id listener = add(engine, "tcp://127.0.0.1:0", url);
  resay_client *before, *after;
  CHECK_CODE(resay_start(engine, (uint32_t)threads, NULL), 0);
  before = dial(url);
  ask(before, "a", "a");
  CHECK_CODE(resay_listener_pause(engine, listener), 0);
  CHECK_CODE(resay_sync(engine, PATIENCE_MS), 0);
  after = dial(url);
  say(before, "b", 1);
  say(after, "c", 1);
  CHECK_CODE(resay_sync(engine, PATIENCE_MS), 0);
  CHECK(stats_of(engine, 0).messages_in == 1);
  CHECK_CODE(resay_listener_close(engine, listener), 0);
  hear(before, "b", 1);
  hear(after, "c", 1);
  ask(after, "d", "d");
  resay_client_free(before);
  resay_client_free(after);
  CHECK_CODE(resay_engine_free(engine), 0);
}

int main(void)
{
  siblings_share_a_port(SOCK_STREAM);
  siblings_share_a_port(SOCK_DGRAM);
  closing_ends_a_pause(1);
  closing_ends_a_pause(3);
  return 0;
}

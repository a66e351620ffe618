/*
 * libevent, as its book does it: a bufferevent a connection, the input moved to the output. Datagrams: a plain event.
 *
 *   libevent tcp|unix|udp PORT|PATH
 */
#include "common.h"
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>

static void on_read(struct bufferevent *peer, void *unused)
{
  (void)unused;
  evbuffer_add_buffer(bufferevent_get_output(peer), bufferevent_get_input(peer));
}

static void on_event(struct bufferevent *peer, short events, void *unused)
{
  (void)unused;
  if (events & (BEV_EVENT_EOF | BEV_EVENT_ERROR)) bufferevent_free(peer);
}

static void on_connection(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address, int len,
                          void *unused)
{
  (void)address, (void)len, (void)unused;
  struct event_base *base = evconnlistener_get_base(listener);
  struct bufferevent *peer = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);
  if (!peer) return;
  bufferevent_setcb(peer, on_read, NULL, on_event, NULL);
  bufferevent_enable(peer, EV_READ | EV_WRITE);
}

static void on_datagram(evutil_socket_t fd, short events, void *unused)
{
  static char buffer[DATAGRAM_BYTES_MAX];
  struct sockaddr_in peer;
  socklen_t len = sizeof peer;
  (void)events, (void)unused;
  ssize_t received = recvfrom(fd, buffer, sizeof buffer, 0, (struct sockaddr *)&peer, &len);
  if (received >= 0) sendto(fd, buffer, (size_t)received, 0, (struct sockaddr *)&peer, len);
}

int main(int argc, char **argv)
{
  if (argc != 3) return fputs("usage: libevent tcp|unix|udp PORT|PATH\n", stderr), 2;
  struct event_base *base = event_base_new();
  if (!base) fail("event_base_new");
  int fd = bound(argv[1], argv[2], SOCK_NONBLOCK);
  if (strcmp(argv[1], "udp") == 0) {
    struct event *event = event_new(base, fd, EV_READ | EV_PERSIST, on_datagram, NULL);
    if (!event || event_add(event, NULL) < 0) fail("event_add");
  } else if (!evconnlistener_new(base, on_connection, NULL, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, fd)) {
    fail("evconnlistener_new");
  }
  return event_base_dispatch(base);
}

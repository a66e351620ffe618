/*
 * The plain loop by hand: epoll, one buffer for all connections, one read and one write an event.
 *
 *   epoll lt|et tcp|unix PORT|PATH
 *
 * lt: level-triggered, nothing is read twice. et: edge-triggered; a read that did not fill the buffer has emptied the socket.
 * What a peer does not take is kept, and the peer is not read until that is gone.
 */
#define _GNU_SOURCE
#include "common.h"
#include <sys/epoll.h>

#define EVENTS_MAX 1024
#define BUFFER_BYTES (128 << 10)

struct connection {
  char *unsent;
  size_t unsent_bytes;
};

static struct connection *connections; /* by descriptor */
static int connections_max;
static int epoll_fd, edges;
static char buffer[BUFFER_BYTES];

static void watch(int operation, int fd, uint32_t events)
{
  struct epoll_event event = { .events = events | (edges ? EPOLLET : 0), .data.fd = fd };
  if (epoll_ctl(epoll_fd, operation, fd, &event) < 0) fail("epoll_ctl");
}

static void close_connection(int fd)
{
  free(connections[fd].unsent);
  connections[fd] = (struct connection){ 0 };
  close(fd);
}

static void accept_all(int listener)
{
  int fd;
  while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
    if (fd >= connections_max) {
      int more = fd * 2 + 64;
      connections = realloc(connections, (size_t)more * sizeof *connections);
      if (!connections) fail("realloc");
      memset(connections + connections_max, 0, (size_t)(more - connections_max) * sizeof *connections);
      connections_max = more;
    }
    watch(EPOLL_CTL_ADD, fd, edges ? EPOLLIN | EPOLLOUT | EPOLLRDHUP : EPOLLIN);
  }
  if (errno != EAGAIN && errno != ECONNABORTED) fail("accept");
}

/* 1: all is sent; 0: the peer is slow; -1: it is over. */
static int flush(int fd)
{
  struct connection *connection = &connections[fd];
  ssize_t sent = send(fd, connection->unsent, connection->unsent_bytes, MSG_NOSIGNAL);
  if (sent < 0) return errno == EAGAIN ? 0 : -1;
  connection->unsent_bytes -= (size_t)sent;
  if (connection->unsent_bytes) {
    memmove(connection->unsent, connection->unsent + sent, connection->unsent_bytes);
    return 0;
  }
  free(connection->unsent);
  connection->unsent = NULL;
  return 1;
}

static int keep(int fd, const char *bytes, size_t len)
{
  connections[fd].unsent = malloc(len);
  if (!connections[fd].unsent) return -1;
  memcpy(connections[fd].unsent, bytes, len);
  connections[fd].unsent_bytes = len;
  return 0;
}

/* Does what can be done now; -1: it is over. EVENTS: what was reported. */
static int turn(int fd, uint32_t events)
{
  if (connections[fd].unsent) {
    int state = flush(fd);
    if (state <= 0) return state;
    if (!edges) watch(EPOLL_CTL_MOD, fd, EPOLLIN);
    if (!edges) return 0;
  }
  for (;;) {
    ssize_t received = recv(fd, buffer, sizeof buffer, 0);
    if (received <= 0) return received < 0 && errno == EAGAIN ? 0 : -1;
    ssize_t sent = send(fd, buffer, (size_t)received, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) return -1;
    if (sent < 0) sent = 0;
    if (sent < received) {
      if (!edges) watch(EPOLL_CTL_MOD, fd, EPOLLOUT);
      return keep(fd, buffer + sent, (size_t)(received - sent));
    }
    /* An end that was reported with the bytes is not reported again. */
    if (!edges || ((size_t)received < sizeof buffer && !(events & EPOLLRDHUP))) return 0;
  }
}

int main(int argc, char **argv)
{
  static struct epoll_event events[EVENTS_MAX];
  if (argc != 4) return fputs("usage: epoll lt|et tcp|unix PORT|PATH\n", stderr), 2;
  int listener = bound(argv[2], argv[3], SOCK_NONBLOCK);
  if ((epoll_fd = epoll_create1(EPOLL_CLOEXEC)) < 0) fail("epoll_create1");
  watch(EPOLL_CTL_ADD, listener, EPOLLIN);
  edges = strcmp(argv[1], "et") == 0;
  for (;;) {
    int count = epoll_wait(epoll_fd, events, EVENTS_MAX, -1);
    if (count < 0 && errno != EINTR) fail("epoll_wait");
    for (int i = 0; i < count; i++)
      if (events[i].data.fd == listener)
        accept_all(listener);
      else if (turn(events[i].data.fd, events[i].events) < 0)
        close_connection(events[i].data.fd);
  }
}

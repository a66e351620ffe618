/* What the echo servers in C have in common: the command line, and sockets that are bound. */
#ifndef PEERS_COMMON_H
#define PEERS_COMMON_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 4096
/* As much as the system lets us have: bursts of datagrams wait here. */
#define DATAGRAM_SOCKET_BYTES (4 << 20)
#define DATAGRAM_BYTES_MAX 65536

static inline _Noreturn void fail(const char *what)
{
  perror(what);
  exit(2);
}

static inline struct sockaddr_in loopback(const char *port)
{
  struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)) };
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

/* A listening stream socket, or a bound datagram socket: KIND is tcp, unix or udp. FLAGS: SOCK_NONBLOCK or 0. */
static inline int bound(const char *kind, const char *place, int flags)
{
  int one = 1, bytes = DATAGRAM_SOCKET_BYTES;
  int is_unix = strcmp(kind, "unix") == 0, is_udp = strcmp(kind, "udp") == 0;
  if (!is_unix && !is_udp && strcmp(kind, "tcp") != 0) {
    fprintf(stderr, "%s: no kind of socket; there are tcp, unix and udp\n", kind);
    exit(2);
  }
  int fd = socket(is_unix ? AF_UNIX : AF_INET, (is_udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC | flags, 0);
  if (fd < 0) fail("socket");
  if (is_unix) {
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    if (strlen(place) >= sizeof address.sun_path) {
      fprintf(stderr, "%s: too long for a socket's name\n", place);
      exit(2);
    }
    strcpy(address.sun_path, place);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0) fail(place);
  } else {
    struct sockaddr_in address = loopback(place);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0) fail(place);
    /* Accepted sockets inherit it on Linux: tcp(7). */
    if (!is_udp && setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) < 0) fail("TCP_NODELAY");
    if (is_udp && setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes) < 0) fail("SO_RCVBUF");
  }
  if (!is_udp && listen(fd, BACKLOG) < 0) fail("listen");
  return fd;
}

#endif

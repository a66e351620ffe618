/*
 * UDP by hand: one socket, one thread, blocking.
 *
 *   udp plain|mmsg|gro udp PORT
 *
 * plain: recvfrom and sendto. mmsg: recvmmsg takes what there is, sendmmsg answers it. gro: the kernel hands over runs of
 * datagrams of one size from one peer (UDP_GRO) and cuts the answer again (UDP_SEGMENT): udp(7).
 */
#define _GNU_SOURCE
#include "common.h"
#include <netinet/udp.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

#define BATCH 64

static char buffers[BATCH][DATAGRAM_BYTES_MAX];

static _Noreturn void plain(int fd)
{
  for (;;) {
    struct sockaddr_in peer;
    socklen_t len = sizeof peer;
    ssize_t received = recvfrom(fd, buffers[0], DATAGRAM_BYTES_MAX, 0, (struct sockaddr *)&peer, &len);
    if (received >= 0) sendto(fd, buffers[0], (size_t)received, 0, (struct sockaddr *)&peer, len);
  }
}

static _Noreturn void mmsg(int fd)
{
  struct mmsghdr messages[BATCH];
  struct iovec pieces[BATCH];
  struct sockaddr_in peers[BATCH];
  for (int i = 0; i < BATCH; i++)
    messages[i] = (struct mmsghdr){ .msg_hdr = { .msg_name = &peers[i], .msg_iov = &pieces[i], .msg_iovlen = 1 } };
  for (;;) {
    for (int i = 0; i < BATCH; i++) {
      messages[i].msg_hdr.msg_namelen = sizeof peers[i];
      pieces[i] = (struct iovec){ buffers[i], DATAGRAM_BYTES_MAX };
    }
    int count = recvmmsg(fd, messages, BATCH, MSG_WAITFORONE, NULL);
    for (int i = 0; i < count; i++) pieces[i].iov_len = messages[i].msg_len;
    for (int sent = 0; sent < count;) {
      int now = sendmmsg(fd, messages + sent, (unsigned)(count - sent), 0);
      sent += now > 0 ? now : 1; /* what cannot be sent is lost */
    }
  }
}

static _Noreturn void gro(int fd)
{
  int one = 1;
  if (setsockopt(fd, IPPROTO_UDP, UDP_GRO, &one, sizeof one) < 0) fail("UDP_GRO");
  for (;;) {
    struct sockaddr_in peer;
    struct iovec piece = { buffers[0], DATAGRAM_BYTES_MAX };
    union {
      char bytes[CMSG_SPACE(sizeof(int))];
      struct cmsghdr align;
    } control;
    struct msghdr message = { .msg_name = &peer, .msg_namelen = sizeof peer, .msg_iov = &piece, .msg_iovlen = 1,
                              .msg_control = control.bytes, .msg_controllen = sizeof control.bytes };
    ssize_t received = recvmsg(fd, &message, 0);
    if (received < 0) continue;
    int segment_bytes = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c))
      if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) memcpy(&segment_bytes, CMSG_DATA(c), sizeof(int));
    piece.iov_len = (size_t)received;
    message.msg_controllen = 0;
    message.msg_control = NULL;
    if (segment_bytes > 0 && segment_bytes < received) {
      uint16_t segment = (uint16_t)segment_bytes;
      message.msg_control = control.bytes;
      message.msg_controllen = CMSG_SPACE(sizeof segment);
      struct cmsghdr *c = CMSG_FIRSTHDR(&message);
      c->cmsg_level = IPPROTO_UDP;
      c->cmsg_type = UDP_SEGMENT;
      c->cmsg_len = CMSG_LEN(sizeof segment);
      memcpy(CMSG_DATA(c), &segment, sizeof segment);
    }
    sendmsg(fd, &message, 0);
  }
}

int main(int argc, char **argv)
{
  if (argc != 4 || strcmp(argv[2], "udp") != 0) return fputs("usage: udp plain|mmsg|gro udp PORT\n", stderr), 2;
  int fd = bound("udp", argv[3], 0);
  if (strcmp(argv[1], "mmsg") == 0) mmsg(fd);
  if (strcmp(argv[1], "gro") == 0) gro(fd);
  plain(fd);
}

/*
 * The same by hand over io_uring: multishot accept and receive, buffers that a ring lends to the kernel, answers sent from
 * the buffer that the message came in, SINGLE_ISSUER and DEFER_TASKRUN.
 *
 *   uring tcp|unix PORT|PATH
 */
#define _GNU_SOURCE
#include "common.h"
#include <liburing.h>

#define ENTRIES 4096
#define BUFFERS 256 /* a power of two */
#define BUFFER_BYTES (64 << 10)
#define GROUP 0
#define NONE UINT16_MAX

enum what { ACCEPT, RECEIVE, SEND };

/* Buffers that are to be answered wait in a list; one send is on its way at a time, so that bytes stay in order. */
struct connection {
  uint16_t first, last; /* buffers, the one that is being sent first */
  uint8_t receiving, over;
};

static struct io_uring ring;
static struct io_uring_buf_ring *lent;
static char *memory;
static uint32_t lengths[BUFFERS];
static uint16_t next[BUFFERS];
static struct connection *connections; /* by descriptor */
static int connections_max;
/* Connections whose receive ended because no buffer was free. */
static int *starved, starved_count, starved_max;

static struct io_uring_sqe *entry(void)
{
  struct io_uring_sqe *sqe;
  while (!(sqe = io_uring_get_sqe(&ring)))
    if (io_uring_submit(&ring) < 0) fail("io_uring_submit");
  return sqe;
}

/* The prep functions of some versions clear it: call it last. */
static void tag(struct io_uring_sqe *sqe, enum what what, int fd)
{
  io_uring_sqe_set_data64(sqe, (uint64_t)what << 32 | (uint32_t)fd);
}

static void accept_many(int listener)
{
  struct io_uring_sqe *sqe = entry();
  io_uring_prep_multishot_accept(sqe, listener, NULL, NULL, SOCK_CLOEXEC);
  tag(sqe, ACCEPT, listener);
}

static void receive_many(int fd)
{
  struct io_uring_sqe *sqe = entry();
  io_uring_prep_recv_multishot(sqe, fd, NULL, 0, 0);
  sqe->flags |= IOSQE_BUFFER_SELECT;
  sqe->buf_group = GROUP;
  tag(sqe, RECEIVE, fd);
  connections[fd].receiving = 1;
}

static void send_first(int fd)
{
  uint16_t buffer = connections[fd].first;
  struct io_uring_sqe *sqe = entry();
  /* MSG_WAITALL: the kernel goes on after a short send. */
  io_uring_prep_send(sqe, fd, memory + (size_t)buffer * BUFFER_BYTES, lengths[buffer], MSG_NOSIGNAL | MSG_WAITALL);
  tag(sqe, SEND, fd);
}

static void give_back(uint16_t buffer)
{
  io_uring_buf_ring_add(lent, memory + (size_t)buffer * BUFFER_BYTES, BUFFER_BYTES, buffer,
                        io_uring_buf_ring_mask(BUFFERS), 0);
  io_uring_buf_ring_advance(lent, 1);
}

static void close_when_done(int fd)
{
  struct connection *connection = &connections[fd];
  if (connection->over && !connection->receiving && connection->first == NONE) close(fd);
}

static void accepted(int fd)
{
  if (fd >= connections_max) {
    connections_max = fd * 2 + 64;
    connections = realloc(connections, (size_t)connections_max * sizeof *connections);
    if (!connections) fail("realloc");
  }
  connections[fd] = (struct connection){ .first = NONE, .last = NONE };
  receive_many(fd);
}

static void received(int fd, const struct io_uring_cqe *cqe)
{
  struct connection *connection = &connections[fd];
  if (!(cqe->flags & IORING_CQE_F_MORE)) connection->receiving = 0;
  if (cqe->flags & IORING_CQE_F_BUFFER) {
    uint16_t buffer = (uint16_t)(cqe->flags >> IORING_CQE_BUFFER_SHIFT);
    if (cqe->res <= 0 || connection->over) {
      give_back(buffer);
    } else {
      lengths[buffer] = (uint32_t)cqe->res;
      next[buffer] = NONE;
      if (connection->first == NONE) {
        connection->first = connection->last = buffer;
        send_first(fd);
      } else {
        next[connection->last] = buffer;
        connection->last = buffer;
      }
    }
  }
  if (cqe->res == -ENOBUFS) {
    if (starved_count == starved_max) {
      starved_max = starved_max * 2 + 64;
      starved = realloc(starved, (size_t)starved_max * sizeof *starved);
      if (!starved) fail("realloc");
    }
    starved[starved_count++] = fd;
    return;
  }
  if (cqe->res <= 0)
    connection->over = 1;
  else if (!connection->receiving && !connection->over)
    receive_many(fd);
  close_when_done(fd);
}

static void sent(int fd, int result)
{
  struct connection *connection = &connections[fd];
  uint16_t buffer = connection->first;
  connection->first = next[buffer];
  int is_broken = result < 0 || (uint32_t)result < lengths[buffer];
  give_back(buffer);
  if (is_broken) {
    while (connection->first != NONE) {
      buffer = connection->first;
      connection->first = next[buffer];
      give_back(buffer);
    }
    if (!connection->over) shutdown(fd, SHUT_RDWR); /* ends the receive */
    connection->over = 1;
  }
  if (connection->first != NONE) send_first(fd);
  close_when_done(fd);
}

static void set_up(void)
{
  struct io_uring_params params = { .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN };
  int result = io_uring_queue_init_params(ENTRIES, &ring, &params);
  if (result < 0) errno = -result, fail("io_uring_setup");
  size_t ring_bytes = BUFFERS * sizeof(struct io_uring_buf);
  if (posix_memalign((void **)&lent, 4096, ring_bytes) || posix_memalign((void **)&memory, 4096, (size_t)BUFFERS * BUFFER_BYTES))
    fail("posix_memalign");
  io_uring_buf_ring_init(lent);
  struct io_uring_buf_reg registration = { .ring_addr = (uintptr_t)lent, .ring_entries = BUFFERS, .bgid = GROUP };
  result = io_uring_register_buf_ring(&ring, &registration, 0);
  if (result < 0) errno = -result, fail("io_uring_register_buf_ring");
  for (int i = 0; i < BUFFERS; i++) give_back((uint16_t)i);
}

int main(int argc, char **argv)
{
  if (argc != 3) return fputs("usage: uring tcp|unix PORT|PATH\n", stderr), 2;
  int listener = bound(argv[1], argv[2], 0);
  set_up();
  accept_many(listener);
  for (;;) {
    int result = io_uring_submit_and_wait(&ring, 1);
    if (result < 0 && result != -EINTR) errno = -result, fail("io_uring_enter");
    struct io_uring_cqe *cqe;
    unsigned head, count = 0;
    io_uring_for_each_cqe(&ring, head, cqe) {
      int fd = (int)(uint32_t)cqe->user_data;
      count++;
      switch ((enum what)(cqe->user_data >> 32)) {
      case ACCEPT:
        if (cqe->res >= 0) accepted(cqe->res);
        if (!(cqe->flags & IORING_CQE_F_MORE)) accept_many(listener);
        break;
      case RECEIVE: received(fd, cqe); break;
      case SEND: sent(fd, cqe->res); break;
      }
    }
    io_uring_cq_advance(&ring, count);
    /* Buffers have come back in this turn: whoever went without may ask again. */
    for (int i = 0; i < starved_count; i++)
      if (!connections[starved[i]].over) receive_many(starved[i]);
      else close_when_done(starved[i]);
    starved_count = 0;
  }
}

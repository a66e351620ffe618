/*
 * libuv: one buffer for all, since a read is answered before the next; what uv_try_write does not take is copied and queued.
 *
 *   libuv tcp|unix|udp PORT|PATH
 */
#include "common.h"
#include <uv.h>

static char buffer[DATAGRAM_BYTES_MAX];

static void on_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *lent)
{
  (void)handle, (void)suggested;
  *lent = uv_buf_init(buffer, sizeof buffer);
}

static void check(int result, const char *what)
{
  if (result < 0) {
    fprintf(stderr, "%s: %s\n", what, uv_strerror(result));
    exit(2);
  }
}

static void on_close(uv_handle_t *handle)
{
  free(handle);
}

static void end(uv_handle_t *stream)
{
  if (!uv_is_closing(stream)) uv_close(stream, on_close);
}

static void on_written(uv_write_t *request, int status)
{
  if (status < 0) end((uv_handle_t *)request->handle);
  free(request);
}

/* The rest of an answer, behind its request. */
static int queue(uv_stream_t *stream, const char *bytes, size_t len)
{
  uv_write_t *request = malloc(sizeof *request + len);
  if (!request) return UV_ENOMEM;
  uv_buf_t copy = uv_buf_init((char *)(request + 1), (unsigned)len);
  memcpy(copy.base, bytes, len);
  int result = uv_write(request, stream, &copy, 1, on_written);
  if (result < 0) free(request);
  return result;
}

static void on_read(uv_stream_t *stream, ssize_t received, const uv_buf_t *lent)
{
  if (received < 0) end((uv_handle_t *)stream);
  if (received <= 0) return;
  uv_buf_t answer = uv_buf_init(lent->base, (unsigned)received);
  int sent = uv_try_write(stream, &answer, 1);
  if (sent == UV_EAGAIN) sent = 0;
  if (sent < 0 || (sent < received && queue(stream, lent->base + sent, (size_t)(received - sent)) < 0))
    end((uv_handle_t *)stream);
}

static void on_connection(uv_stream_t *listener, int status)
{
  if (status < 0) return;
  uv_stream_t *stream = malloc(listener->type == UV_TCP ? sizeof(uv_tcp_t) : sizeof(uv_pipe_t));
  if (listener->type == UV_TCP)
    uv_tcp_init(listener->loop, (uv_tcp_t *)stream);
  else
    uv_pipe_init(listener->loop, (uv_pipe_t *)stream, 0);
  if (uv_accept(listener, stream) < 0 || uv_read_start(stream, on_buffer, on_read) < 0)
    uv_close((uv_handle_t *)stream, on_close);
  else if (listener->type == UV_TCP)
    uv_tcp_nodelay((uv_tcp_t *)stream, 1);
}

static void on_datagram(uv_udp_t *socket, ssize_t received, const uv_buf_t *lent, const struct sockaddr *peer,
                        unsigned flags)
{
  (void)flags;
  if (received < 0 || !peer) return;
  uv_buf_t answer = uv_buf_init(lent->base, (unsigned)received);
  uv_udp_try_send(socket, &answer, 1, peer); /* what cannot be sent is lost */
}

int main(int argc, char **argv)
{
  if (argc != 3) return fputs("usage: libuv tcp|unix|udp PORT|PATH\n", stderr), 2;
  uv_loop_t *loop = uv_default_loop();
  static union {
    uv_tcp_t tcp;
    uv_pipe_t pipe;
    uv_udp_t udp;
  } handle;
  struct sockaddr_in address = loopback(argv[2]);
  if (strcmp(argv[1], "udp") == 0) {
    int bytes = DATAGRAM_SOCKET_BYTES;
    check(uv_udp_init(loop, &handle.udp), "socket");
    check(uv_udp_bind(&handle.udp, (struct sockaddr *)&address, 0), argv[2]);
    check(uv_recv_buffer_size((uv_handle_t *)&handle.udp, &bytes), "SO_RCVBUF");
    check(uv_udp_recv_start(&handle.udp, on_buffer, on_datagram), "receive");
  } else {
    if (strcmp(argv[1], "unix") == 0) {
      check(uv_pipe_init(loop, &handle.pipe, 0), "socket");
      check(uv_pipe_bind(&handle.pipe, argv[2]), argv[2]);
    } else {
      check(uv_tcp_init(loop, &handle.tcp), "socket");
      check(uv_tcp_bind(&handle.tcp, (struct sockaddr *)&address, 0), argv[2]);
    }
    check(uv_listen((uv_stream_t *)&handle, BACKLOG, on_connection), "listen");
  }
  return uv_run(loop, UV_RUN_DEFAULT);
}

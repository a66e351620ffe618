/* An engine inside a libuv loop: a poll handle for its descriptor, and a timer for what is due without one.
 *
 *   cc -Iinclude examples/c/libuv_loop.c -Ltarget/release -lresay -luv -o libuv_loop
 *   ln -sf libresay.so target/release/libresay.so.1
 *   LD_LIBRARY_PATH=target/release ./libuv_loop
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>

#include <resay.h>
#include <uv.h>

struct server {
  resay_engine *engine;
  uv_poll_t poll;
  uv_timer_t timer;
  int result;
};

static void turn(struct server *server);

static void on_readable(uv_poll_t *poll, int status, int events)
{
  (void)status, (void)events;
  turn(poll->data);
}

static void on_time(uv_timer_t *timer)
{
  turn(timer->data);
}

/* One turn of the engine, and when the next one is due at the latest. */
static void turn(struct server *server)
{
  int timeout;
  server->result = resay_run(server->engine, 0);
  timeout = resay_poll_timeout(server->engine);
  if (server->result <= 0) {
    /* The descriptor leaves the loop before the engine goes. */
    uv_close((uv_handle_t *)&server->poll, NULL);
    uv_close((uv_handle_t *)&server->timer, NULL);
  } else if (timeout >= 0) {
    uv_timer_start(&server->timer, on_time, (uint64_t)timeout, 0);
  } else {
    uv_timer_stop(&server->timer);
  }
}

/* The rest of the program: here a client of this very server. */
struct client {
  uv_tcp_t tcp;
  uv_connect_t connecting;
  uv_write_t writing;
  struct server *server;
  char answer[16];
  size_t len;
};

static void on_room(uv_handle_t *handle, size_t suggested, uv_buf_t *room)
{
  struct client *client = handle->data;
  (void)suggested;
  *room = uv_buf_init(client->answer + client->len, (unsigned)(sizeof client->answer - client->len));
}

static void on_read(uv_stream_t *stream, ssize_t got, const uv_buf_t *room)
{
  struct client *client = stream->data;
  (void)room;
  if (got > 0) client->len += (size_t)got;
  if (got < 0 || client->len == 5) {
    uv_close((uv_handle_t *)stream, NULL);
    resay_stop(client->server->engine);
  }
}

static void on_connected(uv_connect_t *connecting, int status)
{
  struct client *client = connecting->data;
  uv_buf_t question = uv_buf_init((char *)"resay", 5);
  if (status < 0) {
    uv_close((uv_handle_t *)&client->tcp, NULL);
    resay_stop(client->server->engine);
    return;
  }
  uv_read_start((uv_stream_t *)&client->tcp, on_room, on_read);
  uv_write(&client->writing, (uv_stream_t *)&client->tcp, &question, 1, NULL);
}

int main(void)
{
  uv_loop_t *loop = uv_default_loop();
  struct server server;
  struct client client;
  struct sockaddr_in to;
  resay_error error;
  resay_id listener;

  memset(&server, 0, sizeof server);
  memset(&client, 0, sizeof client);
  if (resay_engine_new(RESAY_ABI, &server.engine, &error) < 0
      || resay_chain(server.engine, 0, "delay:time=5ms | uppercase", &error) < 0
      || resay_listen(server.engine, "tcp://127.0.0.1:0", &listener, &error) < 0)
    return fprintf(stderr, "%s\n", error.message), 1;
  if (uv_poll_init(loop, &server.poll, resay_poll_fd(server.engine)) < 0) return 1;
  uv_timer_init(loop, &server.timer);
  server.poll.data = server.timer.data = &server;
  uv_poll_start(&server.poll, UV_READABLE, on_readable);

  client.server = &server;
  client.tcp.data = client.connecting.data = &client;
  uv_tcp_init(loop, &client.tcp);
  uv_ip4_addr("127.0.0.1", resay_listener_port(server.engine, listener), &to);
  uv_tcp_connect(&client.connecting, &client.tcp, (const struct sockaddr *)&to, on_connected);

  uv_run(loop, UV_RUN_DEFAULT); /* until nothing is watched any more */
  printf("resay -> %.*s\n", (int)client.len, client.answer);
  uv_loop_close(loop);
  resay_engine_free(server.engine);
  return server.result < 0 || client.len != 5 || memcmp(client.answer, "RESAY", 5) != 0;
}

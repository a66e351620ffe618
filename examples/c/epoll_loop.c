/* An engine inside the program's own epoll(7) loop, beside a timer of the program: no thread is made.
 *
 *   cc -Iinclude examples/c/epoll_loop.c -Ltarget/release -lresay -o epoll_loop
 *   ln -sf libresay.so target/release/libresay.so.1
 *   LD_LIBRARY_PATH=target/release ./epoll_loop
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <netinet/in.h>

#include <resay.h>

static int watch(int loop, int fd)
{
  struct epoll_event event;
  memset(&event, 0, sizeof event);
  event.events = EPOLLIN;
  event.data.fd = fd;
  return epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event);
}

int main(void)
{
  const struct itimerspec every_millisecond = {{0, 1000000}, {0, 1000000}};
  resay_engine *engine;
  resay_error error;
  resay_id listener;
  struct sockaddr_in to;
  char answer[16];
  size_t len = 0;
  int alive = 1, ticks = 0, loop = epoll_create1(EPOLL_CLOEXEC);
  int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC), client = socket(AF_INET, SOCK_STREAM, 0);

  if (resay_engine_new(RESAY_ABI, &engine, &error) < 0
      || resay_chain(engine, 0, "delay:time=5ms | reverse", &error) < 0
      || resay_listen(engine, "tcp://127.0.0.1:0", &listener, &error) < 0)
    return fprintf(stderr, "%s\n", error.message), 1;

  /* The rest of the program: a timer, and a client of this very server. */
  memset(&to, 0, sizeof to);
  to.sin_family = AF_INET;
  to.sin_port = htons((uint16_t)resay_listener_port(engine, listener));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(client, (struct sockaddr *)&to, sizeof to) < 0 || send(client, "resay", 5, 0) < 0) return perror("client"), 1;
  timerfd_settime(timer, 0, &every_millisecond, NULL);
  if (watch(loop, resay_poll_fd(engine)) < 0 || watch(loop, timer) < 0 || watch(loop, client) < 0)
    return perror("epoll_ctl"), 1;

  while (alive > 0) {
    struct epoll_event ready[8];
    int i, n = epoll_wait(loop, ready, 8, resay_poll_timeout(engine));
    for (i = 0; i < n; i++) {
      if (ready[i].data.fd == timer) {
        uint64_t expired;
        if (read(timer, &expired, sizeof expired) == sizeof expired) ticks++;
      } else if (ready[i].data.fd == client) {
        ssize_t got = recv(client, answer + len, sizeof answer - len, 0);
        if (got > 0) len += (size_t)got;
        if (len == 5) resay_stop(engine);
      }
    }
    alive = resay_run(engine, 0); /* one turn, also when only the time was up */
  }
  printf("resay -> %.*s, ticks seen meanwhile: %s\n", (int)len, answer, ticks > 0 ? "some" : "none");
  resay_engine_free(engine);
  close(client), close(timer), close(loop);
  return alive < 0 || len != 5 || memcmp(answer, "yaser", 5) != 0;
}

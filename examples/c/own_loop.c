/* An engine inside the program's own event loop: no thread is made, and the loop is poll(2). Any other, such as
 * epoll or libuv, watches the same descriptor.
 *
 *   cc -Iinclude examples/c/own_loop.c -Ltarget/release -lresay -o own_loop
 *   ln -sf libresay.so target/release/libresay.so.1
 *   LD_LIBRARY_PATH=target/release ./own_loop
 */
#define _POSIX_C_SOURCE 200809L
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <resay.h>

int main(void)
{
  const char question[] = "is anybody there?", expected[] = "IS ANYBODY THERE?";
  resay_engine *engine;
  resay_error error;
  struct sockaddr_un to;
  struct pollfd watched[2];
  char url[108], answer[64];
  size_t got = 0;
  int alive = 1, client;

  snprintf(url, sizeof url, "unix:/tmp/resay-own-loop-%ld.sock?mode=600", (long)getpid());
  if (resay_engine_new(RESAY_ABI, &engine, &error) < 0
      || resay_chain(engine, 0, "uppercase", &error) < 0
      || resay_listen(engine, url, NULL, &error) < 0) {
    fprintf(stderr, "%s\n", error.message);
    return 1;
  }

  /* The rest of the program: here a client of this very server. */
  memset(&to, 0, sizeof to);
  to.sun_family = AF_UNIX;
  snprintf(to.sun_path, sizeof to.sun_path, "/tmp/resay-own-loop-%ld.sock", (long)getpid());
  client = socket(AF_UNIX, SOCK_STREAM, 0);
  if (client < 0 || connect(client, (struct sockaddr *)&to, sizeof to) < 0) return perror("connect"), 1;
  if (send(client, question, strlen(question), 0) < 0) return perror("send"), 1;

  watched[0].fd = resay_poll_fd(engine);
  watched[1].fd = client;
  watched[0].events = watched[1].events = POLLIN;
  if (watched[0].fd < 0) return fprintf(stderr, "%s\n", resay_last_error()), 1;
  while (alive) {
    if (poll(watched, 2, resay_poll_timeout(engine)) < 0) return perror("poll"), 1;
    if (watched[1].revents & POLLIN) {
      ssize_t n = recv(client, answer + got, sizeof answer - 1 - got, 0);
      if (n <= 0) return fprintf(stderr, "the answer is cut off\n"), 1;
      got += (size_t)n;
      if (got >= strlen(expected)) resay_stop(engine);
    }
    alive = resay_run(engine, 0);
  }
  answer[got] = '\0';
  printf("%s -> %s\n", question, answer);
  close(client);
  resay_engine_free(engine);
  return alive < 0 || strcmp(answer, expected) != 0 || access(to.sun_path, F_OK) == 0;
}

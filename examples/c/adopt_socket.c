/* Serving on a socket that the program opened itself, with options of its own, and keeps.
 *
 *   cc -Iinclude examples/c/adopt_socket.c -Ltarget/release -lresay -o adopt_socket
 *   ln -sf libresay.so target/release/libresay.so.1
 *   LD_LIBRARY_PATH=target/release ./adopt_socket
 */
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <resay.h>

int main(void)
{
  resay_engine *engine;
  resay_client *client;
  resay_error error;
  resay_id listener;
  struct sockaddr_in here;
  char url[64], answer[8];
  size_t got;
  int fd = socket(AF_INET, SOCK_STREAM, 0);

  memset(&here, 0, sizeof here);
  here.sin_family = AF_INET;
  here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (fd < 0 || bind(fd, (struct sockaddr *)&here, sizeof here) < 0 || listen(fd, 16) < 0) return perror("listen"), 1;

  /* RESAY_FD_OWN would give it away. */
  if (resay_engine_new(RESAY_ABI, &engine, &error) < 0
      || resay_listen_fd(engine, fd, RESAY_FD_DUP, "frame=lines&chain=uppercase", &listener, &error) < 0
      || resay_start(engine, 1, &error) < 0
      || resay_listener_url(engine, listener, url, sizeof url, NULL) < 0
      || resay_client_open(url, 5000, &client, &error) < 0)
    return fprintf(stderr, "%s\n", error.message), 1;
  if (resay_client_send(client, "adopt\n", 6, 5000) < 0
      || resay_client_recv(client, answer, sizeof answer, &got, 5000) != 0)
    return fprintf(stderr, "%s\n", resay_last_error()), 1;
  printf("%s: %.*s", url, (int)got, answer);
  resay_client_free(client);
  resay_engine_free(engine);
  return close(fd) < 0 || got != 6 || memcmp(answer, "ADOPT\n", 6) != 0; /* still open, still ours */
}

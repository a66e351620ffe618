/* Sockets that the program opened: what a failure leaves of one, what holds once the engine has it, and after its end. */
#include "check.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/time.h>

/* All that may change of a socket. */
struct state {
  int flags, values[8];
  struct linger linger;
};

static struct state state_of(int fd)
{
  static const int options[8][2] = {
    { SOL_SOCKET, SO_SNDBUF }, { SOL_SOCKET, SO_RCVBUF },     { SOL_SOCKET, SO_KEEPALIVE },  { SOL_SOCKET, SO_OOBINLINE },
    { SOL_SOCKET, SO_RCVLOWAT }, { IPPROTO_TCP, TCP_NODELAY }, { IPPROTO_TCP, TCP_CORK }, { IPPROTO_IP, IP_PKTINFO },
  };
  struct state found;
  socklen_t size = sizeof found.linger;
  memset(&found, 0, sizeof found);
  found.flags = fcntl(fd, F_GETFL);
  getsockopt(fd, SOL_SOCKET, SO_LINGER, &found.linger, &size);
  for (size_t i = 0; i < 8; i++) {
    size = sizeof found.values[i];
    if (getsockopt(fd, options[i][0], options[i][1], &found.values[i], &size) < 0) found.values[i] = -1;
  }
  return found;
}

static int same(struct state a, struct state b)
{
  return memcmp(&a, &b, sizeof a) == 0;
}

static int is_open(int fd)
{
  return fcntl(fd, F_GETFD) >= 0;
}

/* A socket on a free port; it listens if its type does. */
static int opened(int type, const char *address)
{
  struct sockaddr_in here;
  int fd = socket(AF_INET, type, 0);
  memset(&here, 0, sizeof here);
  here.sin_family = AF_INET;
  CHECK(inet_pton(AF_INET, address, &here.sin_addr) == 1);
  CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&here, sizeof here) == 0);
  if (type == SOCK_STREAM) CHECK(listen(fd, 8) == 0);
  return fd;
}

static void set(int fd, int level, int option, int value)
{
  CHECK(setsockopt(fd, level, option, &value, sizeof value) == 0);
}

static const uint32_t ways[2] = { RESAY_FD_DUP, RESAY_FD_OWN };

/* Whatever the failure: the descriptor is the caller's, open, and as it was. */
static void a_failure_changes_nothing(void)
{
  static const char *bad[] = { "sndbuf=9k&nonsense=1", "sndbuf=9k&chain=nonesuch", "sndbuf=9k&frame=fixed:9&max_message=5" };
  static const struct {
    int is_udp;
    const char *options, *message;
  } means_nothing[] = {
    { 0, "mode=600", "mode means nothing for a socket handed over" },
    { 0, "rate=5/1s", "rate means nothing for tcp" },
    { 1, "frame=lines", "frame means nothing for udp" },
    { 1, "backlog=5&idle_timeout=5s", "backlog means nothing for udp" },
    { 0, "backlog=5&&", "an option is missing here" },
    { 0, "backlog=5&backlog=5", "this option is given twice" },
  };
  resay_engine *engine = new_engine(), *ended = new_engine();
  struct linger lingers = { 1, 5 };
  char name[32];
  resay_id listener = 77;
  resay_error error;
  int tcp = opened(SOCK_STREAM, "127.0.0.1"), unbound = socket(AF_INET, SOCK_DGRAM, 0), pair[2];
  int udp = opened(SOCK_DGRAM, "127.0.0.1"), file = open("/dev/null", O_RDONLY);
  CHECK(file >= 0);
  CHECK(setsockopt(tcp, SOL_SOCKET, SO_LINGER, &lingers, sizeof lingers) == 0);
  set(tcp, IPPROTO_TCP, TCP_CORK, 1);
  set(tcp, SOL_SOCKET, SO_RCVLOWAT, 99);
  CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
  CHECK_CODE(resay_start(ended, 1, NULL), 0);
  CHECK_CODE(resay_drain(ended, PATIENCE_MS), 0);
  for (size_t way = 0; way < 2; way++) {
    struct state before = state_of(tcp);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
      CHECK(resay_listen_fd(engine, tcp, ways[way], bad[i], &listener, &error) < 0);
      CHECK(error.code != 0 && is_open(tcp) && same(before, state_of(tcp)));
    }
    CHECK_CODE(resay_listen_fd(ended, tcp, ways[way], "sndbuf=9k", &listener, &error), RESAY_E_STATE);
    CHECK(is_open(tcp) && same(before, state_of(tcp)));
    for (size_t i = 0; i < sizeof means_nothing / sizeof *means_nothing; i++) {
      CHECK_CODE(resay_listen_fd(engine, means_nothing[i].is_udp ? udp : tcp, ways[way], means_nothing[i].options, &listener, &error), RESAY_E_SPEC);
      CHECK(strncmp(error.message, means_nothing[i].message, strlen(means_nothing[i].message)) == 0);
      CHECK(same(before, state_of(tcp)));
    }
    snprintf(name, sizeof name, "adopt fd:%d:", file);
    CHECK_CODE(resay_listen_fd(engine, file, ways[way], NULL, &listener, &error), RESAY_E_SYS);
    CHECK(strncmp(error.message, name, strlen(name)) == 0);
    before = state_of(unbound);
    CHECK_CODE(resay_listen_fd(engine, unbound, ways[way], NULL, &listener, &error), RESAY_E_SYS);
    CHECK(strstr(error.message, "not bound") != NULL && is_open(unbound) && same(before, state_of(unbound)));
    before = state_of(pair[0]);
    CHECK_CODE(resay_listen_fd(engine, pair[0], ways[way], NULL, &listener, &error), RESAY_E_SYS);
    CHECK(is_open(pair[0]) && same(before, state_of(pair[0])));
  }
  CHECK(listener == 0);
  /* It can still be adopted. */
  CHECK_CODE(resay_listen_fd(engine, tcp, RESAY_FD_OWN, NULL, &listener, &error), 0);
  resay_engine_free(engine);
  resay_engine_free(ended);
  CHECK(!is_open(tcp));
  close(udp);
  close(file);
  close(unbound);
  close(pair[0]);
  close(pair[1]);
}

/* A duplicate stays the caller's; what the engine has set, stays set. The next engine takes it as it is. */
static void what_holds_after_the_end(void)
{
  int types[2] = { SOCK_STREAM, SOCK_DGRAM };
  for (size_t i = 0; i < 2; i++) {
    int fd = opened(types[i], "127.0.0.1");
    for (int round = 0; round < 3; round++) {
      resay_engine *engine = new_engine();
      resay_client *client;
      resay_id listener;
      char url[128];
      CHECK_CODE(resay_listen_fd(engine, fd, RESAY_FD_DUP, "sndbuf=64k", &listener, NULL), 0);
      CHECK_CODE(resay_start(engine, 1, NULL), 0);
      CHECK_CODE(resay_listener_url(engine, listener, url, sizeof url, NULL), 0);
      client = dial(url);
      ask(client, "whose is it?", "whose is it?");
      resay_client_free(client);
      resay_engine_free(engine);
      CHECK(is_open(fd) && (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0 && state_of(fd).values[0] == 2 * 65536);
      /* The caller may have it back as it likes. */
      CHECK(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK) == 0);
    }
    close(fd);
  }
}

/* A datagram that waited before the engine was there. */
static void what_waited_is_answered(void)
{
  resay_engine *engine = new_engine();
  struct sockaddr_in there;
  socklen_t size = sizeof there;
  struct timeval patience = { PATIENCE_MS / 1000, 0 };
  char answer[8];
  int fd = opened(SOCK_DGRAM, "0.0.0.0"), peer = socket(AF_INET, SOCK_DGRAM, 0);
  CHECK(getsockname(fd, (struct sockaddr *)&there, &size) == 0);
  CHECK(inet_pton(AF_INET, "127.0.0.5", &there.sin_addr) == 1);
  CHECK(setsockopt(peer, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0);
  CHECK(connect(peer, (struct sockaddr *)&there, sizeof there) == 0 && send(peer, "first", 5, 0) == 5);
  CHECK_CODE(resay_listen_fd(engine, fd, RESAY_FD_OWN, "chain=uppercase", NULL, NULL), 0);
  CHECK_CODE(resay_start(engine, 1, NULL), 0);
  CHECK(recv(peer, answer, sizeof answer, 0) == 5 && memcmp(answer, "FIRST", 5) == 0);
  close(peer);
  resay_engine_free(engine);
}

int main(void)
{
  a_failure_changes_nothing();
  what_holds_after_the_end();
  what_waited_is_answered();
  printf("adopting: ok\n");
  return 0;
}

/* A host with more rights than its caller (AT_SECURE, getauxval(3)) sees no variable of the environment. Root makes a
 * set-user-ID copy of this program, which nobody runs; others are not able to. */
#define _GNU_SOURCE
#include "check.h"

#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
#include <sys/auxv.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* Whether the caller's environment decides what the engine does. */
static int is_obeyed(void)
{
  resay_engine *engine = new_engine();
  resay_error error;
  char answer[256];
  resay_client *client;
  char url[128];
  size_t got;
  int plugin, sockets, variable;
  CHECK_CODE(resay_chain(engine, 0, "planted", &error), RESAY_E_PLUGIN);
  plugin = strstr(error.message, "libplanted.so") != NULL;
  CHECK(plugin || strncmp(error.message, "unknown transform \"planted\"", 27) == 0);
  CHECK(plugin || (error.position == 0 && error.length == 7));
  /* The socket at 3 is whatever the caller had there. */
  sockets = resay_listen(engine, "systemd:", NULL, &error) == 0;
  CHECK(sockets || error.code == RESAY_E_SYS);
  CHECK_CODE(resay_chain(engine, 0, "whoami:env=RESAY_PLUGIN_PATH", NULL), 0);
  add(engine, "udp://127.0.0.1:0?max_amplification=off", url);
  CHECK_CODE(resay_start(engine, 1, NULL), 0);
  client = dial(url);
  say(client, "?", 1);
  CHECK_CODE(resay_client_recv(client, answer, sizeof answer, &got, PATIENCE_MS), 0);
  variable = memmem(answer, got, "\"RESAY_PLUGIN_PATH\":null", 24) == NULL;
  resay_client_free(client);
  CHECK_CODE(resay_engine_free(engine), 0);
  CHECK(plugin == sockets && plugin == variable);
  return plugin;
}

static void copy_of_this_program(const char *to)
{
  int from = open("/proc/self/exe", O_RDONLY), copy = open(to, O_WRONLY | O_CREAT | O_EXCL, 0700);
  struct stat size;
  CHECK(from >= 0 && copy >= 0 && fstat(from, &size) == 0);
  while (size.st_size > 0) {
    ssize_t sent = sendfile(copy, from, NULL, (size_t)size.st_size);
    CHECK(sent > 0);
    size.st_size -= sent;
  }
  CHECK(fchmod(copy, 04755) == 0);
  close(from), close(copy);
}

int main(int count, char **arguments)
{
  char directory[] = "/tmp/resay-secure-XXXXXX", program[80], plugin[80], pid[24];
  int status, file;
  pid_t child;
  if (count > 1) {
    int is_secure = getauxval(AT_SECURE) != 0;
    /* For the directories of this very process; a set-user-ID program could not set it for itself. */
    snprintf(pid, sizeof pid, "%d", getpid());
    CHECK(setenv("LISTEN_PID", pid, 1) == 0);
    printf("%s: secure %d\n", arguments[1], is_secure);
    fflush(stdout);
    if (strcmp(arguments[1], "secure") == 0 && !is_secure) return EXIT_SKIPPED; /* a file system without set-user-ID */
    CHECK(is_obeyed() == !is_secure);
    return 0;
  }
  CHECK(mkdtemp(directory) != NULL && chmod(directory, 0755) == 0);
  snprintf(program, sizeof program, "%s/host", directory);
  snprintf(plugin, sizeof plugin, "%s/libplanted.so", directory);
  file = open(plugin, O_WRONLY | O_CREAT | O_EXCL, 0644);
  CHECK(file >= 0 && write(file, "no library", 10) == 10);
  close(file);
  copy_of_this_program(program);
  CHECK(setenv("RESAY_PLUGIN_PATH", directory, 1) == 0 && setenv("LISTEN_FDS", "1", 1) == 0);
  for (status = 0; status < 2; status++) {
    const char *const kind = status == 0 ? "plain" : "secure";
    int result;
    if (status == 1 && geteuid() != 0) {
      printf("not root: no set-user-ID program is tried\n");
      break;
    }
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
      int udp = socket(AF_INET, SOCK_DGRAM, 0);
      struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
      CHECK(udp >= 0 && bind(udp, (struct sockaddr *)&here, sizeof here) == 0);
      CHECK(dup2(udp, 3) == 3 || udp == 3);
      CHECK(fcntl(3, F_SETFD, 0) == 0);
      if (status == 1) CHECK(setgroups(0, NULL) == 0 && setgid(65534) == 0 && setuid(65534) == 0);
      execl(program, program, kind, (char *)NULL);
      _exit(1);
    }
    CHECK(waitpid(child, &result, 0) == child);
    if (WIFEXITED(result) && WEXITSTATUS(result) == EXIT_SKIPPED) printf("%s: not possible in /tmp\n", kind);
    else CHECK(result == 0);
  }
  unlink(program), unlink(plugin), rmdir(directory);
  return 0;
}

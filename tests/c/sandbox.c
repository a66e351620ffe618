/* Seccomp filters against io_uring: one that refuses leaves epoll, one that kills is survived where nobody asks. */
#define _GNU_SOURCE
#include "check.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#ifndef SYS_io_uring_setup
#define SYS_io_uring_setup 425
#endif

static void filter(unsigned action)
{
  struct sock_filter steps[] = {
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
    BPF_STMT(BPF_RET | BPF_K, action),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = {sizeof steps / sizeof steps[0], steps};
  CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
  CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

/* Starts an engine under the filter; it serves, on epoll. */
static void serve(const char *backend)
{
  resay_engine *engine;
  char url[128], found[16];
  CHECK_CODE(resay_engine_new(RESAY_ABI, &engine, NULL), 0);
  CHECK_CODE(resay_set(engine, "backend", backend, NULL), 0);
  add(engine, "tcp://127.0.0.1:0", url);
  CHECK_CODE(resay_start(engine, 2, NULL), 0);
  CHECK_CODE(resay_get(engine, "backend", found, sizeof found, NULL), 0);
  CHECK(strcmp(found, "epoll") == 0);
  ask_once(url, "sandboxed", "sandboxed");
  CHECK_CODE(resay_engine_free(engine), 0);
}

/* io_uring by name cannot be had, and the engine is as before. */
static void refused(const char *word)
{
  resay_engine *engine;
  resay_error error;
  char url[128];
  CHECK_CODE(resay_has("uring"), 0);
  CHECK_CODE(resay_engine_new(RESAY_ABI, &engine, NULL), 0);
  CHECK_CODE(resay_set(engine, "backend", "uring", NULL), 0);
  add(engine, "tcp://127.0.0.1:0", url);
  CHECK_CODE(resay_start(engine, 1, &error), RESAY_E_SYS);
  CHECK(strstr(error.message, word) != NULL);
  CHECK_CODE(resay_set(engine, "backend", "epoll", NULL), 0);
  CHECK_CODE(resay_start(engine, 1, NULL), 0);
  ask_once(url, "after all", "after all");
  CHECK_CODE(resay_engine_free(engine), 0);
}

static int in_a_child(unsigned action, const char *no_uring, const char *backend, const char *word)
{
  int status;
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    if (no_uring != NULL) CHECK(setenv("RESAY_NO_URING", no_uring, 1) == 0);
    filter(action);
    serve(backend);
    if (word != NULL) refused(word);
    _exit(0);
  }
  CHECK(waitpid(child, &status, 0) == child);
  return status;
}

int main(void)
{
  int status;
  unsetenv("RESAY_NO_URING");
  CHECK(in_a_child(SECCOMP_RET_KILL_PROCESS, NULL, "epoll", NULL) == 0);
  CHECK(in_a_child(SECCOMP_RET_KILL_PROCESS, "1", "auto", "RESAY_NO_URING is set") == 0);
  CHECK(in_a_child(SECCOMP_RET_ERRNO | EPERM, NULL, "auto", "seccomp") == 0);
  CHECK(in_a_child(SECCOMP_RET_ERRNO | ENOSYS, NULL, "auto", "seccomp") == 0);
  /* The filter does kill: without the switch, auto asks. */
  status = in_a_child(SECCOMP_RET_KILL_PROCESS, "0", "auto", NULL);
  CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
  return 0;
}

/* A signal every fraction of a millisecond while engines start: no handler of the program's runs on a thread of theirs. */
#define _GNU_SOURCE
#include "check.h"

#include <sys/syscall.h>
#include <sys/time.h>

static pid_t here;
static int alarms, elsewhere;

static void on_alarm(int signal)
{
  (void)signal;
  __atomic_add_fetch(&alarms, 1, __ATOMIC_RELAXED);
  if ((pid_t)syscall(SYS_gettid) != here) __atomic_add_fetch(&elsewhere, 1, __ATOMIC_RELAXED);
}

int main(void)
{
  const struct itimerval often = {{0, 100}, {0, 100}}, never = {{0, 0}, {0, 0}};
  struct sigaction action;
  int cycles;
  here = (pid_t)syscall(SYS_gettid);
  memset(&action, 0, sizeof action);
  action.sa_handler = on_alarm;
  action.sa_flags = SA_RESTART;
  CHECK(sigaction(SIGALRM, &action, NULL) == 0);
  CHECK(setitimer(ITIMER_REAL, &often, NULL) == 0);
  for (cycles = 0; cycles < 100 || __atomic_load_n(&alarms, __ATOMIC_RELAXED) < 200; cycles++) {
    resay_engine *engine = new_engine();
    char url[128];
    add(engine, "tcp://127.0.0.1:0", url);
    add(engine, "unix:births.sock", url);
    CHECK_CODE(resay_start(engine, 8, NULL), 0);
    CHECK_CODE(resay_engine_free(engine), 0);
  }
  CHECK(setitimer(ITIMER_REAL, &never, NULL) == 0);
  printf("%d alarms in %d cycles, %d on threads of engines\n", alarms, cycles, elsewhere);
  CHECK(elsewhere == 0);
  return 0;
}

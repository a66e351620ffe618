/* The three ways to run: on threads of the engine's own, on one and on several lent ones, in the program's epoll(7) loop. */
#define _GNU_SOURCE
#include "check.h"

#include <sys/epoll.h>

static void *lend(void *engine)
{
  int alive;
  do
    alive = resay_run(engine, -1);
  while (alive > 0 || alive == RESAY_E_INTR);
  CHECK_CODE(alive, 0);
  return NULL;
}

static void own_threads(uint32_t count)
{
  resay_engine *engine = new_engine();
  resay_client *clients[32];
  char url[128];
  int i, before = threads();
  add(engine, "tcp://127.0.0.1:0?chain=uppercase", url);
  CHECK_CODE(resay_start(engine, count, NULL), 0);
  expect_threads(before + (int)count + 1); /* the watchdog */
  for (i = 0; i < 32; i++) clients[i] = dial(url);
  for (i = 0; i < 32; i++) ask(clients[i], "own", "OWN");
  for (i = 0; i < 32; i++) resay_client_free(clients[i]);
  CHECK_CODE(resay_drain(engine, PATIENCE_MS), 0);
  CHECK(stats_of(engine, 0).accepted == 0 || stats_of(engine, 0).open == 0);
  resay_engine_free(engine);
  expect_threads(before);
}

static void lent_threads(int count)
{
  resay_engine *engine = new_engine();
  resay_client *clients[32];
  pthread_t lent[8];
  char url[128], number[8];
  int i;
  resay_id listener = add(engine, "tcp://127.0.0.1:0?chain=reverse", url);
  snprintf(number, sizeof number, "%d", count);
  CHECK_CODE(resay_set(engine, "threads", number, NULL), 0);
  for (i = 0; i < count; i++) CHECK(pthread_create(&lent[i], NULL, lend, engine) == 0);
  for (i = 0; i < 32; i++) clients[i] = dial(url);
  for (i = 0; i < 32; i++) ask(clients[i], "lent", "tnel");
  CHECK(stats_of(engine, listener).accepted == 32);
  CHECK_CODE(resay_drain(engine, PATIENCE_MS), 0); /* only begins */
  for (i = 0; i < 32; i++) hear_end(clients[i]);
  for (i = 0; i < 32; i++) resay_client_free(clients[i]);
  for (i = 0; i < count; i++) CHECK(pthread_join(lent[i], NULL) == 0);
  CHECK_CODE(resay_run(engine, 0), 0);
  CHECK_CODE(resay_join(engine, PATIENCE_MS), 0);
  resay_engine_free(engine);
}

/* More threads than the engine has places. */
static void too_many_threads(void)
{
  resay_engine *engine = new_engine();
  pthread_t lent;
  char url[128];
  add(engine, "udp://127.0.0.1:0", url);
  CHECK(pthread_create(&lent, NULL, lend, engine) == 0);
  ask_once(url, "served", "served"); /* so the place is taken */
  CHECK_CODE(resay_run(engine, 0), RESAY_E_STATE);
  CHECK_CODE(resay_stop(engine), 0);
  CHECK(pthread_join(lent, NULL) == 0);
  resay_engine_free(engine);
}

/* One thread: the engine and its client take turns. */
static void one_turn_at_a_time(void)
{
  resay_engine *engine = new_engine();
  resay_client *client;
  char url[128], buffer[16];
  size_t got;
  int result;
  add(engine, "tcp://127.0.0.1:0?chain=uppercase", url);
  client = dial(url); /* the listener's queue takes it: nothing runs yet */
  say(client, "turns", 5);
  while ((result = resay_client_recv(client, buffer, sizeof buffer, &got, 0)) == RESAY_E_TIMEOUT)
    CHECK_CODE(resay_run(engine, 10), 1);
  CHECK_CODE(result, 0);
  CHECK(got == 5 && memcmp(buffer, "TURNS", 5) == 0);
  resay_stop(engine);
  CHECK_CODE(resay_run(engine, -1), 0);
  CHECK_CODE(resay_run(engine, -1), 0);
  resay_client_free(client);
  resay_engine_free(engine);
}

static void foreign_loop(void)
{
  resay_engine *engine = new_engine();
  resay_client *client;
  struct epoll_event event;
  char url[128], buffer[16];
  size_t got = 0, more;
  int loop = epoll_create1(0), result, before = threads();
  resay_id listener = add(engine, "tcp://127.0.0.1:0", url);
  CHECK_CODE(resay_set(engine, "threads", "2", NULL), 0);
  CHECK_CODE(resay_poll_fd(engine), RESAY_E_STATE);
  resay_engine_free(engine);

  engine = new_engine();
  listener = add(engine, "tcp://127.0.0.1:0?chain=delay%3Atime%3D20ms", url);
  memset(&event, 0, sizeof event);
  event.events = EPOLLIN;
  CHECK(epoll_ctl(loop, EPOLL_CTL_ADD, resay_poll_fd(engine), &event) == 0);
  client = dial(url);
  say(client, "loop", 4);
  while ((result = resay_client_recv(client, buffer + got, sizeof buffer - got, &more, 0)) != 0) {
    CHECK_CODE(result, RESAY_E_TIMEOUT);
    /* As long as the engine allows: a delayed answer makes nothing readable. */
    CHECK(epoll_wait(loop, &event, 1, resay_poll_timeout(engine)) >= 0);
    CHECK_CODE(resay_run(engine, 0), 1);
  }
  got += more;
  CHECK(got == 4 && memcmp(buffer, "loop", 4) == 0);
  CHECK(stats_of(engine, listener).messages_in == 1);
  CHECK_CODE(resay_drain(engine, PATIENCE_MS), 0);
  resay_client_free(client);
  do {
    CHECK(epoll_wait(loop, &event, 1, resay_poll_timeout(engine)) >= 0);
    result = resay_run(engine, 0);
  } while (result > 0);
  CHECK_CODE(result, 0);
  expect_threads(before);
  close(loop);
  resay_engine_free(engine);
}

/* Two engines at once, of which one ends first. */
static void two_engines(void)
{
  resay_engine *first = new_engine(), *second = new_engine();
  char url[2][128];
  add(first, "tcp://127.0.0.1:0?chain=uppercase", url[0]);
  add(second, "tcp://127.0.0.1:0?chain=reverse", url[1]);
  CHECK_CODE(resay_start(first, 2, NULL), 0);
  CHECK_CODE(resay_start(second, 1, NULL), 0);
  ask_once(url[0], "two", "TWO");
  ask_once(url[1], "two", "owt");
  resay_engine_free(first);
  ask_once(url[1], "one", "eno");
  resay_engine_free(second);
}

int main(void)
{
  own_threads(1);
  own_threads(3);
  lent_threads(1);
  lent_threads(4);
  too_many_threads();
  one_turn_at_a_time();
  foreign_loop();
  two_engines();
  return 0;
}

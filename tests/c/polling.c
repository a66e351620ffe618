/* A loop that watches resay_poll_fd and nothing else, and never asks for a time: all that is due happens, and the loop does
 * not turn in circles. */
#define _GNU_SOURCE
#include "check.h"

static resay_engine *engine;
static int turns;

/* One pass of the loop. */
static int turn(void)
{
  struct pollfd watched = {.fd = resay_poll_fd(engine), .events = POLLIN};
  int result;
  CHECK(watched.fd >= 0);
  CHECK(poll(&watched, 1, PATIENCE_MS) == 1); /* without the timer it would wait for all of that */
  result = resay_run(engine, 0);
  CHECK(result == 0 || result == 1);
  turns++;
  return result;
}

static void begin(const char *where, const char *chain, char *url)
{
  CHECK_CODE(resay_engine_new(RESAY_ABI, &engine, NULL), 0);
  CHECK_CODE(resay_chain(engine, 0, chain, NULL), 0);
  add(engine, where, url);
  turns = 0;
}

static void an_idle_connection_is_closed(void)
{
  resay_client *client;
  char url[128];
  begin("tcp://127.0.0.1:0?idle_timeout=60ms", "", url);
  client = dial(url);
  while (stats_of(engine, 0).closed == 0) CHECK_CODE(turn(), 1);
  hear_end(client);
  printf("idle: %d turns\n", turns);
  CHECK(turns < 20);
  resay_client_free(client);
  CHECK_CODE(resay_engine_free(engine), 0);
}

/* A deadline that moves with each message costs no call; the loop comes once in vain for it. */
static void a_deadline_that_moves_is_kept(void)
{
  resay_client *client;
  char url[128];
  int i;
  begin("tcp://127.0.0.1:0?idle_timeout=80ms", "", url);
  client = dial(url);
  for (i = 0; i < 50; i++) {
    say(client, "x", 1);
    while (stats_of(engine, 0).messages_out == (uint64_t)i && stats_of(engine, 0).closed == 0) turn();
    hear(client, "x", 1);
  }
  while (stats_of(engine, 0).closed == 0) CHECK_CODE(turn(), 1);
  printf("moving: %d turns\n", turns);
  CHECK(turns < 50 * 3 + 20);
  resay_client_free(client);
  CHECK_CODE(resay_engine_free(engine), 0);
}

static void delayed_answers_leave(const char *where)
{
  resay_client *client;
  char url[128];
  begin(where, "delay:time=30ms", url);
  client = dial(url);
  say(client, "later", 5);
  while (stats_of(engine, 0).messages_out == 0) CHECK_CODE(turn(), 1);
  hear(client, "later", 5);
  printf("delay: %d turns\n", turns);
  CHECK(turns < 20);
  resay_client_free(client);
  CHECK_CODE(resay_engine_free(engine), 0);
}

/* More than a turn answers. */
static void unread_input_is_answered(void)
{
  enum { LINES = 20000 };
  static char lines[2 * LINES];
  resay_client *client;
  char url[128];
  int i;
  for (i = 0; i < LINES; i++) lines[2 * i] = 'a', lines[2 * i + 1] = '\n';
  begin("unix:polling.sock?frame=lines&sndbuf=400k", "uppercase", url);
  client = dial(url);
  say(client, lines, sizeof lines);
  while (stats_of(engine, 0).messages_out < LINES) CHECK_CODE(turn(), 1);
  resay_client_free(client);
  CHECK_CODE(resay_engine_free(engine), 0);
}

/* A peer that never ends is cut off when the time is up. */
static void draining_ends_in_time(void)
{
  resay_client *client;
  char url[128];
  begin("tcp://127.0.0.1:0", "delay:time=30m", url);
  client = dial(url);
  say(client, "never", 5);
  while (stats_of(engine, 0).messages_in == 0) CHECK_CODE(turn(), 1);
  CHECK_CODE(resay_drain(engine, 50), 0);
  while (turn() != 0) continue;
  resay_client_free(client);
  CHECK_CODE(resay_engine_free(engine), 0);
}

int main(void)
{
  an_idle_connection_is_closed();
  a_deadline_that_moves_is_kept();
  delayed_answers_leave("tcp://127.0.0.1:0");
  delayed_answers_leave("udp://127.0.0.1:0");
  unread_input_is_answered();
  draining_ends_in_time();
  return 0;
}

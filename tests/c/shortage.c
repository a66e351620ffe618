/* Sizes that a host, a peer or an option chooses, where there is no memory for them: an error, or the end of that one
 * connection; the process and everybody else go on. */
#define _GNU_SOURCE
#include "check.h"

#include <sys/resource.h>
#include <sys/wait.h>

#define MIB (1024ul * 1024ul)

/* From now on there is memory for so many more bytes. */
static void limit(unsigned long more)
{
  struct rlimit limit;
  unsigned long pages = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  CHECK(file != NULL && fscanf(file, "%lu", &pages) == 1);
  fclose(file);
  limit.rlim_cur = limit.rlim_max = pages * (unsigned long)sysconf(_SC_PAGESIZE) + more;
  CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
}

static int reserved = -1, written = -1;

static int reserve(void *user, void **session, const resay_message *message, resay_out *out)
{
  (void)user, (void)session;
  if (message->len > 0 && message->data[0] == 'r') {
    reserved = resay_out_reserve(out, 512 * MIB) != NULL;
    return RESAY_REPLACE;
  }
  if (message->len > 0 && message->data[0] == 'w') {
    /* The memory of the library itself will do: only its length counts. */
    char *much = malloc(4096);
    size_t i;
    CHECK(much != NULL);
    written = 0;
    for (i = 0; i < 512 * MIB / 4096 && written == 0; i++) written = resay_out_write(out, much, 4096);
    free(much);
    return RESAY_REPLACE;
  }
  return RESAY_PASS;
}

/* A transform that wants more room each time it is called. */
static resay_status grow(void *instance, void *session, resay_io *io)
{
  (void)instance, (void)session;
  if (io->input_len > 0 && io->input[0] == 'g') {
    io->output_need = io->output_cap * 4;
    return RESAY_MORE_OUT;
  }
  if (io->output_cap < io->input_len) {
    io->output_need = io->input_len;
    return RESAY_MORE_OUT;
  }
  if (io->input_len > 0) memcpy(io->output, io->input, io->input_len);
  io->input_used = io->output_len = io->input_len;
  return RESAY_OK;
}

/* More than there is, and so much that there is memory for it once but not twice. */
static char large[200 * MIB];
#define ONCE (90 * MIB)

static int reply_of(resay_out *out, size_t len)
{
  char *room = resay_out_reserve(out, len);
  CHECK(room != NULL);
  memset(room, 'x', len);
  CHECK_CODE(resay_out_commit(out, len), 0);
  return RESAY_REPLACE;
}

/* Answers what begins with 'l' later, and what begins with 'o' with what there is memory for once. */
static uint64_t token;

static int put_off(void *user, void **session, const resay_message *message, resay_out *out)
{
  (void)user, (void)session;
  if (message->len > 0 && message->data[0] == 'o') return reply_of(out, ONCE);
  if (message->len == 0 || message->data[0] != 'l') return RESAY_PASS;
  __atomic_store_n(&token, resay_later(out), __ATOMIC_RELEASE);
  return RESAY_LATER;
}

static uint64_t next_token(void)
{
  int tries = 0;
  uint64_t found;
  while ((found = __atomic_exchange_n(&token, 0, __ATOMIC_ACQUIRE)) == 0) {
    CHECK(tries++ < PATIENCE_MS);
    poll(NULL, 0, 1);
  }
  return found;
}

/* Has a long greeting once it is told to, and a long farewell. */
static int is_wordy;

static int greet(void *user, void **session, const resay_peer *peer, resay_out *out)
{
  (void)user, (void)session, (void)peer;
  if (__atomic_load_n(&is_wordy, __ATOMIC_RELAXED)) reply_of(out, ONCE);
  return 0;
}

static int part(void *user, void **session, const resay_message *message, resay_out *out)
{
  (void)user, (void)session;
  if ((message->flags & RESAY_IO_EOF) && __atomic_load_n(&is_wordy, __ATOMIC_RELAXED)) return reply_of(out, ONCE);
  return RESAY_PASS;
}

/* Answers what begins with 'a' with so many bytes, which fill memory to the last byte. */
#define FULL (64 * MIB)

static int fill(void *user, void **session, const resay_message *message, resay_out *out)
{
  (void)user, (void)session;
  return message->len > 0 && message->data[0] == 'a' ? reply_of(out, FULL) : RESAY_PASS;
}

static const resay_transform growing = {.struct_size = sizeof growing, .id = "growing", .process = grow};

/* The connection is over, and nothing was answered. */
static void hear_the_end(resay_client *client)
{
  char buffer[4096];
  size_t got;
  int result;
  do
    result = resay_client_recv(client, buffer, sizeof buffer, &got, PATIENCE_MS);
  while (result == 0);
  CHECK(result == 1 || result == RESAY_E_SYS);
}

static resay_engine *serve(const char *where, const char *chain, char *url)
{
  resay_engine *engine = new_engine();
  resay_function wordy;
  CHECK_CODE(add_function(engine, "reserve", reserve, NULL, NULL), 0);
  CHECK_CODE(add_function(engine, "later", put_off, NULL, NULL), 0);
  CHECK_CODE(add_function(engine, "fill", fill, NULL, NULL), 0);
  memset(&wordy, 0, sizeof wordy);
  wordy.struct_size = sizeof wordy;
  wordy.begin = greet;
  wordy.call = part;
  CHECK_CODE(resay_register_function(engine, "wordy", &wordy, NULL), 0);
  CHECK_CODE(resay_register(engine, &growing, NULL), 0);
  CHECK_CODE(resay_chain(engine, 0, chain, NULL), 0);
  add(engine, where, url);
  CHECK_CODE(resay_start(engine, 1, NULL), 0);
  ask_once(url, "before\n", "before\n");
  return engine;
}

static void one_message(const char *where, const char *chain, const char *message)
{
  char url[128];
  resay_engine *engine = serve(where, chain, url);
  resay_client *client = dial(url);
  limit(100 * MIB);
  say(client, message, strlen(message));
  hear_the_end(client);
  resay_client_free(client);
  ask_once(url, "after\n", "after\n");
  CHECK(stats_of(engine, 0).transform_errors == 1);
  CHECK_CODE(resay_engine_free(engine), 0);
}

static void a_host_reserves(void)
{
  one_message("tcp://127.0.0.1:0?frame=lines&max_message=1g", "reserve", "r\n");
  CHECK(reserved == 0);
}

static void a_host_writes(void)
{
  one_message("tcp://127.0.0.1:0?frame=lines&max_message=1g", "reserve", "w\n");
  CHECK(written == RESAY_E_FULL);
}

static void a_plugin_grows(void)
{
  one_message("tcp://127.0.0.1:0?frame=lines&max_message=1g", "growing", "g\n");
}

static void a_plugin_grows_a_raw_stream(void)
{
  one_message("tcp://127.0.0.1:0?max_message=1g", "growing", "g\n");
}

/* A frame that never ends, of a peer that goes on as long as it may. */
static void a_peer_sends(const char *where, const char *chain)
{
  static char much[1 << 20];
  char url[128];
  resay_engine *engine = serve(where, chain, url);
  resay_client *client = dial(url), *other = dial(url);
  int i, result = 0;
  memset(much, 'x', sizeof much);
  limit(100 * MIB);
  for (i = 0; i < 512 && result == 0; i++) result = resay_client_send(client, much, sizeof much, PATIENCE_MS);
  CHECK(i < 512 && result == RESAY_E_SYS);
  resay_client_free(client);
  ask(other, "others\n", "others\n");
  resay_client_free(other);
  ask_once(url, "after\n", "after\n");
  CHECK_CODE(resay_engine_free(engine), 0);
}

static void a_peer_sends_a_long_line(void)
{
  a_peer_sends("tcp://127.0.0.1:0?frame=lines&max_message=1g", "");
}

static void a_peer_sends_a_long_line_over_unix(void)
{
  a_peer_sends("unix:shortage.sock?frame=lines&max_message=1g", "growing");
}

/* An answer that comes later: without memory for it, it may still be answered otherwise. */
static void a_host_answers_later(void)
{
  char url[128];
  resay_engine *engine = serve("tcp://127.0.0.1:0?frame=lines&max_message=1g", "later", url);
  resay_client *client = dial(url);
  uint64_t asked;
  limit(100 * MIB);
  say(client, "l\n", 2);
  asked = next_token();
  CHECK_CODE(resay_answer(engine, asked, RESAY_REPLACE, large, sizeof large), RESAY_E_FULL);
  CHECK_CODE(resay_answer(engine, asked, RESAY_REPLACE, "ok", 2), 0);
  hear(client, "ok\n", 3);
  resay_client_free(client);
  CHECK_CODE(resay_engine_free(engine), 0);
}

/* The same where there is memory for the answer itself, but not to send it on. */
static void a_late_answer_goes_on(const char *chain)
{
  char url[128];
  resay_engine *engine = serve("tcp://127.0.0.1:0?frame=lines&max_message=1g", chain, url);
  resay_client *client = dial(url);
  limit(100 * MIB);
  say(client, "l\n", 2);
  CHECK_CODE(resay_answer(engine, next_token(), RESAY_REPLACE, large, ONCE), 0);
  hear_the_end(client);
  resay_client_free(client);
  ask_once(url, "1\n", "1\n");
  CHECK_CODE(resay_engine_free(engine), 0);
}

static void a_program_asks_for_a_large_tap(void)
{
  char url[128];
  resay_engine *engine = serve("tcp://127.0.0.1:0", "", url);
  resay_tap_options options = {sizeof options, 0, 0, 1024 * MIB, 0};
  resay_error error = {0};
  resay_tap *tap = NULL;
  limit(100 * MIB);
  CHECK_CODE(resay_tap_open(engine, &options, &tap, &error), RESAY_E_SYS);
  CHECK(tap == NULL && error.os_errno == ENOMEM);
  ask_once(url, "after\n", "after\n");
  CHECK_CODE(resay_engine_free(engine), 0);
}

static void a_late_answer_goes_on_alone(void)
{
  a_late_answer_goes_on("later");
}

static void a_late_answer_goes_on_to_others(void)
{
  a_late_answer_goes_on("later | growing");
}

/* An answer that waits for that of an earlier message. */
static void an_answer_is_held(void)
{
  char url[128];
  int tries = 0;
  resay_engine *engine = serve("tcp://127.0.0.1:0?frame=lines&max_message=1g", "later | growing", url);
  resay_client *client = dial(url);
  uint64_t asked;
  limit(100 * MIB);
  say(client, "l\n", 2);
  asked = next_token();
  say(client, "o\n", 2);
  while (stats_of(engine, 0).transform_errors == 0) {
    CHECK(tries++ < PATIENCE_MS);
    poll(NULL, 0, 1);
  }
  CHECK_CODE(resay_answer(engine, asked, RESAY_REPLACE, "ok", 2), 0);
  hear(client, "ok\n", 3);
  hear_the_end(client);
  resay_client_free(client);
  ask_once(url, "after\n", "after\n");
  CHECK_CODE(resay_engine_free(engine), 0);
}

static void a_function_is_wordy(const char *where, int at_end)
{
  char url[128];
  resay_engine *engine = serve(where, "wordy", url);
  resay_client *client = at_end ? dial(url) : NULL;
  if (at_end) ask(client, "here", "here");
  limit(100 * MIB);
  __atomic_store_n(&is_wordy, 1, __ATOMIC_RELAXED);
  if (client == NULL) client = dial(url);
  if (at_end) CHECK_CODE(resay_client_shutdown(client), 0);
  hear_the_end(client);
  resay_client_free(client);
  __atomic_store_n(&is_wordy, 0, __ATOMIC_RELAXED);
  ask_once(url, "after\n", "after\n");
  CHECK_CODE(resay_engine_free(engine), 0);
}

static void a_function_greets(void)
{
  a_function_is_wordy("tcp://127.0.0.1:0?frame=lines&max_message=1g", 0);
}

static void a_function_says_farewell(void)
{
  a_function_is_wordy("tcp://127.0.0.1:0?max_message=1g", 1);
}

/* The few bytes of a frame around an answer that fills its memory do not take as much memory again. */
static void a_frame(const char *frame, const char *before, const char *asked, size_t begin, size_t end)
{
  char url[128], where[128];
  static char buffer[65536];
  size_t have = 0, got, i;
  resay_engine *engine;
  resay_client *client;
  snprintf(where, sizeof where, "tcp://127.0.0.1:0?max_message=1g&frame=%s", frame);
  engine = new_engine();
  CHECK_CODE(add_function(engine, "fill", fill, NULL, NULL), 0);
  CHECK_CODE(resay_chain(engine, 0, "fill", NULL), 0);
  add(engine, where, url);
  CHECK_CODE(resay_start(engine, 1, NULL), 0);
  ask_once(url, before, before);
  client = dial(url);
  limit(2 * FULL + 30 * MIB);
  say(client, asked, strlen(asked));
  while (have < begin + FULL + end) {
    CHECK_CODE(resay_client_recv(client, buffer, sizeof buffer, &got, PATIENCE_MS), 0);
    for (i = 0; i < got; i++)
      if (have + i >= begin && have + i < begin + FULL) CHECK(buffer[i] == 'x');
    have += got;
  }
  CHECK(have == begin + FULL + end);
  resay_client_free(client);
  ask_once(url, before, before);
  CHECK_CODE(resay_engine_free(engine), 0);
}

static void a_line(void)
{
  a_frame("lines", "before\n", "a\n", 0, 1);
}

static void a_varint(void)
{
  a_frame("varint", "\006before", "\001a", 4, 0);
}

/* What the host sends unasked. */
static void a_host_sends(void)
{
  char url[128];
  resay_engine *engine = serve("tcp://127.0.0.1:0?high_water=1g", "", url);
  resay_client *client = dial(url);
  uint64_t id;
  size_t count;
  ask(client, "here", "here");
  limit(100 * MIB);
  while (resay_connections(engine, 0, &id, 1, &count) != 0 || count != 1) poll(NULL, 0, 1);
  CHECK_CODE(resay_connection_send(engine, id, large, sizeof large), RESAY_E_FULL);
  CHECK_CODE(resay_connection_send(engine, id, "sent", 4), 0);
  hear(client, "sent", 4);
  resay_client_free(client);
  CHECK_CODE(resay_engine_free(engine), 0);
}

/* A dry run. */
static void a_chain_is_tried(void)
{
  resay_dry_run *dry_run;
  CHECK_CODE(resay_dry_run_new(NULL, "", "tcp", "lines", &dry_run, NULL), 0);
  limit(100 * MIB);
  CHECK_CODE(resay_dry_run_process(dry_run, large, sizeof large, NULL, 0, NULL), RESAY_E_PLUGIN);
  CHECK_CODE(resay_dry_run_process(dry_run, "x", 1, large, sizeof large, NULL), RESAY_REPLACE);
  CHECK_CODE(resay_dry_run_free(dry_run), 0);
}

/* A tap has a message whole, or without its bytes, or says that there is no memory for it; whoever sent it is answered. */
static void a_tap_keeps(void)
{
  static char much[1 << 20], buffer[65536];
  char url[128];
  resay_tap_options options;
  resay_tap_record record;
  resay_tap *tap;
  resay_engine *engine = serve("tcp://127.0.0.1:0?frame=lines&max_message=1g", "", url);
  resay_client *client = dial(url);
  size_t got, have = 0;
  int i, result;
  memset(&options, 0, sizeof options);
  options.struct_size = sizeof options;
  options.capacity_bytes = 512 * MIB;
  CHECK_CODE(resay_tap_open(engine, &options, &tap, NULL), 0);
  memset(much, 'x', sizeof much);
  limit(150 * MIB);
  for (i = 0; i < 50; i++) say(client, much, sizeof much);
  say(client, "\n", 1);
  for (; have < 50 * MIB + 1; have += got) CHECK_CODE(resay_client_recv(client, buffer, sizeof buffer, &got, PATIENCE_MS), 0);
  result = resay_tap_read(tap, &record, sizeof record, 1, large, sizeof large, PATIENCE_MS);
  CHECK(result == RESAY_E_SYS || (result == 1 && record.message_bytes == 50 * MIB));
  resay_client_free(client);
  ask_once(url, "after\n", "after\n");
  CHECK_CODE(resay_tap_close(tap), 0);
  CHECK_CODE(resay_engine_free(engine), 0);
}

/* What an option asks for is refused where it is asked for. */
static void an_option(void)
{
  resay_engine *engine = new_engine();
  resay_error error;
  char url[128];
  limit(300 * MIB);
  add(engine, "unix-dgram:shortage-datagrams.sock?max_message=1g", url);
  CHECK_CODE(resay_start(engine, 1, &error), RESAY_E_SYS);
  printf("%s\n", error.message);
  CHECK_CODE(resay_set(engine, "thread_stack", "256m", NULL), 0);
  CHECK_CODE(resay_start(engine, 4, &error), RESAY_E_SYS);
  CHECK_CODE(resay_engine_free(engine), 0);
}

/* Where there is memory for one of the longest, there is enough. */
static void large_datagrams(void)
{
  resay_engine *engine = new_engine();
  char url[128];
  add(engine, "unix-dgram:shortage-large.sock?max_message=1g", url);
  CHECK_CODE(resay_start(engine, 1, NULL), 0);
  ask_once(url, "one", "one");
  CHECK_CODE(resay_engine_free(engine), 0);
}

int main(void)
{
  static void (*const parts[])(void) = {a_host_reserves, a_host_writes, a_plugin_grows, a_plugin_grows_a_raw_stream,
                                        a_peer_sends_a_long_line, a_peer_sends_a_long_line_over_unix, a_host_answers_later,
                                        a_program_asks_for_a_large_tap, a_late_answer_goes_on_alone, a_late_answer_goes_on_to_others, an_answer_is_held,
                                        a_function_greets, a_function_says_farewell, a_line, a_varint, a_host_sends,
                                        a_chain_is_tried, a_tap_keeps, an_option, large_datagrams};
  size_t i;
  int failed = 0;
  for (i = 0; i < sizeof parts / sizeof parts[0]; i++) {
    int status;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
      parts[i]();
      _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    if (status != 0) {
      fprintf(stderr, "part %zu: %s %d\n", i, WIFSIGNALED(status) ? "signal" : "status", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
      failed = 1;
    }
  }
  return failed;
}

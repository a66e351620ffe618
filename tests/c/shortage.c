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
  CHECK_CODE(add_function(engine, "reserve", reserve, NULL, NULL), 0);
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
                                        a_peer_sends_a_long_line, a_peer_sends_a_long_line_over_unix, an_option, large_datagrams};
  size_t i;
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
      return 1;
    }
  }
  return 0;
}

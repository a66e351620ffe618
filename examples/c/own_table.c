/* A transform behind a table of the program: the same that a plugin has, with an option, and a memory for each
 * connection. It numbers the lines.
 *
 *   cc -Iinclude examples/c/own_table.c -Ltarget/release -lresay -o own_table
 *   ln -sf libresay.so target/release/libresay.so.1
 *   LD_LIBRARY_PATH=target/release ./own_table
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <resay.h>

struct instance {
  unsigned long first;
};

struct session {
  unsigned long lines;
};

static resay_status create(const resay_transform *transform, const resay_host *host, const resay_kv *options,
                           size_t n_options, void **instance, resay_text *err)
{
  struct instance *made = malloc(sizeof *made);
  (void)transform, (void)host;
  if (made == NULL) return RESAY_E_NOMEM;
  made->first = 1;
  if (n_options > 0) { /* the only one there is: from */
    char text[20] = "";
    char *end;
    if (options[0].value.len < sizeof text) memcpy(text, options[0].value.ptr, options[0].value.len);
    made->first = strtoul(text, &end, 10);
    if (text[0] == '\0' || *end != '\0') {
      snprintf(err->buf, err->cap, "from is not a number");
      free(made);
      return RESAY_E_CONFIG;
    }
  }
  *instance = made;
  return RESAY_OK;
}

/* The host gives the session's memory, zeroed. */
static resay_status process(void *instance, void *session, resay_io *io)
{
  const struct instance *numbering = instance;
  struct session *seen = session;
  char number[24];
  int len = snprintf(number, sizeof number, "%lu ", numbering->first + seen->lines);
  if ((size_t)len + io->input_len > io->output_cap) {
    io->output_need = (size_t)len + io->input_len;
    return RESAY_MORE_OUT;
  }
  memcpy(io->output, number, (size_t)len);
  memcpy(io->output + len, io->input, io->input_len);
  io->input_used = io->input_len;
  io->output_len = (size_t)len + io->input_len;
  seen->lines++;
  return RESAY_OK;
}

static const resay_option options[] = {
  {.key = "from", .type = "integer", .fallback = "1", .help = "the number of the first line"},
};

/* It stays as it is until the engine is freed. */
static const resay_transform numbers = {
  .struct_size = sizeof numbers, .needs = RESAY_NEED_MESSAGES, .id = "numbers", .version = "1.0.0",
  .summary = "numbers the lines", RESAY_OPTIONS(options), .session_size = sizeof(struct session),
  .out_mul = 1, .out_div = 1, .out_add = 24, .create = create, .destroy = free, .process = process,
};

int main(void)
{
  resay_engine *engine;
  resay_client *client;
  resay_error error;
  resay_id listener;
  char url[64], answer[64];
  size_t len = 0, got;

  if (resay_engine_new(RESAY_ABI, &engine, &error) < 0
      || resay_register(engine, &numbers, &error) < 0
      || resay_chain(engine, 0, "numbers:from=7 | uppercase", &error) < 0
      || resay_listen(engine, "tcp://127.0.0.1:0?frame=lines", &listener, &error) < 0
      || resay_start(engine, 1, &error) < 0
      || resay_listener_url(engine, listener, url, sizeof url, NULL) < 0
      || resay_client_open(url, 5000, &client, &error) < 0)
    return fprintf(stderr, "%s\n", error.message), 1;
  resay_client_send(client, "one\ntwo\n", 8, 5000);
  resay_client_shutdown(client);
  while (resay_client_recv(client, answer + len, sizeof answer - 1 - len, &got, 5000) == 0) len += got;
  answer[len] = '\0';
  printf("%s", answer);
  if (resay_chain(engine, 0, "numbers:from=me", &error) != RESAY_E_PLUGIN) return 1;
  printf("%s\n", error.message);
  resay_client_free(client);
  resay_engine_free(engine);
  return strcmp(answer, "7 ONE\n8 TWO\n") != 0;
}

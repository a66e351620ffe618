/* A recorder: every message that an engine receives, what became of it, and its answer, as lines.
 *
 *   cc -Iinclude examples/c/tap.c -Ltarget/release -lresay -o tap
 *   ln -sf libresay.so target/release/libresay.so.1
 *   LD_LIBRARY_PATH=target/release ./tap
 */
#include <stdio.h>
#include <string.h>

#include <resay.h>

/* Prints the records that wait, or come within timeout_ms; answers how many. */
static int print_records(resay_tap *tap, int32_t timeout_ms)
{
  resay_tap_record records[64];
  static char bytes[256 * 1024];
  int i, count = resay_tap_read(tap, records, sizeof records[0], 64, bytes, sizeof bytes, timeout_ms);
  for (i = 0; i < count; i++) {
    const resay_tap_record *record = &records[i];
    printf("%d: %s, connection %d: \"%.*s\", %s", (int)record->sequence, resay_kind_name(record->kind),
           (int)record->connection, (int)record->data_len, record->data_len > 0 ? (const char *)record->data : "",
           resay_tap_outcome_name(record->outcome));
    if (record->outcome == RESAY_TAP_DROPPED || record->outcome == RESAY_TAP_UNSENDABLE)
      printf(" (%s)", resay_drop_reason_name(record->reason));
    if (record->answer_len > 0) printf(" \"%.*s\"", (int)record->answer_len, (const char *)record->answer);
    putchar('\n');
  }
  return count;
}

int main(void)
{
  static const char *const messages[] = {"hello", "dropped", "bye"};
  resay_engine *engine;
  resay_tap *tap;
  resay_tap_options options;
  resay_client *client;
  resay_error error;
  resay_id listener;
  char url[64], answer[64];
  size_t got, i;
  int count, sum = 0;

  memset(&options, 0, sizeof options);
  options.struct_size = sizeof options;
  options.flags = RESAY_TAP_ANSWERS;
  if (resay_engine_new(RESAY_ABI, &engine, &error) < 0
      || resay_chain(engine, 0, "drop:every=2 | uppercase", &error) < 0
      || resay_listen(engine, "udp://127.0.0.1:0", &listener, &error) < 0
      || resay_start(engine, 1, &error) < 0
      || resay_tap_open(engine, &options, &tap, &error) < 0
      || resay_listener_url(engine, listener, url, sizeof url, NULL) < 0
      || resay_client_open(url, 5000, &client, &error) < 0)
    return fprintf(stderr, "%s\n", error.message), 1;

  for (i = 0; i < sizeof messages / sizeof messages[0]; i++)
    if (resay_client_send(client, messages[i], strlen(messages[i]), 5000) < 0) return 1;
  /* Two of them are answered. Who has read an answer finds the record of its message. */
  for (i = 0; i < 2; i++)
    if (resay_client_recv(client, answer, sizeof answer, &got, 5000) < 0) return 1;
  while ((count = print_records(tap, 0)) > 0) sum += count;
  resay_client_free(client);

  /* The tap lives for itself. */
  resay_engine_free(engine);
  count = print_records(tap, -1);
  printf("%d records, %d lost\n", sum, (int)resay_tap_lost(tap));
  resay_tap_close(tap);
  return sum != 3 || count != RESAY_E_STATE;
}

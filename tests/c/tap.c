/* A tap: what it says of messages on each transport, its limits, its descriptor, its life beside the engine's. */
#define _GNU_SOURCE
#include "check.h"

#include <netinet/in.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

static int readable(int fd)
{
  struct pollfd watched = {fd, POLLIN, 0};
  return poll(&watched, 1, 0) == 1;
}

static int obey(void *user, void **session, const resay_message *message, resay_out *out)
{
  (void)user, (void)session;
  switch (message->len > 0 ? message->data[0] : 0) {
  case 'D': return RESAY_DROP;
  case 'R': return RESAY_RESET;
  case 'F': return RESAY_E_DATA;
  case 'C': return resay_out_write(out, message->data, message->len), RESAY_CLOSE;
  case 'G': return resay_out_write(out, message->data, message->len), resay_out_write(out, message->data, message->len), RESAY_REPLACE;
  default: return RESAY_PASS;
  }
}

static resay_tap *open_tap(resay_engine *engine, resay_id listener)
{
  resay_tap_options options;
  resay_tap *tap;
  memset(&options, 0, sizeof options);
  options.struct_size = sizeof options;
  options.flags = RESAY_TAP_ANSWERS;
  options.listener = listener;
  CHECK_CODE(resay_tap_open(engine, &options, &tap, NULL), 0);
  CHECK(tap != NULL);
  return tap;
}

static char bytes[128 * 1024];

/* The next record, which is there or comes. */
static resay_tap_record next_of(resay_tap *tap, const char *data, uint32_t outcome, int32_t reason, const char *answer)
{
  resay_tap_record record;
  memset(&record, 0x55, sizeof record);
  CHECK_CODE(resay_tap_read(tap, &record, sizeof record, 1, bytes, sizeof bytes, PATIENCE_MS), 1);
  CHECK(record.outcome == outcome && record.reason == reason);
  CHECK(record.data_len == strlen(data) && record.message_bytes == record.data_len);
  CHECK(record.data_len == 0 || memcmp(record.data, data, record.data_len) == 0);
  CHECK(record.answer_len == strlen(answer) && record.answer_bytes == record.answer_len);
  CHECK(record.answer_len == 0 ? record.answer == NULL : memcmp(record.answer, answer, record.answer_len) == 0);
  CHECK((uintptr_t)record.peer % 8 == 0 && record.time_ns > 0);
  return record;
}

static void transports(void)
{
  static const char *const urls[] = {"tcp://127.0.0.1:0?frame=lines", "unix:%s?frame=lines", "unix-seqpacket:%s",
                                     "udp://127.0.0.1:0", "unix-dgram:%s"};
  static const uint32_t kinds[] = {RESAY_STREAM, RESAY_STREAM, RESAY_SEQPACKET, RESAY_DATAGRAM, RESAY_DATAGRAM};
  static const char *const names[] = {"stream", "stream", "seqpacket", "datagram", "datagram"};
  int i;
  for (i = 0; i < 5; i++) {
    resay_engine *engine = new_engine();
    resay_tap *tap;
    resay_tap_record record;
    resay_id listener;
    char path[64], what[128], url[128];
    const char *line = kinds[i] == RESAY_STREAM ? "\n" : "";
    static const char *const messages[] = {"pass", "Grow", "Drop", "Fail", "Close", "Reset"};
    int k, is_connected = kinds[i] != RESAY_DATAGRAM;
    snprintf(path, sizeof path, "/tmp/resay-tap-%ld.sock", (long)getpid());
    snprintf(what, sizeof what, urls[i], path);
    CHECK_CODE(add_function(engine, "obey", obey, NULL, NULL), 0);
    CHECK_CODE(resay_chain(engine, 0, "obey", NULL), 0);
    listener = add(engine, what, url);
    CHECK_CODE(resay_start(engine, 1, NULL), 0);
    tap = open_tap(engine, 0);
    for (k = 0; k < 6; k++) {
      resay_client *client = dial(url);
      snprintf(what, sizeof what, "%s%s", messages[k], line);
      say(client, what, strlen(what));
      if (k == 0) {
        /* Who has read the answer finds the record. */
        hear(client, what, strlen(what));
        CHECK_CODE(resay_tap_read(tap, &record, sizeof record, 1, bytes, sizeof bytes, 0), 1);
        CHECK(record.sequence == 1 && record.listener == listener && record.kind == kinds[i]);
        CHECK((record.connection != 0) == is_connected);
        CHECK(record.flags != 0 && strcmp(resay_kind_name(record.kind), names[i]) == 0);
        CHECK(record.data_len == 4 && memcmp(record.data, "pass", 4) == 0);
        CHECK(record.peer_len >= sizeof(sa_family_t));
        CHECK(((const struct sockaddr *)record.peer)->sa_family == (i == 0 || i == 3 ? AF_INET : AF_UNIX));
      } else if (k == 1) {
        record = next_of(tap, "Grow", RESAY_TAP_ANSWERED, 0, "GrowGrow");
        CHECK(record.sequence == 2);
      } else if (k == 2) {
        next_of(tap, "Drop", RESAY_TAP_DROPPED, RESAY_DROPPED_BY_TRANSFORM, "");
      } else if (k == 3) {
        next_of(tap, "Fail", RESAY_TAP_FAILED, RESAY_DROPPED_TRANSFORM_FAILED, "");
      } else if (k == 4) {
        if (is_connected) next_of(tap, "Close", RESAY_TAP_CLOSED, RESAY_CLOSED_TRANSFORM_CLOSED, "Close");
        else next_of(tap, "Close", RESAY_TAP_ANSWERED, 0, "Close");
      } else {
        if (is_connected) next_of(tap, "Reset", RESAY_TAP_RESET, RESAY_CLOSED_TRANSFORM_CLOSED, "");
        else next_of(tap, "Reset", RESAY_TAP_DROPPED, RESAY_DROPPED_BY_TRANSFORM, "");
      }
      resay_client_free(client);
    }
    if (i == 4) {
      /* Nobody who can be answered. */
      struct sockaddr_un to;
      int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
      memset(&to, 0, sizeof to);
      to.sun_family = AF_UNIX;
      strcpy(to.sun_path, path);
      CHECK(sendto(fd, "who?", 4, 0, (struct sockaddr *)&to, sizeof to) == 4);
      record = next_of(tap, "who?", RESAY_TAP_UNSENDABLE, RESAY_DROPPED_UNNAMED, "");
      CHECK(record.peer_len == sizeof(sa_family_t));
      CHECK(strcmp(resay_tap_outcome_name(record.outcome), "unsendable") == 0);
      close(fd);
    }
    CHECK(resay_tap_lost(tap) == 0);
    resay_engine_free(engine);
    CHECK_CODE(resay_tap_read(tap, &record, sizeof record, 1, bytes, sizeof bytes, -1), RESAY_E_STATE);
    CHECK_CODE(resay_tap_close(tap), 0);
  }
}

/* Many at once, into memory that is too small, for programs that know less or more of a record. */
static void memory(void)
{
  resay_engine *engine = new_engine();
  struct {
    resay_tap_record record;
    uint64_t more;
  } newer[2];
  resay_tap_record records[64], older[2];
  resay_tap *tap;
  resay_client *client;
  char url[128], small[32], answer[16];
  size_t need, i, got, old_size = offsetof(resay_tap_record, peer);
  add(engine, "udp://127.0.0.1:0", url);
  CHECK_CODE(resay_start(engine, 1, NULL), 0);
  tap = open_tap(engine, 0);
  client = dial(url);
  for (i = 0; i < 50; i++) ask(client, "0123456789", "0123456789");
  CHECK_CODE(resay_tap_read(tap, records, sizeof records[0], 64, small, 0, 0), RESAY_E_FULL);
  CHECK(records[0].sequence == 1 && records[0].data_len == 10 && records[0].answer_len == 10);
  CHECK(records[0].peer_len == sizeof(struct sockaddr_in) && records[0].data == NULL && records[0].peer == NULL);
  CHECK_CODE(resay_tap_read(tap, records, sizeof records[0], 64, NULL, 0, 0), RESAY_E_FULL);
  need = 7 + records[0].peer_len + records[0].data_len + records[0].answer_len;
  CHECK(need > sizeof small);
  /* Wherever the memory begins. */
  for (i = 0; i < 8; i++) {
    CHECK_CODE(resay_tap_read(tap, records, sizeof records[0], 64, bytes + i, need, 0), 1);
    CHECK(records[0].sequence == i + 1 && (uintptr_t)records[0].peer % 8 == 0);
    CHECK((const char *)records[0].data >= bytes + i);
    CHECK((const char *)records[0].answer + 10 <= bytes + i + need);
  }
  CHECK_CODE(resay_tap_read(tap, records, sizeof records[0], 2, bytes, sizeof bytes, -1), 2);
  CHECK(records[1].sequence == 10 && memcmp(records[1].data, "0123456789", 10) == 0);
  memset(older, 0x55, sizeof older);
  CHECK_CODE(resay_tap_read(tap, older, old_size, 1, bytes, sizeof bytes, -1), 1);
  CHECK(older[0].sequence == 11 && older[0].outcome == RESAY_TAP_ANSWERED && older[0].data_len == 0x5555555555555555u);
  memset(newer, 0x55, sizeof newer);
  CHECK_CODE(resay_tap_read(tap, &newer[0].record, sizeof newer[0], 2, bytes, sizeof bytes, -1), 2);
  CHECK(newer[1].record.sequence == 13 && newer[0].more == 0 && newer[1].more == 0);
  CHECK_CODE(resay_tap_read(tap, records, sizeof records[0], 64, bytes, sizeof bytes, 0), 37);
  for (i = 0; i < 37; i++) CHECK(records[i].sequence == 14 + i);
  CHECK_CODE(resay_tap_read(tap, records, sizeof records[0], 64, bytes, sizeof bytes, 0), 0);
  CHECK_CODE(resay_tap_read(tap, records, sizeof records[0], 64, bytes, sizeof bytes, 1), 0);
  CHECK_CODE(resay_tap_read(tap, NULL, sizeof records[0], 64, bytes, sizeof bytes, 0), RESAY_E_ARG);
  CHECK_CODE(resay_tap_read(tap, records, sizeof records[0], 0, bytes, sizeof bytes, 0), RESAY_E_ARG);
  CHECK_CODE(resay_tap_read(tap, records, 7, 1, bytes, sizeof bytes, 0), RESAY_E_ARG);
  CHECK_CODE(resay_tap_read(tap, records, sizeof records[0] + 1, 1, bytes, sizeof bytes, 0), RESAY_E_ARG);
  CHECK_CODE(resay_tap_read(tap, records, sizeof records[0], 1, NULL, 8, 0), RESAY_E_ARG);
  CHECK_CODE(resay_tap_read(NULL, records, sizeof records[0], 1, bytes, 8, 0), RESAY_E_ARG);
  /* An empty message. */
  say(client, "", 0);
  CHECK_CODE(resay_client_recv(client, answer, sizeof answer, &got, PATIENCE_MS), 0);
  CHECK(next_of(tap, "", RESAY_TAP_ANSWERED, 0, "").sequence == 51);
  resay_client_free(client);
  CHECK_CODE(resay_tap_close(tap), 0);
  resay_engine_free(engine);
}

static void opening(void)
{
  static const uint32_t wrong[] = {0, 7, 0x10000000, 0xffffffff};
  struct {
    resay_tap_options options;
    uint64_t more;
  } newer;
  resay_engine *engine = new_engine();
  resay_tap_options options;
  resay_tap *tap;
  size_t i;
  memset(&options, 0, sizeof options);
  CHECK_CODE(resay_tap_open(NULL, NULL, &tap, NULL), RESAY_E_ARG);
  CHECK(tap == NULL);
  CHECK_CODE(resay_tap_open(engine, NULL, NULL, NULL), RESAY_E_ARG);
  for (i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
    options.struct_size = wrong[i];
    CHECK_CODE(resay_tap_open(engine, &options, &tap, NULL), RESAY_E_ARG);
  }
  options.struct_size = sizeof options;
  options.flags = 2;
  CHECK_CODE(resay_tap_open(engine, &options, &tap, NULL), RESAY_E_ARG);
  options.flags = 0;
  options.listener = 12345;
  CHECK_CODE(resay_tap_open(engine, &options, &tap, NULL), RESAY_E_HANDLE);
  options.listener = 0;
  options.capacity_bytes = 4095;
  CHECK_CODE(resay_tap_open(engine, &options, &tap, NULL), RESAY_E_SPEC);
  CHECK(tap == NULL);
  /* An older program, and newer ones. */
  options.struct_size = offsetof(resay_tap_options, capacity_bytes);
  CHECK_CODE(resay_tap_open(engine, &options, &tap, NULL), 0);
  CHECK_CODE(resay_tap_close(tap), 0);
  memset(&newer, 0, sizeof newer);
  newer.options.struct_size = sizeof newer;
  CHECK_CODE(resay_tap_open(engine, &newer.options, &tap, NULL), 0);
  CHECK_CODE(resay_tap_close(tap), 0);
  newer.more = 1;
  CHECK_CODE(resay_tap_open(engine, &newer.options, &tap, NULL), RESAY_E_ARG);
  CHECK_CODE(resay_tap_close(NULL), 0);
  CHECK_CODE(resay_tap_fd(NULL), RESAY_E_ARG);
  CHECK(resay_tap_lost(NULL) == 0);
  CHECK(strcmp(resay_tap_outcome_name(0), "unknown") == 0 && strcmp(resay_tap_outcome_name(7), "unknown") == 0);
  resay_engine_free(engine);
}

/* An engine in the program's own loop, which watches both descriptors. */
static void in_a_loop(void)
{
  resay_engine *engine = new_engine();
  resay_tap *tap;
  resay_tap_record records[8];
  resay_client *client;
  char url[128];
  int seen = 0;
  add(engine, "tcp://127.0.0.1:0?frame=lines", url);
  tap = open_tap(engine, 0);
  CHECK(!readable(resay_tap_fd(tap)));
  CHECK_CODE(resay_run(engine, 0), 1);
  client = dial(url);
  say(client, "one\ntwo\nthree\n", 14);
  while (seen < 3) {
    struct pollfd watched[2] = {{resay_poll_fd(engine), POLLIN, 0}, {resay_tap_fd(tap), POLLIN, 0}};
    CHECK(poll(watched, 2, PATIENCE_MS) > 0);
    if (watched[0].revents != 0) CHECK_CODE(resay_run(engine, 0), 1);
    if (watched[1].revents != 0) {
      int count;
      while ((count = resay_tap_read(tap, records, sizeof records[0], 8, bytes, sizeof bytes, 0)) > 0) seen += count;
      CHECK_CODE(count, 0);
      CHECK(!readable(resay_tap_fd(tap)));
    }
  }
  CHECK(seen == 3);
  hear(client, "one\ntwo\nthree\n", 14);
  resay_client_free(client);
  resay_engine_free(engine);
  CHECK(readable(resay_tap_fd(tap)));
  CHECK_CODE(resay_tap_read(tap, records, sizeof records[0], 8, bytes, sizeof bytes, 0), RESAY_E_STATE);
  CHECK_CODE(resay_tap_close(tap), 0);
}

/* Several at once, each with its own listener and its own losses. */
static void several(void)
{
  resay_engine *engine = new_engine();
  resay_tap_options options;
  resay_tap *all, *first, *short_one;
  resay_tap_record records[64];
  resay_id listener;
  char url[128], other[128];
  int i, count, sum = 0;
  uint64_t last = 0;
  listener = add(engine, "tcp://127.0.0.1:0", url);
  add(engine, "udp://127.0.0.1:0", other);
  CHECK_CODE(resay_start(engine, 2, NULL), 0);
  memset(&options, 0, sizeof options);
  options.struct_size = sizeof options;
  options.capacity_bytes = 4096;
  options.data_bytes_max = 2;
  CHECK_CODE(resay_tap_open(engine, &options, &short_one, NULL), 0);
  all = open_tap(engine, 0);
  first = open_tap(engine, listener);
  for (i = 0; i < 50; i++) ask_once(url, "first", "first"), ask_once(other, "other", "other");
  CHECK_CODE(resay_tap_read(first, records, sizeof records[0], 64, bytes, sizeof bytes, 0), 50);
  for (i = 0; i < 50; i++) CHECK(records[i].listener == listener && records[i].sequence == (uint64_t)i + 1);
  while ((count = resay_tap_read(all, records, sizeof records[0], 64, bytes, sizeof bytes, 0)) > 0) sum += count;
  CHECK(sum == 100 && resay_tap_lost(all) == 0);
  CHECK_CODE(resay_tap_close(all), 0);
  count = resay_tap_read(short_one, records, sizeof records[0], 64, bytes, sizeof bytes, 0);
  CHECK(count > 0 && resay_tap_lost(short_one) == 100 - (uint64_t)count);
  for (i = 0; i < count; i++) {
    CHECK(records[i].data_len == 2 && records[i].message_bytes == 5 && records[i].sequence > last);
    CHECK(records[i].answer == NULL && records[i].answer_len == 0 && records[i].answer_bytes == 5);
    last = records[i].sequence;
  }
  ask_once(url, "first", "first");
  CHECK_CODE(resay_tap_read(short_one, records, sizeof records[0], 64, bytes, sizeof bytes, 0), 1);
  CHECK(records[0].sequence == 101); /* the gap is as many as were lost */
  CHECK_CODE(resay_tap_close(short_one), 0);
  CHECK_CODE(resay_tap_close(first), 0);
  ask_once(url, "on", "on");
  resay_engine_free(engine);
}

/* The clients' threads ask and look; another one opens and closes taps. */
struct asker {
  char *url;
  resay_tap *tap;
  int rounds, late;
};

static void *ask_and_look(void *user)
{
  struct asker *asker = user;
  resay_client *client = dial(asker->url);
  resay_tap_record record;
  char place[256];
  int i;
  for (i = 0; i < asker->rounds; i++) {
    ask(client, "is it there?", "IS IT THERE?");
    asker->late += resay_tap_read(asker->tap, &record, sizeof record, 1, place, sizeof place, 0) != 1;
  }
  resay_client_free(client);
  return NULL;
}

static void none_is_late(int rounds)
{
  static const char *const urls[] = {"tcp://127.0.0.1:0", "udp://127.0.0.1:0", "unix:@%s", "unix-dgram:@%s",
                                     "unix-seqpacket:@%s"};
  resay_engine *engine = new_engine();
  struct asker askers[5];
  pthread_t asking[5];
  char listening[5][128], what[128], name[64];
  resay_id ids[5];
  int i;
  CHECK_CODE(resay_chain(engine, 0, "uppercase", NULL), 0);
  for (i = 0; i < 5; i++) {
    snprintf(name, sizeof name, "resay-tap-%ld-%d", (long)getpid(), i);
    snprintf(what, sizeof what, urls[i], name);
    ids[i] = add(engine, what, listening[i]);
  }
  CHECK_CODE(resay_start(engine, 2, NULL), 0);
  for (i = 0; i < 5; i++) {
    askers[i].url = listening[i];
    askers[i].tap = open_tap(engine, ids[i]);
    askers[i].rounds = rounds;
    askers[i].late = 0;
    CHECK(pthread_create(&asking[i], NULL, ask_and_look, &askers[i]) == 0);
  }
  for (i = 0; i < 200; i++) CHECK_CODE(resay_tap_close(open_tap(engine, ids[i % 5])), 0);
  for (i = 0; i < 5; i++) {
    CHECK(pthread_join(asking[i], NULL) == 0);
    CHECK(askers[i].late == 0 && resay_tap_lost(askers[i].tap) == 0);
    CHECK_CODE(resay_tap_close(askers[i].tap), 0);
  }
  resay_engine_free(engine);
}

int main(int argc, char **argv)
{
  opening();
  transports();
  memory();
  in_a_loop();
  several();
  none_is_late(argc > 1 ? atoi(argv[1]) : 500);
  return 0;
}

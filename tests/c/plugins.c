/* Plugin files and tables: loaded, loaded anew, registered, refused. The arguments are two plugin files of one id,
 * turns, which answers "one" and "two", and a place to copy them to. */
#define _GNU_SOURCE
#include "check.h"

static resay_status map(void *instance, void *session, uint8_t *data, size_t len)
{
  size_t i;
  (void)instance, (void)session;
  for (i = 0; i < len; i++) data[i] ^= 0x20;
  return RESAY_OK;
}

static void copy(const char *from, const char *to)
{
  char command[1024];
  snprintf(command, sizeof command, "rm -f '%s' && cp '%s' '%s'", to, from, to);
  CHECK(system(command) == 0);
}

int main(int argc, char **argv)
{
  resay_transform flip, broken;
  resay_engine *engine = new_engine();
  resay_client *client;
  resay_error error;
  char url[128];
  CHECK(argc == 4);
  memset(&flip, 0, sizeof flip);
  flip.struct_size = sizeof flip;
  flip.id = "flip";
  flip.map = map;
  broken = flip;
  add(engine, "tcp://127.0.0.1:0", url);
  CHECK_CODE(resay_start(engine, 1, NULL), 0);
  client = dial(url);

  broken.map = NULL;
  CHECK_CODE(resay_register(engine, &broken, &error), RESAY_E_PLUGIN);
  CHECK(strstr(error.message, "neither map nor process") != NULL);
  broken = flip;
  broken.struct_size = 8;
  CHECK_CODE(resay_register(engine, &broken, &error), RESAY_E_PLUGIN);
  broken = flip;
  broken.needs = 1u << 31;
  CHECK_CODE(resay_register(engine, &broken, &error), RESAY_E_PLUGIN);
  CHECK_CODE(resay_register(engine, &flip, &error), 0);
  CHECK_CODE(resay_register(engine, &flip, &error), 0); /* in place of itself */
  CHECK_CODE(resay_chain(engine, 0, "flip", NULL), 0);
  ask(client, "abC", "ABc");

  CHECK_CODE(resay_load(engine, "/nonexistent.so", &error), RESAY_E_PLUGIN);
  CHECK(strstr(error.message, "/nonexistent.so") != NULL);
  CHECK_CODE(resay_load(engine, argv[0], &error), RESAY_E_PLUGIN);
  CHECK_CODE(resay_chain(engine, 0, "turns", NULL), RESAY_E_PLUGIN);
  copy(argv[1], argv[3]);
  CHECK_CODE(resay_load(engine, argv[3], NULL), 1);
  CHECK_CODE(resay_load(engine, argv[3], NULL), 1); /* the same again */
  CHECK_CODE(resay_chain(engine, 0, "turns", NULL), 0);
  ask(client, "which?", "one");
  copy(argv[2], argv[3]);
  ask(client, "which?", "one"); /* what is there stays */
  CHECK_CODE(resay_load(engine, argv[3], NULL), 1);
  ask(client, "which?", "one");
  CHECK_CODE(resay_chain(engine, 0, "turns", NULL), 0);
  ask(client, "which?", "two");

  /* The program's own comes first, and a file does not take its name away. */
  flip.id = "uppercase";
  CHECK_CODE(resay_register(engine, &flip, NULL), 0);
  CHECK_CODE(resay_chain(engine, 0, "uppercase", NULL), 0);
  ask(client, "abC", "ABc");
  resay_client_free(client);
  resay_engine_free(engine);
  return 0;
}

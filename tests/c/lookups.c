/* What there is: options, transforms, directories of plugins, counters. The arguments are a directory with the plugin libturns.so
 * and a file libbroken.so that is none, and a file. */
#define _GNU_SOURCE
#include "check.h"

/* ---- options */

struct options {
  resay_engine *engine;
  int count, of_listeners;
  const resay_option_info *high_water, *threads, *mode, *amplification;
};

static void each_option(void *user, const resay_option_info *option)
{
  struct options *found = user;
  const char *texts[2];
  char value[128];
  size_t i;
  CHECK(option->struct_size == sizeof *option && option->flags != 0);
  CHECK(*option->key && *option->type && *option->help && *option->value && option->unit && option->fallback);
  found->count++;
  if (option->flags != RESAY_OPTION_ENGINE) {
    CHECK((option->flags & RESAY_OPTION_ENGINE) == 0);
    found->of_listeners++;
  }
  if (strcmp(option->key, "high_water") == 0) found->high_water = option;
  if (strcmp(option->key, "threads") == 0) found->threads = option;
  if (strcmp(option->key, "mode") == 0) found->mode = option;
  if (strcmp(option->key, "max_amplification") == 0) found->amplification = option;
  /* What it says is what the engine takes and gives. */
  if (*option->fallback) {
    CHECK_CODE(resay_get(found->engine, option->key, value, sizeof value, NULL), 0);
    CHECK(strcmp(value, option->fallback) == 0);
    CHECK_CODE(resay_set(found->engine, option->key, option->fallback, NULL), 0);
  }
  texts[0] = option->min;
  texts[1] = option->max;
  for (i = 0; i < 2; i++)
    if (*texts[i]) CHECK_CODE(resay_set(found->engine, option->key, texts[i], NULL), 0);
  if (strcmp(option->type, "integer") == 0) {
    snprintf(value, sizeof value, "%lld", atoll(option->max) + 1);
    CHECK_CODE(resay_set(found->engine, option->key, value, NULL), RESAY_E_SPEC);
  }
}

static void options(void)
{
  struct options found = {NULL, 0, 0, NULL, NULL, NULL, NULL};
  const uint32_t connected = RESAY_OPTION_TCP | RESAY_OPTION_UNIX | RESAY_OPTION_UNIX_SEQPACKET | RESAY_OPTION_INHERITED;
  /* One that has only what it came with. */
  CHECK_CODE(resay_engine_new(RESAY_ABI, &found.engine, NULL), 0);
  CHECK_CODE(resay_options(NULL, NULL), RESAY_E_ARG);
  CHECK(resay_options(each_option, &found) == found.count && found.of_listeners > 15 && found.count > found.of_listeners);
  CHECK(found.threads && found.threads->flags == RESAY_OPTION_ENGINE && strcmp(found.threads->max, "256") == 0);
  CHECK(found.high_water && found.high_water->flags == connected);
  CHECK(strcmp(found.high_water->type, "size") == 0 && strcmp(found.high_water->unit, "bytes") == 0);
  CHECK(strcmp(found.high_water->min, "1k") == 0 && strcmp(found.high_water->max, "1g") == 0);
  CHECK(found.mode && (found.mode->flags & RESAY_OPTION_UNIX_DGRAM) && strcmp(found.mode->value, "OCTAL|auto") == 0);
  CHECK(found.amplification && found.amplification->flags == (RESAY_OPTION_UDP | RESAY_OPTION_INHERITED));
  resay_engine_free(found.engine);
}

/* ---- transforms */

struct transforms {
  const char *wanted; /* this one is kept, and its first option */
  int count, faults;
  char origin[512], fault[512], option[64], type[64], help[128];
  uint32_t caps, needs, threading;
  char fallbacks[16]; /* a character for each option: required, empty, given */
  resay_engine *engine; /* is called meanwhile */
};

static void copy_text(char *to, size_t cap, const char *from)
{
  CHECK((size_t)snprintf(to, cap, "%s", from) < cap);
}

static void each_transform(void *user, const resay_transform_info *transform)
{
  struct transforms *found = user;
  size_t i;
  CHECK(transform->struct_size == sizeof *transform);
  CHECK(transform->version != NULL && transform->summary != NULL && transform->origin != NULL);
  CHECK((transform->options == NULL) == (transform->options_count == 0));
  CHECK(transform->option_size == sizeof *transform->options && transform->zero == 0);
  if (transform->fault) {
    found->faults++;
    CHECK(*transform->id == '\0');
    copy_text(found->fault, sizeof found->fault, transform->fault);
    if (strcmp(found->wanted, "") == 0) copy_text(found->origin, sizeof found->origin, transform->origin);
    return;
  }
  CHECK(*transform->id != '\0' && found->faults == 0);
  found->count++;
  if (found->engine) {
    char chain[64];
    CHECK_CODE(resay_get(found->engine, "chain", chain, sizeof chain, NULL), 0);
  }
  if (strcmp(transform->id, found->wanted) != 0) return;
  copy_text(found->origin, sizeof found->origin, transform->origin);
  found->caps = transform->caps;
  found->needs = transform->needs;
  found->threading = transform->threading;
  if (transform->options_count == 0) return;
  CHECK(transform->options_count < sizeof found->fallbacks);
  for (i = 0; i < transform->options_count; i++) {
    const char *fallback = transform->options[i].fallback;
    found->fallbacks[i] = fallback == NULL ? 'r' : *fallback == '\0' ? 'e' : 'g';
  }
  copy_text(found->option, sizeof found->option, transform->options[0].key);
  copy_text(found->type, sizeof found->type, transform->options[0].type);
  copy_text(found->help, sizeof found->help, transform->options[0].help);
}

static struct transforms find(resay_engine *engine, const char *id)
{
  struct transforms found;
  resay_error error;
  int result;
  memset(&found, 0, sizeof found);
  found.wanted = id;
  found.engine = engine;
  result = resay_transforms(engine, each_transform, &found, &error);
  CHECK(result == found.count && error.code == 0);
  return found;
}

/* ---- a transform of the program with an option and a counter */

struct counting {
  const resay_host *host;
  uint32_t calls;
};

static resay_status create(const resay_transform *transform, const resay_host *host, const resay_kv *options,
                           size_t n_options, void **instance, resay_text *err)
{
  struct counting *counting = transform->user;
  (void)options, (void)n_options, (void)err;
  counting->host = host;
  counting->calls = host->counter(host->ctx, "calls");
  *instance = counting;
  return RESAY_OK;
}

static resay_status map(void *instance, void *session, uint8_t *data, size_t len)
{
  struct counting *counting = instance;
  (void)session, (void)data, (void)len;
  counting->host->counter_add(counting->host->ctx, counting->calls, 2);
  return RESAY_OK;
}

struct counters {
  int count;
  uint64_t calls;
};

static void each_counter(void *user, const char *name, uint64_t value)
{
  struct counters *found = user;
  found->count++;
  if (strcmp(name, "counting.calls") == 0) found->calls = value;
}

static int pass(void *user, void **session, const resay_message *message, resay_out *out)
{
  struct transforms *found = user;
  (void)session, (void)message, (void)out;
  /* Not inside a callback of the engine. */
  found->faults = resay_transforms(found->engine, each_transform, found, NULL);
  return RESAY_PASS;
}

static void transforms(const char *directory, const char *file)
{
  static const resay_option options[] = {
    {.key = "step", .type = "integer", .fallback = "1", .help = "how far"},
    {.key = "mark", .type = "string", .fallback = "", .help = "stands behind the number"},
    {.key = "begin", .type = "integer", .fallback = NULL, .help = "the first number"},
  };
  struct counting counting = {NULL, 0};
  struct transforms found, inside;
  struct counters counters = {0, 0};
  resay_transform table;
  resay_function function;
  resay_engine *engine = new_engine();
  resay_client *client;
  resay_error error;
  char url[128], path[512], cwd[512];
  int before;

  CHECK_CODE(resay_transforms(NULL, NULL, NULL, &error), RESAY_E_ARG);
  CHECK_CODE(resay_transforms(engine, NULL, NULL, &error), RESAY_E_ARG);
  found = find(NULL, "uppercase");
  CHECK(strcmp(found.origin, "bundled") == 0 && strcmp(found.option, "unicode") == 0 && strcmp(found.type, "bool") == 0);
  CHECK(found.faults == 0 && *found.help != '\0');
  before = found.count;
  CHECK(find(engine, "uppercase").count == before);

  memset(&table, 0, sizeof table);
  table.struct_size = sizeof table;
  table.id = "counting";
  table.caps = RESAY_CAP_BYTEWISE | RESAY_CAP_OBSERVER;
  table.threading = RESAY_SERIAL;
  table.options = options;
  table.n_options = 3;
  table.user = &counting;
  table.create = create;
  table.map = map;
  CHECK_CODE(resay_register(engine, &table, NULL), 0);
  memset(&inside, 0, sizeof inside);
  inside.engine = engine;
  inside.wanted = "";
  CHECK_CODE(add_function(engine, "own", pass, &inside, NULL), 0);
  memset(&function, 0, sizeof function);
  function.struct_size = sizeof function;
  function.needs = RESAY_NEED_MESSAGES | RESAY_NEED_OFFLOAD;
  function.call = pass;
  CHECK_CODE(resay_register_function(engine, "slow", &function, NULL), 0);
  found = find(engine, "counting");
  CHECK(found.count == before + 3 && strcmp(found.origin, "registered") == 0 && strcmp(found.option, "step") == 0);
  CHECK(found.caps == table.caps && found.needs == 0 && found.threading == RESAY_SERIAL);
  CHECK(strcmp(found.fallbacks, "ger") == 0);
  CHECK(strcmp(find(engine, "own").origin, "registered") == 0);
  found = find(engine, "slow");
  CHECK(found.needs == function.needs && found.caps == 0 && found.threading == RESAY_SHARED);
  CHECK(find(NULL, "own").count == before); /* others have no part in it */

  CHECK_CODE(resay_chain(engine, 0, "turns", &error), RESAY_E_PLUGIN);
  snprintf(path, sizeof path, "%s/nowhere", directory);
  CHECK_CODE(resay_plugin_dir(engine, path, &error), RESAY_E_SYS);
  CHECK(error.os_errno == ENOENT && strstr(error.message, "nowhere") != NULL);
  CHECK_CODE(resay_plugin_dir(engine, file, &error), RESAY_E_SYS);
  CHECK(error.os_errno == ENOTDIR);
  CHECK_CODE(resay_plugin_dir(engine, NULL, &error), RESAY_E_ARG);
  CHECK(find(engine, "turns").count == before + 3);

  /* A relative path stays what it was. */
  CHECK(getcwd(cwd, sizeof cwd) != NULL && chdir(directory) == 0);
  CHECK_CODE(resay_plugin_dir(engine, ".", &error), 0);
  CHECK_CODE(resay_plugin_dir(engine, directory, &error), 0);
  CHECK(chdir(cwd) == 0);
  found = find(engine, "turns");
  snprintf(path, sizeof path, "%s/libturns.so", directory);
  CHECK(found.count == before + 4 && strcmp(found.origin, path) == 0);
  CHECK(found.faults == 1 && *found.fault != '\0');
  snprintf(path, sizeof path, "%s/libbroken.so", directory);
  CHECK(strcmp(find(engine, "").origin, path) == 0);

  CHECK_CODE(resay_counters(engine, NULL, NULL), RESAY_E_ARG);
  CHECK_CODE(resay_counters(engine, each_counter, &counters), counters.count);
  CHECK(counters.calls == 0);
  add(engine, "tcp://127.0.0.1:0", url);
  CHECK_CODE(resay_chain(engine, 0, "turns | counting | own", &error), 0);
  CHECK_CODE(resay_start(engine, 1, &error), 0);
  client = dial(url);
  ask(client, "hello", "one");
  resay_client_free(client);
  CHECK_CODE(resay_join(engine, 0), RESAY_E_TIMEOUT);
  CHECK_CODE(resay_drain(engine, PATIENCE_MS), 0);
  CHECK(inside.faults == RESAY_E_STATE && inside.count == 0);
  counters.count = 0;
  CHECK_CODE(resay_counters(engine, each_counter, &counters), counters.count);
  CHECK(counters.count >= 1 && counters.calls == 2);
  resay_engine_free(engine);
}

int main(int argc, char **argv)
{
  CHECK(argc == 3);
  options();
  transforms(argv[1], argv[2]);
  return 0;
}

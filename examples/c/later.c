/* Answers that come later, from another thread: here from one that plays a slow database. The connection goes on reading
 * meanwhile, and its answers leave in the order of its messages.
 *
 *   cc -Iinclude examples/c/later.c -Ltarget/release -lresay -pthread -o later
 *   ln -sf libresay.so target/release/libresay.so.1
 *   LD_LIBRARY_PATH=target/release ./later
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <resay.h>

struct request {
  struct request *next;
  uint64_t token; /* 0: the end */
  size_t len;
  char text[32];
};

static resay_engine *engine;
static struct request *newest; /* the last one comes first, so that nothing is in order by chance */
static int wanted = 3;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

/* On a thread of the engine's: notes the message, and says that the answer comes later. */
static int look_up(void *user, void **session, const resay_message *message, resay_out *out)
{
  struct request *request = calloc(1, sizeof *request);
  (void)user, (void)session;
  if (request == NULL || message->len > sizeof request->text || (request->token = resay_later(out)) == 0) {
    free(request);
    return RESAY_DROP;
  }
  memcpy(request->text, message->data, request->len = message->len); /* the message is gone when this returns */
  pthread_mutex_lock(&lock);
  request->next = newest;
  newest = request;
  wanted--;
  pthread_cond_signal(&changed);
  pthread_mutex_unlock(&lock);
  return RESAY_LATER;
}

/* The database: answers when it has three requests. */
static void *database(void *unused)
{
  struct request *request, *next;
  (void)unused;
  pthread_mutex_lock(&lock);
  while (wanted > 0) pthread_cond_wait(&changed, &lock);
  request = newest;
  pthread_mutex_unlock(&lock);
  for (; request != NULL; request = next) {
    char answer[64];
    int len = snprintf(answer, sizeof answer, "%.*s is a colour", (int)request->len, request->text);
    /* RESAY_E_HANDLE would mean that the connection has gone: nobody waits for the answer. */
    if (resay_answer(engine, request->token, RESAY_REPLACE, answer, (size_t)len) < 0)
      fprintf(stderr, "%s\n", resay_last_error());
    next = request->next;
    free(request);
  }
  return NULL;
}

int main(void)
{
  static const char expected[] = "red is a colour\ngreen is a colour\nblue is a colour\n";
  resay_function function = {.struct_size = sizeof function, .call = look_up};
  resay_error error;
  resay_id listener;
  resay_client *client;
  pthread_t thread;
  char url[64], answer[sizeof expected];
  size_t have = 0, got;
  if (resay_engine_new(RESAY_ABI, &engine, &error) < 0
      || resay_register_function(engine, "look-up", &function, &error) < 0
      || resay_chain(engine, 0, "look-up", &error) < 0
      || resay_listen(engine, "tcp://127.0.0.1:0?frame=lines", &listener, &error) < 0
      || resay_start(engine, 1, &error) < 0)
    return fprintf(stderr, "%s\n", error.message), 1;
  if (resay_listener_url(engine, listener, url, sizeof url, NULL) < 0
      || pthread_create(&thread, NULL, database, NULL) != 0 || resay_client_open(url, 5000, &client, &error) < 0)
    return 1;
  if (resay_client_send(client, "red\ngreen\nblue\n", 15, 5000) < 0) return 1;
  while (have < sizeof expected - 1) {
    if (resay_client_recv(client, answer + have, sizeof answer - have, &got, 5000) < 0)
      return fprintf(stderr, "%s\n", resay_last_error()), 1;
    if (got == 0) return 1;
    have += got;
  }
  printf("%.*s", (int)have, answer);
  pthread_join(thread, NULL);
  resay_client_free(client);
  resay_engine_free(engine);
  return memcmp(answer, expected, have) != 0;
}

/* Serves a chain on a free port, and asks it once. */
#ifndef ASK_H
#define ASK_H

#include <resay.h>
#include <stdio.h>
#include <string.h>

static int ask(const char *chain, const char *question, const char *expected)
{
  const int32_t patience = 60000;
  resay_engine *engine;
  resay_client *client;
  resay_error error;
  resay_id listener;
  char url[64], answer[64];
  size_t have = 0, got = 0, want = strlen(expected);
  if (resay_engine_new(RESAY_ABI, &engine, &error) < 0 || resay_chain(engine, 0, chain, &error) < 0
      || resay_listen(engine, "tcp://127.0.0.1:0", &listener, &error) < 0
      || resay_listener_url(engine, listener, url, sizeof url, NULL) < 0 || resay_start(engine, 1, &error) < 0
      || resay_client_open(url, patience, &client, &error) < 0)
    return fprintf(stderr, "%s\n", error.message), 1;
  if (want > sizeof answer || resay_client_send(client, question, strlen(question), patience) < 0) return 1;
  while (have < want && resay_client_recv(client, answer + have, want - have, &got, patience) == 0) have += got;
  resay_client_free(client);
  resay_engine_free(engine);
  return have != want || memcmp(answer, expected, want) != 0;
}

#endif

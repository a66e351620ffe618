/* A shared library with the archive in it. NAME is what it calls itself. */
#include "ask.h"

#define JOINED(a, b) a##_##b
#define OF(name, what) JOINED(name, what)

/* Where this library finds a function of Resay. */
void *OF(NAME, resay)(void);
void *OF(NAME, resay)(void)
{
  union {
    int (*function)(uint32_t, resay_engine **, resay_error *);
    void *pointer;
  } found = {resay_engine_new};
  return found.pointer;
}

int OF(NAME, ask)(const char *chain, const char *question, const char *expected);
int OF(NAME, ask)(const char *chain, const char *question, const char *expected)
{
  return ask(chain, question, expected);
}

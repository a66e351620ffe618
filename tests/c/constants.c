/* Every constant of resay.h with its number, which may never change, and how it may be used: in #if, in a case, as an
 * array's size, next to any operator. */
#include <resay.h>
#include <stdio.h>
#include <string.h>

#if RESAY_VERSION_MAJOR > 0 || RESAY_ABI != 1 || RESAY_E_ARG != -101 || RESAY_PASS != 0 || RESAY_EVENT_ALL != 0xffffffff
#error "a constant cannot be used by the preprocessor"
#endif

struct row {
  const char *name;
  long long found, expected;
};

static const struct row rows[] = {
  {"RESAY_VERSION_MAJOR", (long long)(RESAY_VERSION_MAJOR), 0LL},
  {"RESAY_VERSION_MINOR", (long long)(RESAY_VERSION_MINOR), 1LL},
  {"RESAY_VERSION_PATCH", (long long)(RESAY_VERSION_PATCH), 0LL},
  {"RESAY_ABI", (long long)(RESAY_ABI), 1LL},
  {"RESAY_E_ARG", (long long)(RESAY_E_ARG), -101LL},
  {"RESAY_E_ABI", (long long)(RESAY_E_ABI), -102LL},
  {"RESAY_E_STATE", (long long)(RESAY_E_STATE), -103LL},
  {"RESAY_E_HANDLE", (long long)(RESAY_E_HANDLE), -104LL},
  {"RESAY_E_SYS", (long long)(RESAY_E_SYS), -105LL},
  {"RESAY_E_TIMEOUT", (long long)(RESAY_E_TIMEOUT), -106LL},
  {"RESAY_E_INTR", (long long)(RESAY_E_INTR), -107LL},
  {"RESAY_E_SPEC", (long long)(RESAY_E_SPEC), -108LL},
  {"RESAY_E_PLUGIN", (long long)(RESAY_E_PLUGIN), -109LL},
  {"RESAY_E_CALLBACK", (long long)(RESAY_E_CALLBACK), -110LL},
  {"RESAY_E_FORKED", (long long)(RESAY_E_FORKED), -111LL},
  {"RESAY_E_BUG", (long long)(RESAY_E_BUG), -112LL},
  {"RESAY_E_FULL", (long long)(RESAY_E_FULL), -113LL},
  {"RESAY_ERROR_MESSAGE_BYTES", (long long)(RESAY_ERROR_MESSAGE_BYTES), 240LL},
  {"RESAY_FD_OWN", (long long)(RESAY_FD_OWN), 1LL},
  {"RESAY_FD_DUP", (long long)(RESAY_FD_DUP), 2LL},
  {"RESAY_PASS", (long long)(RESAY_PASS), 0LL},
  {"RESAY_REPLACE", (long long)(RESAY_REPLACE), 1LL},
  {"RESAY_LATER", (long long)(RESAY_LATER), 6LL},
  {"RESAY_EVENT_LISTENING", (long long)(RESAY_EVENT_LISTENING), 1LL},
  {"RESAY_EVENT_LISTENER_CLOSED", (long long)(RESAY_EVENT_LISTENER_CLOSED), 2LL},
  {"RESAY_EVENT_ACCEPTED", (long long)(RESAY_EVENT_ACCEPTED), 4LL},
  {"RESAY_EVENT_CLOSED", (long long)(RESAY_EVENT_CLOSED), 8LL},
  {"RESAY_EVENT_REJECTED", (long long)(RESAY_EVENT_REJECTED), 16LL},
  {"RESAY_EVENT_ACCEPT_FAILED", (long long)(RESAY_EVENT_ACCEPT_FAILED), 32LL},
  {"RESAY_EVENT_DROPPED", (long long)(RESAY_EVENT_DROPPED), 64LL},
  {"RESAY_EVENT_TRANSFORM_FAILED", (long long)(RESAY_EVENT_TRANSFORM_FAILED), 128LL},
  {"RESAY_EVENT_TRANSFORM_LOG", (long long)(RESAY_EVENT_TRANSFORM_LOG), 256LL},
  {"RESAY_EVENT_CHAIN_CHANGED", (long long)(RESAY_EVENT_CHAIN_CHANGED), 512LL},
  {"RESAY_EVENT_ENGINE", (long long)(RESAY_EVENT_ENGINE), 1024LL},
  {"RESAY_EVENT_IDENTIFIED", (long long)(RESAY_EVENT_IDENTIFIED), 8192LL},
  {"RESAY_EVENT_TRANSFORM_STUCK", (long long)(RESAY_EVENT_TRANSFORM_STUCK), 2048LL},
  {"RESAY_EVENT_TRANSFORM_RETURNED", (long long)(RESAY_EVENT_TRANSFORM_RETURNED), 4096LL},
  {"RESAY_EVENT_ALL", (long long)(RESAY_EVENT_ALL), 4294967295LL},
  {"RESAY_CLOSED_PEER_CLOSED", (long long)(RESAY_CLOSED_PEER_CLOSED), 1LL},
  {"RESAY_CLOSED_PEER_RESET", (long long)(RESAY_CLOSED_PEER_RESET), 2LL},
  {"RESAY_CLOSED_IDLE_TIMEOUT", (long long)(RESAY_CLOSED_IDLE_TIMEOUT), 3LL},
  {"RESAY_CLOSED_WRITE_TIMEOUT", (long long)(RESAY_CLOSED_WRITE_TIMEOUT), 4LL},
  {"RESAY_CLOSED_MESSAGE_TOO_LONG", (long long)(RESAY_CLOSED_MESSAGE_TOO_LONG), 5LL},
  {"RESAY_CLOSED_TRANSFORM_CLOSED", (long long)(RESAY_CLOSED_TRANSFORM_CLOSED), 6LL},
  {"RESAY_CLOSED_TRANSFORM_FAILED", (long long)(RESAY_CLOSED_TRANSFORM_FAILED), 7LL},
  {"RESAY_CLOSED_CHAIN_REPLACED", (long long)(RESAY_CLOSED_CHAIN_REPLACED), 8LL},
  {"RESAY_CLOSED_DRAINED", (long long)(RESAY_CLOSED_DRAINED), 9LL},
  {"RESAY_CLOSED_CUT_OFF", (long long)(RESAY_CLOSED_CUT_OFF), 10LL},
  {"RESAY_CLOSED_STOPPED", (long long)(RESAY_CLOSED_STOPPED), 11LL},
  {"RESAY_CLOSED_SYSTEM_ERROR", (long long)(RESAY_CLOSED_SYSTEM_ERROR), 12LL},
  {"RESAY_CLOSED_TOO_SLOW", (long long)(RESAY_CLOSED_TOO_SLOW), 13LL},
  {"RESAY_CLOSED_PREFACE_REFUSED", (long long)(RESAY_CLOSED_PREFACE_REFUSED), 14LL},
  {"RESAY_CLOSED_LAYER_FAILED", (long long)(RESAY_CLOSED_LAYER_FAILED), 15LL},
  {"RESAY_CLOSED_ANSWER_TOO_LONG", (long long)(RESAY_CLOSED_ANSWER_TOO_LONG), 16LL},
  {"RESAY_CLOSED_BY_HOST", (long long)(RESAY_CLOSED_BY_HOST), 17LL},
  {"RESAY_CLOSED_OVERLOADED", (long long)(RESAY_CLOSED_OVERLOADED), 18LL},
  {"RESAY_CLOSED_LAYER_TRUNCATED", (long long)(RESAY_CLOSED_LAYER_TRUNCATED), 19LL},
  {"RESAY_CONNECTION_OPEN", (long long)(RESAY_CONNECTION_OPEN), 1LL},
  {"RESAY_CONNECTION_HALF_CLOSED", (long long)(RESAY_CONNECTION_HALF_CLOSED), 2LL},
  {"RESAY_CONNECTION_ENDING", (long long)(RESAY_CONNECTION_ENDING), 3LL},
  {"RESAY_DROPPED_BY_TRANSFORM", (long long)(RESAY_DROPPED_BY_TRANSFORM), 1LL},
  {"RESAY_DROPPED_TRANSFORM_FAILED", (long long)(RESAY_DROPPED_TRANSFORM_FAILED), 2LL},
  {"RESAY_DROPPED_TOO_LONG", (long long)(RESAY_DROPPED_TOO_LONG), 3LL},
  {"RESAY_DROPPED_BAD_SOURCE", (long long)(RESAY_DROPPED_BAD_SOURCE), 4LL},
  {"RESAY_DROPPED_GROUP_DESTINATION", (long long)(RESAY_DROPPED_GROUP_DESTINATION), 5LL},
  {"RESAY_DROPPED_UNNAMED", (long long)(RESAY_DROPPED_UNNAMED), 6LL},
  {"RESAY_DROPPED_PEER_FULL", (long long)(RESAY_DROPPED_PEER_FULL), 7LL},
  {"RESAY_DROPPED_AMPLIFIED", (long long)(RESAY_DROPPED_AMPLIFIED), 8LL},
  {"RESAY_DROPPED_QUEUE_FULL", (long long)(RESAY_DROPPED_QUEUE_FULL), 9LL},
  {"RESAY_DROPPED_SEND_FAILED", (long long)(RESAY_DROPPED_SEND_FAILED), 10LL},
  {"RESAY_DROPPED_UNDELIVERED", (long long)(RESAY_DROPPED_UNDELIVERED), 11LL},
  {"RESAY_DROPPED_ANSWER_TOO_LONG", (long long)(RESAY_DROPPED_ANSWER_TOO_LONG), 12LL},
  {"RESAY_DROPPED_OVERLOADED", (long long)(RESAY_DROPPED_OVERLOADED), 13LL},
  {"RESAY_DROPPED_SOCKET_FULL", (long long)(RESAY_DROPPED_SOCKET_FULL), 14LL},
  {"RESAY_DROPPED_OWN_ADDRESS", (long long)(RESAY_DROPPED_OWN_ADDRESS), 15LL},
  {"RESAY_DROPPED_FROM_PORT", (long long)(RESAY_DROPPED_FROM_PORT), 16LL},
  {"RESAY_DROPPED_DENIED", (long long)(RESAY_DROPPED_DENIED), 17LL},
  {"RESAY_DROPPED_LOOP_MARK", (long long)(RESAY_DROPPED_LOOP_MARK), 18LL},
  {"RESAY_DROPPED_RATE", (long long)(RESAY_DROPPED_RATE), 19LL},
  {"RESAY_DROPPED_LOOP", (long long)(RESAY_DROPPED_LOOP), 20LL},
  {"RESAY_DROPPED_PROXY_HEADER", (long long)(RESAY_DROPPED_PROXY_HEADER), 21LL},
  {"RESAY_DROPPED_NOT_FROM_PROXY", (long long)(RESAY_DROPPED_NOT_FROM_PROXY), 22LL},
  {"RESAY_REJECTED_MAX_CONNECTIONS", (long long)(RESAY_REJECTED_MAX_CONNECTIONS), 1LL},
  {"RESAY_REJECTED_MAX_PER_PEER", (long long)(RESAY_REJECTED_MAX_PER_PEER), 2LL},
  {"RESAY_REJECTED_DENIED", (long long)(RESAY_REJECTED_DENIED), 3LL},
  {"RESAY_REJECTED_ALLOW_UID", (long long)(RESAY_REJECTED_ALLOW_UID), 4LL},
  {"RESAY_REJECTED_UNKNOWN_USER", (long long)(RESAY_REJECTED_UNKNOWN_USER), 5LL},
  {"RESAY_REJECTED_NOT_FROM_PROXY", (long long)(RESAY_REJECTED_NOT_FROM_PROXY), 6LL},
  {"RESAY_TAP_ANSWERS", (long long)(RESAY_TAP_ANSWERS), 1LL},
  {"RESAY_TAP_ANSWERED", (long long)(RESAY_TAP_ANSWERED), 1LL},
  {"RESAY_TAP_DROPPED", (long long)(RESAY_TAP_DROPPED), 2LL},
  {"RESAY_TAP_CLOSED", (long long)(RESAY_TAP_CLOSED), 3LL},
  {"RESAY_TAP_RESET", (long long)(RESAY_TAP_RESET), 4LL},
  {"RESAY_TAP_FAILED", (long long)(RESAY_TAP_FAILED), 5LL},
  {"RESAY_TAP_UNSENDABLE", (long long)(RESAY_TAP_UNSENDABLE), 6LL},
  {"RESAY_OPTION_ENGINE", (long long)(RESAY_OPTION_ENGINE), 1LL},
  {"RESAY_OPTION_TCP", (long long)(RESAY_OPTION_TCP), 2LL},
  {"RESAY_OPTION_UDP", (long long)(RESAY_OPTION_UDP), 4LL},
  {"RESAY_OPTION_UNIX", (long long)(RESAY_OPTION_UNIX), 8LL},
  {"RESAY_OPTION_UNIX_DGRAM", (long long)(RESAY_OPTION_UNIX_DGRAM), 16LL},
  {"RESAY_OPTION_UNIX_SEQPACKET", (long long)(RESAY_OPTION_UNIX_SEQPACKET), 32LL},
  {"RESAY_OPTION_INHERITED", (long long)(RESAY_OPTION_INHERITED), 64LL},
  {"RESAY_EVENT_TEXT_BYTES", (long long)(RESAY_EVENT_TEXT_BYTES), 96LL},
};

static char as_a_size[RESAY_EVENT_TEXT_BYTES + RESAY_ERROR_MESSAGE_BYTES];

static const char *as_a_case(int code)
{
  switch (code) {
  case RESAY_E_ARG:
  case RESAY_E_ABI:
  case RESAY_E_STATE:
  case RESAY_E_HANDLE:
  case RESAY_E_SYS:
  case RESAY_E_TIMEOUT:
  case RESAY_E_INTR:
  case RESAY_E_SPEC:
  case RESAY_E_PLUGIN:
  case RESAY_E_CALLBACK:
  case RESAY_E_FORKED:
  case RESAY_E_BUG:
  case RESAY_E_FULL:
    return "error";
  case RESAY_PASS:
  case RESAY_REPLACE:
    return "answer";
  default:
    return "neither";
  }
}

int main(void)
{
  size_t i, j;
  int failed = 0;
  char version[40];
  for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    printf("%s\n", rows[i].name);
    if (rows[i].found != rows[i].expected) {
      fprintf(stderr, "%s is %lld, not %lld\n", rows[i].name, rows[i].found, rows[i].expected);
      failed = 1;
    }
    /* Within a family no number stands twice: all errors have words of their own. */
    for (j = 0; j < i; j++) {
      if (strncmp(rows[i].name, "RESAY_E_", 8) == 0 && strncmp(rows[j].name, "RESAY_E_", 8) == 0
          && strcmp(resay_strerror((int)rows[i].found), resay_strerror((int)rows[j].found)) == 0) {
        fprintf(stderr, "%s and %s mean the same\n", rows[i].name, rows[j].name);
        failed = 1;
      }
    }
  }
  snprintf(version, sizeof version, "%u.%u.%u", RESAY_VERSION_MAJOR, RESAY_VERSION_MINOR, RESAY_VERSION_PATCH);
  failed |= resay_abi() != RESAY_ABI || strcmp(resay_version(), version) != 0;
  failed |= strcmp(as_a_case(RESAY_E_BUG), "error") != 0 || strcmp(as_a_case(RESAY_REPLACE), "answer") != 0;
  failed |= sizeof as_a_size != 336 || 1 - RESAY_E_ARG != 102 || ~RESAY_EVENT_ALL != 0u;
  failed |= sizeof(((resay_error *)0)->message) != RESAY_ERROR_MESSAGE_BYTES;
  failed |= sizeof(((resay_event *)0)->text) != RESAY_EVENT_TEXT_BYTES;
  failed |= sizeof(resay_event) != 128 + 8 || sizeof(resay_stats) != 96 + 24 || sizeof(resay_error) != 256;
  /* A plugin's answers that a callback may give too mean the same. */
  failed |= RESAY_PASS != RESAY_OK;
  return failed;
}

/* @NAME@: a transform for Resay, the echo engine that you link.
 *
 *   make && resay plugin check ./lib@NAME@.so
 *
 * resay_plugin.h has the rules; this is the smallest plugin that keeps them: it flips the case of letters.
 */
#include "resay_plugin.h"

/* Called with each message, or with whatever a read of a raw stream brought. It works in place: the length stays.
 * A transform that grows, shrinks or splits has process() instead. data may be NULL where len is 0. */
static resay_status map(void *instance, void *session, uint8_t *data, size_t len)
{
  (void)instance; /* what create() made: options, counters; here there is no create() */
  (void)session;  /* session_size bytes of memory for each connection, zeroed; here there are none */
  for (size_t i = 0; i < len; i++) {
    uint8_t letter = (uint8_t)(data[i] | 0x20);
    if (letter >= 'a' && letter <= 'z') data[i] ^= 0x20;
  }
  return RESAY_OK; /* or RESAY_DROP: no answer; RESAY_CLOSE: answer, then close; RESAY_E_DATA: cannot do */
}

/* Constant, for the host keeps its address. What is not set is zero, and means: nothing of the sort. */
static const resay_transform table = {
  .struct_size = sizeof table,
  .caps = RESAY_CAP_BYTEWISE, /* a promise: out[i] depends on in[i] alone, so calls may be split and merged */
  .id = "@NAME@",             /* its name in a chain */
  .version = "0.1.0",
  .summary = "flips the case of letters",
  .map = map,
};

RESAY_PLUGIN(&table)

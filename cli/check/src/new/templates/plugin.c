/* @NAME@: a transform for Resay, the echo engine that you link.
 *
 *   make && resay plugin check ./lib@NAME@.so
 *
 * This is a whole plugin: it flips the case of letters. The rules for plugins are in resay_plugin.h.
 */
#include "resay_plugin.h"

/* Called with each message, or with the bytes of a read of a raw stream. It works in place, and the length stays. A
 * transform that grows, shrinks or splits messages has process() instead. data may be NULL if len is 0. */
static resay_status map(void *instance, void *session, uint8_t *data, size_t len)
{
  (void)instance; /* from create(): options, counters; this plugin has no create() */
  (void)session;  /* session_size bytes of memory for each connection, zeroed; here 0 */
  for (size_t i = 0; i < len; i++) {
    /* No branch in the loop: the compiler makes vector instructions of it, which are many times faster. */
    uint8_t lower = data[i] | 0x20;
    uint8_t is_letter = lower >= 'a' && lower <= 'z';
    data[i] ^= (uint8_t)(is_letter << 5);
  }
  return RESAY_OK; /* or RESAY_DROP: no reply; RESAY_CLOSE: reply, then close; RESAY_E_DATA: invalid message */
}

/* Constant: the host keeps its address. Fields that are not set are zero, which means none. */
static const resay_transform table = {
  .struct_size = sizeof table,
  .caps = RESAY_CAP_BYTEWISE, /* a promise: byte i of the output depends on byte i of the input alone */
  .id = "@NAME@",             /* its name in a chain */
  .version = "0.1.0",
  .summary = "flips the case of letters",
  .map = map,
};

RESAY_PLUGIN(&table);

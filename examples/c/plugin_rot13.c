/* rot13: a whole plugin in C.
 *
 *   cc -O2 -shared -fPIC -o librot13.so plugin_rot13.c && resay plugin check ./librot13.so
 */
#include <resay_plugin.h>

static uint8_t turned(uint8_t byte) {
  uint8_t letter = (uint8_t)((byte | 0x20) - 'a'); /* 0 to 25, of either case */
  if (letter >= 26) return byte;
  return (uint8_t)(letter < 13 ? byte + 13 : byte - 13);
}

static resay_status map(void *instance, void *session, uint8_t *data, size_t len) {
  (void)instance, (void)session;
  for (size_t i = 0; i < len; i++) data[i] = turned(data[i]);
  return RESAY_OK;
}

static const resay_transform rot13 = {
  .struct_size = sizeof rot13, .caps = RESAY_CAP_BYTEWISE,
  .id = "rot13", .version = "1.0.0", .summary = "turns each letter by half the alphabet", .map = map,
};

RESAY_PLUGIN(&rot13);

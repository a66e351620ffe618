// @NAME@: a transform for Resay, the echo engine that you link.
//
//   make && resay plugin check ./lib@NAME@.so
//
// This is a whole plugin: it flips the case of letters. The rules for plugins are in resay_plugin.h.
#include "resay_plugin.h"

#include <cstddef>
#include <cstdint>

namespace {

// Called with each message, or with the bytes of a read of a raw stream. It works in place, and the length stays. A
// transform that grows, shrinks or splits messages has process() instead. data may be NULL if len is 0.
//
// No exception may leave a function of the table: catch it, and return RESAY_E_NOMEM, RESAY_E_DATA or the like.
resay_status map(void * /* from create() */, void * /* session_size bytes */, std::uint8_t *data, std::size_t len) noexcept
{
  for (std::size_t i = 0; i < len; i++) {
    // No branch in the loop: the compiler makes vector instructions of it, which are many times faster.
    const std::uint8_t lower = data[i] | 0x20;
    const std::uint8_t is_letter = lower >= 'a' && lower <= 'z';
    data[i] ^= static_cast<std::uint8_t>(is_letter << 5);
  }
  return RESAY_OK; // or RESAY_DROP: no reply; RESAY_CLOSE: reply, then close; RESAY_E_DATA: invalid message
}

constexpr resay_transform make_table()
{
  resay_transform table{}; // fields that are not set are zero, which means none
  table.struct_size = sizeof table;
  table.caps = RESAY_CAP_BYTEWISE; // a promise: byte i of the output depends on byte i of the input alone
  table.id = "@NAME@"; // its name in a chain
  table.version = "0.1.0";
  table.summary = "flips the case of letters";
  table.map = map;
  return table;
}

// Constant: the host keeps its address.
constexpr resay_transform table = make_table();

} // namespace

RESAY_PLUGIN(&table);

// @NAME@: a transform for Resay, the echo engine that you link.
//
//   make && resay plugin check ./lib@NAME@.so
//
// This is a whole plugin: it flips the case of letters. The rules for plugins are in resay_plugin.h, and the classes for
// C++11 and later in resay_plugin.hpp.
#include "resay_plugin.hpp"

#include <cstddef>
#include <cstdint>

namespace {

// An object of it is an instance: one for a chain. Transform<State> keeps a State for each connection.
class Flip : public resay::Transform<> {
 public:
  // Options and counters come from here; throw resay::Error::config("...") if a value is invalid.
  explicit Flip(const resay::Setup &) {}

  // Called with each message, or with the bytes of a read of a raw stream. It works in place, and the length stays. A
  // transform that grows, shrinks or splits messages has process(Session &, resay::Io &) const instead.
  resay_status map(resay::NoSession &, std::uint8_t *data, std::size_t size) const
  {
    for (std::size_t i = 0; i < size; i++) {
      // No branch in the loop: the compiler makes vector instructions of it, which are many times faster.
      const std::uint8_t lower = data[i] | 0x20;
      const std::uint8_t is_letter = lower >= 'a' && lower <= 'z';
      data[i] ^= static_cast<std::uint8_t>(is_letter << 5);
    }
    return RESAY_OK; // or RESAY_DROP: no reply; RESAY_CLOSE: reply, then close; RESAY_E_DATA: invalid message
  }
};

// A constant: the host keeps its address.
const resay::Table<Flip> table = resay::Table<Flip>::map("@NAME@")
                                   .version("0.1.0")
                                   .summary("flips the case of letters")
                                   .bytewise(); // a promise: byte i of the output depends on byte i of the input alone

} // namespace

RESAY_PLUGIN(table.raw());

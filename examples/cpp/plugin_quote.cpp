// A plugin in C++11: a mark before each line. It shows an option, a session, errors and an output buffer that is full.
//
//   c++ -std=c++11 -O3 -shared -fPIC -fvisibility=hidden -Iinclude examples/cpp/plugin_quote.cpp -o libquote.so
//   resay plugin check ./libquote.so
//   resay serve tcp://127.0.0.1:8888 -t './libquote.so:mark=|'
#include <resay_plugin.hpp>

#include <string>

namespace {

// What it keeps for one connection.
struct Line {
  bool has_begun = false;
};

class Quote : public resay::Transform<Line> {
 public:
  explicit Quote(const resay::Setup &setup) : mark_(setup.option("mark").text())
  {
    if (mark_.empty() || mark_.size() > 8) throw resay::Error::config("mark is from 1 to 8 bytes");
  }

  resay_status process(Line &line, resay::Io &io) const
  {
    while (!io.input().empty()) {
      const uint8_t byte = io.input()[0];
      if (io.lacks_room(1 + (line.has_begun ? 0 : mark_.size()))) return RESAY_MORE_OUT;
      if (!line.has_begun) io.write(mark_.data(), mark_.size());
      io.write(&byte, 1);
      line.has_begun = byte != '\n';
      io.consume(1);
    }
    return RESAY_OK;
  }

 private:
  const std::string mark_;
};

const resay::Option options[] = {
  resay::Option("mark", "string").fallback(">").help("stands before each line"),
};
const resay::Table<Quote> quote =
  resay::Table<Quote>::process("quote").version("1.0.0").summary("a mark before each line").options(options);

} // namespace

RESAY_PLUGIN(quote.raw());

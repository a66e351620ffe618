// The first ten minutes in C++17: three kinds of sockets, a transform that is a function of the program, another chain
// while a connection is open, the end.
//
//   cmake -S examples/cpp -B build -DCMAKE_PREFIX_PATH=PREFIX && cmake --build build && build/tour

#include <resay.h>

#include <cstdio>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>

namespace {

constexpr int patience_ms = 5000;

int check(int code)
{
  if (code < 0) throw std::runtime_error(resay_last_error());
  return code;
}

struct Free {
  void operator()(resay_engine *engine) const { resay_engine_free(engine); }
  void operator()(resay_client *client) const { resay_client_free(client); }
};
using Engine = std::unique_ptr<resay_engine, Free>;
using Client = std::unique_ptr<resay_client, Free>;

// What the transform keeps. The engine calls it on its threads, several at once.
struct Shout {
  std::string_view mark;

  int answer(std::string_view message, resay_out *out) const
  {
    if (resay_out_write(out, message.data(), message.size()) < 0) return RESAY_DROP;
    return resay_out_write(out, mark.data(), mark.size()) < 0 ? RESAY_DROP : RESAY_REPLACE;
  }
};

// No exception may leave a callback.
extern "C" int call_shout(void *user, void **, const resay_message *message, resay_out *out)
try {
  const std::string_view text(reinterpret_cast<const char *>(message->data), message->len);
  return static_cast<const Shout *>(user)->answer(text, out);
} catch (...) {
  return RESAY_E_DATA;
}

extern "C" void forget_shout(void *user)
{
  delete static_cast<Shout *>(user);
}

Engine make_engine()
{
  resay_engine *engine = nullptr;
  check(resay_engine_new(RESAY_ABI, &engine, nullptr));
  return Engine(engine);
}

resay_id listen(const Engine &engine, const std::string &url)
{
  resay_id listener = 0;
  check(resay_listen(engine.get(), url.c_str(), &listener, nullptr));
  return listener;
}

Client dial(const Engine &engine, resay_id listener)
{
  char url[128];
  resay_client *client = nullptr;
  check(resay_listener_url(engine.get(), listener, url, sizeof url, nullptr));
  check(resay_client_open(url, patience_ms, &client, nullptr));
  return Client(client);
}

// On a stream a message is a line, as the listener says.
void ask(const Client &client, const char *name, const std::string &message, const char *end)
{
  const std::string line = message + end;
  char answer[64];
  std::size_t got = 0;
  check(resay_client_send(client.get(), line.data(), line.size(), patience_ms));
  check(resay_client_recv(client.get(), answer, sizeof answer, &got, patience_ms));
  std::string_view text(answer, got);
  if (!text.empty() && text.back() == '\n') text.remove_suffix(1);
  std::printf("%s: %s -> %.*s\n", name, message.c_str(), static_cast<int>(text.size()), text.data());
}

} // namespace

int main()
try {
  const Engine engine = make_engine();
  resay_function function = {};
  function.struct_size = sizeof function;
  function.user = new Shout{"!"}; // the engine's from now on, also if this fails
  function.call = call_shout;
  function.release = forget_shout;
  check(resay_register_function(engine.get(), "shout", &function, nullptr));
  check(resay_chain(engine.get(), 0, "shout", nullptr));
  const resay_id tcp = listen(engine, "tcp://127.0.0.1:0?frame=lines"); // port 0: a free one
  const resay_id udp = listen(engine, "udp://127.0.0.1:0");
  const resay_id local = listen(engine, "unix:tour-cpp.sock?frame=lines&mode=600");
  check(resay_start(engine.get(), 2, nullptr));

  const Client client = dial(engine, tcp);
  ask(client, "tcp", "hello", "\n");
  ask(dial(engine, udp), "udp", "hello", "");
  ask(dial(engine, local), "unix", "hello", "\n");

  check(resay_chain(engine.get(), 0, "shout | uppercase", nullptr)); // of all connections, the open one too
  ask(client, "tcp", "hello", "\n");

  check(resay_drain(engine.get(), patience_ms)); // every answer is sent; the file of the unix socket is gone
  return 0;
} catch (const std::exception &error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}

// Resay: transforms in C++ over resay_plugin.h. C++11 or later; everything is in this file.
//
//   #include <resay_plugin.hpp>
//
//   class Flip : public resay::Transform<> {
//    public:
//     explicit Flip(const resay::Setup &) {}
//     resay_status map(resay::NoSession &, uint8_t *data, size_t size) const
//     {
//       for (size_t i = 0; i < size; i++) data[i] = static_cast<uint8_t>(data[i] ^ 0x20);
//       return RESAY_OK;
//     }
//   };
//   static const resay::Table<Flip> flip = resay::Table<Flip>::map("flip").version("1.0.0").bytewise();
//   RESAY_PLUGIN(flip.raw());
//
//   c++ -shared -fPIC -fvisibility=hidden -o libflip.so flip.cpp && resay plugin check ./libflip.so
//
// An instance is an object of your class: its constructor is create(), its destructor destroy(). A session is an object of
// the class's Session, in memory of the host, constructed when a connection opens and destroyed when it closes.
//
// No exception leaves a function of the table. resay::Error becomes its status and text, std::bad_alloc RESAY_E_NOMEM; any
// other is logged with its what() and becomes RESAY_E_PANIC, after which the host does not use the instance any more.
//
// Unless a table says per_worker() or serial(), several threads call map() and process() of one object at once.
#ifndef RESAY_PLUGIN_HPP
#define RESAY_PLUGIN_HPP

#include "resay_plugin.h"

#include <cstring>
#include <exception>
#include <new>
#include <string>

#if defined(__cpp_exceptions) || defined(__EXCEPTIONS)
#define RESAY_CATCHES 1
#else
#define RESAY_CATCHES 0
#endif

namespace resay {

// Why an instance cannot be created, a peer is refused, or a message cannot be transformed. Throw it.
class Error : public std::exception {
 public:
  Error(resay_status status, const std::string &text) : status_(status), text_(text) {}
  // The value of an option is invalid: the text names the option and the reason.
  static Error config(const std::string &text) { return Error(RESAY_E_CONFIG, text); }

  resay_status status() const noexcept { return status_; }
  const char *what() const noexcept override { return text_.c_str(); }

 private:
  resay_status status_;
  std::string text_;
};

// Borrowed bytes.
class Bytes {
 public:
  Bytes(const uint8_t *data, size_t size) : data_(data), size_(size) {}

  const uint8_t *data() const { return data_; }
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  uint8_t operator[](size_t index) const { return data_[index]; }
  const uint8_t *begin() const { return data_; }
  const uint8_t *end() const { return data_ + size_; }
  std::string text() const { return std::string(begin(), end()); }

 private:
  const uint8_t *data_;
  size_t size_;
};

// The host of an instance: log, counters, threads. A function that it lacks does nothing. Any thread may use a copy.
class Host {
 public:
  explicit Host(const resay_host *raw) : raw_(raw), threads_(nullptr)
  {
    if (has_extension()) {
      threads_ = static_cast<const resay_thread_check *>(raw_->extension(raw_->ctx, RESAY_EXT_THREAD_CHECK));
    }
  }

  // Whether lines of this level, RESAY_LOG_ and so on, are wanted now.
  bool wants(int level) const { return raw_ && raw_->log && (!raw_->log_level || *raw_->log_level >= level); }
  void log(int level, const char *line) const noexcept
  {
    if (wants(level)) raw_->log(raw_->ctx, level, line, std::strlen(line));
  }
  // Adds to a counter of Setup::counter().
  void add(uint32_t counter, uint64_t n) const noexcept
  {
    if (raw_ && raw_->counter_add) raw_->counter_add(raw_->ctx, counter, n);
  }
  // RESAY_THREAD_CONTROL, RESAY_THREAD_WORKER or RESAY_THREAD_OTHER; -1: the host cannot tell.
  int thread() const noexcept
  {
    return threads_ && threads_->current ? static_cast<int>(threads_->current(raw_->ctx)) : -1;
  }

 private:
  friend class Setup;
  bool has_extension() const { return raw_ && RESAY_HAS(raw_, extension) && raw_->extension; }

  const resay_host *raw_;
  const resay_thread_check *threads_;
};

// What a constructor gets: the options, and the host.
class Setup {
 public:
  Setup(const resay_transform *transform, const resay_host *host, const resay_kv *options, size_t count)
      : transform_(transform), host_(host), raw_host_(host), options_(options), count_(count)
  {
  }

  const Host &host() const { return host_; }
  // The counter of this name, for Host::add().
  uint32_t counter(const char *name) const
  {
    return raw_host_ && raw_host_->counter ? raw_host_->counter(raw_host_->ctx, name) : 0;
  }
  bool is_given(const char *key) const { return find(key) != nullptr; }
  // The value of an option, or its fallback; empty if it has none.
  Bytes option(const char *key) const
  {
    const resay_kv *given = find(key);
    if (given) return Bytes(given->value.ptr, given->value.len);
    for (uint32_t i = 0; i < transform_->n_options; i++) {
      const resay_option &declared = transform_->options[i]; // of this very header: no stride
      if (std::strcmp(declared.key, key) == 0 && declared.fallback) {
        return Bytes(reinterpret_cast<const uint8_t *>(declared.fallback), std::strlen(declared.fallback));
      }
    }
    return Bytes(nullptr, 0);
  }

 private:
  const resay_kv *find(const char *key) const
  {
    for (size_t i = 0; i < count_; i++) {
      if (std::strcmp(options_[i].key, key) == 0) return &options_[i];
    }
    return nullptr;
  }

  const resay_transform *transform_;
  Host host_;
  const resay_host *raw_host_;
  const resay_kv *options_;
  size_t count_;
};

// One call of process(). It counts what is consumed and produced, and copies nothing by itself.
class Io {
 public:
  explicit Io(resay_io *raw) : raw_(raw)
  {
    raw_->input_used = 0;
    raw_->output_len = 0;
  }

  // The input that is not consumed yet.
  Bytes input() const { return Bytes(raw_->input + raw_->input_used, raw_->input_len - raw_->input_used); }
  void consume(size_t size) { raw_->input_used += size; }
  // The free part of the output buffer, to be written to and then counted with produce().
  uint8_t *spare() const { return raw_->output + raw_->output_len; }
  size_t room() const { return raw_->output_cap - raw_->output_len; }
  void produce(size_t size) { raw_->output_len += size; }
  // Whether this does not fit. It asks for a buffer in which it will: return RESAY_MORE_OUT.
  bool lacks_room(size_t size)
  {
    if (size <= room()) return false;
    raw_->output_need = size;
    return true;
  }
  // Writes all of it; false, and nothing is written, if it does not fit.
  bool write(const void *data, size_t size)
  {
    if (size > room()) return false;
    if (size > 0) std::memcpy(spare(), data, size);
    produce(size);
    return true;
  }
  void delay_us(uint64_t microseconds) { raw_->delay_us = microseconds; }
  // Sends the answer to a datagram so many more times; older hosts ignore it.
  void copies(uint32_t times)
  {
    if (RESAY_HAS(raw_, copies)) raw_->copies = times;
  }

  bool begins_message() const { return (raw_->flags & RESAY_IO_BEGIN) != 0; }
  bool ends_message() const { return (raw_->flags & RESAY_IO_END) != 0; }
  bool ends_stream() const { return (raw_->flags & RESAY_IO_EOF) != 0; }
  bool is_datagram() const { return (raw_->flags & RESAY_IO_DATAGRAM) != 0; }

 private:
  resay_io *raw_;
};

// Of a transform that keeps nothing for a connection.
struct NoSession {};

// The base of a transform; SessionType is what it keeps for one connection, default-constructed.
template <typename SessionType = NoSession>
class Transform {
 public:
  typedef SessionType Session;
  // Refuses a peer by an Error. Not called with NoSession.
  void open(Session &, const resay_peer &) const {}

 protected:
  ~Transform() {}
};

// An option of a table: resay::Option("mark", "string").fallback(">").help("stands before each line")
class Option {
 public:
  Option(const char *key, const char *type) : raw_() { raw_.key = key, raw_.type = type; }
  // Without it, the option must be given.
  Option &fallback(const char *text) { return raw_.fallback = text, *this; }
  Option &help(const char *text) { return raw_.help = text, *this; }
  Option &unit(const char *text) { return raw_.unit = text, *this; }
  Option &min(const char *text) { return raw_.min = text, *this; }
  Option &max(const char *text) { return raw_.max = text, *this; }

 private:
  resay_option raw_; // alone: an array of these is an array of those
};

// The table of a transform, a static constant of your file.
template <typename T>
class Table {
 public:
  // Of a class with resay_status map(Session &, uint8_t *data, size_t size) const: in place.
  static Table map(const char *id)
  {
    Table table(id);
    table.raw_.map = call_map;
    return table;
  }
  // Of a class with resay_status process(Session &, resay::Io &) const.
  static Table process(const char *id)
  {
    Table table(id);
    table.raw_.process = call_process;
    return table;
  }

  Table &version(const char *text) { return raw_.version = text, *this; }
  Table &summary(const char *text) { return raw_.summary = text, *this; }
  template <size_t N>
  Table &options(const Option (&list)[N])
  {
    static_assert(sizeof(Option) == sizeof(resay_option), "an Option is a resay_option");
    raw_.options = reinterpret_cast<const resay_option *>(list);
    raw_.n_options = static_cast<uint32_t>(N);
    raw_.option_size = sizeof(resay_option);
    return *this;
  }
  // Promises and requirements: see RESAY_CAP_ and RESAY_NEED_.
  Table &bytewise() { return raw_.caps |= RESAY_CAP_BYTEWISE, *this; }
  Table &observer() { return raw_.caps |= RESAY_CAP_OBSERVER, *this; }
  Table &greets() { return raw_.caps |= RESAY_CAP_GREETS, *this; }
  Table &needs_messages() { return raw_.needs |= RESAY_NEED_MESSAGES, *this; }
  Table &may_block() { return raw_.needs |= RESAY_NEED_OFFLOAD, *this; }
  Table &per_worker() { return raw_.threading = RESAY_PER_WORKER, *this; }
  Table &serial() { return raw_.threading = RESAY_SERIAL, *this; }
  // n bytes of input produce at most n * mul / div + add.
  Table &bound(uint32_t mul, uint32_t div, uint32_t add)
  {
    raw_.out_mul = mul, raw_.out_div = div, raw_.out_add = add;
    return *this;
  }

  const resay_transform *raw() const { return &raw_; }

 private:
  typedef typename T::Session Session;

  struct Instance {
    explicit Instance(const Setup &setup) : host(setup.host()), transform(setup) {}
    Host host;
    T transform;
  };

  // Where a session is; one that holds nothing is nowhere.
  template <typename S, int Unused = 0>
  struct Place {
    static const bool exists = true;
    static S &of(void *memory) { return *static_cast<S *>(memory); }
  };
  template <int Unused>
  struct Place<NoSession, Unused> {
    static const bool exists = false;
    static NoSession &of(void *)
    {
      static NoSession none;
      return none;
    }
  };

  explicit Table(const char *id) : raw_()
  {
    raw_.struct_size = sizeof raw_;
    raw_.id = id;
    raw_.create = create;
    raw_.destroy = destroy;
    if (Place<Session>::exists) {
      raw_.session_size = sizeof(Session);
      raw_.session_align = alignof(Session);
      raw_.session_open = session_open;
      raw_.session_close = session_close;
    }
  }

  static void tell(resay_text *err, const char *text) noexcept
  {
    if (!err || err->cap == 0) return;
    size_t size = std::strlen(text);
    if (size >= err->cap) size = err->cap - 1;
    // Not in the middle of a character.
    while (size > 0 && text[size] && (static_cast<unsigned char>(text[size]) & 0xc0) == 0x80) size--;
    std::memcpy(err->buf, text, size);
    err->buf[size] = '\0';
  }

#if RESAY_CATCHES
  static resay_status panic(const Host *host, resay_text *err, const char *what) noexcept
  {
    tell(err, what);
    if (host && !err) host->log(RESAY_LOG_ERROR, what);
    return RESAY_E_PANIC;
  }
#endif

  template <typename Call>
  static resay_status guarded(const Host *host, resay_text *err, Call call) noexcept
  {
#if RESAY_CATCHES
    try {
      return call();
    } catch (const Error &error) {
      tell(err, error.what());
      return error.status();
    } catch (const std::bad_alloc &) {
      tell(err, "out of memory");
      return RESAY_E_NOMEM;
    } catch (const std::exception &error) {
      return panic(host, err, error.what());
    } catch (...) {
      return panic(host, err, "an exception without a text");
    }
#else
    (void)host, (void)err;
    return call();
#endif
  }

  static resay_status create(const resay_transform *transform, const resay_host *host, const resay_kv *options,
                             size_t count, void **instance, resay_text *err) noexcept
  {
    return guarded(nullptr, err, [&]() -> resay_status {
      *instance = new Instance(Setup(transform, host, options, count));
      return RESAY_OK;
    });
  }
  static void destroy(void *instance) noexcept { delete static_cast<Instance *>(instance); }

  static resay_status session_open(void *instance, void *session, const resay_peer *peer, resay_text *err) noexcept
  {
    const Instance *self = static_cast<Instance *>(instance);
    return guarded(&self->host, err, [&]() -> resay_status {
      struct Opening {
        Session *made;
        ~Opening()
        {
          if (made) made->~Session();
        }
      } opening = {new (session) Session()};
      self->transform.open(*opening.made, *peer);
      opening.made = nullptr; // it stays
      return RESAY_OK;
    });
  }
  static void session_close(void *, void *session) noexcept { Place<Session>::of(session).~Session(); }

  static resay_status call_map(void *instance, void *session, uint8_t *data, size_t size) noexcept
  {
    const Instance *self = static_cast<Instance *>(instance);
    return guarded(&self->host, nullptr, [&]() -> resay_status {
      return self->transform.map(Place<Session>::of(session), data, size);
    });
  }
  static resay_status call_process(void *instance, void *session, resay_io *io) noexcept
  {
    const Instance *self = static_cast<Instance *>(instance);
    return guarded(&self->host, nullptr, [&]() -> resay_status {
      Io wrapped(io);
      return self->transform.process(Place<Session>::of(session), wrapped);
    });
  }

  resay_transform raw_;
};

} // namespace resay

#endif // RESAY_PLUGIN_HPP

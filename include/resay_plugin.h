/* Resay: the plugin ABI, major 1. Generated from plugins/abi/src/abi.rs: edit that.
 *
 * A transform changes the messages of an echo engine. A complete plugin in C:
 *
 *   #include <resay_plugin.h>
 *
 *   static resay_status map(void *instance, void *session, uint8_t *data, size_t len)
 *   {
 *     (void)instance; (void)session;
 *     for (size_t i = 0; i < len; i++) data[i] ^= 0x20;
 *     return RESAY_OK;
 *   }
 *   static const resay_transform flip = {
 *     .struct_size = sizeof flip, .caps = RESAY_CAP_BYTEWISE, .id = "flip", .version = "1.0.0", .map = map,
 *   };
 *   RESAY_PLUGIN(&flip);
 *
 *   cc -shared -fPIC -o libflip.so flip.c && resay plugin check ./libflip.so
 *
 * In C++ before C++20, which has no such initialisers, resay_plugin.hpp makes the table.
 *
 * Rules of the boundary
 *  - Fields never move or change type. A struct that may grow begins with struct_size, the size of the struct
 *    in its writer. A reader uses the smaller of that and its own size, and treats missing fields as zero: see
 *    RESAY_HAS. The fields of minor version 0 are always present.
 *  - Every pointer is borrowed for the call, unless its comment says otherwise. Neither side frees the
 *    other's memory.
 *  - No exception, panic or longjmp crosses the boundary.
 *  - A plugin must not change the state of the process: signals, directory, locale, environment, standard
 *    streams.
 *  - Calling threads: [C] a control thread, not on a worker's path of data, and never two such calls at once
 *    for one instance; [W] a worker, or with RESAY_NEED_OFFLOAD a thread of the pool; [*] any thread, at any
 *    time.
 *  - A filter stands between the socket and the stream: see resay_filter. Of a connection it has open, receive, send and
 *    end, close.
 *  - The order of calls: init; create, then for each session session_open, map or process, session_close; destroy;
 *    shutdown.
 *  - A file that is loaded is mapped into its process, whose memory changes with the file: replace a plugin by rename(2)
 *    (mv, install), never by writing into it (cp).
 */
#ifndef RESAY_PLUGIN_H
#define RESAY_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

/** The names of extensions: see resay_select, resay_session_state and resay_thread_check. */
#define RESAY_EXT_SELECT "resay.select/1"
#define RESAY_EXT_SESSION_STATE "resay.session-state/1"
#define RESAY_EXT_THREAD_CHECK "resay.thread-check/1"

/** Does the writer of *s know this field? For a field that a later minor added:
 *    if (RESAY_HAS(host, extension) && host->extension) ... */
#ifdef __cplusplus
#define RESAY_HAS(s, field) \
  (static_cast<size_t>(reinterpret_cast<const char *>(&(s)->field + 1) - reinterpret_cast<const char *>(s)) <= \
   static_cast<size_t>((s)->struct_size))
#define RESAY_NULL nullptr
#else
#define RESAY_HAS(s, field) \
  ((size_t)((const char *)(&(s)->field + 1) - (const char *)(s)) <= (size_t)(s)->struct_size)
#define RESAY_NULL NULL
#endif

#if defined(__GNUC__) || defined(__clang__)
#define RESAY_EXPORT __attribute__((visibility("default")))
#else
#define RESAY_EXPORT
#endif

#ifdef __cplusplus
#define RESAY_EXTERN_C extern "C"
extern "C" {
#else
#define RESAY_EXTERN_C
#endif

/**
 * The minor version of this header within major 1. It grows when a field or a constant is added. Plugins and
 * hosts of different minor versions work together.
 */
#define RESAY_PLUGIN_ABI_MINOR 1u

/**
 * Success: all input is consumed (input_used == input_len), and the output is complete.
 */
#define RESAY_OK 0

/**
 * process() only: the host takes the output, then calls again with the input from input_used on (which may be
 * empty) and a new output buffer of at least output_need bytes. Each call must make progress: it consumes input,
 * produces output, or sets output_need > output_cap.
 */
#define RESAY_MORE_OUT 1

/**
 * process() only, and only in a call with neither RESAY_IO_END nor RESAY_IO_EOF, that is, on a raw stream:
 * the host keeps input[input_used..input_len] and passes it again, in front of the next input.
 */
#define RESAY_MORE_IN 2

/**
 * Send no answer to this message: its output, and the rest of its input, are discarded. (Output of earlier
 * calls for the same stream message, passed with RESAY_MORE_OUT, may already have been sent.)
 */
#define RESAY_DROP 3

/**
 * Send the output, then close the connection in good order. A datagram is answered; it has no connection.
 */
#define RESAY_CLOSE 4

/**
 * Stream: discard the output and close at once, with RST if the transport has one. A datagram is dropped.
 */
#define RESAY_RESET 5

/**
 * The message cannot be transformed: a datagram is dropped, a stream is closed; both are counted.
 */
#define RESAY_E_DATA -1

/**
 * create(): the value of an option is invalid; the text names the option and the reason.
 */
#define RESAY_E_CONFIG -2

/**
 * Out of memory. The message or the connection fails; the process keeps running.
 */
#define RESAY_E_NOMEM -3

/**
 * Not supported here: a kind of peer, a schema, a feature of the system.
 */
#define RESAY_E_UNSUPPORTED -4

/**
 * The plugin caught a panic or an exception of its own: the host disables the instance.
 */
#define RESAY_E_PANIC -5

/**
 * In resay_transform.caps, a promise: output[i] depends only on input[i], and the length stays the same. The host
 * splits and merges calls as it likes, so one call may cover several messages or a part of one. The result is
 * RESAY_OK or an error; any other result would apply to everything that the call happens to cover.
 * (Unknown bits of caps are ignored; `resay plugin check` tests each promise.)
 */
#define RESAY_CAP_BYTEWISE 1u

/**
 * A promise: the transform only reads the bytes; map() does not write.
 */
#define RESAY_CAP_OBSERVER 2u

/**
 * A promise: process() works with output == input.
 */
#define RESAY_CAP_ALIAS 4u

/**
 * process() is called once, with empty input and flags 0, when a connection opens: its output is sent before
 * anything is received. Streams and seqpackets only: a host sends no unsolicited datagrams.
 */
#define RESAY_CAP_GREETS 8u

/**
 * In resay_transform.needs, a requirement: whole messages only, never a raw stream.
 * (A host that does not know a bit of needs refuses the transform.)
 */
#define RESAY_NEED_MESSAGES 1u

/**
 * A requirement: a call may block, so the host runs it on a thread pool; it does not read the connection meanwhile.
 */
#define RESAY_NEED_OFFLOAD 2u

/**
 * In resay_transform.threading: one instance, which several threads call at once.
 */
#define RESAY_SHARED 0u

/**
 * One instance for each worker: no two calls of one instance at once, but possibly from several threads one
 * after the other.
 */
#define RESAY_PER_WORKER 1u

/**
 * One instance behind a lock of the host: no two calls at once.
 */
#define RESAY_SERIAL 2u

/**
 * In resay_io.flags: this call begins a message: nothing of it is consumed or answered yet. If a call only
 * requested more room, the next call has this flag again.
 * A framed stream message, a seqpacket record and a datagram arrive whole, with BEGIN and END. A raw stream
 * has no messages: each read has flags 0, and the peer's half-close RESAY_IO_EOF.
 */
#define RESAY_IO_BEGIN 1u

/**
 * The input ends a message. The transform must write everything that it still holds.
 */
#define RESAY_IO_END 2u

/**
 * The stream has ended: the peer will send no more. On a raw stream this is a separate call, made once, with
 * the input that RESAY_MORE_IN left, or with empty input.
 */
#define RESAY_IO_EOF 4u

/**
 * The message is a datagram.
 */
#define RESAY_IO_DATAGRAM 8u

/**
 * In resay_peer.kind: a TCP or unix stream connection.
 */
#define RESAY_STREAM 1u

/**
 * The sender of one datagram. Its session lasts for that datagram.
 */
#define RESAY_DATAGRAM 2u

/**
 * A unix seqpacket connection.
 */
#define RESAY_SEQPACKET 3u

/**
 * For resay_host.log: an unexpected failure.
 */
#define RESAY_LOG_ERROR 1

/**
 * A condition that needs attention.
 */
#define RESAY_LOG_WARN 2

/**
 * Information for operators.
 */
#define RESAY_LOG_INFO 3

/**
 * Information for developers.
 */
#define RESAY_LOG_DEBUG 4

/**
 * Every step.
 */
#define RESAY_LOG_TRACE 5

/**
 * The host is not calling this transform on this thread: it is a thread of the plugin's own, or of someone else.
 */
#define RESAY_THREAD_OTHER 0u

/**
 * Inside a call of this transform that is marked [C].
 */
#define RESAY_THREAD_CONTROL 1u

/**
 * Inside a call of this transform that is marked [W].
 */
#define RESAY_THREAD_WORKER 2u

/**
 * In resay_library.flags: dlclose() is safe once every instance is destroyed and shutdown() has returned:
 * no thread, no thread-local destructor and no atexit handler of the library remains.
 */
#define RESAY_LIB_UNLOADABLE 1u

/**
 * In resay_filter.caps: peers say in the filter's own words that their side ends (RESAY_CLOSE of receive()). Then an end of
 * the socket before that has cut the stream off: a message that it left unfinished is not answered.
 */
#define RESAY_FILTER_CAP_ENDS 1u

/**
 * One option that a transform accepts. All texts are NUL-terminated UTF-8 of at most 1024 bytes. The struct may grow: a
 * table says in option_size how large it is in its list.
 */
typedef struct resay_option {
  /**
   * The name: letters, digits, '_' and '-'.
   */
  const char *key;
  /**
   * The type of the value: "string", "bool", "integer", "rate" (5% or 0.05), "duration" (20ms; us, ms, s, m), "size"
   * (64k; k, m, g), or words as "encode|decode".
   */
  const char *type;
  /**
   * The default, for help texts; the host does not pass it to create(). NULL: the option is required.
   */
  const char *fallback;
  /**
   * One line of help, or NULL.
   */
  const char *help;
  /**
   * What a number counts, for help texts, such as "messages" or "bytes/s". NULL: nothing, or the type says it.
   */
  const char *unit;
  /**
   * The least value that create() accepts, written as a value of the type. NULL: no limit but the type's. Only for
   * the types integer, rate, duration and size.
   */
  const char *min;
  /**
   * The greatest value that create() accepts, in the same way.
   */
  const char *max;
} resay_option;

/**
 * One of the RESAY_ status codes. A code that the host does not know closes the connection.
 */
typedef int32_t resay_status;

/**
 * The functions that the host offers to one instance. Valid from create() until destroy() returns (or create()
 * fails), and only for that instance. Every function may be NULL. Pass ctx as the first argument.
 */
typedef struct resay_host {
  /**
   * Bytes of this struct that the host knows.
   */
  uint32_t struct_size;
  /**
   * The host's RESAY_PLUGIN_ABI_MINOR.
   */
  uint32_t abi_minor;
  /**
   * Private to the host; pass it back.
   */
  void *ctx;
  /**
   * The highest log level that is enabled now: test it before formatting a line. NULL: log() decides.
   */
  const volatile uint8_t *log_level;
  /**
   * [*] Logs one line: len bytes of UTF-8, without a line end. It never blocks; the host may drop lines, and cut long ones.
   */
  void (*log)(void *ctx, int level, const char *utf8, size_t len);
  /**
   * [C] Only during create(): returns the id of the counter with this name of at most 128 bytes, and creates it if
   * necessary. 0: no more counters, or not during create(); counter_add() ignores 0 and unknown ids.
   */
  uint32_t (*counter)(void *ctx, const char *name);
  /**
   * [*] Adds n to a counter; wait-free.
   */
  void (*counter_add)(void *ctx, uint32_t id, uint64_t n);
  /**
   * [C] Returns an extension of the host by its id, "name/revision"; NULL: the host does not have it. The result
   * is valid as long as this struct.
   */
  const void *(*extension)(void *ctx, const char *id);
} resay_host;

/**
 * Borrowed bytes. ptr may be NULL when len is 0.
 */
typedef struct resay_bytes {
  /**
   * The first byte.
   */
  const uint8_t *ptr;
  /**
   * The number of bytes.
   */
  size_t len;
} resay_bytes;

/**
 * One option with its value. The host has already refused unknown and repeated keys.
 */
typedef struct resay_kv {
  /**
   * NUL-terminated UTF-8.
   */
  const char *key;
  /**
   * The text of the value, without its quotes. Not NUL-terminated.
   */
  struct resay_bytes value;
} resay_kv;

/**
 * A buffer for the text of an error, in the caller's memory. The callee writes UTF-8, truncated to fit and
 * NUL-terminated, as snprintf(err->buf, err->cap, ...) does. If the pointer to this struct is not NULL, cap is at
 * least 1. buf holds "" before the call.
 */
typedef struct resay_text {
  /**
   * The buffer.
   */
  char *buf;
  /**
   * Its size in bytes, including the NUL.
   */
  size_t cap;
} resay_text;

/**
 * The peer of a session. Valid during session_open(): copy what you need later.
 */
typedef struct resay_peer {
  /**
   * Bytes of this struct that the host knows.
   */
  uint32_t struct_size;
  /**
   * RESAY_STREAM, RESAY_DATAGRAM or RESAY_SEQPACKET.
   */
  uint32_t kind;
  /**
   * The number of the connection; an engine never reuses it. 0 for a datagram.
   */
  uint64_t id;
  /**
   * The local address as a URL, such as "tcp://127.0.0.1:8888"; NULL if it is unknown.
   */
  const char *local;
  /**
   * The peer's address as a URL; NULL if it has none (an unbound unix socket). Of a session over a proxy, the address that
   * the proxy has named.
   */
  const char *peer;
  /**
   * The URL that the listener was opened with; NULL if it is unknown.
   */
  const char *listener;
  /**
   * The address of the proxy that has named the peer, as a URL; NULL: no proxy has.
   */
  const char *via;
  /**
   * What else a proxy says, and what the listener's filter tells: texts "key=value", each ended by NUL, and a further NUL
   * behind the last; NULL: there is neither. Bytes that are not printable ASCII are escaped (\xNN), and so are \, ' and ".
   * Keys of a filter begin with its id and a dot, such as "tls.version"; those of a proxy have no dot.
   */
  const char *facts;
} resay_peer;

/**
 * Memory of the host that a filter appends to. Valid during the call.
 */
typedef struct resay_filter_out {
  /**
   * Bytes of this struct that the host knows.
   */
  uint32_t struct_size;
  /**
   * Reserved.
   */
  uint32_t zero;
  /**
   * The memory. May be NULL if cap is 0.
   */
  uint8_t *data;
  /**
   * Bytes of it that are in use: write behind them, then add to len what you wrote. What was there before stays.
   */
  size_t len;
  /**
   * Bytes of it that there are.
   */
  size_t cap;
  /**
   * Makes room for additional bytes behind len: data and cap change. Returns RESAY_OK; or RESAY_E_NOMEM, also above the
   * host's limit, and then nothing has changed.
   */
  resay_status (*reserve)(struct resay_filter_out *out, size_t additional);
} resay_filter_out;

/**
 * A filter: what stands between the bytes of a stream's socket and the stream itself, both ways, such as TLS. It does no
 * I/O. Constant, and valid as long as its library is loaded.
 *
 *   socket --> receive() --> plain --> messages, transforms, answers --> send() --> socket
 *                      `---> reply, to the socket
 *
 * A connection begins in its handshake: nothing of it reaches the stream before receive() has returned RESAY_OK once. The
 * host ends a handshake that takes too long.
 *
 * Required are struct_size, id, receive and send; every other field may be zero.
 */
typedef struct resay_filter {
  /**
   * sizeof(resay_filter) in the plugin.
   */
  uint32_t struct_size;
  /**
   * RESAY_FILTER_CAP_ bits.
   */
  uint32_t caps;
  /**
   * The name: [a-z0-9][a-z0-9._-]*; unique among the filters of its library.
   */
  const char *id;
  /**
   * The version of the filter, for display; NULL: none.
   */
  const char *version;
  /**
   * One line of description; NULL: none.
   */
  const char *summary;
  /**
   * Private to the author of the table: the host never reads it.
   */
  void *user;
  /**
   * n_options options, or NULL. The host refuses every other key before create().
   */
  const struct resay_option *options;
  /**
   * The number of options.
   */
  uint32_t n_options;
  /**
   * sizeof(resay_option) in the plugin.
   */
  uint32_t option_size;
  /**
   * Bytes of memory that the host allocates for each connection, zeroed before open(). The memory does not move until
   * the connection is closed. At most 1 MiB.
   */
  uint32_t conn_size;
  /**
   * The alignment of that memory, a power of two up to 4096; 0: the alignment of malloc().
   */
  uint32_t conn_align;
  /**
   * [C] Creates an instance for a listener: it reads what its options name, such as certificates. When the configuration is
   * loaded again, a new instance takes its place; connections keep theirs. Several workers call an instance at once. As
   * create() of a transform.
   */
  resay_status (*create)(const struct resay_filter *filter,
                         const struct resay_host *host,
                         const struct resay_kv *options,
                         size_t n_options,
                         void **instance,
                         struct resay_text *err);
  /**
   * [*] Destroys an instance. All its connections are closed, and no call is running. May be NULL.
   */
  void (*destroy)(void *instance);
  /**
   * [W] Called before the first call of a connection, when its peer is known. Returns RESAY_OK, or an error: then the
   * connection is reset, and close() is not called. May be NULL.
   */
  resay_status (*open)(void *instance, void *conn, const struct resay_peer *peer, struct resay_text *err);
  /**
   * [W] Called once after the last call of a connection, whatever its result. May be NULL.
   */
  void (*close)(void *instance, void *conn);
  /**
   * [W] The peer sent len bytes of wire, which the filter may overwrite and keeps what it needs later. It appends to plain
   * what they say, and to reply what is to be sent for its own sake. Returns
   *  - RESAY_MORE_IN: the handshake is not complete; plain has nothing.
   *  - RESAY_OK: it is.
   *  - RESAY_CLOSE: it is, and the peer has said that its side ends. Later calls return the same.
   *  - an error: the host sends reply, and ends the connection. No call but close() follows.
   */
  resay_status (*receive)(void *instance,
                          void *conn,
                          uint8_t *wire,
                          size_t len,
                          struct resay_filter_out *plain,
                          struct resay_filter_out *reply);
  /**
   * [W] After the handshake: appends to wire what is to be sent to say len bytes of plain. Returns RESAY_OK, or an error:
   * the connection is reset.
   */
  resay_status (*send)(void *instance,
                       void *conn,
                       const uint8_t *plain,
                       size_t len,
                       struct resay_filter_out *wire);
  /**
   * [W] After the handshake, once, before the host ends its side: appends to wire what says so. receive() may still be
   * called. May be NULL.
   */
  resay_status (*end)(void *instance, void *conn, struct resay_filter_out *wire);
  /**
   * [W] Once, when the handshake is complete and before the first transform hears of the connection: appends to facts what is
   * known of it, as texts "key=value", each ended by NUL. Keys are [a-z0-9_]+; bytes of values that are not printable ASCII
   * are to be escaped (\xNN), and so are \, ' and ". The host leaves out what is none of that, and what is behind the first
   * 2048 bytes. Returns RESAY_OK, or an error: then there are none. May be NULL.
   */
  resay_status (*facts)(void *instance, void *conn, struct resay_filter_out *facts);
} resay_filter;

/**
 * One call of process(): filled by the host, on the calling thread's stack, valid during the call.
 */
typedef struct resay_io {
  /**
   * Bytes of this struct that the host knows.
   */
  uint32_t struct_size;
  /**
   * RESAY_IO_ bits.
   */
  uint32_t flags;
  /**
   * The input; may be NULL if input_len is 0. It does not overlap output, except with RESAY_CAP_ALIAS.
   */
  const uint8_t *input;
  /**
   * Bytes of input.
   */
  size_t input_len;
  /**
   * Set by the callee: bytes of input consumed. 0 before the call.
   */
  size_t input_used;
  /**
   * The output buffer: initialised memory with unspecified content. May be NULL if output_cap is 0.
   */
  uint8_t *output;
  /**
   * Size of the output buffer. If a bound is declared (out_div != 0), at least the bound of input_len, up to the host's
   * limit for an answer; a longer answer fails in any case.
   */
  size_t output_cap;
  /**
   * Set by the callee: bytes of output produced. 0 before the call; more than output_cap closes the
   * connection with an error.
   */
  size_t output_len;
  /**
   * Set by the callee, with RESAY_MORE_OUT: the size of the output buffer that the next call needs; 0: any size. 0
   * before the call. Above the host's limit the message fails.
   */
  size_t output_need;
  /**
   * Set by the callee: the delay of this call's output in microseconds. On a stream, later output waits behind
   * it. 0 before the call.
   */
  uint64_t delay_us;
  /**
   * Set by the callee, for a datagram: how many more times the answer is sent. 0 before the call; the host may send fewer. If
   * struct_size does not cover it, the host has no such thing.
   */
  uint32_t copies;
  /**
   * Reserved.
   */
  uint32_t zero;
} resay_io;

/**
 * A transform: description, promises, functions. Constant, and valid as long as its library is loaded. The host
 * passes this pointer itself to create() and extension(), never a pointer to a copy.
 *
 * Required are struct_size, id, and map or process; every other field may be zero.
 */
typedef struct resay_transform {
  /**
   * sizeof(resay_transform) in the plugin.
   */
  uint32_t struct_size;
  /**
   * RESAY_CAP_ bits: promises.
   */
  uint32_t caps;
  /**
   * RESAY_NEED_ bits: requirements.
   */
  uint32_t needs;
  /**
   * RESAY_SHARED, RESAY_PER_WORKER or RESAY_SERIAL.
   */
  uint32_t threading;
  /**
   * The name in a chain: [a-z0-9][a-z0-9._-]*; unique in its library.
   */
  const char *id;
  /**
   * The version of the transform, for display; NULL: none.
   */
  const char *version;
  /**
   * One line of description; NULL: none.
   */
  const char *summary;
  /**
   * Private to the author of the table: the host never reads it. A program that registers its own table can
   * find its data here in create().
   */
  void *user;
  /**
   * n_options options, or NULL. The host refuses every other key before create().
   */
  const struct resay_option *options;
  /**
   * The number of options.
   */
  uint32_t n_options;
  /**
   * Bytes of memory that the host allocates for each session, zeroed before session_open() (or, if session_open is
   * NULL, before the first call). The memory does not move until the session is closed. 0: none; then the value of
   * session is unspecified. At most 1 MiB.
   */
  uint32_t session_size;
  /**
   * The alignment of that memory, a power of two up to 4096; 0: the alignment of malloc().
   */
  uint32_t session_align;
  /**
   * The bound of the output: n bytes of input produce at most n * out_mul / out_div + out_add bytes, rounded
   * up.
   */
  uint32_t out_mul;
  /**
   * See out_mul. 0: no bound is declared, and process() must work with any output_cap.
   */
  uint32_t out_div;
  /**
   * See out_mul.
   */
  uint32_t out_add;
  /**
   * [C] Creates an instance. Its options never change: a new configuration is a new instance, which replaces this
   * one. Returns RESAY_OK, or an error and its text; after an error the host makes no further call. *instance is
   * NULL before the call. If create is NULL, every instance is NULL, and no option is accepted.
   */
  resay_status (*create)(const struct resay_transform *transform,
                         const struct resay_host *host,
                         const struct resay_kv *options,
                         size_t n_options,
                         void **instance,
                         struct resay_text *err);
  /**
   * [C] Destroys an instance. All its sessions are closed, and no call is running. May be NULL.
   */
  void (*destroy)(void *instance);
  /**
   * [W] Called before the first call of a session. Returns RESAY_OK, or an error and its text: then the connection
   * is closed (a datagram is dropped), and session_close() is not called. May be NULL.
   */
  resay_status (*session_open)(void *instance,
                               void *session,
                               const struct resay_peer *peer,
                               struct resay_text *err);
  /**
   * [W] Called once after the last call of a session, whatever its result. May be NULL.
   */
  void (*session_close)(void *instance, void *session);
  /**
   * [W] Transforms in place; the length stays the same. data may be NULL if len is 0. Returns RESAY_OK,
   * RESAY_DROP, RESAY_CLOSE, RESAY_RESET or an error. On a raw stream it is called for each read, but not for the
   * end. NULL: the host uses process(). If both are set, the host uses map() for messages, and process() only for
   * the greeting of RESAY_CAP_GREETS.
   */
  resay_status (*map)(void *instance, void *session, uint8_t *data, size_t len);
  /**
   * [W] Transforms from io->input to io->output: it may grow, shrink, split and delay. It sets io->input_used and
   * io->output_len in every call. The host never makes two calls at once for one session.
   * A table with neither map nor process is invalid.
   */
  resay_status (*process)(void *instance, void *session, struct resay_io *io);
  /**
   * [C] Pure: returns an extension of this transform by its id, "name/revision"; NULL: not offered. The result is
   * valid as long as the library is loaded. May be NULL.
   */
  const void *(*extension)(const struct resay_transform *transform, const char *id);
  /**
   * sizeof(resay_option) in the plugin; 0: its size in minor version 0.
   */
  uint32_t option_size;
  /**
   * 0.
   */
  uint32_t reserved;
} resay_transform;

/**
 * The contents of a plugin library. Constant, and valid as long as the library is loaded.
 */
typedef struct resay_library {
  /**
   * sizeof(resay_library) in the plugin.
   */
  uint32_t struct_size;
  /**
   * RESAY_PLUGIN_ABI_MINOR of the header that the library was compiled with.
   */
  uint32_t abi_minor;
  /**
   * RESAY_LIB_ bits.
   */
  uint32_t flags;
  /**
   * The number of transforms; may be 0 where there are filters.
   */
  uint32_t n;
  /**
   * n pointers to tables. The path of the library alone names the first one.
   */
  const struct resay_transform *const *transforms;
  /**
   * [C] Ends what init() began: threads, files, global memory. Called after destroy() of the last instance of the
   * library; then only pure functions are called until the next init(). A host that unloads libraries calls dlclose()
   * only after it, and only with RESAY_LIB_UNLOADABLE; Resay never unloads one. It is not called if the process ends
   * before its engines are freed. May be NULL.
   */
  void (*shutdown)(void);
  /**
   * [C] Called before create() of the first instance of the library, so that it alternates with shutdown() and no two
   * of these calls run at once. path is the library's own file, absolute and without symbolic links: what lies beside
   * it is found from there. Returns RESAY_OK, or an error and its text: then no instance is created, and shutdown()
   * is not called. May be NULL.
   */
  resay_status (*init)(const char *path, struct resay_text *err);
  /**
   * n_filters pointers to tables of filters, or NULL.
   */
  const struct resay_filter *const *filters;
  /**
   * The number of filters.
   */
  uint32_t n_filters;
  /**
   * 0.
   */
  uint32_t reserved;
} resay_library;

/**
 * [*] The type of resay_plugin_v1, the only export of a plugin: pure, callable at any time and more than once. It
 * returns NULL if the host's minor version is too old for the plugin.
 */
typedef const struct resay_library *(*resay_plugin_entry)(uint32_t host_abi_minor);

/**
 * Extension "resay.select/1" of a transform: another table for certain options.
 *
 * The promises of a table are constant, but an option may change them: uppercasing ASCII is bytewise, uppercasing
 * Unicode grows. Such a transform has one table for each case, under one id.
 */
typedef struct resay_select {
  /**
   * sizeof(resay_select) in the plugin.
   */
  uint32_t struct_size;
  /**
   * [C] Pure; called once before create(), with the same options. Returns the table to use instead: it has the same
   * id and options, its own select is not called, and create() receives it. NULL: keep this table. If a value is
   * invalid, return NULL too; create() then reports the error.
   */
  const struct resay_transform *(*select)(const struct resay_transform *transform,
                                          const struct resay_kv *options,
                                          size_t n_options);
} resay_select;

/**
 * Extension "resay.session-state/1" of a transform: carries a session over to another instance when the chain of an
 * open connection is replaced.
 */
typedef struct resay_session_state {
  /**
   * sizeof(resay_session_state) in the plugin.
   */
  uint32_t struct_size;
  /**
   * Names the format of the state, such as "acme.counter/2".
   */
  const char *schema;
  /**
   * [W] Writes the state to io->output; io->input is empty. Returns RESAY_OK, RESAY_MORE_OUT (the host calls again from the
   * beginning with at least output_need bytes), or an error: then the old session stays.
   */
  resay_status (*save)(void *instance, const void *session, struct resay_io *io);
  /**
   * [W] Restores a state from save(), possibly of another version, into an open session before its first call.
   * Returns RESAY_OK, or an error such as RESAY_E_UNSUPPORTED for an unknown schema: then the old session stays.
   */
  resay_status (*load)(void *instance,
                       void *session,
                       const char *schema,
                       struct resay_bytes state,
                       struct resay_text *err);
} resay_session_state;

/**
 * Extension "resay.thread-check/1" of a host: which calls the plugin may make, and may expect, on the calling thread.
 *
 *   const resay_thread_check *threads = host->extension(host->ctx, RESAY_EXT_THREAD_CHECK);
 *   assert(!threads || threads->current(host->ctx) == RESAY_THREAD_WORKER);
 */
typedef struct resay_thread_check {
  /**
   * Bytes of this struct that the host knows.
   */
  uint32_t struct_size;
  /**
   * [*] Returns RESAY_THREAD_CONTROL, RESAY_THREAD_WORKER or RESAY_THREAD_OTHER. Lock-free; takes a few nanoseconds.
   */
  uint32_t (*current)(void *ctx);
} resay_thread_check;

/** [*] The only export of a plugin; RESAY_PLUGIN defines it. */
RESAY_EXPORT const resay_library *resay_plugin_v1(uint32_t host_abi_minor);

#ifdef __cplusplus
} /* extern "C" */
#endif

/** In the initialiser of a resay_transform: the fields for this array of resay_option. */
#define RESAY_OPTIONS(array) \
  .options = (array), .n_options = sizeof(array) / sizeof(array)[0], .option_size = sizeof(array)[0]

/** Defines the entry of a plugin that holds these tables: RESAY_PLUGIN(&first, &second); */
#define RESAY_PLUGIN(...) RESAY_PLUGIN_WITH(RESAY_NULL, RESAY_NULL, __VA_ARGS__)

/** The same for a library that has init() and shutdown(): RESAY_PLUGIN_WITH(init, shutdown, &first, &second); A plugin
 *  with flags writes resay_plugin_v1 by hand, just so. */
#define RESAY_PLUGIN_WITH(init, shutdown, ...) \
  RESAY_EXTERN_C RESAY_EXPORT const resay_library *resay_plugin_v1(uint32_t host_abi_minor) \
  { \
    static const resay_transform *const transforms[] = {__VA_ARGS__}; \
    static const resay_library library = {sizeof(resay_library), RESAY_PLUGIN_ABI_MINOR, 0u, \
                                          sizeof transforms / sizeof transforms[0], transforms, (shutdown), (init), \
                                          RESAY_NULL, 0u, 0u}; \
    (void)host_abi_minor; \
    return &library; \
  } \
  struct resay_plugin_end /* what the semicolon ends */

#endif /* RESAY_PLUGIN_H */

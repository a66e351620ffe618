/* Resay: the plugin ABI, major 1. Generated from plugins/abi/src/abi.rs: edit that.
 *
 * A transform changes the messages of an echo engine. The whole of a plugin in C:
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
 *   RESAY_PLUGIN(&flip)
 *
 *   cc -shared -fPIC -o libflip.so flip.c && resay plugin check ./libflip.so
 *
 * Rules of the boundary
 *  - Fields never move or change type. A struct that may grow begins with struct_size, the bytes of it that
 *    its writer knows. A reader takes the smaller of that and its own size, and treats what is missing as
 *    zero: see RESAY_HAS. Everything in minor 0 is always there.
 *  - Every pointer is borrowed for the call, unless its comment says otherwise. Neither side frees the
 *    other's memory.
 *  - Nothing unwinds across: no exception, no panic, no longjmp.
 *  - A plugin leaves the process alone: signals, directory, locale, environment, standard streams.
 *  - Where a function may be called: [C] on a control thread, not on a worker's path of data, and never two
 *    such calls at once for one instance; [W] on a worker (or where RESAY_NEED_OFFLOAD takes it); [*] on any
 *    thread, at any time.
 *  - The order of calls: create, then for each session session_open, map or process, session_close; destroy.
 */
#ifndef RESAY_PLUGIN_H
#define RESAY_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

/** The names of extensions: see resay_select and resay_session_state. */
#define RESAY_EXT_SELECT "resay.select/1"
#define RESAY_EXT_SESSION_STATE "resay.session-state/1"

/** Does the writer of *s know this field? For a field that a later minor added:
 *    if (RESAY_HAS(host, extension) && host->extension) ... */
#define RESAY_HAS(s, field) \
  ((size_t)((const char *)(&(s)->field + 1) - (const char *)(s)) <= (size_t)(s)->struct_size)

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
 * The revision of this header within major 1. It grows when a struct gains a field or a constant is
 * added; a plugin and a host of different revisions work together.
 */
#define RESAY_PLUGIN_ABI_MINOR 0u

/**
 * Done: all of the input is consumed (in_used == in_len), and the output is complete.
 */
#define RESAY_OK 0

/**
 * process() only: the host takes what is in out, then calls again with the input from in_used on (which
 * may be empty) and a fresh out of at least out_need bytes. There must be progress: something consumed,
 * something produced, or out_need > out_cap.
 */
#define RESAY_MORE_OUT 1

/**
 * process() only, and only in a call with neither RESAY_IO_END nor RESAY_IO_EOF, that is on a raw stream:
 * the host keeps in[in_used..in_len] and passes it again, at the front of what comes next.
 */
#define RESAY_MORE_IN 2

/**
 * Answer nothing for this message: its output, and the rest of its input, are discarded. (What earlier
 * calls for the same stream message handed over with RESAY_MORE_OUT may be on its way already.)
 */
#define RESAY_DROP 3

/**
 * Answer with what was produced, then close the connection in good order. A datagram is answered, and
 * there is nothing to close.
 */
#define RESAY_CLOSE 4

/**
 * Stream: discard what was produced and close at once, by RST where the transport has one. A datagram is
 * dropped.
 */
#define RESAY_RESET 5

/**
 * This message cannot be transformed: a datagram is dropped, a stream is closed; both are counted.
 */
#define RESAY_E_DATA -1

/**
 * create(): an option's value cannot be used; the text says which one and why.
 */
#define RESAY_E_CONFIG -2

/**
 * Memory could not be had. The message or the connection fails, the process does not.
 */
#define RESAY_E_NOMEM -3

/**
 * What was asked for does not exist here: a kind of peer, a schema, a feature of the system.
 */
#define RESAY_E_UNSUPPORTED -4

/**
 * The plugin caught a panic or an exception of its own: the host quarantines the instance.
 */
#define RESAY_E_PANIC -5

/**
 * In resay_transform.caps, a promise: out[i] depends on in[i] alone, and the length stays. The host splits
 * and merges calls at will, so one call may cover several messages or a part of one. The answer is RESAY_OK
 * or an error, for whatever else it asked would concern all that the call happened to cover.
 * (Unknown bits of caps are ignored; `resay plugin check` tests each promise.)
 */
#define RESAY_CAP_BYTEWISE 1u

/**
 * A promise: the bytes are looked at and never changed; map() does not write.
 */
#define RESAY_CAP_OBSERVER 2u

/**
 * A promise: process() works with out == in.
 */
#define RESAY_CAP_ALIAS 4u

/**
 * process() wants one call, with empty input and flags 0, when a connection opens: what it produces is
 * sent before anything was received. Streams and seqpackets only: no datagram is sent unasked.
 */
#define RESAY_CAP_GREETS 8u

/**
 * In resay_transform.needs, a requirement: whole messages only, so never on a raw stream.
 * (A host that does not know a bit of needs refuses the transform.)
 */
#define RESAY_NEED_MESSAGES 1u

/**
 * A requirement: a call may block, so run it off the worker; its connection is not read meanwhile.
 */
#define RESAY_NEED_OFFLOAD 2u

/**
 * In resay_transform.threading: one instance, called from several threads at once.
 */
#define RESAY_SHARED 0u

/**
 * One instance for each worker: no two calls of one instance at once. Calls may still come from more than
 * one thread in turn.
 */
#define RESAY_PER_WORKER 1u

/**
 * One instance behind a lock of the host's: no two calls at once.
 */
#define RESAY_SERIAL 2u

/**
 * In resay_io.flags: this call begins a message: nothing of it has been consumed or answered yet. A call that asked
 * for more room and did neither is repeated with it.
 * A framed stream message, a seqpacket record and a datagram come whole, with BEGIN and END. A raw stream
 * has no messages: each read comes with flags 0, and the peer's half-close with RESAY_IO_EOF.
 */
#define RESAY_IO_BEGIN 1u

/**
 * The input ends a message. Whatever is left in hand must come out now.
 */
#define RESAY_IO_END 2u

/**
 * The stream has ended: the peer will send no more. On a raw stream this is a call of its own, made once,
 * with the unread tail that RESAY_MORE_IN left, or with empty input.
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
 * For resay_host.log: something failed that should not.
 */
#define RESAY_LOG_ERROR 1

/**
 * Something that someone should look at.
 */
#define RESAY_LOG_WARN 2

/**
 * What an operator wants to know.
 */
#define RESAY_LOG_INFO 3

/**
 * What a developer wants to know.
 */
#define RESAY_LOG_DEBUG 4

/**
 * Every step.
 */
#define RESAY_LOG_TRACE 5

/**
 * In resay_library.flags: dlclose() is safe once every instance is destroyed and shutdown() has returned:
 * no thread, no thread-local destructor and no atexit handler of the library remains.
 */
#define RESAY_LIB_UNLOADABLE 1u

/**
 * Who a session talks to. Valid during session_open(); copy what must stay.
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
   * The connection's number: never used twice by one engine. 0 for a datagram.
   */
  uint64_t id;
  /**
   * Our address as a URL, such as "tcp://127.0.0.1:8888"; NULL where it is not known.
   */
  const char *local;
  /**
   * The peer's address as a URL; NULL where it has none (an unbound unix socket).
   */
  const char *peer;
  /**
   * The listener, as the URL that it was opened with; NULL where it is not known.
   */
  const char *listener;
} resay_peer;

/**
 * One option that a transform understands.
 */
typedef struct resay_option {
  /**
   * The name, NUL-ended, UTF-8: letters, digits, '_' and '-'.
   */
  const char *key;
  /**
   * What the value looks like, for help texts: "string", "bool", "integer", "rate", "duration", "size".
   */
  const char *type;
  /**
   * What holds when the option is not given; NULL: it must be given. The host does not pass it to
   * create(): it tells people.
   */
  const char *fallback;
  /**
   * One line for people, or NULL.
   */
  const char *help;
} resay_option;

/**
 * One of the RESAY_ status codes. A code that the host does not know closes the connection.
 */
typedef int32_t resay_status;

/**
 * What the host offers to one instance. Valid from create() until destroy() returns (or create() fails),
 * and only for that instance. Every function may be NULL; all take ctx first.
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
   * The host's own; pass it back.
   */
  void *ctx;
  /**
   * The highest level that is wanted now: test it before formatting. NULL: log() decides.
   */
  const volatile uint8_t *log_level;
  /**
   * [*] Writes one line: UTF-8, len bytes, without a line end. Never blocks; the host may drop lines.
   */
  void (*log)(void *ctx, int level, const char *utf8, size_t len);
  /**
   * [C] Only during create(): the id of the counter of that name, made when it is new. 0: there is no
   * room; counter_add() ignores 0 and every id that it does not know.
   */
  uint32_t (*counter)(void *ctx, const char *name);
  /**
   * [*] Adds to a counter; wait-free.
   */
  void (*counter_add)(void *ctx, uint32_t id, uint64_t n);
  /**
   * [C] What later revisions add: an id is "name/revision"; NULL: the host does not have it. The result
   * lives as long as this struct.
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
   * How many.
   */
  size_t len;
} resay_bytes;

/**
 * One option as it was given. The host has refused unknown keys and repeated ones before.
 */
typedef struct resay_kv {
  /**
   * NUL-ended, UTF-8.
   */
  const char *key;
  /**
   * The text of the value, without its quotes. Not NUL-ended.
   */
  struct resay_bytes value;
} resay_kv;

/**
 * Room for an error's text: the caller's memory. The callee writes UTF-8 that it cuts to fit and ends with
 * NUL, as snprintf(err->buf, err->cap, ...) does. cap is at least 1 where the pointer to this is not NULL;
 * buf holds "" before the call.
 */
typedef struct resay_text {
  /**
   * Where to write.
   */
  char *buf;
  /**
   * How many bytes fit, the NUL included.
   */
  size_t cap;
} resay_text;

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
   * The input; may be NULL when in_len is 0. Does not overlap out, unless RESAY_CAP_ALIAS is promised.
   */
  const uint8_t *in;
  /**
   * Bytes of input.
   */
  size_t in_len;
  /**
   * Set by the callee: bytes of input consumed. 0 before the call.
   */
  size_t in_used;
  /**
   * Room for the output: initialised memory of unspecified content. May be NULL when out_cap is 0.
   */
  uint8_t *out;
  /**
   * Bytes of room: at least the bound of in_len, where a bound is declared (out_div != 0) and is not over the host's limit
   * for an answer; what does not fit there fails anyway.
   */
  size_t out_cap;
  /**
   * Set by the callee: bytes of output produced. 0 before the call; more than out_cap closes the
   * connection with an error.
   */
  size_t out_len;
  /**
   * Set by the callee, with RESAY_MORE_OUT: how much room the next call wants; 0: any. 0 before the call.
   * Beyond the host's limits the message fails.
   */
  size_t out_need;
  /**
   * Set by the callee: hold this call's output back for so many microseconds. In a stream, later output
   * waits behind it. 0 before the call.
   */
  uint64_t delay_us;
} resay_io;

/**
 * A transform: what it is, what it promises, what it does. Constant, and valid as long as its library is
 * loaded. The host passes this very pointer to create() and extension(), never one to a copy.
 *
 * Only struct_size, id and one of map and process are required; all else may be zero.
 */
typedef struct resay_transform {
  /**
   * sizeof(resay_transform) as the plugin knows it.
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
   * Of the transform, for people; NULL: not said.
   */
  const char *version;
  /**
   * One line for people; NULL: none.
   */
  const char *summary;
  /**
   * The table's maker's own: the host never looks at it. It is how a program that registers a table of
   * its own finds its data again, in create().
   */
  void *user;
  /**
   * n_options of them, or NULL. The host refuses every other key before create().
   */
  const struct resay_option *options;
  /**
   * How many options there are.
   */
  uint32_t n_options;
  /**
   * Bytes of memory that the host allocates for each session, zeroed before session_open() (or before
   * the first call, where session_open is NULL) and in one place until the session is closed. 0: none;
   * then session is NULL or anything. At most 1 MiB.
   */
  uint32_t session_size;
  /**
   * The alignment of that memory, a power of two up to 4096; 0: as malloc() aligns.
   */
  uint32_t session_align;
  /**
   * The bound of the output: n bytes of input make at most n * out_mul / out_div + out_add bytes,
   * rounded up.
   */
  uint32_t out_mul;
  /**
   * See out_mul. 0: no bound is declared, and process() must be ready for any out_cap.
   */
  uint32_t out_div;
  /**
   * See out_mul.
   */
  uint32_t out_add;
  /**
   * [C] Makes an instance, which never changes: to reconfigure is to create another one and to swap.
   * RESAY_OK, or an error and its text; then the host calls nothing more. *instance is NULL before the
   * call. NULL here: every instance is NULL, and no option is accepted.
   */
  resay_status (*create)(const struct resay_transform *transform,
                         const struct resay_host *host,
                         const struct resay_kv *options,
                         size_t n_options,
                         void **instance,
                         struct resay_text *err);
  /**
   * [C] Ends an instance: every session of it is closed, and no call is running. May be NULL.
   */
  void (*destroy)(void *instance);
  /**
   * [W] Before the first call of a session. RESAY_OK, or an error and its text: the connection is closed
   * (a datagram is dropped) and session_close() is not called. May be NULL.
   */
  resay_status (*session_open)(void *instance,
                               void *session,
                               const struct resay_peer *peer,
                               struct resay_text *err);
  /**
   * [W] After the last call of a session, whatever it answered; once. May be NULL.
   */
  void (*session_close)(void *instance, void *session);
  /**
   * [W] Transforms in place, the length stays. data may be NULL when len is 0. Answers RESAY_OK,
   * RESAY_DROP, RESAY_CLOSE, RESAY_RESET or an error. On a raw stream it sees each read as it comes,
   * and nothing of the end. NULL: process() is used. Where both are given, messages go
   * through map(), and process() is called for nothing but the greeting of RESAY_CAP_GREETS.
   */
  resay_status (*map)(void *instance, void *session, uint8_t *data, size_t len);
  /**
   * [W] Transforms from io->in to io->out: grows, shrinks, splits, delays. It sets io->in_used and
   * io->out_len in every call. Never two calls at once for one session.
   * A table with neither map nor process is invalid.
   */
  resay_status (*process)(void *instance, void *session, struct resay_io *io);
  /**
   * [C] Pure: what this transform offers beyond the table, by "name/revision"; NULL: not offered. The
   * result lives as long as the library. May be NULL.
   */
  const void *(*extension)(const struct resay_transform *transform, const char *id);
} resay_transform;

/**
 * What a plugin library holds. Constant, and valid as long as the library is loaded.
 */
typedef struct resay_library {
  /**
   * sizeof(resay_library) as the plugin knows it.
   */
  uint32_t struct_size;
  /**
   * RESAY_PLUGIN_ABI_MINOR of the header that it was compiled with.
   */
  uint32_t abi_minor;
  /**
   * RESAY_LIB_ bits.
   */
  uint32_t flags;
  /**
   * How many transforms there are.
   */
  uint32_t n;
  /**
   * n pointers to tables. The first one is what the library's path alone names.
   */
  const struct resay_transform *const *transforms;
  /**
   * [C] Called once before dlclose(), when no instance lives. May be NULL.
   */
  void (*shutdown)(void);
} resay_library;

/**
 * [*] The type of resay_plugin_v1, the only export of a plugin: pure, callable at any time and more than
 * once. NULL refuses a host whose revision is too old for the plugin.
 */
typedef const struct resay_library *(*resay_plugin_entry)(uint32_t host_abi_minor);

/**
 * Extension "resay.select/1" of a transform: another table for certain options.
 *
 * A transform's promises are constant, but an option may change them: uppercasing ASCII is bytewise,
 * uppercasing Unicode grows. Such a transform offers one table for each, under one id.
 */
typedef struct resay_select {
  /**
   * sizeof(resay_select) as the plugin knows it.
   */
  uint32_t struct_size;
  /**
   * [C] Pure; called once before create(), with the options that create() will get. The table to use
   * instead: it has the same id and options, is not asked again, and is the one that create() gets.
   * NULL: keep this one, also where a value is wrong, for create() will say so.
   */
  const struct resay_transform *(*select)(const struct resay_transform *transform,
                                          const struct resay_kv *options,
                                          size_t n_options);
} resay_select;

/**
 * Extension "resay.session-state/1" of a transform: carry a session over to another instance, when a chain
 * is swapped under a living connection.
 */
typedef struct resay_session_state {
  /**
   * sizeof(resay_session_state) as the plugin knows it.
   */
  uint32_t struct_size;
  /**
   * Names the format of the state, such as "acme.counter/2".
   */
  const char *schema;
  /**
   * [W] Writes the state to io->out; io->in is empty. RESAY_OK, RESAY_MORE_OUT (the host begins anew
   * with at least out_need bytes of room), or an error: the session stays where it is.
   */
  resay_status (*save)(void *instance, const void *session, struct resay_io *io);
  /**
   * [W] Sets an open session, of which no call was made yet, to a state that save() wrote, maybe another
   * version's. An error, such as RESAY_E_UNSUPPORTED for an unknown schema: the old session stays.
   */
  resay_status (*load)(void *instance,
                       void *session,
                       const char *schema,
                       struct resay_bytes state,
                       struct resay_text *err);
} resay_session_state;

/** [*] The only export of a plugin; RESAY_PLUGIN defines it. */
RESAY_EXPORT const resay_library *resay_plugin_v1(uint32_t host_abi_minor);

#ifdef __cplusplus
} /* extern "C" */
#endif

/** Defines the entry of a plugin that holds these tables: RESAY_PLUGIN(&first, &second). No semicolon. A
 *  plugin with flags or shutdown() writes resay_plugin_v1 by hand, just so. */
#define RESAY_PLUGIN(...) \
  RESAY_EXTERN_C RESAY_EXPORT const resay_library *resay_plugin_v1(uint32_t host_abi_minor) \
  { \
    static const resay_transform *const transforms[] = {__VA_ARGS__}; \
    static const resay_library library = {sizeof(resay_library), RESAY_PLUGIN_ABI_MINOR, 0u, \
                                          sizeof transforms / sizeof transforms[0], transforms, NULL}; \
    (void)host_abi_minor; \
    return &library; \
  }

#endif /* RESAY_PLUGIN_H */

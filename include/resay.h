/* Resay: an echo engine to link. Generated from src/ffi: edit that.
 *
 *   #include <resay.h>
 *
 *   resay_engine *engine;
 *   resay_error error;
 *   if (resay_engine_new(RESAY_ABI, &engine, &error) < 0
 *       || resay_chain(engine, 0, "uppercase", &error) < 0
 *       || resay_listen(engine, "tcp://127.0.0.1:8888", NULL, &error) < 0)
 *     return fprintf(stderr, "%s\n", error.message), 1;
 *   resay_run(engine, -1);
 *   resay_engine_free(engine);
 *
 *   cc server.c -lresay
 *
 * Rules of the boundary
 *  - Every int result: 0 or more is success, less is a RESAY_E_ code. Each function names those of its own; every
 *    function that takes an engine may also answer RESAY_E_ARG (it is NULL), RESAY_E_STATE (inside one of its
 *    callbacks), RESAY_E_FORKED and RESAY_E_BUG. After a failure nothing has changed, unless it is said.
 *  - [*]: on any thread, by several at once. [1]: by one thread, while nobody uses the object. [in a callback]: only there,
 *    on its thread.
 *  - Pointers are borrowed for the call, unless it is said. Strings are UTF-8 and ended by NUL. What a function gives
 *    through out belongs to the caller, and has a function that frees it; nothing else is ever freed.
 *  - Structs that begin with struct_size may grow: the caller sets it, and each side uses what both know.
 *  - An engine runs in one of three ways: resay_start, resay_run, or resay_poll_fd with resay_run(engine, 0).
 *  - The end: resay_stop, or resay_drain; then resay_run has answered 0 on lent threads; then resay_engine_free.
 *    Clients have an end of their own.
 *  - Callbacks run on workers, and on whatever thread calls the engine. What they may not do: see resay_callback.
 *  - After fork() the child can only free the engine, which the parent keeps.
 *  - The library installs no signal handler, changes no state of the process, never exits or aborts, and never
 *    raises SIGPIPE. Addresses, chains and options are those of the command: resay help.
 */
#ifndef RESAY_H
#define RESAY_H

#include <stddef.h>
#include <stdint.h>
#include "resay_plugin.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * The version of this interface. It changes only when programs that were built before would break; the
 * SONAME, libresay.so.1, follows it.
 */
#define RESAY_ABI 1u

/**
 * An argument is NULL that must not be, not UTF-8, or out of range; a struct_size that cannot be.
 */
#define RESAY_E_ARG -101

/**
 * The header that the program was built with and the library do not match.
 */
#define RESAY_E_ABI -102

/**
 * The engine is in the wrong state for the call, for example a second start, or the call is not allowed inside a
 * callback.
 */
#define RESAY_E_STATE -103

/**
 * Unknown or closed id.
 */
#define RESAY_E_HANDLE -104

/**
 * A system call failed: see resay_error.os_errno.
 */
#define RESAY_E_SYS -105

/**
 * Timed out.
 */
#define RESAY_E_TIMEOUT -106

/**
 * A signal interrupted the call (EINTR): handle it, then call again.
 */
#define RESAY_E_INTR -107

/**
 * Syntax error in a URL, chain or option: the message has the position.
 */
#define RESAY_E_SPEC -108

/**
 * A plugin cannot be loaded, or a transform is unknown, already registered, or rejects its options: the message has the
 * reason.
 */
#define RESAY_E_PLUGIN -109

/**
 * A callback of the program failed; only in resay_event.code.
 */
#define RESAY_E_CALLBACK -110

/**
 * The engine belongs to the parent of this process: here it can only be freed.
 */
#define RESAY_E_FORKED -111

/**
 * An internal error of Resay was caught. The engine can only be freed.
 */
#define RESAY_E_BUG -112

/**
 * A limit is reached, or the caller's buffer is too small.
 */
#define RESAY_E_FULL -113

/**
 * Bytes of resay_error.message, the NUL included.
 */
#define RESAY_ERROR_MESSAGE_BYTES 248

/**
 * In resay_listen_fd: after a success the descriptor is the engine's; the number must not be used or closed any more.
 */
#define RESAY_FD_OWN 1u

/**
 * In resay_listen_fd: the engine makes a copy, and the descriptor stays the caller's.
 */
#define RESAY_FD_DUP 2u

/**
 * What a callback answers: the message as it is, without a copy.
 */
#define RESAY_PASS 0

/**
 * What a callback answers: what it wrote to out instead of the message.
 */
#define RESAY_REPLACE 1

/**
 * In resay_event.kind, and for resay_events, ORed together: a listener accepts connections or datagrams.
 */
#define RESAY_EVENT_LISTENING 1u

/**
 * In resay_event.kind: a listener is closed.
 */
#define RESAY_EVENT_LISTENER_CLOSED 2u

/**
 * In resay_event.kind: a connection was accepted; text is its peer.
 */
#define RESAY_EVENT_ACCEPTED 4u

/**
 * In resay_event.kind: a connection was closed; code is a RESAY_CLOSED_ reason.
 */
#define RESAY_EVENT_CLOSED 8u

/**
 * In resay_event.kind: a connection was rejected by a limit or a rule.
 */
#define RESAY_EVENT_REJECTED 16u

/**
 * In resay_event.kind: accept(2) failed; code is the errno.
 */
#define RESAY_EVENT_ACCEPT_FAILED 32u

/**
 * In resay_event.kind: a message was not answered; code is a RESAY_DROPPED_ reason, or an errno of a datagram socket, negative.
 */
#define RESAY_EVENT_DROPPED 64u

/**
 * In resay_event.kind: a transform failed; code is RESAY_E_CALLBACK or RESAY_E_PLUGIN.
 */
#define RESAY_EVENT_TRANSFORM_FAILED 128u

/**
 * In resay_event.kind: a transform logs a line.
 */
#define RESAY_EVENT_TRANSFORM_LOG 256u

/**
 * In resay_event.kind: a chain was swapped; text is the new one.
 */
#define RESAY_EVENT_CHAIN_CHANGED 512u

/**
 * In resay_event.kind: the engine's state changed: what it runs on, that it has ended. At RESAY_LOG_ERROR: a worker failed, or found a
 * fault of Resay itself; text names its place and how many there were.
 */
#define RESAY_EVENT_ENGINE 1024u

/**
 * For resay_events: all kinds, those of later versions too.
 */
#define RESAY_EVENT_ALL 4294967295u

/**
 * In resay_event.code: the peer closed its side and received all its answers.
 */
#define RESAY_CLOSED_PEER_CLOSED 1

/**
 * In resay_event.code: the peer reset the connection, or vanished.
 */
#define RESAY_CLOSED_PEER_RESET 2

/**
 * In resay_event.code: the peer was silent for idle_timeout.
 */
#define RESAY_CLOSED_IDLE_TIMEOUT 3

/**
 * In resay_event.code: the peer read nothing for write_timeout.
 */
#define RESAY_CLOSED_WRITE_TIMEOUT 4

/**
 * In resay_event.code: a message was longer than max_message.
 */
#define RESAY_CLOSED_MESSAGE_TOO_LONG 5

/**
 * In resay_event.code: a transform asked for it.
 */
#define RESAY_CLOSED_TRANSFORM_CLOSED 6

/**
 * In resay_event.code: a transform failed.
 */
#define RESAY_CLOSED_TRANSFORM_FAILED 7

/**
 * In resay_event.code: its chain was replaced, and it still needed the old one after swap_timeout.
 */
#define RESAY_CLOSED_CHAIN_REPLACED 8

/**
 * In resay_event.code: the engine drained.
 */
#define RESAY_CLOSED_DRAINED 9

/**
 * In resay_event.code: the engine drained, and the connection did not finish in time.
 */
#define RESAY_CLOSED_CUT_OFF 10

/**
 * In resay_event.code: the engine stopped.
 */
#define RESAY_CLOSED_STOPPED 11

/**
 * In resay_event.code: another system error.
 */
#define RESAY_CLOSED_SYSTEM_ERROR 12

/**
 * In resay_event.code: slower than min_rate.
 */
#define RESAY_CLOSED_TOO_SLOW 13

/**
 * In resay_event.code: the preface of the stream is invalid, or names a peer that is not allowed.
 */
#define RESAY_CLOSED_PREFACE_REFUSED 14

/**
 * In resay_event.code: the layer around the stream could not be negotiated, or failed.
 */
#define RESAY_CLOSED_LAYER_FAILED 15

/**
 * In resay_event.code: a transform returned RESAY_DROP.
 */
#define RESAY_DROPPED_BY_TRANSFORM 1

/**
 * In resay_event.code: a transform failed.
 */
#define RESAY_DROPPED_TRANSFORM_FAILED 2

/**
 * In resay_event.code: it was longer than max_message.
 */
#define RESAY_DROPPED_TOO_LONG 3

/**
 * In resay_event.code: its source cannot be answered: port 0, an unspecified, broadcast or multicast address.
 */
#define RESAY_DROPPED_BAD_SOURCE 4

/**
 * In resay_event.code: it was sent to a broadcast or multicast address.
 */
#define RESAY_DROPPED_GROUP_DESTINATION 5

/**
 * In resay_event.code: its unix sender has no name, or a relative one.
 */
#define RESAY_DROPPED_UNNAMED 6

/**
 * In resay_event.code: the peer's queue is full.
 */
#define RESAY_DROPPED_PEER_FULL 7

/**
 * In resay_event.code: its answer was longer than max_amplification allows.
 */
#define RESAY_DROPPED_AMPLIFIED 8

/**
 * In resay_event.code: too many delayed answers wait already.
 */
#define RESAY_DROPPED_QUEUE_FULL 9

/**
 * In resay_event.code: the answer could not be sent.
 */
#define RESAY_DROPPED_SEND_FAILED 10

/**
 * In resay_event.code: the connection broke before the answer was sent, or its last frame was unfinished.
 */
#define RESAY_DROPPED_UNDELIVERED 11

/**
 * Bytes of resay_event.text, the NUL included.
 */
#define RESAY_EVENT_TEXT_BYTES 96

/**
 * One connected socket, with or without an engine in this process. One thread may send while another receives.
 */
typedef struct resay_client resay_client;

/**
 * An engine: listeners, chains, and what runs them.
 */
typedef struct resay_engine resay_engine;

/**
 * What a callback writes its answer to. Valid on the thread of the callback until it returns; used later, or
 * elsewhere, it is an error.
 */
typedef struct resay_out resay_out;

/**
 * What went wrong, in the caller's memory. Functions that take one take NULL too. After a success its
 * code is 0 and its message empty.
 */
typedef struct resay_error {
  /**
   * A RESAY_E_ code, or 0.
   */
  int32_t code;
  /**
   * The errno behind RESAY_E_SYS, or 0.
   */
  int32_t os_errno;
  /**
   * English, UTF-8, ended by NUL, cut where it is too long.
   */
  char message[RESAY_ERROR_MESSAGE_BYTES];
} resay_error;

/**
 * Names a listener of one engine. Never used again within that engine, so a stale one is an error and nothing else; 0
 * is never valid.
 */
typedef uint64_t resay_id;

/**
 * A transform in the program. data has len bytes and may be NULL when that is 0; it is borrowed for the call and not to
 * be written to. flags are RESAY_IO_ bits, as in resay_io. It is called on the thread that serves the connection, by
 * several threads at once where there are several: on the engine's own after resay_start, on those that are in
 * resay_run otherwise. It must not block, throw, or longjmp.
 *
 * It answers RESAY_PASS, RESAY_REPLACE, or a status of a plugin: RESAY_DROP, RESAY_CLOSE (after what was written),
 * RESAY_RESET, or an error such as RESAY_E_DATA. Any other value, and breaking the rules of resay_out_commit, fails: the
 * connection is closed, a datagram is dropped, both are counted.
 *
 * Inside this and every other callback no function of the same engine may be called, and none that waits, of any engine
 * or client: they answer RESAY_E_STATE. resay_out_write and its kin, functions of other engines that do not wait, and
 * those that take no engine may be.
 */
typedef int (*resay_callback)(void *user,
                              const uint8_t *data,
                              size_t len,
                              uint32_t flags,
                              struct resay_out *out);

/**
 * Called once when nothing uses user any more, on any thread.
 */
typedef void (*resay_release)(void *user);

/**
 * What a listener, or a whole engine, has done so far. The figures of a running engine are read one by one, so they may
 * be a few messages apart from each other.
 */
typedef struct resay_stats {
  /**
   * Set by the caller: sizeof(resay_stats) as it knows it. A library that knows less fills the rest with zeros, one
   * that knows more leaves it out.
   */
  uint32_t struct_size;
  /**
   * Connections open now.
   */
  uint32_t open;
  /**
   * Connections that were accepted and served.
   */
  uint64_t accepted;
  /**
   * Connections that are over, whatever the reason.
   */
  uint64_t closed;
  /**
   * Messages received. On a raw stream, each read is one.
   */
  uint64_t messages_in;
  /**
   * Messages whose answers the kernel took, or that need none. Of a send that was cut off, none of its messages counts.
   */
  uint64_t messages_out;
  /**
   * Bytes received.
   */
  uint64_t bytes_in;
  /**
   * Bytes that the kernel took.
   */
  uint64_t bytes_out;
  /**
   * Messages without an answer, whatever the reason.
   */
  uint64_t dropped;
  /**
   * Connections turned away.
   */
  uint64_t rejected;
  /**
   * Messages or conversations at which a transform failed.
   */
  uint64_t transform_errors;
  /**
   * Failures of accept(2).
   */
  uint64_t accept_errors;
  /**
   * Events that found the queue full; of the engine, whatever the listener.
   */
  uint64_t events_lost;
  /**
   * Bytes of answers that were still waiting when their connection ended.
   */
  uint64_t undelivered_bytes;
  /**
   * Bytes received on connections that were given no answer: of dropped messages, and what was not answered when a
   * connection ended.
   */
  uint64_t dropped_bytes;
} resay_stats;

/**
 * Takes one line of the log: UTF-8, len bytes, not ended by NUL and without a line end, borrowed for the call. level is
 * RESAY_LOG_ERROR to RESAY_LOG_TRACE. Called on the thread on which it happens, by several at once; for what may be
 * called inside see resay_callback. What it causes itself is not logged.
 */
typedef void (*resay_log_callback)(void *user, int level, const char *utf8, size_t len);

/**
 * Something that has happened. Later versions may know more kinds, and more codes.
 */
typedef struct resay_event {
  /**
   * Set by the caller: sizeof(resay_event) as it knows it.
   */
  uint32_t struct_size;
  /**
   * One RESAY_EVENT_ bit.
   */
  uint32_t kind;
  /**
   * The listener, or 0.
   */
  resay_id listener;
  /**
   * The connection's number in this engine, or 0.
   */
  uint64_t connection;
  /**
   * What is behind it, or 0: see the kinds.
   */
  int32_t code;
  /**
   * Nothing yet.
   */
  uint32_t zero;
  /**
   * English, UTF-8, ended by NUL, cut where it is too long; it begins with the peer, where there is one.
   */
  char text[RESAY_EVENT_TEXT_BYTES];
} resay_event;

/**
 * [*] What a code means, in a few words. Static; codes that are unknown have words too.
 */
const char *resay_strerror(int code);

/**
 * [*] The message of this thread's last failure, or "". Valid until this thread's next call that fails.
 */
const char *resay_last_error(void);

/**
 * [*] The version of the library, for example "0.1.0". Static.
 */
const char *resay_version(void);

/**
 * [*] The RESAY_ABI that the library was built with.
 */
uint32_t resay_abi(void);

/**
 * [*] Makes an engine without listeners, whose chain is the plain echo. abi is RESAY_ABI. *out is the caller's, who
 * frees it with resay_engine_free.
 * 0; RESAY_E_ABI, RESAY_E_ARG: out is NULL, RESAY_E_SYS, and *out is NULL.
 */
int resay_engine_new(uint32_t abi,
                     struct resay_engine **out,
                     struct resay_error *err);

/**
 * [1] Stops an engine, waits for its threads, and frees it with all that belongs to it: listeners, connections,
 * descriptors, transforms. NULL is fine. No other call may be using the engine: threads that were lent to it are back
 * from resay_run, the program's event loop watches resay_poll_fd no longer, and no thread waits in resay_event_next.
 * After this no callback runs, and each release has run.
 *
 * Inside a callback of any engine it does nothing (resay_last_error has the reason). In a child of fork() it closes the child's
 * copies of the descriptors, waits for nothing, and leaves the parent's engine as it is.
 */
void resay_engine_free(struct resay_engine *engine);

/**
 * [*] Sets an option for the listeners that are added from now on, in the grammar of URL queries:
 * ("idle_timeout", "30s"). Three more belong to the engine and can be set until it runs: "threads", how many threads
 * will be lent to it with resay_run; "backend": auto, epoll or uring; and "spin", how long a thread looks before it
 * sleeps: "60us".
 * 0; RESAY_E_SPEC: there is no such key or value, RESAY_E_STATE: it has run, RESAY_E_ARG.
 */
int resay_set(struct resay_engine *engine,
              const char *key,
              const char *value,
              struct resay_error *err);

/**
 * [*] Writes what resay_set would have to be given for an option to be as it is now, with NUL at its end: defaults where
 * nothing was set; for "chain" the engine's chain. *need, if it is not NULL, is the size of all that.
 * 0; RESAY_E_FULL: cap is less (buf may be NULL then); RESAY_E_SPEC: there is no such key, RESAY_E_ARG.
 */
int resay_get(struct resay_engine *engine,
              const char *key,
              char *buf,
              size_t cap,
              size_t *need);

/**
 * [*] Adds a listener and binds it; peers can connect from now on and are served while the engine runs. *out, if it
 * is not NULL, is its name.
 * 0; RESAY_E_SPEC: the URL or an option, RESAY_E_SYS: it cannot be bound, RESAY_E_PLUGIN: its chain, RESAY_E_STATE: the
 * engine has ended, RESAY_E_ARG. Then nothing is bound.
 */
int resay_listen(struct resay_engine *engine,
                 const char *url,
                 resay_id *out,
                 struct resay_error *err);

/**
 * [*] Adds a listener on a socket that the program opened: of TCP, UDP or AF_UNIX, bound, and listening or not.
 * own_or_dup is RESAY_FD_OWN or RESAY_FD_DUP. options are "key=value" pairs with '&' between, as in a URL's query;
 * NULL: none. The socket is made non-blocking, for its copies too; the file of a unix socket stays when the listener is
 * closed, for the program made it.
 * 0; RESAY_E_SPEC: an option, RESAY_E_SYS: no such socket, or it is connected, RESAY_E_PLUGIN: its chain, RESAY_E_STATE,
 * RESAY_E_ARG. Then the descriptor is still the caller's.
 */
int resay_listen_fd(struct resay_engine *engine,
                    int fd,
                    uint32_t own_or_dup,
                    const char *options,
                    resay_id *out,
                    struct resay_error *err);

/**
 * [*] Writes the URL of a listener, with its real port and NUL at its end. *need, if it is not NULL, is the size of
 * all that.
 * 0; RESAY_E_FULL: cap is less than that (buf may be NULL then); RESAY_E_HANDLE, RESAY_E_ARG.
 */
int resay_listener_url(struct resay_engine *engine,
                       resay_id listener,
                       char *buf,
                       size_t cap,
                       size_t *need);

/**
 * [*] The port of a TCP or UDP listener; 0 for unix sockets.
 * RESAY_E_HANDLE, RESAY_E_ARG.
 */
int resay_listener_port(struct resay_engine *engine, resay_id listener);

/**
 * [*] Closes a listener, once what waits to be accepted has been; its connections go on. From now on its id is stale.
 * 0; RESAY_E_HANDLE, RESAY_E_ARG.
 */
int resay_listener_close(struct resay_engine *engine,
                         resay_id listener);

/**
 * [in a callback] Appends len bytes to the answer.
 * 0; RESAY_E_FULL: the answer would be over the limit, sixteen times max_message, and the message fails; RESAY_E_ARG:
 * data is NULL and len is not 0, or it is memory that resay_out_reserve gave; RESAY_E_STATE: out is not that of the callback that runs here.
 */
int resay_out_write(struct resay_out *out,
                    const void *data,
                    size_t len);

/**
 * [in a callback] Room for cap more bytes, to be written to until the next call for the same out; resay_out_commit
 * makes them, or the first of them, a part of the answer. NULL: the answer would be over the limit, and the message
 * fails; or out is not that of the callback that runs here.
 */
void *resay_out_reserve(struct resay_out *out,
                        size_t cap);

/**
 * [in a callback] Appends the first len bytes of what was reserved last.
 * 0; RESAY_E_STATE: less was reserved, and the message fails; or out is not that of the callback that runs here.
 */
int resay_out_commit(struct resay_out *out,
                     size_t len);

/**
 * [*] Loads a plugin file; chains that are set from now on find its transforms by their names. Calling it again after
 * the file has changed loads what is in it now; chains that were set before keep what they have. A library is never
 * unloaded.
 * The number of transforms in it; RESAY_E_PLUGIN: the file cannot be used, or the program has registered a transform of
 * that name, RESAY_E_ARG.
 */
int resay_load(struct resay_engine *engine,
               const char *path,
               struct resay_error *err);

/**
 * [*] Adds a transform of the program's own, behind a table as plugins have it. The table, and all that it points to,
 * stays as it is until the engine is freed. Chains that are set from now on find it by its id, before bundled ones.
 * 0; RESAY_E_PLUGIN: the table breaks a rule, or there is one of that id already, RESAY_E_ARG.
 */
int resay_register(struct resay_engine *engine,
                   const resay_transform *table,
                   struct resay_error *err);

/**
 * [*] Adds a transform that is a function of the program's: see resay_callback. It has no options and sees one message
 * after another, nothing of connections. Chains that are set from now on find it by its id, before bundled ones.
 *
 * release, if it is not NULL, is called with user exactly once: when nothing uses it any more, at the latest in
 * resay_engine_free; and when this call fails, whatever the reason, before it returns.
 * 0; RESAY_E_PLUGIN: the id is not a name ([a-z0-9][a-z0-9._-]*), or there is one of that id already, RESAY_E_ARG.
 */
int resay_register_callback(struct resay_engine *engine,
                            const char *id,
                            resay_callback callback,
                            void *user,
                            resay_release release,
                            struct resay_error *err);

/**
 * [*] Changes a chain, at any time, also while messages flow: that of one listener, or with 0 the engine's, which
 * all listeners have that were given none of their own. "" is the plain echo. Each worker takes it at its next turn; no
 * message goes through both. After a failure nothing has changed.
 * 0; RESAY_E_SPEC: it cannot be read, RESAY_E_PLUGIN: a transform is unknown or refuses its options, RESAY_E_HANDLE,
 * RESAY_E_ARG.
 */
int resay_chain(struct resay_engine *engine,
                resay_id listener_or_0,
                const char *spec,
                struct resay_error *err);

/**
 * [*] Serves on this many threads of the engine's own, with all signals blocked in them, and returns when every
 * listener answers.
 * 0; RESAY_E_STATE: it has run before, RESAY_E_SPEC: threads is not 1 to 256, RESAY_E_SYS, RESAY_E_PLUGIN: a transform
 * cannot be created once more for another thread, RESAY_E_ARG.
 */
int resay_start(struct resay_engine *engine,
                uint32_t threads,
                struct resay_error *err);

/**
 * [*] Serves on the calling thread: -1 until the engine has ended, 0 for one turn without waiting, else for timeout_ms
 * milliseconds. Lend as many threads as resay_set(engine, "threads", ...) set, 1 by default: connections are shared
 * out among all of them.
 * 1: the engine is alive; 0: it has ended, or what this thread served of it has; RESAY_E_INTR: interrupted by a signal,
 * RESAY_E_STATE: it runs on threads of its own, or enough were lent, RESAY_E_SYS, RESAY_E_PLUGIN, RESAY_E_ARG.
 */
int resay_run(struct resay_engine *engine,
              int32_t timeout_ms);

/**
 * [*] A descriptor for the program's own event loop: when it is readable, or resay_poll_timeout is over, call
 * resay_run(engine, 0). It belongs to the engine: do not read, write or close it, and take it out of the loop before
 * resay_engine_free.
 * RESAY_E_STATE: it runs on threads of its own, or is to have several, RESAY_E_SYS, RESAY_E_ARG.
 */
int resay_poll_fd(struct resay_engine *engine);

/**
 * [*] How many milliseconds the program's event loop may wait for resay_poll_fd, rounded up; -1: as long as it
 * likes. Ask before each wait. RESAY_E_ARG.
 */
int32_t resay_poll_timeout(struct resay_engine *engine);

/**
 * [*] Ends everything at once and returns without waiting; resay_join waits. The one call that a signal handler may
 * make: it is async-signal-safe.
 * 0; RESAY_E_STATE inside a callback: there it does nothing, except on a thread that the program lent or called with,
 * where a signal handler cannot be told from a callback, and so is obeyed; RESAY_E_FORKED, RESAY_E_ARG.
 */
int resay_stop(struct resay_engine *engine);

/**
 * [*] Stops listening, answers all that has arrived, closes the connections, and waits for that, at most timeout_ms
 * milliseconds; -1: without a limit. Connections that are open then are cut off and counted. An engine that runs on lent threads, or in the
 * program's loop, only begins with it: go on calling resay_run until it is 0.
 * 0; RESAY_E_TIMEOUT: a transform does not return, RESAY_E_ARG.
 */
int resay_drain(struct resay_engine *engine,
                int32_t timeout_ms);

/**
 * [*] Waits until the engine has ended, which takes a resay_stop or a resay_drain, at most timeout_ms milliseconds; -1:
 * without a limit. An engine that never ran has ended.
 * 0; RESAY_E_TIMEOUT, RESAY_E_ARG.
 */
int resay_join(struct resay_engine *engine,
               int32_t timeout_ms);

/**
 * [*] Reads the figures of a listener, or with 0 of all together, closed ones too: apart from open, these never run
 * backwards. stats->struct_size is sizeof *stats.
 * 0; RESAY_E_HANDLE, RESAY_E_ARG: stats is NULL, or its struct_size is not set.
 */
int resay_stats_get(struct resay_engine *engine,
                    resay_id listener_or_0,
                    struct resay_stats *stats);

/**
 * [*] The name of a level in lower case, such as "warn". Static; "unknown" for numbers that are no RESAY_LOG_.
 */
const char *resay_log_level_name(int level);

/**
 * [*] Sends the engine's log, up to max_level (RESAY_LOG_), to a callback, in place of the one before; log NULL, or
 * max_level 0: nowhere. When this returns, the one before is not running any more and will not be called again, so
 * that its user can go. See resay_log_callback.
 * 0; RESAY_E_STATE inside any callback, RESAY_E_ARG.
 */
int resay_log(struct resay_engine *engine,
              int max_level,
              resay_log_callback log,
              void *user);

/**
 * [*] Which events are kept for resay_event_next from now on: RESAY_EVENT_ bits, 0: none. At most capacity of them wait,
 * 1 to 65536, as the first call says. Events that find the queue full are counted (resay_stats.events_lost) and lost:
 * nothing ever waits for room.
 * 0; RESAY_E_SPEC: capacity is out of range, RESAY_E_SYS, RESAY_E_ARG.
 */
int resay_events(struct resay_engine *engine,
                 uint32_t kinds,
                 uint32_t capacity);

/**
 * [*] A descriptor that is readable while events wait, for the program's own loop: then call resay_event_next until it
 * answers 0. Once the engine has ended it stays readable. It belongs to the engine: do not read, write or close it, and
 * take it out of the loop before resay_engine_free.
 * RESAY_E_STATE: resay_events was not called, RESAY_E_ARG.
 */
int resay_event_fd(struct resay_engine *engine);

/**
 * [*] Takes the first event that waits, or waits for one: 0 not at all, -1 until the engine has ended, else timeout_ms
 * milliseconds. event->struct_size is sizeof *event. Of several threads that call it, each event goes to one.
 * 1: *event is filled; 0: there was none in that time; RESAY_E_STATE: resay_events was not called, or the engine has ended
 * and all were taken; RESAY_E_INTR: interrupted by a signal, RESAY_E_ARG: event is NULL, or its struct_size is not set.
 */
int resay_event_next(struct resay_engine *engine,
                     struct resay_event *event,
                     int32_t timeout_ms);

/**
 * [*] The name of a kind of event in snake_case, such as "closed", for logs and statistics that programs read: it is the
 * same in all versions. kind: one RESAY_EVENT_ bit. Static; "unknown" for other numbers.
 */
const char *resay_event_kind_name(uint32_t kind);

/**
 * [*] The name of resay_event.code in snake_case, such as "idle_timeout", for an event of this kind: it is the same in all
 * versions, and in the JSON of the command. Static; "" for 0, "unknown" for other numbers, "system_error" for an errno.
 */
const char *resay_event_code_name(uint32_t kind,
                                  int32_t code);

/**
 * [*] Connects to a URL, at most timeout_ms milliseconds; -1: without a limit. Datagram sockets are connected too,
 * so answers of others are not received. *out is the caller's, who frees it with resay_client_free.
 * 0; RESAY_E_SPEC: the URL, RESAY_E_SYS: there is no server (os_errno ECONNREFUSED, ENOENT, ETIMEDOUT...), RESAY_E_INTR,
 * RESAY_E_STATE: inside a callback, RESAY_E_ARG; and *out is NULL.
 */
int resay_client_open(const char *url,
                      int32_t timeout_ms,
                      struct resay_client **out,
                      struct resay_error *err);

/**
 * [*] Sends all of data, len bytes; on a datagram or seqpacket socket as one message, also an empty one. Waits at most
 * timeout_ms milliseconds for the server to read; 0: not at all, -1: without a limit.
 * 0; RESAY_E_TIMEOUT: of a stream, a part may be on its way, RESAY_E_INTR: a signal came before anything was sent,
 * RESAY_E_SYS: the connection is broken (os_errno), RESAY_E_STATE: it would wait inside a callback, RESAY_E_ARG.
 */
int resay_client_send(struct resay_client *client,
                      const void *data,
                      size_t len,
                      int32_t timeout_ms);

/**
 * [*] Receives what there is, at most cap bytes, and stores in *got how many: of a stream what has arrived, else one
 * message, which may be empty. Waits for it at most timeout_ms milliseconds; 0: not at all, -1: without a limit.
 * 0; 1: the server has ended the connection, and *got is 0; RESAY_E_FULL: the message was longer than cap, and its end
 * is lost; RESAY_E_TIMEOUT, RESAY_E_INTR: interrupted by a signal, RESAY_E_SYS: the connection is broken (os_errno), or nobody is
 * there (ECONNREFUSED, on a datagram socket), RESAY_E_STATE: it would wait inside a callback, RESAY_E_ARG.
 */
int resay_client_recv(struct resay_client *client,
                      void *buf,
                      size_t cap,
                      size_t *got,
                      int32_t timeout_ms);

/**
 * [*] Ends the sending side; answers can still be received, and then the end.
 * 0; RESAY_E_SYS, RESAY_E_ARG.
 */
int resay_client_shutdown(struct resay_client *client);

/**
 * [1] Closes a client and frees it. NULL is fine. No other call may be using it.
 */
void resay_client_free(struct resay_client *client);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* RESAY_H */

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
 * Every int result: 0 or more is success, less is a RESAY_E_ code. Strings are UTF-8 and ended by NUL, borrowed
 * for the call. An engine may be used from any thread, and from several at once.
 * The library installs no signal handler, changes no state of the process, never exits or aborts, and never
 * raises SIGPIPE. Addresses, chains and options are those of the command: resay help.
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
 * A pointer is NULL that must not be, or a number is out of range.
 */
#define RESAY_E_ARG -101

/**
 * The header that the program was built with and the library do not match.
 */
#define RESAY_E_ABI -102

/**
 * The call does not fit the state of the engine, for example a second start.
 */
#define RESAY_E_STATE -103

/**
 * The id names nothing, or no longer.
 */
#define RESAY_E_HANDLE -104

/**
 * The operating system refused: see resay_error.os_errno.
 */
#define RESAY_E_SYS -105

/**
 * The time was up first.
 */
#define RESAY_E_TIMEOUT -106

/**
 * A signal came (EINTR): let the program look after it, then call again.
 */
#define RESAY_E_INTR -107

/**
 * A URL, chain or option that cannot be read: the message says where.
 */
#define RESAY_E_SPEC -108

/**
 * A plugin cannot be loaded, or a transform refuses its options: the message says why.
 */
#define RESAY_E_PLUGIN -109

/**
 * A fault of Resay itself was caught. The engine should be freed.
 */
#define RESAY_E_BUG -112

/**
 * The buffer is too small: the size that was needed is said.
 */
#define RESAY_E_FULL -113

/**
 * Bytes of resay_error.message, the NUL included.
 */
#define RESAY_ERROR_MESSAGE_BYTES 248

/**
 * An engine. May be used from any thread, and from several at once.
 */
typedef struct resay_engine resay_engine;

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
 * A listener's name. Never reused within an engine; 0 is never valid.
 */
typedef uint64_t resay_id;

/**
 * The version of the library, for example "0.1.0". Static.
 */
const char *resay_version(void);

/**
 * The RESAY_ABI that the library was built with.
 */
uint32_t resay_abi(void);

/**
 * What a code means, in a few words. Static; codes that are unknown have words too.
 */
const char *resay_strerror(int code);

/**
 * The message of this thread's last failure, or "". Valid until this thread's next call that fails.
 */
const char *resay_last_error(void);

/**
 * Makes an engine without listeners, whose chain is the plain echo. `abi` is RESAY_ABI.
 * 0 and *out; RESAY_E_ABI, RESAY_E_ARG, RESAY_E_SYS, and *out is NULL.
 */
int resay_engine_new(uint32_t abi, struct resay_engine **out, struct resay_error *err);

/**
 * Stops an engine, waits for its threads, and frees it with all that belongs to it. NULL is fine. No other
 * call may be using the engine.
 */
void resay_engine_free(struct resay_engine *engine);

/**
 * Sets an option for the listeners that are added from now on, in the grammar of URL queries:
 * ("idle_timeout", "30s"). 0; RESAY_E_SPEC, RESAY_E_ARG.
 */
int resay_set(struct resay_engine *engine, const char *key, const char *value, struct resay_error *err);

/**
 * Adds a listener and binds it; peers can connect from now on and are served while the engine runs. *out, if it
 * is not NULL, is its name. 0; RESAY_E_SPEC, RESAY_E_SYS, RESAY_E_PLUGIN, RESAY_E_ARG.
 */
int resay_listen(struct resay_engine *engine,
                 const char *url,
                 resay_id *out,
                 struct resay_error *err);

/**
 * Writes the URL of a listener, with its real port and NUL at its end. *need, if it is not NULL, is the size of
 * all that. 0; RESAY_E_FULL when cap is less than that (buf may be NULL then); RESAY_E_HANDLE, RESAY_E_ARG.
 */
int resay_listener_url(struct resay_engine *engine,
                       resay_id listener,
                       char *buf,
                       size_t cap,
                       size_t *need);

/**
 * The port of a TCP or UDP listener; 0 for unix sockets. RESAY_E_HANDLE, RESAY_E_ARG.
 */
int resay_listener_port(struct resay_engine *engine, resay_id listener);

/**
 * Closes a listener; its connections go on. 0; RESAY_E_HANDLE, RESAY_E_ARG.
 */
int resay_listener_close(struct resay_engine *engine, resay_id listener);

/**
 * Changes a chain, at any time, also while messages flow: that of one listener, or with 0 the engine's, which
 * all listeners have that were given none of their own. "" is the plain echo. After a failure nothing has
 * changed. 0; RESAY_E_SPEC, RESAY_E_PLUGIN, RESAY_E_HANDLE, RESAY_E_ARG.
 */
int resay_chain(struct resay_engine *engine,
                resay_id listener_or_0,
                const char *spec,
                struct resay_error *err);

/**
 * Serves on this many threads of the engine's own, with all signals blocked in them, and returns at once.
 * 0; RESAY_E_STATE when the engine has run before, RESAY_E_SPEC for threads outside 1 to 256, RESAY_E_SYS.
 */
int resay_start(struct resay_engine *engine, uint32_t threads, struct resay_error *err);

/**
 * Serves on the calling thread: -1 until the engine is stopped, 0 for one turn without waiting, else for so many
 * milliseconds. 1: the engine is alive; 0: it has ended. RESAY_E_STATE when it runs on other threads,
 * RESAY_E_INTR when a signal came.
 */
int resay_run(struct resay_engine *engine,
              int32_t timeout_ms);

/**
 * A descriptor for the program's own event loop: when it is readable, or resay_poll_timeout is over, call
 * resay_run(engine, 0). It belongs to the engine: do not read, write or close it. RESAY_E_STATE after
 * resay_start.
 */
int resay_poll_fd(struct resay_engine *engine);

/**
 * How many milliseconds the program's event loop may wait for resay_poll_fd, rounded up; -1: as long as it
 * likes.
 */
int32_t resay_poll_timeout(struct resay_engine *engine);

/**
 * Ends everything at once and returns without waiting. Async-signal-safe. 0; RESAY_E_ARG.
 */
int resay_stop(struct resay_engine *engine);

/**
 * Stops listening, answers all that has arrived, ends the connections, and waits for that, at most so long; what
 * is not done by then is cut off. An engine that runs on lent threads only begins with it: go on calling
 * resay_run until it is 0. 0; RESAY_E_TIMEOUT.
 */
int resay_drain(struct resay_engine *engine,
                int32_t timeout_ms);

/**
 * Waits until the engine has ended, at most so long; -1: for ever. 0; RESAY_E_TIMEOUT.
 */
int resay_join(struct resay_engine *engine, int32_t timeout_ms);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* RESAY_H */

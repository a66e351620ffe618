/* Resay: an embeddable echo engine. Generated from src/ffi: edit that.
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
 *  - Every int result of 0 or more is success; a negative result is a RESAY_E_ code. Each function lists its own codes.
 *    Every function that takes an engine may also return RESAY_E_ARG (the engine is NULL), RESAY_E_STATE (inside one of
 *    its callbacks), RESAY_E_FORKED and RESAY_E_BUG. A call that fails changes nothing, unless its comment says otherwise.
 *  - [*]: callable on any thread, by several at once. [1]: callable while no other thread uses the object.
 *    [in a callback]: callable only inside a callback, on its thread.
 *  - Pointers are borrowed for the call, unless a comment says otherwise. Strings are UTF-8 and NUL-terminated. The
 *    caller owns an object returned through out, and frees it with its own function; the caller frees nothing else.
 *  - Structs that begin with struct_size may grow. The caller sets it, and each side uses the fields that both know.
 *  - An engine runs in one of three ways: resay_start, resay_run, or resay_poll_fd with resay_run(engine, 0).
 *  - To end: call resay_stop or resay_drain; wait until resay_run has returned 0 on lent threads; call
 *    resay_engine_free. Free clients with resay_client_free. Taps and queues of events are closed before or after that.
 *  - A thread is not cancelled (pthread_cancel) inside a call, however long it waits: end the wait with resay_stop, or by a
 *    signal. A cancellation that was asked for meanwhile takes place after the call. With PTHREAD_CANCEL_ASYNCHRONOUS a thread
 *    may call nothing here, as hardly anything in the C library (pthread_setcanceltype(3)). The engine's threads cannot be
 *    cancelled.
 *  - Callbacks run on workers, and on any thread that calls the engine. resay_function lists what they must not do.
 *  - After fork() the child can only free its copy of the engine; the parent keeps the engine.
 *  - Variables of the environment (RESAY_PLUGIN_PATH, RESAY_NO_URING, TMPDIR, LISTEN_FDS and so on) are read with
 *    secure_getenv(3): a set-user-ID, set-group-ID or capability program sees none of them.
 *  - If there is no memory for a size that the program, a plugin, a peer or an option chose, the call fails, the message
 *    fails, or that one connection is closed. What remains are allocations of a fixed size, at most 256 KiB each: without
 *    memory for those the process is aborted.
 *  - The library installs no signal handler, changes no state of the process, never exits, aborts only for that, and never
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
 * The version of the library that this header belongs to; resay_version has that of the library which is there.
 */
#define RESAY_VERSION_MAJOR 0u

#define RESAY_VERSION_MINOR 1u

#define RESAY_VERSION_PATCH 0u

/**
 * The version of this interface. It changes only when existing programs would break. The SONAME,
 * libresay.so.1, contains it.
 */
#define RESAY_ABI 1u

/**
 * An argument is NULL, not UTF-8 or out of range, or a struct_size is invalid.
 */
#define RESAY_E_ARG -101

/**
 * The header that the program was compiled with does not match the library.
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
 * A plugin cannot be loaded, or a transform is unknown or rejects its options: the message has the reason.
 */
#define RESAY_E_PLUGIN -109

/**
 * A callback of the program failed. Used only in resay_event.code.
 */
#define RESAY_E_CALLBACK -110

/**
 * The engine belongs to the parent process. The child can only free it.
 */
#define RESAY_E_FORKED -111

/**
 * An internal error of Resay was caught, or a callback has ended its thread. The engine can only be freed.
 */
#define RESAY_E_BUG -112

/**
 * A limit is reached, or the caller's buffer is too small.
 */
#define RESAY_E_FULL -113

/**
 * Size of resay_error.message in bytes, including the NUL.
 */
#define RESAY_ERROR_MESSAGE_BYTES 240

/**
 * For resay_listen_fd: after success the engine owns the descriptor; the caller must not use or close it.
 */
#define RESAY_FD_OWN 1u

/**
 * For resay_listen_fd: the engine duplicates the descriptor; the caller keeps it.
 */
#define RESAY_FD_DUP 2u

/**
 * In resay_connection.state: both sides may send.
 */
#define RESAY_CONNECTION_OPEN 1u

/**
 * In resay_connection.state: the peer has sent FIN; what it sent before is still being answered.
 */
#define RESAY_CONNECTION_HALF_CLOSED 2u

/**
 * In resay_connection.state: it answers no more; what waits is sent, then it closes.
 */
#define RESAY_CONNECTION_ENDING 3u

/**
 * Returned by a function: pass the message on unchanged, without a copy.
 */
#define RESAY_PASS 0

/**
 * Returned by a function: pass on the bytes written to out in place of the message.
 */
#define RESAY_REPLACE 1

/**
 * Returned by a function: the answer comes later, by resay_answer with the token of resay_later. What was written to out is
 * discarded.
 */
#define RESAY_LATER 6

/**
 * In resay_option_info.flags: an option of the engine, see resay_set. All others are those of listeners.
 */
#define RESAY_OPTION_ENGINE 1u

/**
 * In resay_option_info.flags: it applies to tcp listeners.
 */
#define RESAY_OPTION_TCP 2u

/**
 * In resay_option_info.flags: it applies to udp listeners.
 */
#define RESAY_OPTION_UDP 4u

/**
 * In resay_option_info.flags: it applies to unix listeners.
 */
#define RESAY_OPTION_UNIX 8u

/**
 * In resay_option_info.flags: it applies to unix-dgram listeners.
 */
#define RESAY_OPTION_UNIX_DGRAM 16u

/**
 * In resay_option_info.flags: it applies to unix-seqpacket listeners.
 */
#define RESAY_OPTION_UNIX_SEQPACKET 32u

/**
 * In resay_option_info.flags: it applies to sockets that the program opened.
 */
#define RESAY_OPTION_INHERITED 64u

/**
 * In resay_event.kind, and for resay_events_open, ORed together: a listener accepts connections or datagrams.
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
 * In resay_event.kind: a connection was rejected by a limit or a rule; code is a RESAY_REJECTED_ reason.
 */
#define RESAY_EVENT_REJECTED 16u

/**
 * In resay_event.kind: accept(2) failed; code is the errno.
 */
#define RESAY_EVENT_ACCEPT_FAILED 32u

/**
 * In resay_event.kind: a message was not answered; code is a RESAY_DROPPED_ reason, or the negative errno of a datagram
 * socket.
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
 * In resay_event.kind: a chain was replaced; text is the new chain.
 */
#define RESAY_EVENT_CHAIN_CHANGED 512u

/**
 * In resay_event.kind: the engine's state changed, such as its driver or its end. At RESAY_LOG_ERROR: a worker failed, or
 * found a bug of Resay; text has its place and the number of bugs found.
 */
#define RESAY_EVENT_ENGINE 1024u

/**
 * A transform has not returned for the time of the option "watchdog": the text names it, and the worker that waits for it
 * where one does. Once for each case.
 */
#define RESAY_EVENT_TRANSFORM_STUCK 2048u

/**
 * A transform that was stuck has returned.
 */
#define RESAY_EVENT_TRANSFORM_RETURNED 4096u

/**
 * In resay_event.kind: a header of a proxy has named the peer of a connection.
 */
#define RESAY_EVENT_IDENTIFIED 8192u

/**
 * For resay_events_open: all kinds, including those of later versions.
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
 * In resay_event.code: a transform requested it.
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
 * In resay_event.code: an answer was longer than the send buffer of its seqpacket socket.
 */
#define RESAY_CLOSED_ANSWER_TOO_LONG 16

/**
 * In resay_event.code: the program closed or reset it.
 */
#define RESAY_CLOSED_BY_HOST 17

/**
 * Too many messages of its chain waited for a thread: the chain has a transform that may block.
 */
#define RESAY_CLOSED_OVERLOADED 18

/**
 * In resay_event.code: the socket ended before the layer around the stream did: the peer, or somebody between, has cut it off.
 */
#define RESAY_CLOSED_LAYER_TRUNCATED 19

/**
 * In resay_event.code: a transform returned RESAY_DROP.
 */
#define RESAY_DROPPED_BY_TRANSFORM 1

/**
 * In resay_event.code: a transform failed.
 */
#define RESAY_DROPPED_TRANSFORM_FAILED 2

/**
 * In resay_event.code: the message was longer than max_message.
 */
#define RESAY_DROPPED_TOO_LONG 3

/**
 * In resay_event.code: the source cannot be answered: port 0, or an unspecified, broadcast or multicast address.
 */
#define RESAY_DROPPED_BAD_SOURCE 4

/**
 * In resay_event.code: the destination was a broadcast or multicast address.
 */
#define RESAY_DROPPED_GROUP_DESTINATION 5

/**
 * In resay_event.code: the unix sender has no name, or a relative one.
 */
#define RESAY_DROPPED_UNNAMED 6

/**
 * In resay_event.code: its unix peer has not read earlier answers: its queue is full, or they use its share of the send buffer
 * of the socket.
 */
#define RESAY_DROPPED_PEER_FULL 7

/**
 * In resay_event.code: its answer was longer than max_amplification allows.
 */
#define RESAY_DROPPED_AMPLIFIED 8

/**
 * In resay_event.code: too many delayed answers are waiting.
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
 * In resay_event.code: the answer was longer than a datagram of its socket may be.
 */
#define RESAY_DROPPED_ANSWER_TOO_LONG 12

/**
 * Too many messages of its chain waited for a thread: the chain has a transform that may block.
 */
#define RESAY_DROPPED_OVERLOADED 13

/**
 * The send buffer of its unix datagram socket is full of answers that peers, perhaps others, have not read.
 */
#define RESAY_DROPPED_SOCKET_FULL 14

/**
 * In resay_event.code: its source is a UDP socket of this engine.
 */
#define RESAY_DROPPED_OWN_ADDRESS 15

/**
 * In resay_event.code: its source port is not in from_ports.
 */
#define RESAY_DROPPED_FROM_PORT 16

/**
 * In resay_event.code: its source is in a network that allow and deny keep out.
 */
#define RESAY_DROPPED_DENIED 17

/**
 * In resay_event.code: it arrived with the hop limit of a server's answer (loop_mark).
 */
#define RESAY_DROPPED_LOOP_MARK 18

/**
 * In resay_event.code: its network, or the listener, has had its rate.
 */
#define RESAY_DROPPED_RATE 19

/**
 * In resay_event.code: it is an answer that came back once too often (loop_hops).
 */
#define RESAY_DROPPED_LOOP 20

/**
 * In resay_event.code: it has no valid header of a proxy, although its listener asks for one (proxy).
 */
#define RESAY_DROPPED_PROXY_HEADER 21

/**
 * In resay_event.code: it does not come from one of the proxies (proxy_from).
 */
#define RESAY_DROPPED_NOT_FROM_PROXY 22

/**
 * In resay_event.code: its listener had max_connections already.
 */
#define RESAY_REJECTED_MAX_CONNECTIONS 1

/**
 * In resay_event.code: its peer, or its peer's network, had max_per_peer already.
 */
#define RESAY_REJECTED_MAX_PER_PEER 2

/**
 * In resay_event.code: its peer is in a network that allow and deny keep out.
 */
#define RESAY_REJECTED_DENIED 3

/**
 * In resay_event.code: its peer's user is not in allow_uid.
 */
#define RESAY_REJECTED_ALLOW_UID 4

/**
 * In resay_event.code: the system does not say whose it is.
 */
#define RESAY_REJECTED_UNKNOWN_USER 5

/**
 * In resay_event.code: it does not come from one of the proxies (proxy_from).
 */
#define RESAY_REJECTED_NOT_FROM_PROXY 6

/**
 * Size of resay_event.text in bytes, including the NUL.
 */
#define RESAY_EVENT_TEXT_BYTES 96

/**
 * In resay_tap_options.flags: keep the answers too.
 */
#define RESAY_TAP_ANSWERS 1u

/**
 * In resay_tap_record.outcome: there is an answer. Whether the peer receives it is not known yet.
 */
#define RESAY_TAP_ANSWERED 1u

/**
 * In resay_tap_record.outcome: no answer; reason is a RESAY_DROPPED_ reason.
 */
#define RESAY_TAP_DROPPED 2u

/**
 * In resay_tap_record.outcome: a transform closes the connection, with or without a last answer; reason is a
 * RESAY_CLOSED_ reason.
 */
#define RESAY_TAP_CLOSED 3u

/**
 * In resay_tap_record.outcome: a transform resets the connection; reason is a RESAY_CLOSED_ reason.
 */
#define RESAY_TAP_RESET 4u

/**
 * In resay_tap_record.outcome: a transform failed; reason is RESAY_DROPPED_TRANSFORM_FAILED.
 */
#define RESAY_TAP_FAILED 5u

/**
 * In resay_tap_record.outcome: an answer could not be sent to the sender, or from the address that it was sent to, so no
 * transform has seen the message; reason is a RESAY_DROPPED_ reason.
 */
#define RESAY_TAP_UNSENDABLE 6u

/**
 * One connected socket. It needs no engine in this process. One thread may send while another receives.
 */
typedef struct resay_client resay_client;

/**
 * A chain that runs without sockets: one conversation.
 */
typedef struct resay_dry_run resay_dry_run;

/**
 * An engine: listeners, chains, and the workers that run them.
 */
typedef struct resay_engine resay_engine;

/**
 * A queue of events. It lives for itself: after resay_engine_free its events can still be taken.
 */
typedef struct resay_events resay_events;

/**
 * The output of a function. Valid on the function's thread until it returns; later use, or use on another thread, is an
 * error.
 */
typedef struct resay_out resay_out;

/**
 * Records of messages, in a ring in memory. It lives for itself: after resay_engine_free its records can still be read.
 */
typedef struct resay_tap resay_tap;

/**
 * A failure, in the caller's memory. Every function that takes a resay_error also takes NULL. After success the code
 * is 0 and the message is empty.
 */
typedef struct resay_error {
  /**
   * A RESAY_E_ code, or 0.
   */
  int32_t code;
  /**
   * The errno of RESAY_E_SYS, or 0.
   */
  int32_t os_errno;
  /**
   * Which bytes of the URL, chain or option are wrong: the offset of the first one, and how many. If something is
   * missing at the end, position is the length of the text, and length is 1. If no place is known, both are 0.
   */
  uint32_t position;
  uint32_t length;
  /**
   * English text in UTF-8, NUL-terminated, truncated if it is too long. What is wrong comes first; the text that was
   * parsed follows. The number of a system error is only in os_errno.
   */
  char message[RESAY_ERROR_MESSAGE_BYTES];
} resay_error;

/**
 * The id of a listener. An id is never reused in a process, and no connection and no listener of another engine has it, so a
 * stale or foreign id is always RESAY_E_HANDLE. 0 is never valid.
 */
typedef uint64_t resay_id;

/**
 * A socket address. words begin with a struct sockaddr of len bytes, aligned to 8: sockaddr_in, sockaddr_in6 or sockaddr_un;
 * behind it are zeros. len 0: there is none, or it is not known. IPv4-mapped IPv6 addresses are IPv4 here.
 */
typedef struct resay_address {
  uint32_t len;
  /**
   * Reserved.
   */
  uint32_t zero;
  uint64_t words[16];
} resay_address;

/**
 * A connection as it was when resay_connection_get asked.
 */
typedef struct resay_connection {
  /**
   * Set by the caller: sizeof(resay_connection).
   */
  uint32_t struct_size;
  /**
   * RESAY_STREAM or RESAY_SEQPACKET.
   */
  uint32_t kind;
  /**
   * Its number in this process. No listener has it, and no connection of another engine.
   */
  uint64_t connection;
  /**
   * Its listener, which may be closed by now.
   */
  resay_id listener;
  /**
   * RESAY_CONNECTION_.
   */
  uint32_t state;
  /**
   * The worker that serves it, from 0.
   */
  uint32_t worker;
  /**
   * Of unix sockets, the process that connected, as it was then (SO_PEERCRED); -1: not known.
   */
  int32_t pid;
  /**
   * Its effective user; -1: not known.
   */
  uint32_t uid;
  /**
   * Its effective group; -1: not known.
   */
  uint32_t gid;
  /**
   * 1: the program has paused it, or its listener.
   */
  uint32_t is_paused;
  /**
   * Bytes that the peer has sent.
   */
  uint64_t bytes_in;
  /**
   * Bytes that the kernel has accepted for the peer.
   */
  uint64_t bytes_out;
  /**
   * Bytes of answers, and of what the program has sent, that wait for the peer to read, or for their time.
   */
  uint64_t waiting_bytes;
  /**
   * Milliseconds since it last received something, or was accepted.
   */
  uint64_t idle_ms;
  /**
   * The peer; of a connection over a proxy, the peer that the proxy has named.
   */
  struct resay_address peer;
  /**
   * Our side.
   */
  struct resay_address local;
  /**
   * The proxy; len 0: no proxy has named the peer.
   */
  struct resay_address via;
} resay_connection;

/**
 * A message, valid during the call.
 */
typedef struct resay_message {
  /**
   * Bytes of this struct that the library knows.
   */
  uint32_t struct_size;
  /**
   * RESAY_IO_ bits, as in resay_io.
   */
  uint32_t flags;
  /**
   * The message, without its frame; on a raw stream the bytes of one read. Read-only. May be NULL if len is 0.
   */
  const uint8_t *data;
  /**
   * Its length.
   */
  size_t len;
  /**
   * The listener; 0 in a dry run.
   */
  resay_id listener;
  /**
   * The number of the connection; an engine never reuses it. 0 for a datagram.
   */
  uint64_t connection;
  /**
   * RESAY_STREAM, RESAY_DATAGRAM or RESAY_SEQPACKET.
   */
  uint32_t kind;
  /**
   * 0.
   */
  uint32_t zero;
} resay_message;

/**
 * Called once, on any thread, when nothing uses user any more.
 */
typedef void (*resay_release)(void *user);

/**
 * A transform in the program. Set struct_size and call, and what else you need; the rest is 0. The struct is copied.
 *
 * The engine calls the functions on the thread that serves the connection: after resay_start on the engine's threads,
 * otherwise on threads in resay_run. Several threads may call them at once, but of one session only one at a time. They
 * must not throw or longjmp, and must not block, unless needs has RESAY_NEED_OFFLOAD. If one calls pthread_exit, its thread
 * stops for ever: what it serves is lost until the process ends, its engine answers RESAY_E_BUG, and resay_engine_free
 * does not wait for it.
 *
 * Inside these and every other callback, do not call functions of the same engine, or functions of any engine or client
 * that wait: they return RESAY_E_STATE. Allowed are resay_answer, the resay_out_ functions, functions of other engines that
 * do not wait, and functions that take no engine.
 */
typedef struct resay_function {
  /**
   * sizeof(resay_function).
   */
  uint32_t struct_size;
  /**
   * RESAY_NEED_MESSAGES: whole messages, so it cannot be used on raw streams. RESAY_NEED_OFFLOAD: it may block; it runs
   * on extra threads, one message of a connection at a time.
   */
  uint32_t needs;
  /**
   * Passed to every function.
   */
  void *user;
  /**
   * NULL, or: a session begins. A connection is one, and each datagram. *session is NULL; what it is set to is passed to
   * call and end. peer is valid during the call. What is written to out is sent to the peer of a connection at once, in a
   * frame of its own; it is discarded for a datagram, and if the chain was replaced while the connection was open.
   *
   * 0: the session has begun, and ends with end. Anything else: there is no session, and end is not called. RESAY_CLOSE
   * closes the connection after what was written, RESAY_DROP without, RESAY_RESET resets it, an error such as
   * RESAY_E_DATA closes it as a failure. The datagram is dropped.
   */
  int (*begin)(void *user, void **session, const resay_peer *peer, struct resay_out *out);
  /**
   * A message. session is NULL if begin and end are NULL. On a raw stream, a function with begin or end is also called when
   * the peer sends no more, with len 0 and RESAY_IO_EOF.
   *
   * It returns RESAY_PASS, RESAY_REPLACE, RESAY_LATER, or a status of a plugin: RESAY_DROP, RESAY_CLOSE (after the bytes
   * written), RESAY_RESET, or an error such as RESAY_E_DATA. Any other value, or a violation of the rules of
   * resay_out_commit, is a failure: the connection is closed or the datagram is dropped, and the failure is counted.
   */
  int (*call)(void *user, void **session, const struct resay_message *message, struct resay_out *out);
  /**
   * NULL, or: the session is over. Called once for each begin that returned 0.
   */
  void (*end)(void *user, void *session);
  /**
   * NULL, or: called once, when no chain uses the function any more.
   */
  resay_release release;
} resay_function;

/**
 * A transform that a chain can name. Valid during the call that it is passed to. No pointer is NULL, except where its
 * comment says so.
 */
typedef struct resay_transform_info {
  /**
   * Bytes of this struct that the library knows.
   */
  uint32_t struct_size;
  /**
   * Its promises: RESAY_CAP_ bits.
   */
  uint32_t caps;
  /**
   * Its requirements: RESAY_NEED_ bits.
   */
  uint32_t needs;
  /**
   * RESAY_SHARED, RESAY_PER_WORKER or RESAY_SERIAL.
   */
  uint32_t threading;
  /**
   * The name in a chain; "" if fault is not NULL.
   */
  const char *id;
  /**
   * Its version, or "".
   */
  const char *version;
  /**
   * One line of description, or "".
   */
  const char *summary;
  /**
   * "registered": by this program; "bundled": in the library; else the path of the plugin file.
   */
  const char *origin;
  /**
   * options_count options; NULL if there are none. An option that is required has no fallback: NULL.
   */
  const resay_option *options;
  /**
   * The number of options.
   */
  size_t options_count;
  /**
   * Bytes from one option to the next: sizeof(resay_option) in the library.
   */
  uint32_t option_size;
  /**
   * 0.
   */
  uint32_t zero;
  /**
   * NULL. If a file in a plugin directory cannot be used: the reason.
   */
  const char *fault;
} resay_transform_info;

/**
 * Receives one transform. Called on the calling thread, before the call returns. It may call functions that take an
 * engine, but not free the one that is asked. It must not throw or longjmp.
 */
typedef void (*resay_each_transform)(void *user, const struct resay_transform_info *transform);

/**
 * An option of engines or listeners. Valid as long as the library is loaded. No pointer is NULL.
 */
typedef struct resay_option_info {
  /**
   * Bytes of this struct that the library knows.
   */
  uint32_t struct_size;
  /**
   * RESAY_OPTION_ bits.
   */
  uint32_t flags;
  /**
   * The name.
   */
  const char *key;
  /**
   * What a value is, apart from words such as "auto": "string", "bool", "integer", "size", "duration", "rate", "octal"
   * or "list".
   */
  const char *type;
  /**
   * The unit of a number without one, such as "bytes"; "": there is none, or it must be written, as of a duration.
   */
  const char *unit;
  /**
   * The default, as resay_set accepts it; "": not set.
   */
  const char *fallback;
  /**
   * The least number, of a list the least element, as resay_set accepts it; "": no range.
   */
  const char *min;
  /**
   * The largest.
   */
  const char *max;
  /**
   * One line of help.
   */
  const char *help;
  /**
   * The form of a value with its words, such as "SIZE|auto".
   */
  const char *value;
} resay_option_info;

/**
 * Receives one option. Called on the calling thread, before the call returns. It must not throw or longjmp.
 */
typedef void (*resay_each_option)(void *user, const struct resay_option_info *option);

/**
 * Receives one counter. The name is "transform.counter", valid during the call. Called on the calling thread, before the
 * call returns. It may call functions that take an engine, but not free the one that is asked. It must not throw or
 * longjmp.
 */
typedef void (*resay_each_counter)(void *user, const char *name, uint64_t value);

/**
 * Runs on a thread of the engine's before everything else there. thread is the thread's name, borrowed for the call.
 * resay_function lists the functions that are allowed inside.
 */
typedef void (*resay_thread_begin)(void *user, const char *thread);

/**
 * Runs on a thread of the engine's after everything else there, and after resay_thread_begin.
 */
typedef void (*resay_thread_end)(void *user);

/**
 * The counters of a listener or of a whole engine. The counters of a running engine are read one by one, so they may
 * differ by a few messages.
 */
typedef struct resay_stats {
  /**
   * Set by the caller: sizeof(resay_stats). A library with a smaller struct fills the rest with zeros; a library with a
   * larger struct omits the rest.
   */
  uint32_t struct_size;
  /**
   * Connections open now.
   */
  uint32_t open;
  /**
   * Connections accepted and served.
   */
  uint64_t accepted;
  /**
   * Connections closed, for any reason.
   */
  uint64_t closed;
  /**
   * Messages received. On a raw stream each read counts as one.
   */
  uint64_t messages_in;
  /**
   * Messages whose answers the kernel accepted, or that need no answer. If a send was cut off, none of its messages
   * counts.
   */
  uint64_t messages_out;
  /**
   * Bytes received.
   */
  uint64_t bytes_in;
  /**
   * Bytes that the kernel accepted.
   */
  uint64_t bytes_out;
  /**
   * Messages without an answer, for any reason.
   */
  uint64_t dropped;
  /**
   * Connections refused.
   */
  uint64_t rejected;
  /**
   * Messages or sessions in which a transform failed.
   */
  uint64_t transform_errors;
  /**
   * Failures of accept(2).
   */
  uint64_t accept_errors;
  /**
   * Events lost because a queue was full, of all queues that there are and were; always of the whole engine.
   */
  uint64_t events_lost;
  /**
   * Bytes of answers that were still waiting when their connection closed.
   */
  uint64_t undelivered_bytes;
  /**
   * Bytes received on connections and not answered: of dropped messages, and of input that was unanswered when its
   * connection closed.
   */
  uint64_t dropped_bytes;
  /**
   * How often a turn of a worker or a message with a transform that may block took longer than the option "watchdog";
   * always of the whole engine.
   */
  uint64_t transforms_stuck;
} resay_stats;

/**
 * Receives one line of the log: len bytes of UTF-8, not NUL-terminated, without a line end, borrowed for the call. level is
 * RESAY_LOG_ERROR to RESAY_LOG_TRACE. Any thread may call it, several at once. resay_function lists the calls that
 * are allowed inside. Events that the callback itself causes are not logged.
 */
typedef void (*resay_log_callback)(void *user, int level, const char *utf8, size_t len);

/**
 * An event. Later versions may add kinds and codes.
 */
typedef struct resay_event {
  /**
   * Set by the caller: sizeof(resay_event).
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
   * The connection's number, or 0.
   */
  uint64_t connection;
  /**
   * The cause, or 0: see the kinds.
   */
  int32_t code;
  /**
   * Reserved.
   */
  uint32_t zero;
  /**
   * English text in UTF-8, NUL-terminated, truncated if it is too long. It begins with the peer, if there is one.
   */
  char text[RESAY_EVENT_TEXT_BYTES];
  /**
   * When it happened, in nanoseconds of CLOCK_MONOTONIC.
   */
  uint64_t time_ns;
} resay_event;

/**
 * What a tap keeps. Zeros are the defaults.
 */
typedef struct resay_tap_options {
  /**
   * Set by the caller: sizeof(resay_tap_options).
   */
  uint32_t struct_size;
  /**
   * RESAY_TAP_ANSWERS, or 0.
   */
  uint32_t flags;
  /**
   * One listener; 0: all, also those that are added later.
   */
  resay_id listener;
  /**
   * Memory for records that wait, 4 KiB to 1 GiB; 0: 4 MiB.
   */
  size_t capacity_bytes;
  /**
   * Bytes that are kept of a message, and of an answer, at most; 0, and no more than: a quarter of the capacity.
   */
  size_t data_bytes_max;
} resay_tap_options;

/**
 * A message and what became of it, as known when it was processed. If its answer comes later (RESAY_LATER), there is a
 * record when that has come, or when the message is given up.
 */
typedef struct resay_tap_record {
  /**
   * Counts the records of this tap, from 1, lost ones too: a gap is as many as were lost.
   */
  uint64_t sequence;
  /**
   * When the turn of the worker began in which it was processed, or answered later, in nanoseconds of CLOCK_MONOTONIC, to
   * the microsecond.
   */
  uint64_t time_ns;
  /**
   * The listener.
   */
  resay_id listener;
  /**
   * The connection's number; 0: a datagram.
   */
  uint64_t connection;
  /**
   * RESAY_STREAM, RESAY_DATAGRAM or RESAY_SEQPACKET.
   */
  uint32_t kind;
  /**
   * RESAY_IO_ bits, as transforms see them.
   */
  uint32_t flags;
  /**
   * RESAY_TAP_ANSWERED and so on.
   */
  uint32_t outcome;
  /**
   * RESAY_DROPPED_ or RESAY_CLOSED_, as the outcome says, or 0.
   */
  int32_t reason;
  /**
   * The sender as a struct sockaddr, in buf, aligned to 8 bytes; of a unix peer without a name, the family alone.
   */
  const void *peer;
  /**
   * Its bytes.
   */
  size_t peer_len;
  /**
   * The message as it came, without its frame, in buf. On a raw stream what one read brought; in a layer, what the layer
   * contained.
   */
  const uint8_t *data;
  /**
   * How many bytes of it are there.
   */
  size_t data_len;
  /**
   * With RESAY_TAP_ANSWERS the answer without its frame, in buf; else NULL.
   */
  const uint8_t *answer;
  /**
   * How many bytes of it are there.
   */
  size_t answer_len;
  /**
   * Bytes of the whole message: more than data_len where it was cut.
   */
  uint64_t message_bytes;
  /**
   * Bytes of the whole answer, kept or not.
   */
  uint64_t answer_bytes;
} resay_tap_record;

/**
 * [*] The name of a code in this header, such as "RESAY_E_SPEC", for logs. The string is static. "" for 0 and more, "unknown"
 * for other numbers.
 */
const char *resay_code_name(int code);

/**
 * [*] Describes a code in a few words. The string is static. Unknown codes have a description too.
 */
const char *resay_strerror(int code);

/**
 * [*] The message of this thread's last failure, or "". Valid until this thread's next call that fails.
 */
const char *resay_last_error(void);

/**
 * [*] The version of the library, for example "0.1.0". The string is static.
 */
const char *resay_version(void);

/**
 * [*] The RESAY_ABI of the library.
 */
uint32_t resay_abi(void);

/**
 * [*] Creates an engine without listeners, with the plain echo as its chain. Pass RESAY_ABI as abi. The caller owns
 * *out and frees it with resay_engine_free.
 * Returns 0; RESAY_E_ABI, RESAY_E_ARG (out is NULL) or RESAY_E_SYS, and *out is NULL.
 */
int resay_engine_new(uint32_t abi,
                     struct resay_engine **out,
                     struct resay_error *err);

/**
 * [*] Whether the library has a feature, here and now: 1 or 0. "uring": an engine on threads of its own gets io_uring if it
 * asks for it; this asks the kernel, once a process. "bundled": the bundled transforms are linked in. Unknown
 * features, and NULL, are 0.
 */
int resay_has(const char *feature);

/**
 * [1] Stops an engine, waits for its threads, and frees it with all that belongs to it: listeners, connections,
 * descriptors, transforms. NULL is fine. No other call may be using the engine: threads that were lent to it are back
 * from resay_run, and the program's event loop watches resay_poll_fd no longer. After this no callback runs, and each
 * release has run. Taps and queues of events live for themselves: threads that wait in resay_tap_read or
 * resay_events_next return when all has been taken.
 *
 * In a child of fork() it closes the child's copies of the descriptors, waits for nothing, and leaves the parent's engine
 * as it is. Of an engine of which a callback has ended its thread with pthread_exit inside one of the program's calls, the
 * memory stays, and nothing is waited for.
 * Returns 0; RESAY_E_STATE inside a callback of any engine: nothing has happened, and the engine is still to be freed.
 */
int resay_engine_free(struct resay_engine *engine);

/**
 * [*] Sets an option for listeners that are added later, with the keys and values of URL queries: ("idle_timeout", "30s").
 * More options belong to the engine and can be set until it runs. "threads": the number of threads that the program will
 * lend with resay_run. "backend": auto, epoll or uring; with epoll the engine never calls io_uring_setup(2), for which
 * some seccomp filters kill a process. "spin": the time that a thread busy-polls before it sleeps, for example "60us".
 * "watchdog": how long a turn of a thread or a message with a transform that may block may take before that is an event
 * (RESAY_EVENT_TRANSFORM_STUCK), "10s"; 0: never. A thread of its own looks; for an engine that runs in resay_run there is
 * one only if this was set.
 * Of the engine's own threads, "thread_name": what their names begin with, 1 to 15 bytes, "resay"; "thread_stack": the
 * size of their stacks, "2m"; "thread_cpus": the processors that they may run on, for example "0-3,6", "" those of
 * the thread that calls resay_start.
 * Returns 0; RESAY_E_SPEC: unknown key or bad value, RESAY_E_STATE: the engine has run, RESAY_E_ARG.
 */
int resay_set(struct resay_engine *engine,
              const char *key,
              const char *value,
              struct resay_error *err);

/**
 * [*] Writes the value of an option to buf, NUL-terminated, as resay_set accepts it. If the option was not set, this is the
 * default; of "chain", what resay_chain set for the engine. If need is not NULL, *need becomes the size needed, including the NUL.
 * Returns 0; RESAY_E_FULL: cap is less than that (buf may then be NULL), RESAY_E_SPEC: unknown key, RESAY_E_ARG.
 */
int resay_get(struct resay_engine *engine,
              const char *key,
              char *buf,
              size_t cap,
              size_t *need);

/**
 * [*] Adds a listener and binds it. Peers can connect from now on; the engine serves them while it runs. If out is not
 * NULL, *out becomes the listener's id, or 0 after a failure.
 * Returns 0; RESAY_E_SPEC: bad URL or option, RESAY_E_SYS: the socket cannot be bound, RESAY_E_PLUGIN: bad chain,
 * RESAY_E_STATE: the engine is ending or has ended, RESAY_E_ARG. After a failure nothing is bound.
 */
int resay_listen(struct resay_engine *engine,
                 const char *url,
                 resay_id *out,
                 struct resay_error *err);

/**
 * [*] Adds a listener on a socket that the program opened: TCP, UDP or AF_UNIX, bound, listening or not. own_or_dup is
 * RESAY_FD_OWN or RESAY_FD_DUP. options are "key=value" pairs separated by '&', as in a URL's query, or NULL; errors
 * show them as the URL fd:NUMBER?OPTIONS. The engine
 * makes the socket non-blocking and resets options that would change its answers, which affects its duplicates too, also
 * after the engine's end. The program created the file of a unix socket, so the engine does not remove that file. If out is
 * not NULL, *out becomes the listener's id, or 0 after a failure.
 * Returns 0; RESAY_E_SPEC: bad option, or one that means nothing for this kind of socket, RESAY_E_SYS: not a socket, one without an address, or a connected one,
 * RESAY_E_PLUGIN: bad chain, RESAY_E_STATE: the engine is ending or has ended, RESAY_E_ARG. After a failure the caller owns the descriptor, and the
 * socket is as it was.
 */
int resay_listen_fd(struct resay_engine *engine,
                    int fd,
                    uint32_t own_or_dup,
                    const char *options,
                    resay_id *out,
                    struct resay_error *err);

/**
 * [*] Writes the URL of a listener to buf, with its real port, NUL-terminated. If need is not NULL, *need becomes the
 * size needed, including the NUL.
 * Returns 0; RESAY_E_FULL: cap is less than that (buf may then be NULL), RESAY_E_HANDLE, RESAY_E_ARG.
 */
int resay_listener_url(struct resay_engine *engine,
                       resay_id listener,
                       char *buf,
                       size_t cap,
                       size_t *need);

/**
 * [*] Returns the port of a TCP or UDP listener, 0 for unix sockets; RESAY_E_HANDLE, RESAY_E_ARG.
 */
int resay_listener_port(struct resay_engine *engine, resay_id listener);

/**
 * [*] Closes a listener after it has accepted the connections that wait. When this returns nobody can connect any more. Its
 * connections stay open; the end of the listener ends its resay_listener_pause. The id is stale from now on.
 *
 * Datagrams that have arrived are answered, and when this returns no more are received. Answers that come after that
 * (RESAY_LATER, a delay, a transform that may block) are still sent, from the same address: it is free for another socket when
 * the last one has gone, which RESAY_EVENT_LISTENER_CLOSED tells. The name of a unix socket in the file system is free at once.
 * In the program's own loop, what has arrived is answered with the next turn.
 * Returns 0; RESAY_E_HANDLE, RESAY_E_TIMEOUT: a worker had no turn, or no descriptors, for ten seconds, and closes it with its
 * next one, RESAY_E_STATE: inside any callback, RESAY_E_ARG.
 */
int resay_listener_close(struct resay_engine *engine,
                         resay_id listener);

/**
 * [*] Writes the numbers of the open connections of a listener, or with 0 of all, in the order in which they came, and
 * their number to *count. The functions that take a connection's number make an index of all connections when one of them
 * is called for the first time, which takes one turn of each worker and about 64 bytes a connection from then on. Called
 * before the engine runs, this function takes none, and no later call waits for the index.
 * Returns 0; RESAY_E_FULL: there are more than cap; the first cap are written, and ids may be NULL if cap is 0,
 * RESAY_E_HANDLE, RESAY_E_TIMEOUT: a worker had no turn for ten seconds, RESAY_E_STATE: inside a callback of any engine while
 * there is no index, which would have to be waited for, RESAY_E_ARG.
 */
int resay_connections(struct resay_engine *engine,
                      resay_id listener_or_0,
                      uint64_t *ids,
                      size_t cap,
                      size_t *count);

/**
 * [*] Fills *out with what a connection is now. out->struct_size is sizeof *out. Waits for a turn of the worker that serves
 * it.
 * Returns 0; RESAY_E_HANDLE: it is closed, RESAY_E_TIMEOUT: its worker had no turn for ten seconds, RESAY_E_STATE: inside any
 * callback, RESAY_E_ARG: out is NULL, or its struct_size is not set.
 */
int resay_connection_get(struct resay_engine *engine,
                         uint64_t connection,
                         struct resay_connection *out);

/**
 * [*] Sends data to a peer that has not asked: the next bytes of a stream, as they are and without a frame, or one record,
 * which may be empty. They leave after the answers to all messages received before, also after delayed ones and those that
 * are still to come (RESAY_LATER), and count as activity for idle_timeout. data is copied.
 *
 * This and the next five functions do not wait: the worker that serves the connection acts in its next turn, in the order of
 * the calls; call resay_sync to be sure that it has. While a transform with RESAY_MAY_BLOCK has a message of the connection,
 * they wait for that, apart from resay_connection_reset.
 * Returns 0; RESAY_E_FULL, and nothing is sent: high_water bytes that the program sent wait for the peer to read, each send
 * counting 64 more, or a record is longer than max_message, or there is no memory for a copy; RESAY_E_HANDLE: the connection is
 * closed, or of another engine, RESAY_E_STATE: the connection is ending, since the program has called
 * resay_connection_shutdown, _close or _reset, or since our side has sent FIN; or, as RESAY_E_TIMEOUT, only from the first call
 * (see resay_connections); RESAY_E_ARG. A connection that begins to end before the next turn loses the data;
 * resay_stats.undelivered_bytes counts those that it had taken.
 */
int resay_connection_send(struct resay_engine *engine,
                          uint64_t connection,
                          const void *data,
                          size_t len);

/**
 * [*] Ends a connection in good order: answers everything that has arrived, sends FIN, and closes the connection when the
 * peer has sent FIN too, or after two seconds. Its reason is RESAY_CLOSED_BY_HOST. A paused connection is read for that.
 * Returns as resay_connection_send does, but 0 for a connection that is ending: so do the next four functions.
 */
int resay_connection_shutdown(struct resay_engine *engine,
                              uint64_t connection);

/**
 * [*] Closes a connection: drops what has arrived and is not answered, also messages that are to be answered later
 * (RESAY_LATER), sends what waits, then FIN, like RESAY_CLOSE of a transform.
 * Returns as resay_connection_send does.
 */
int resay_connection_close(struct resay_engine *engine,
                           uint64_t connection);

/**
 * [*] Ends a connection at once: TCP peers receive RST, and everything that waits is lost.
 * Returns as resay_connection_send does.
 */
int resay_connection_reset(struct resay_engine *engine, uint64_t connection);

/**
 * [*] Stops reading a connection until resay_connection_resume: its peer's bytes stay in the kernel, whose buffers fill. What
 * was read is answered, and resay_connection_send works. Meanwhile idle_timeout and min_rate do not count the peer's
 * silence; write_timeout does count. FIN and RST of the peer are noticed at the latest when a send fails or reading goes on.
 * Returns as resay_connection_send does.
 */
int resay_connection_pause(struct resay_engine *engine,
                           uint64_t connection);

/**
 * [*] Reads a connection again, unless its listener is paused. The time of idle_timeout begins anew.
 * Returns as resay_connection_send does.
 */
int resay_connection_resume(struct resay_engine *engine, uint64_t connection);

/**
 * [*] Stops reading all connections of a listener, also those that it accepts from now on, and its datagrams, of which the
 * kernel keeps what fits its buffer. Does not wait: each worker acts in its next turn. Connections are still accepted.
 * Returns 0; RESAY_E_HANDLE, RESAY_E_ARG.
 */
int resay_listener_pause(struct resay_engine *engine,
                         resay_id listener);

/**
 * [*] Ends resay_listener_pause, but not resay_connection_pause.
 * Returns 0; RESAY_E_HANDLE, RESAY_E_ARG.
 */
int resay_listener_resume(struct resay_engine *engine, resay_id listener);

/**
 * [*] Resets all connections of a listener, as resay_connection_reset does, and returns how many there were. Connections that
 * wait to be accepted are not among them. It is done when this returns; in the program's own loop, with the next turn.
 * Errors: RESAY_E_HANDLE, RESAY_E_TIMEOUT: a worker had no turn for ten seconds, RESAY_E_STATE: inside any callback,
 * RESAY_E_ARG.
 */
int resay_listener_reset(struct resay_engine *engine,
                         resay_id listener);

/**
 * [*] on 0: refuses new peers and keeps the address: connects fail with ECONNREFUSED, UDP datagrams are answered with ICMP "port
 * unreachable". Connections that wait to be accepted, and datagrams that have arrived, are still served; open connections
 * stay. on 1: takes peers again. It is in effect when this returns. The file of a unix socket stays; when it takes peers
 * again a new file takes its place, so for a moment there is none. A unix datagram socket is closed until then; answers that
 * it still owes are sent, those that it owes when it takes peers again are dropped.
 * Returns 0, also if nothing changes; RESAY_E_STATE: the engine does not serve yet, the socket came from resay_listen_fd, fd:
 * or systemd: and others may have it, or it is an abstract unix datagram socket, whose name nobody could keep, or inside any
 * callback; RESAY_E_SYS: the address could not be taken again, and nothing changed, RESAY_E_TIMEOUT: a worker had no turn
 * for ten seconds, and acts with its next one, RESAY_E_HANDLE, RESAY_E_ARG.
 */
int resay_listener_accept(struct resay_engine *engine,
                          resay_id listener,
                          int on);

/**
 * [*] Waits until every worker has made a whole turn since this was called: it has done what calls before this one asked of
 * it, emitted its events, and answers through the chain that was set. Waits at most timeout_ms milliseconds; -1: without a
 * limit.
 * Returns 0, also once the engine has ended; RESAY_E_TIMEOUT, RESAY_E_STATE: the engine has not run yet, or it is the calling
 * thread that runs it with resay_run (which makes a turn), or inside any callback, RESAY_E_ARG.
 */
int resay_sync(struct resay_engine *engine,
               int32_t timeout_ms);

/**
 * [*] Fills *out with the address that a listener is bound to, with its real port.
 * Returns 0; RESAY_E_HANDLE, RESAY_E_ARG.
 */
int resay_listener_address(struct resay_engine *engine, resay_id listener, struct resay_address *out);

/**
 * [*] Writes the chain of a listener, or with 0 that of the engine, to buf, NUL-terminated, as resay_chain accepts it; "" is
 * the plain echo. If need is not NULL, *need becomes the size needed, including the NUL.
 * Returns 0; RESAY_E_FULL: cap is less than that (buf may then be NULL), RESAY_E_HANDLE, RESAY_E_ARG.
 */
int resay_listener_chain(struct resay_engine *engine,
                         resay_id listener_or_0,
                         char *buf,
                         size_t cap,
                         size_t *need);

/**
 * [*] Writes an option of a listener as it holds to buf, NUL-terminated; its default, if it means nothing for the listener's
 * kind of socket. Options of the socket are as the kernel reported them when it was bound: rcvbuf and sndbuf are twice what
 * was set, for example. If need is not NULL, *need becomes the size needed, including the NUL.
 * Returns 0; RESAY_E_FULL: cap is less than that (buf may then be NULL), RESAY_E_SPEC: unknown key, RESAY_E_HANDLE,
 * RESAY_E_ARG.
 */
int resay_listener_option(struct resay_engine *engine,
                          resay_id listener,
                          const char *key,
                          char *buf,
                          size_t cap,
                          size_t *need);

/**
 * [in a callback] Appends len bytes to the answer.
 * Returns 0; RESAY_E_FULL: the answer would exceed the limit, 16 times max_message, or there is no memory for it, and the
 * message fails; RESAY_E_ARG:
 * data is NULL and len is not 0, or data points into memory from resay_out_reserve; RESAY_E_STATE: out does not belong to
 * the callback that is running on this thread.
 */
int resay_out_write(struct resay_out *out,
                    const void *data,
                    size_t len);

/**
 * [in a callback] Returns memory for cap more bytes, writable until the next call with the same out. resay_out_commit
 * appends the first bytes of it to the answer. Returns NULL if the answer would exceed the limit or there is no memory for
 * it, and the message fails;
 * or if out does not belong to the callback that is running on this thread.
 */
void *resay_out_reserve(struct resay_out *out,
                        size_t cap);

/**
 * [in a callback] Appends the first len bytes of the last reserved memory to the answer.
 * Returns 0; RESAY_E_STATE: fewer bytes were reserved, and the message fails; or out does not belong to the callback that
 * is running on this thread.
 */
int resay_out_commit(struct resay_out *out,
                     size_t len);

/**
 * [in a callback] Holds the answer back for at least this long, from now. Answers of a stream keep their order, so those
 * behind it wait too.
 * Returns 0; RESAY_E_STATE: out does not belong to the callback that is running on this thread.
 */
int resay_out_delay(struct resay_out *out,
                    uint64_t microseconds);

/**
 * [in a callback] Writes the address of the peer, and the local address: the one that the listener is bound to, which may be
 * a wildcard. Both may be NULL.
 * Returns 0; RESAY_E_STATE: out does not belong to the callback that is running on this thread.
 */
int resay_out_peer(struct resay_out *out,
                   struct resay_address *peer,
                   struct resay_address *local);

/**
 * [in a callback] Returns a token with which resay_answer answers this message later; then return RESAY_LATER. If the
 * function returns anything else, the token is void. A second call returns the same token. A token is never reused, and
 * never that of another engine.
 *
 * 0: not possible here: in begin, in a dry run, in a chain with a transform that may block, on a raw stream in a chain with a
 * plugin that makes output of its own, or while 1,024 datagrams of the socket wait; or out does not belong to the
 * callback that is running on this thread. A connection reads no more while 1,024 such messages wait, or what they take of
 * memory reaches high_water, until half of that is answered.
 */
uint64_t resay_later(struct resay_out *out);

/**
 * [*] Answers a message for which a function returned RESAY_LATER, once, on any thread, also inside a callback. verdict is
 * RESAY_REPLACE: data is the answer; RESAY_CLOSE: the same, then the connection is closed; RESAY_DROP, RESAY_RESET, or an
 * error such as RESAY_E_DATA, as from the function; data is not used then. The answer passes through the rest of the chain.
 * Answers of a connection leave in the order of its messages, so this one may wait for earlier ones.
 * Returns 0: the answer is handed over; RESAY_E_HANDLE: nothing waits for this answer, or not any more: it was answered, its
 * connection has closed, or the engine has ended; RESAY_E_FULL: the answer is longer than 16 times max_message, or there is no
 * memory for it, or more than high_water bytes of answers of this connection wait for earlier ones, and the token remains
 * valid; RESAY_E_ARG: another verdict, or data is NULL and len is not 0.
 */
int resay_answer(struct resay_engine *engine,
                 uint64_t token,
                 int verdict,
                 const void *data,
                 size_t len);

/**
 * [*] Loads a plugin file. Chains that are set from now on find its transforms by name. If the file has changed since, a
 * second call loads the new contents; existing chains keep the old ones. A library is never unloaded. Replace a file by
 * rename(2), never by writing into it: it is mapped into the process. The file and all directories above it must belong
 * to root or to the effective user, and nobody else may write to them; RESAY_PLUGIN_OWNERS=1000 names others to trust.
 * Returns the number of transforms in the file; RESAY_E_PLUGIN: the file cannot be used, or the program has registered a
 * transform with the same name, RESAY_E_ARG.
 */
int resay_load(struct resay_engine *engine,
               const char *path,
               struct resay_error *err);

/**
 * [*] Registers a transform of the program, with a table as in a plugin. The table, and everything that it points to, must
 * stay unchanged until the engine is freed. Chains that are set from now on find the transform by its id, before bundled
 * transforms. A transform that was registered with this id before is replaced: chains that use it keep it.
 * Returns 0; RESAY_E_PLUGIN: the table is invalid, RESAY_E_ARG.
 */
int resay_register(struct resay_engine *engine,
                   const resay_transform *table,
                   struct resay_error *err);

/**
 * [*] Registers a function of the program as a transform: see resay_function. It has no options. Chains that are set from
 * now on find it by its id, before bundled transforms. A transform that was registered with this id before is replaced:
 * chains that use it keep it.
 *
 * If release is not NULL, it is called with user exactly once: when no chain uses the function any more, at the latest in
 * resay_engine_free. It may be called on any thread, also inside this or another call. If this call fails for any reason,
 * release is called before the call returns, unless function is NULL or its struct_size is invalid.
 * Returns 0; RESAY_E_PLUGIN: the id is not a name ([a-z0-9][a-z0-9._-]*), RESAY_E_ARG.
 */
int resay_register_function(struct resay_engine *engine,
                            const char *id,
                            const struct resay_function *function,
                            struct resay_error *err);

/**
 * [*] Removes a transform that was registered with resay_register or resay_register_function: chains that are set from now on
 * do not find it. Chains that use it keep it.
 * Returns 0; RESAY_E_HANDLE: no registered transform has this id, RESAY_E_ARG.
 */
int resay_unregister(struct resay_engine *engine,
                     const char *id);

/**
 * [*] Returns the id of the transform whose code is running on this thread, or NULL. The string stays valid. This function is
 * async-signal-safe: a handler of SIGSEGV can name the plugin that crashed.
 */
const char *resay_running_transform(void);

/**
 * [*] Replaces a chain, at any time, also while messages flow. listener_or_0 is a listener, or 0 for the engine's chain,
 * which every listener without a chain of its own uses. "" is the plain echo. Each worker takes the new chain at its next
 * turn; no message passes through both. After a failure nothing has changed.
 * Returns 0; RESAY_E_SPEC: the chain cannot be parsed, RESAY_E_PLUGIN: a transform is unknown or refuses its options,
 * RESAY_E_STATE: the engine has ended, RESAY_E_HANDLE, RESAY_E_ARG.
 */
int resay_chain(struct resay_engine *engine,
                resay_id listener_or_0,
                const char *spec,
                struct resay_error *err);

/**
 * [*] Creates the transforms of a chain, and opens one conversation as on a socket of this kind: "tcp", "udp", "unix",
 * "unix-dgram" or "unix-seqpacket". frame is the framing of a stream, such as "lines", or NULL for none; other kinds have none.
 * With an engine, its registered transforms and loaded plugins are found; without, those that the command would find. The
 * caller owns *out and frees it with resay_dry_run_free, before it frees the engine.
 * Returns 0; RESAY_E_SPEC: the chain, kind or frame cannot be parsed, or a kind that has no frames is to have some,
 * RESAY_E_PLUGIN: a transform is unknown or refuses its options, or the connection; RESAY_E_ARG. *out is NULL then.
 */
int resay_dry_run_new(struct resay_engine *engine_or_null,
                      const char *chain,
                      const char *kind,
                      const char *frame,
                      struct resay_dry_run **out,
                      struct resay_error *err);

/**
 * [1] Runs one message, without a frame, through the chain. Delays are not waited for. The answer, without a frame, goes to
 * buf; *need becomes its length, if need is not NULL.
 * Returns RESAY_REPLACE: there is an answer; RESAY_CLOSE: an answer, perhaps an empty one, then the connection is closed;
 * RESAY_DROP: no answer; RESAY_RESET; RESAY_E_FULL: cap is less than *need. The next call then returns this answer, whatever
 * its data. RESAY_E_PLUGIN: the transform failed; RESAY_E_STATE: inside a function of this dry run; RESAY_E_ARG.
 */
int resay_dry_run_process(struct resay_dry_run *dry_run,
                          const void *data,
                          size_t len,
                          void *buf,
                          size_t cap,
                          size_t *need);

/**
 * [1] Ends the conversation and frees the dry run. NULL is fine.
 * Returns 0; RESAY_E_STATE: inside a function of this dry run, and nothing has happened.
 */
int resay_dry_run_free(struct resay_dry_run *dry_run);

/**
 * [*] Adds a directory with plugins: chains that are set from now on find them by name. It is searched after directories
 * that were added before, and before those of RESAY_PLUGIN_PATH and the installed ones. A relative path is taken from the
 * working directory of now.
 * Returns 0; RESAY_E_SYS: it is no directory, RESAY_E_ARG.
 */
int resay_plugin_dir(struct resay_engine *engine,
                     const char *directory,
                     struct resay_error *err);

/**
 * [*] Calls each for every transform that a chain of the engine can name; with NULL as the engine, of an engine that is
 * new. This loads the plugins in the plugin directories. Files there that cannot be used are passed to each after all
 * transforms, with the reason as fault; libraries that are no plugins are not.
 * Returns the number of transforms; RESAY_E_ARG: each is NULL.
 */
int resay_transforms(struct resay_engine *engine_or_null,
                     resay_each_transform each,
                     void *user,
                     struct resay_error *err);

/**
 * [*] Calls each for every option that resay_set knows: first those of engines, then those of listeners, which URLs take too.
 * Returns their number; RESAY_E_ARG: each is NULL.
 */
int resay_options(resay_each_option each,
                  void *user);

/**
 * [*] Calls each for every counter that the engine's transforms keep. Counters of chains that were replaced stay.
 * Returns their number; RESAY_E_ARG: each is NULL.
 */
int resay_counters(struct resay_engine *engine,
                   resay_each_counter each,
                   void *user);

/**
 * [*] Starts this number of threads of the engine, which block all signals, and returns when every listener is served.
 * Returns 0; RESAY_E_STATE: the engine has run before, or was stopped, RESAY_E_SPEC: threads is not 1 to 256, RESAY_E_SYS,
 * RESAY_E_PLUGIN: a transform cannot be created again for another thread, RESAY_E_ARG. After a failure nothing has changed:
 * the listeners are bound as before, and another start may succeed, for example with fewer threads.
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
 * [*] Returns a descriptor for the program's own event loop: when it is readable, call resay_run(engine, 0). It becomes
 * readable for deadlines too. The engine owns the descriptor: do not read, write or close it, and remove it from the loop
 * before resay_engine_free.
 * Errors: RESAY_E_STATE: the engine runs on its own threads, or was set to several threads, RESAY_E_SYS, RESAY_E_ARG.
 */
int resay_poll_fd(struct resay_engine *engine);

/**
 * [*] Returns the time in milliseconds, rounded up, after which resay_poll_fd becomes readable by itself; -1: it does not. A
 * loop that watches the descriptor need not ask. Errors: RESAY_E_ARG.
 */
int32_t resay_poll_timeout(struct resay_engine *engine);

/**
 * [*] Stops the engine at once and returns without waiting; resay_join waits. It is async-signal-safe: of all functions,
 * a signal handler may call only this one and resay_running_transform.
 * Returns 0; RESAY_E_STATE inside a callback, where it has no effect. The exception is a thread that the program lent, or
 * that is inside a call of the program: there the call may come from a signal handler, so the engine stops although the
 * result is RESAY_E_STATE. RESAY_E_FORKED, RESAY_E_ARG.
 */
int resay_stop(struct resay_engine *engine);

/**
 * [*] Stops listening, answers all that has arrived, closes the connections, and waits for that, at most timeout_ms
 * milliseconds; -1: without a limit. Connections that are open then are cut off and counted, which takes at most 250
 * milliseconds more. An engine that runs on lent threads, or in the program's loop, only begins with it: go on calling
 * resay_run until it is 0. An engine that never ran answers nothing: connections that wait are reset. From this call on
 * nothing is started or listened on any more.
 * 0; RESAY_E_TIMEOUT: a callback or transform did not return in that time; the engine still ends when it does,
 * RESAY_E_ARG.
 */
int resay_drain(struct resay_engine *engine,
                int32_t timeout_ms);

/**
 * [*] Waits until the engine has ended, which takes a resay_stop or a resay_drain, at most timeout_ms milliseconds; -1:
 * without a limit. An engine that never ran has ended then, and workers of a stopped engine that no thread was lent for end
 * here. When this returns 0 all threads of the engine are gone, also those of
 * transforms that may block.
 * 0; RESAY_E_TIMEOUT, RESAY_E_ARG.
 */
int resay_join(struct resay_engine *engine,
               int32_t timeout_ms);

/**
 * [*] Sets what runs at the beginning and at the end of every thread of the engine's: those of resay_start, of the pool for
 * transforms that may block, and helpers that live for a single system call. Either may be NULL. A thread that
 * begins also ends, before resay_join returns 0, and at the latest in resay_engine_free: the place to attach a thread to an
 * interpreter, and to detach it. Threads that the program lends have no hooks.
 *
 * The hooks take the place of those before. release is called with user exactly once.
 * Returns 0; RESAY_E_STATE: the engine has run, RESAY_E_ARG.
 */
int resay_thread_hooks(struct resay_engine *engine,
                       resay_thread_begin begin,
                       resay_thread_end end,
                       void *user,
                       resay_release release);

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
 * [*] Opens a queue that keeps events from now on: kinds are RESAY_EVENT_ bits. At most capacity of them wait, 1 to 65536.
 * Events that find the queue full are counted (resay_events_lost, and resay_stats.events_lost for all queues) and lost:
 * nothing ever waits for room. An engine may have several queues. The caller owns *out and closes it with
 * resay_events_close.
 * Returns 0; RESAY_E_SPEC: capacity is out of range, RESAY_E_STATE: the engine has ended, RESAY_E_SYS, RESAY_E_ARG: out is
 * NULL; and *out is NULL.
 */
int resay_events_open(struct resay_engine *engine,
                      uint32_t kinds,
                      uint32_t capacity,
                      struct resay_events **out,
                      struct resay_error *err);

/**
 * [*] A descriptor that is readable while events wait, for the program's own loop: then call resay_events_next until it
 * returns 0. Once the engine has ended it stays readable. It belongs to the queue: do not read, write or close it, and
 * take it out of the loop before resay_events_close.
 * Returns the descriptor; RESAY_E_FORKED, RESAY_E_ARG.
 */
int resay_events_fd(const struct resay_events *events);

/**
 * [*] Takes the first event that waits, or waits for one: 0 not at all, -1 until the engine has ended, else timeout_ms
 * milliseconds. event->struct_size is sizeof *event. Of several threads that call it, each event goes to one.
 * Returns 1: *event is filled; 0: there was none in that time; RESAY_E_STATE: the engine has ended and all were taken, or
 * it would wait inside a callback; RESAY_E_INTR: interrupted by a signal, RESAY_E_FORKED, RESAY_E_ARG: event is NULL, or
 * its struct_size is not set.
 */
int resay_events_next(struct resay_events *events,
                      struct resay_event *event,
                      int32_t timeout_ms);

/**
 * [*] How many events have found this queue full. NULL: 0.
 */
uint64_t resay_events_lost(const struct resay_events *events);

/**
 * [1] Closes a queue, before resay_engine_free or after it. NULL is fine. No thread waits in resay_events_next, and no
 * loop watches resay_events_fd. In a child of fork() it closes the child's copy of the descriptor and nothing else.
 * Returns 0.
 */
int resay_events_close(struct resay_events *events);

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
 * [*] The name of a RESAY_CLOSED_ reason in snake_case, such as "idle_timeout": it is the same in all versions. Static; ""
 * for 0, "unknown" for other numbers.
 */
const char *resay_close_reason_name(int reason);

/**
 * [*] The name of a RESAY_DROPPED_ reason in snake_case, such as "unnamed": it is the same in all versions. Static; "" for
 * 0, "unknown" for other numbers.
 */
const char *resay_drop_reason_name(int reason);

/**
 * [*] Opens a tap: from now on there is a record of each message that the engine receives and of what became of it,
 * messages included that no transform sees. The record is written before the answer is handed to the kernel, so a
 * client that has read an answer finds the record of its message. A record that finds no room is counted and lost; nothing ever waits for
 * room. Several taps may be open, and be opened and closed while messages flow. Prefaces, greetings of transforms, and
 * what a layer says for its own sake are no messages. options NULL: the defaults. The caller owns *out and closes it with
 * resay_tap_close.
 * Returns 0; RESAY_E_HANDLE: no such listener, RESAY_E_SPEC: capacity_bytes is out of range, RESAY_E_STATE: the engine has
 * ended, RESAY_E_SYS, RESAY_E_ARG: out is NULL, or struct_size or flags are invalid; and *out is NULL.
 */
int resay_tap_open(struct resay_engine *engine,
                   const struct resay_tap_options *options,
                   struct resay_tap **out,
                   struct resay_error *err);

/**
 * [*] A descriptor that is readable while records wait, at the latest when the worker's turn ends that wrote them, for the
 * program's own loop: then call resay_tap_read until it returns 0. Once the engine has ended it stays readable. It belongs
 * to the tap: do not read, write or close it, and take it out of the loop before resay_tap_close.
 * Returns the descriptor; RESAY_E_FORKED, RESAY_E_ARG.
 */
int resay_tap_fd(const struct resay_tap *tap);

/**
 * [*] Reads the records that wait, at most count, into records, whose bytes go into buf, cap bytes; record_size is
 * sizeof(resay_tap_record). Waits for the first one: 0 not at all, -1 until the engine has ended, else timeout_ms
 * milliseconds. Takes many at once: while records keep coming, a call that waits first sleeps for up to a millisecond. Of
 * several threads that call it, each record goes to one.
 * Returns the number of records; 0: there was none in that time; RESAY_E_FULL: buf is too small for the next one, and
 * records[0] says what it has, with its lengths and without its bytes; RESAY_E_STATE: the engine has ended and all were
 * read, or it would wait inside a callback; RESAY_E_SYS (ENOMEM): there is no memory for the next one, which waits;
 * RESAY_E_INTR: interrupted by a signal, RESAY_E_FORKED, RESAY_E_ARG.
 */
int resay_tap_read(struct resay_tap *tap,
                   struct resay_tap_record *records,
                   size_t record_size,
                   size_t count,
                   void *buf,
                   size_t cap,
                   int32_t timeout_ms);

/**
 * [*] How many records have found no room. NULL: 0.
 */
uint64_t resay_tap_lost(const struct resay_tap *tap);

/**
 * [1] Closes a tap, before resay_engine_free or after it; what nobody has read is gone. NULL is fine. No thread waits in
 * resay_tap_read, and no loop watches resay_tap_fd. In a child of fork() it closes the child's copy of the descriptor and
 * nothing else.
 * Returns 0.
 */
int resay_tap_close(struct resay_tap *tap);

/**
 * [*] The name of a RESAY_TAP_ outcome in snake_case, such as "answered": it is the same in all versions. Static; "unknown"
 * for other numbers.
 */
const char *resay_tap_outcome_name(uint32_t outcome);

/**
 * [*] The name of a kind of socket, RESAY_STREAM and so on: "stream", "datagram", "seqpacket". Static; "unknown" for other
 * numbers.
 */
const char *resay_kind_name(uint32_t kind);

/**
 * [*] Connects to a URL, at most timeout_ms milliseconds; -1: without a limit. Datagram sockets are connected too,
 * so answers of others are not received. The caller owns *out and frees it with resay_client_free.
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
 * [*] Half-closes the connection: sends FIN. The client can still receive answers, and then the end.
 * Returns 0; RESAY_E_SYS, RESAY_E_ARG.
 */
int resay_client_shutdown(struct resay_client *client);

/**
 * [*] The descriptor of a client's socket, for the program's own loop: when it is readable, call resay_client_recv with a
 * timeout of 0. It belongs to the client: do not close it, and take it out of the loop before resay_client_free. The
 * socket stays the same for the client's whole life, and is blocking.
 * Errors: RESAY_E_ARG.
 */
int resay_client_fd(const struct resay_client *client);

/**
 * [1] Closes a client and frees it. NULL is allowed. No other call may be using it.
 */
void resay_client_free(struct resay_client *client);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* RESAY_H */

//! The limits that no option changes, in one place, and what must hold between them.

use std::time::Duration;

/// Bytes that one read of a stream may bring. More than 64 KiB, so that a 64 KiB message is a short read and
/// needs no second call to learn that the socket is empty.
pub(crate) const READ_BYTES_MAX: usize = 128 * 1024;
/// Free bytes in front of what a driver lends, so that an unfinished tail can be put there.
pub(crate) const HEADROOM_BYTES: usize = 4 * 1024;
/// The longest seqpacket record and unix datagram, where `max_message` does not say.
pub(crate) const UNIX_RECORD_BYTES_MAX: usize = 256 * 1024;
/// The longest UDP datagram: the length field of its header has 16 bits (RFC 768).
pub(crate) const UDP_DATAGRAM_BYTES_MAX: usize = 65_535;
/// The longest message of a framed stream, where `max_message` does not say.
pub(crate) const STREAM_MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// What `max_message` may be raised to.
pub(crate) const MESSAGE_BYTES_CEILING: usize = 1024 * 1024 * 1024;

/// Faults of Resay itself that each worker emits as events; from then on one whenever their number has doubled.
pub(crate) const BUG_EVENTS: u64 = 16;

/// A line of the log that peers can cause is emitted once in this time for each listener and reason; what a transform logs
/// while it works, so many times.
pub(crate) const PEER_LINE_PERIOD: Duration = Duration::from_secs(10);
pub(crate) const TRANSFORM_LINES_MAX: u64 = 100;

/// Datagrams that one system call may bring.
pub(crate) const DATAGRAM_BATCH: usize = 32;
/// Memory for them, of which only what is used is touched; one datagram always has a place.
pub(crate) const DATAGRAM_BATCH_BYTES: usize = 64 * 1024 * 1024;
/// What one waiting answer counts towards the high water beside its bytes, whatever it holds.
pub(crate) const QUEUED_SEND_BYTES: usize = 64;
/// How many more times an answer to a datagram is sent, whatever a transform wants.
pub(crate) const DATAGRAM_COPIES_MAX: u32 = 8;
/// Unix sockets of the system that are looked at when it is to be found who has not read what.
pub(crate) const UNIX_QUEUES_MAX: usize = 4096;
/// What a filter may make of one read, or of one answer, beyond twice its bytes: a record that it has kept, a flight of a
/// handshake.
pub(crate) const FILTER_OUT_BYTES: usize = 128 * 1024;
/// What a filter tells of a connection; more is left out. Some names of a certificate, and the rest of what TLS knows.
pub(crate) const FILTER_FACTS_BYTES_MAX: usize = 2048;
/// Delayed answers of one datagram socket, and their bytes.
pub(crate) const DELAYED_DATAGRAMS_MAX: usize = 64 * 1024;
pub(crate) const DELAYED_DATAGRAM_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long an address that is in use is tried again, and how often.
pub(crate) const BIND_PATIENCE: Duration = Duration::from_millis(250);
pub(crate) const BIND_AGAIN: Duration = Duration::from_millis(5);
/// How long the lock is waited for under which the file of a server that is gone is removed, and how often it is tried.
pub(crate) const LOCK_PATIENCE: Duration = Duration::from_secs(2);
pub(crate) const LOCK_AGAIN: Duration = Duration::from_millis(5);
/// Names that are tried for a file which is about to be removed.
pub(crate) const PRIVATE_NAMES_MAX: usize = 16;
/// Connections that one listener may bring in a turn, before the others are served again.
pub(crate) const ACCEPT_BURST: u32 = 64;
/// Connections in a row that may fail as accept(2) brings them, before their listener rests.
pub(crate) const ACCEPT_FAILURES_MAX: u32 = 16;
/// How long a listener rests when descriptors or memory have run out.
pub(crate) const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// How long a connection that we closed is read on, so that what the peer still sends does not turn our last
/// answers into a reset.
pub(crate) const LINGER: Duration = Duration::from_secs(2);

/// The same while the engine drains, when nobody should have to wait for a client that does not end.
pub(crate) const LINGER_DRAINING: Duration = Duration::from_millis(500);

/// What a worker's io_uring has: requests that are queued for one call, completions, and buffers to receive into, of
/// which only those are touched that a turn has needed. The headroom makes their distance no power of two.
pub(crate) const RING_REQUESTS: u32 = 1024;
pub(crate) const RING_COMPLETIONS: u32 = 4 * RING_REQUESTS;
pub(crate) const RING_BUFFERS_MAX: usize = 1024;
pub(crate) const RING_BUFFERS_AT_FIRST: usize = 8;
pub(crate) const RING_BUFFER_BYTES: usize = 64 * 1024;
pub(crate) const RING_TOUCHED_BYTES: usize = 2 * 1024 * 1024;
pub(crate) const RING_HEADROOM_BYTES: usize = 256;
/// Buffers whose bytes may wait in them for peers to read; what is more is copied.
pub(crate) const RING_KEPT_MAX: usize = 32;
/// The same for datagrams and records, which each take one buffer, with a head in front of them.
pub(crate) const RING_MESSAGE_BUFFERS_MAX: usize = 256;
pub(crate) const RING_MESSAGE_BUFFER_BYTES: usize = UNIX_RECORD_BYTES_MAX + 1024;
/// Streams of a worker that are left to readiness where nobody has asked for io_uring: with one, an answer costs
/// 7 % less that way, with four as much, and from there on the ring is the cheaper one.
pub(crate) const EPOLL_STREAMS_MAX: usize = 4;

/// Memory that a worker keeps for reuse, and the largest buffer that it keeps.
pub(crate) const POOL_BYTES_MAX: usize = 4 * 1024 * 1024;
pub(crate) const POOL_BUFFER_BYTES_MAX: usize = 2 * READ_BYTES_MAX;

/// What one connection may do in a turn, before the others have theirs: messages, bytes of answers, and sends. What it has
/// read beyond that waits for its next turn.
pub(crate) const TURN_MESSAGES: usize = 2048;
/// The same where the chain makes answers anew, which takes several times as long.
pub(crate) const TURN_MESSAGES_MADE: usize = 512;
pub(crate) const TURN_ANSWER_BYTES: usize = READ_BYTES_MAX;
pub(crate) const TURN_SENDS: usize = 64;
/// Bytes that peers who send faster than they are read bring in a turn, before all others have theirs.
pub(crate) const TURN_FLOOD_BYTES: usize = 2 * READ_BYTES_MAX;
/// Deadlines that are looked at later than this, because the process was stopped or a transform took long, wait until those
/// have been heard who have sent something meanwhile; for so many turns at most, since some send all the time.
pub(crate) const LATE: Duration = Duration::from_millis(50);
pub(crate) const LATE_TURNS_MAX: u32 = 64;
/// Connections that go on with unread input in a turn: between them, whoever has just sent something has a turn.
pub(crate) const TURN_CONTINUED: usize = 2;
/// What one call of a streaming transform is given room for, unless it asks for more.
pub(crate) const STREAM_CHUNK_BYTES: usize = 64 * 1024;

/// Memory between two transforms that a worker keeps for its next turn.
pub(crate) const SCRATCH_BYTES_MAX: usize = 2 * READ_BYTES_MAX;

/// Threads for transforms that may block: for each chain, and in all. As many again may destroy what transforms leave. How long
/// they are waited for at the end.
pub(crate) const OFFLOAD_THREADS: usize = 4;
pub(crate) const OFFLOAD_THREADS_MAX: usize = 64;
pub(crate) const OFFLOAD_END: Duration = Duration::from_secs(1);
/// How much longer than whoever waits for the end has said, where no transform has run for so long.
pub(crate) const OFFLOAD_GRACE: Duration = Duration::from_millis(250);
/// Messages of one chain that may wait for them.
pub(crate) const OFFLOAD_QUEUE_MAX: usize = 4096;
/// How often a connection whose message is with them is looked at: whether its peer is still there.
pub(crate) const OFFLOAD_LOOK: Duration = Duration::from_secs(1);
/// How long a turn of a worker, or a message with those threads, may take before that is logged: the default, the least and
/// the most. It is looked at four times in that time, and not more rarely than every so often.
pub(crate) const WATCHDOG_DEFAULT: Duration = Duration::from_secs(10);
pub(crate) const WATCHDOG_MIN: Duration = Duration::from_millis(10);
pub(crate) const WATCHDOG_MAX: Duration = Duration::from_secs(24 * 60 * 60);
pub(crate) const WATCHDOG_LOOK: Duration = Duration::from_secs(1);
const _: () = assert!(WATCHDOG_MIN.as_micros() <= WATCHDOG_DEFAULT.as_micros());
/// Turns of a worker until transforms are timed again.
pub(crate) const UNTIMED_TURNS: u32 = 64;
/// Datagrams of one socket that may be with those threads.
pub(crate) const OFFLOADED_DATAGRAMS_MAX: usize = 1024;

/// Messages of one connection, and datagrams of one socket, whose answers come later from elsewhere. A connection reads no
/// more then; a function of datagrams gets no more tickets.
pub(crate) const LATE_ANSWERS_MAX: usize = 1024;

/// Memory of a tap's ring: the default, the least and the most.
pub(crate) const TAP_BYTES_DEFAULT: usize = 4 * 1024 * 1024;
pub(crate) const TAP_BYTES_MIN: usize = 4 * 1024;
pub(crate) const TAP_BYTES_MAX: usize = 1024 * 1024 * 1024;
/// How long a tap's reader sleeps while records keep coming, so that it takes many at once.
pub(crate) const TAP_NAP: Duration = Duration::from_millis(1);
/// How long a tap's reader waits for a record that a worker is just writing, at most: it takes nanoseconds.
pub(crate) const TAP_PATIENCE: Duration = Duration::from_secs(1);

/// Events that may wait in one queue.
pub(crate) const EVENTS_MAX: usize = 65_536;

/// How long a host that asks a worker waits for its turn.
pub(crate) const ASK_PATIENCE: Duration = Duration::from_secs(10);
/// How often it looks whether the worker is without a thread, so that it can be asked directly.
pub(crate) const ASK_AGAIN: Duration = Duration::from_millis(1);

/// How long a drain waits beyond its time, in which the workers cut off what is left.
pub(crate) const DRAIN_GRACE: Duration = Duration::from_millis(250);

/// Threads of one engine, what their names begin with, and the memory of their stacks.
pub(crate) const THREAD_NAME_BYTES_MAX: usize = 15;
pub(crate) const THREAD_STACK_BYTES_MIN: usize = 128 * 1024;
pub(crate) const THREAD_STACK_BYTES_MAX: usize = 1024 * 1024 * 1024;
pub(crate) const THREADS_MAX: usize = 256;
/// How long a worker may look before it sleeps.
pub(crate) const SPIN_MAX: Duration = Duration::from_secs(1);
/// Readiness events that one wait may bring.
pub(crate) const EVENTS_PER_WAIT: usize = 1024;

const _: () = assert!(UDP_DATAGRAM_BYTES_MAX <= UNIX_RECORD_BYTES_MAX);
const _: () = assert!(READ_BYTES_MAX <= UNIX_RECORD_BYTES_MAX);
const _: () = assert!(STREAM_MESSAGE_BYTES_MAX <= MESSAGE_BYTES_CEILING);
const _: () = assert!(DATAGRAM_BATCH <= 256);
const _: () = assert!(DATAGRAM_BATCH * UNIX_RECORD_BYTES_MAX <= DATAGRAM_BATCH_BYTES);
const _: () = assert!(READ_BYTES_MAX <= POOL_BUFFER_BYTES_MAX);
const _: () = assert!(SCRATCH_BYTES_MAX.is_power_of_two());
const _: () = assert!(POOL_BUFFER_BYTES_MAX <= POOL_BYTES_MAX && POOL_BUFFER_BYTES_MAX.is_power_of_two());
// The kernel's ring of buffers has a power of two of them, at most 2^15.
const _: () = assert!(RING_BUFFERS_MAX.is_power_of_two() && RING_BUFFERS_MAX <= 1 << 15);
const _: () =
    assert!(RING_MESSAGE_BUFFERS_MAX.is_power_of_two() && RING_MESSAGE_BUFFERS_MAX <= RING_BUFFERS_MAX);
const _: () = assert!(RING_BUFFERS_AT_FIRST <= RING_BUFFERS_MAX);
const _: () = assert!(RING_BUFFER_BYTES <= READ_BYTES_MAX);
const _: () = assert!(RING_HEADROOM_BYTES <= HEADROOM_BYTES);

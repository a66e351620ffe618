//! The plugin ABI in C's own names. `include/resay_plugin.h` is generated from this file, so the comments here
//! are the comments of the header and use no Rust links.
//!
//! Fields never move and never change type. New fields are appended, and `RESAY_PLUGIN_ABI_MINOR` counts
//! them. Any other change is a new major version with a new entry, `resay_plugin_v2`.
//!
//! Calling threads: `[C]` a control thread, never two such calls at once for one instance; `[W]` a worker, or
//! with `RESAY_NEED_OFFLOAD` a thread of the pool; `[*]` any thread, at any time.
#![allow(non_camel_case_types)]
// [C], [W] and [*] are no links.
#![allow(rustdoc::broken_intra_doc_links)]

use core::ffi::{CStr, c_char, c_int, c_void};

/// The minor version of this header within major 1. It grows when a field or a constant is added. Plugins and
/// hosts of different minor versions work together.
pub const RESAY_PLUGIN_ABI_MINOR: u32 = 1u32;

// ---- Results of map() and process(). Positive: what the host does next. Negative: an error.

/// Success: all input is consumed (input_used == input_len), and the output is complete.
pub const RESAY_OK: i32 = 0;
/// process() only: the host takes the output, then calls again with the input from input_used on (which may be
/// empty) and a new output buffer of at least output_need bytes. Each call must make progress: it consumes input,
/// produces output, or sets output_need > output_cap.
pub const RESAY_MORE_OUT: i32 = 1;
/// process() only, and only in a call with neither RESAY_IO_END nor RESAY_IO_EOF, that is, on a raw stream:
/// the host keeps input[input_used..input_len] and passes it again, in front of the next input.
pub const RESAY_MORE_IN: i32 = 2;
/// Send no answer to this message: its output, and the rest of its input, are discarded. (Output of earlier
/// calls for the same stream message, passed with RESAY_MORE_OUT, may already have been sent.)
pub const RESAY_DROP: i32 = 3;
/// Send the output, then close the connection in good order. A datagram is answered; it has no connection.
pub const RESAY_CLOSE: i32 = 4;
/// Stream: discard the output and close at once, with RST if the transport has one. A datagram is dropped.
pub const RESAY_RESET: i32 = 5;
/// The message cannot be transformed: a datagram is dropped, a stream is closed; both are counted.
pub const RESAY_E_DATA: i32 = -1;
/// create(): the value of an option is invalid; the text names the option and the reason.
pub const RESAY_E_CONFIG: i32 = -2;
/// Out of memory. The message or the connection fails; the process keeps running.
pub const RESAY_E_NOMEM: i32 = -3;
/// Not supported here: a kind of peer, a schema, a feature of the system.
pub const RESAY_E_UNSUPPORTED: i32 = -4;
/// The plugin caught a panic or an exception of its own: the host disables the instance.
pub const RESAY_E_PANIC: i32 = -5;

// ---- Capabilities: promises. Unknown bits are ignored.

/// In resay_transform.caps, a promise: output[i] depends only on input[i], and the length stays the same. The host
/// splits and merges calls as it likes, so one call may cover several messages or a part of one. The result is
/// RESAY_OK or an error; any other result would apply to everything that the call happens to cover.
/// (Unknown bits of caps are ignored; `resay plugin check` tests each promise.)
pub const RESAY_CAP_BYTEWISE: u32 = 1u32;
/// A promise: the transform only reads the bytes; map() does not write.
pub const RESAY_CAP_OBSERVER: u32 = 2u32;
/// A promise: process() works with output == input.
pub const RESAY_CAP_ALIAS: u32 = 4u32;
/// process() is called once, with empty input and flags 0, when a connection opens: its output is sent before
/// anything is received. Streams and seqpackets only: a host sends no unsolicited datagrams.
pub const RESAY_CAP_GREETS: u32 = 8u32;

// ---- Needs: requirements. A host refuses a transform with an unknown bit.

/// In resay_transform.needs, a requirement: whole messages only, never a raw stream.
/// (A host that does not know a bit of needs refuses the transform.)
pub const RESAY_NEED_MESSAGES: u32 = 1u32;
/// A requirement: a call may block, so the host runs it on a thread pool; it does not read the connection meanwhile.
pub const RESAY_NEED_OFFLOAD: u32 = 2u32;

// ---- Threading.

/// In resay_transform.threading: one instance, which several threads call at once.
pub const RESAY_SHARED: u32 = 0u32;
/// One instance for each worker: no two calls of one instance at once, but possibly from several threads one
/// after the other.
pub const RESAY_PER_WORKER: u32 = 1u32;
/// One instance behind a lock of the host: no two calls at once.
pub const RESAY_SERIAL: u32 = 2u32;

// ---- Flags of one process() call.

/// In resay_io.flags: this call begins a message: nothing of it is consumed or answered yet. If a call only
/// requested more room, the next call has this flag again.
/// A framed stream message, a seqpacket record and a datagram arrive whole, with BEGIN and END. A raw stream
/// has no messages: each read has flags 0, and the peer's half-close RESAY_IO_EOF.
pub const RESAY_IO_BEGIN: u32 = 1u32;
/// The input ends a message. The transform must write everything that it still holds.
pub const RESAY_IO_END: u32 = 2u32;
/// The stream has ended: the peer will send no more. On a raw stream this is a separate call, made once, with
/// the input that RESAY_MORE_IN left, or with empty input.
pub const RESAY_IO_EOF: u32 = 4u32;
/// The message is a datagram.
pub const RESAY_IO_DATAGRAM: u32 = 8u32;

// ---- Kinds of peer.

/// In resay_peer.kind: a TCP or unix stream connection.
pub const RESAY_STREAM: u32 = 1u32;
/// The sender of one datagram. Its session lasts for that datagram.
pub const RESAY_DATAGRAM: u32 = 2u32;
/// A unix seqpacket connection.
pub const RESAY_SEQPACKET: u32 = 3u32;

// ---- Log levels.

/// For resay_host.log: an unexpected failure.
pub const RESAY_LOG_ERROR: i32 = 1;
/// A condition that needs attention.
pub const RESAY_LOG_WARN: i32 = 2;
/// Information for operators.
pub const RESAY_LOG_INFO: i32 = 3;
/// Information for developers.
pub const RESAY_LOG_DEBUG: i32 = 4;
/// Every step.
pub const RESAY_LOG_TRACE: i32 = 5;

// ---- Threads, as resay_thread_check tells them apart.

/// The host is not calling this transform on this thread: it is a thread of the plugin's own, or of someone else.
pub const RESAY_THREAD_OTHER: u32 = 0u32;
/// Inside a call of this transform that is marked [C].
pub const RESAY_THREAD_CONTROL: u32 = 1u32;
/// Inside a call of this transform that is marked [W].
pub const RESAY_THREAD_WORKER: u32 = 2u32;

// ---- Library flags.

/// In resay_library.flags: dlclose() is safe once every instance is destroyed and shutdown() has returned:
/// no thread, no thread-local destructor and no atexit handler of the library remains.
pub const RESAY_LIB_UNLOADABLE: u32 = 1u32;

// ---- Filters.

/// In resay_filter.caps: peers say in the filter's own words that their side ends (RESAY_CLOSE of receive()). Then an end of
/// the socket before that has cut the stream off: a message that it left unfinished is not answered.
pub const RESAY_FILTER_CAP_ENDS: u32 = 1u32;

// Names of extensions: "name/revision". The header defines them in cbindgen-plugin.toml.
/// The extension resay_select.
/// cbindgen:ignore
pub const RESAY_EXT_SELECT: &CStr = c"resay.select/1";
/// The extension resay_session_state.
/// cbindgen:ignore
pub const RESAY_EXT_SESSION_STATE: &CStr = c"resay.session-state/1";
/// The extension resay_thread_check.
/// cbindgen:ignore
pub const RESAY_EXT_THREAD_CHECK: &CStr = c"resay.thread-check/1";

/// One of the RESAY_ status codes. A code that the host does not know closes the connection.
pub type resay_status = i32;

/// A byte that the host may change at any time: read it again for each use.
pub type resay_volatile_u8 = u8;

/// Borrowed bytes. ptr may be NULL when len is 0.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct resay_bytes {
    /// The first byte.
    pub ptr: *const u8,
    /// The number of bytes.
    pub len: usize,
}

/// One option with its value. The host has already refused unknown and repeated keys.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct resay_kv {
    /// NUL-terminated UTF-8.
    pub key: *const c_char,
    /// The text of the value, without its quotes. Not NUL-terminated.
    pub value: resay_bytes,
}

/// One option that a transform accepts. All texts are NUL-terminated UTF-8 of at most 1024 bytes. The struct may grow: a
/// table says in option_size how large it is in its list.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct resay_option {
    /// The name: letters, digits, '_' and '-'.
    pub key: *const c_char,
    /// The type of the value: "string", "bool", "integer", "rate" (5% or 0.05), "duration" (20ms; us, ms, s, m), "size"
    /// (64k; k, m, g), or words as "encode|decode".
    pub r#type: *const c_char,
    /// The default, for help texts; the host does not pass it to create(). NULL: the option is required.
    pub fallback: *const c_char,
    /// One line of help, or NULL.
    pub help: *const c_char,
    /// What a number counts, for help texts, such as "messages" or "bytes/s". NULL: nothing, or the type says it.
    pub unit: *const c_char,
    /// The least value that create() accepts, written as a value of the type. NULL: no limit but the type's. Only for
    /// the types integer, rate, duration and size.
    pub min: *const c_char,
    /// The greatest value that create() accepts, in the same way.
    pub max: *const c_char,
}

/// A buffer for the text of an error, in the caller's memory. The callee writes UTF-8, truncated to fit and
/// NUL-terminated, as snprintf(err->buf, err->cap, ...) does. If the pointer to this struct is not NULL, cap is at
/// least 1. buf holds "" before the call.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct resay_text {
    /// The buffer.
    pub buf: *mut c_char,
    /// Its size in bytes, including the NUL.
    pub cap: usize,
}

/// One call of process(): filled by the host, on the calling thread's stack, valid during the call.
#[repr(C)]
#[derive(Debug)]
pub struct resay_io {
    /// Bytes of this struct that the host knows.
    pub struct_size: u32,
    /// RESAY_IO_ bits.
    pub flags: u32,
    /// The input; may be NULL if input_len is 0. It does not overlap output, except with RESAY_CAP_ALIAS.
    pub input: *const u8,
    /// Bytes of input.
    pub input_len: usize,
    /// Set by the callee: bytes of input consumed. 0 before the call.
    pub input_used: usize,
    /// The output buffer: initialised memory with unspecified content. May be NULL if output_cap is 0.
    pub output: *mut u8,
    /// Size of the output buffer. If a bound is declared (out_div != 0), at least the bound of input_len, up to the host's
    /// limit for an answer; a longer answer fails in any case.
    pub output_cap: usize,
    /// Set by the callee: bytes of output produced. 0 before the call; more than output_cap closes the
    /// connection with an error.
    pub output_len: usize,
    /// Set by the callee, with RESAY_MORE_OUT: the size of the output buffer that the next call needs; 0: any size. 0
    /// before the call. Above the host's limit the message fails.
    pub output_need: usize,
    /// Set by the callee: the delay of this call's output in microseconds. On a stream, later output waits behind
    /// it. 0 before the call.
    pub delay_us: u64,
    /// Set by the callee, for a datagram: how many more times the answer is sent. 0 before the call; the host may send fewer. If
    /// struct_size does not cover it, the host has no such thing.
    pub copies: u32,
    /// Reserved.
    pub zero: u32,
}

/// The peer of a session. Valid during session_open(): copy what you need later.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct resay_peer {
    /// Bytes of this struct that the host knows.
    pub struct_size: u32,
    /// RESAY_STREAM, RESAY_DATAGRAM or RESAY_SEQPACKET.
    pub kind: u32,
    /// The number of the connection; an engine never reuses it. 0 for a datagram.
    pub id: u64,
    /// The local address as a URL, such as "tcp://127.0.0.1:8888"; NULL if it is unknown.
    pub local: *const c_char,
    /// The peer's address as a URL; NULL if it has none (an unbound unix socket). Of a session over a proxy, the address that
    /// the proxy has named.
    pub peer: *const c_char,
    /// The URL that the listener was opened with; NULL if it is unknown.
    pub listener: *const c_char,
    /// The address of the proxy that has named the peer, as a URL; NULL: no proxy has.
    pub via: *const c_char,
    /// What else a proxy says, and what the listener's filter tells: texts "key=value", each ended by NUL, and a further NUL
    /// behind the last; NULL: there is neither. Bytes that are not printable ASCII are escaped (\xNN), and so are \, ' and ".
    /// Keys of a filter begin with its id and a dot, such as "tls.version"; those of a proxy have no dot.
    pub facts: *const c_char,
}

/// The functions that the host offers to one instance. Valid from create() until destroy() returns (or create()
/// fails), and only for that instance. Every function may be NULL. Pass ctx as the first argument.
#[repr(C)]
#[derive(Debug)]
pub struct resay_host {
    /// Bytes of this struct that the host knows.
    pub struct_size: u32,
    /// The host's RESAY_PLUGIN_ABI_MINOR.
    pub abi_minor: u32,
    /// Private to the host; pass it back.
    pub ctx: *mut c_void,
    /// The highest log level that is enabled now: test it before formatting a line. NULL: log() decides.
    pub log_level: *const resay_volatile_u8,
    /// [*] Logs one line: len bytes of UTF-8, without a line end. It never blocks; the host may drop lines, and cut long ones.
    pub log: Option<unsafe extern "C" fn(ctx: *mut c_void, level: c_int, utf8: *const c_char, len: usize)>,
    /// [C] Only during create(): returns the id of the counter with this name of at most 128 bytes, and creates it if
    /// necessary. 0: no more counters, or not during create(); counter_add() ignores 0 and unknown ids.
    pub counter: Option<unsafe extern "C" fn(ctx: *mut c_void, name: *const c_char) -> u32>,
    /// [*] Adds n to a counter; wait-free.
    pub counter_add: Option<unsafe extern "C" fn(ctx: *mut c_void, id: u32, n: u64)>,
    /// [C] Returns an extension of the host by its id, "name/revision"; NULL: the host does not have it. The result
    /// is valid as long as this struct.
    pub extension: Option<unsafe extern "C" fn(ctx: *mut c_void, id: *const c_char) -> *const c_void>,
}

/// A transform: description, promises, functions. Constant, and valid as long as its library is loaded. The host
/// passes this pointer itself to create() and extension(), never a pointer to a copy.
///
/// Required are struct_size, id, and map or process; every other field may be zero.
#[repr(C)]
#[derive(Debug)]
pub struct resay_transform {
    /// sizeof(resay_transform) in the plugin.
    pub struct_size: u32,
    /// RESAY_CAP_ bits: promises.
    pub caps: u32,
    /// RESAY_NEED_ bits: requirements.
    pub needs: u32,
    /// RESAY_SHARED, RESAY_PER_WORKER or RESAY_SERIAL.
    pub threading: u32,
    /// The name in a chain: [a-z0-9][a-z0-9._-]*; unique in its library.
    pub id: *const c_char,
    /// The version of the transform, for display; NULL: none.
    pub version: *const c_char,
    /// One line of description; NULL: none.
    pub summary: *const c_char,
    /// Private to the author of the table: the host never reads it. A program that registers its own table can
    /// find its data here in create().
    pub user: *mut c_void,
    /// n_options options, or NULL. The host refuses every other key before create().
    pub options: *const resay_option,
    /// The number of options.
    pub n_options: u32,
    /// Bytes of memory that the host allocates for each session, zeroed before session_open() (or, if session_open is
    /// NULL, before the first call). The memory does not move until the session is closed. 0: none; then the value of
    /// session is unspecified. At most 1 MiB.
    pub session_size: u32,
    /// The alignment of that memory, a power of two up to 4096; 0: the alignment of malloc().
    pub session_align: u32,
    /// The bound of the output: n bytes of input produce at most n * out_mul / out_div + out_add bytes, rounded
    /// up.
    pub out_mul: u32,
    /// See out_mul. 0: no bound is declared, and process() must work with any output_cap.
    pub out_div: u32,
    /// See out_mul.
    pub out_add: u32,
    /// [C] Creates an instance. Its options never change: a new configuration is a new instance, which replaces this
    /// one. Returns RESAY_OK, or an error and its text; after an error the host makes no further call. *instance is
    /// NULL before the call. If create is NULL, every instance is NULL, and no option is accepted.
    pub create: Option<
        unsafe extern "C" fn(
            transform: *const resay_transform,
            host: *const resay_host,
            options: *const resay_kv,
            n_options: usize,
            instance: *mut *mut c_void,
            err: *mut resay_text,
        ) -> resay_status,
    >,
    /// [C] Destroys an instance. All its sessions are closed, and no call is running. May be NULL.
    pub destroy: Option<unsafe extern "C" fn(instance: *mut c_void)>,
    /// [W] Called before the first call of a session. Returns RESAY_OK, or an error and its text: then the connection
    /// is closed (a datagram is dropped), and session_close() is not called. May be NULL.
    pub session_open: Option<
        unsafe extern "C" fn(
            instance: *mut c_void,
            session: *mut c_void,
            peer: *const resay_peer,
            err: *mut resay_text,
        ) -> resay_status,
    >,
    /// [W] Called once after the last call of a session, whatever its result. May be NULL.
    pub session_close: Option<unsafe extern "C" fn(instance: *mut c_void, session: *mut c_void)>,
    /// [W] Transforms in place; the length stays the same. data may be NULL if len is 0. Returns RESAY_OK,
    /// RESAY_DROP, RESAY_CLOSE, RESAY_RESET or an error. On a raw stream it is called for each read, but not for the
    /// end. NULL: the host uses process(). If both are set, the host uses map() for messages, and process() only for
    /// the greeting of RESAY_CAP_GREETS.
    pub map: Option<
        unsafe extern "C" fn(
            instance: *mut c_void,
            session: *mut c_void,
            data: *mut u8,
            len: usize,
        ) -> resay_status,
    >,
    /// [W] Transforms from io->input to io->output: it may grow, shrink, split and delay. It sets io->input_used and
    /// io->output_len in every call. The host never makes two calls at once for one session.
    /// A table with neither map nor process is invalid.
    pub process: Option<
        unsafe extern "C" fn(instance: *mut c_void, session: *mut c_void, io: *mut resay_io) -> resay_status,
    >,
    /// [C] Pure: returns an extension of this transform by its id, "name/revision"; NULL: not offered. The result is
    /// valid as long as the library is loaded. May be NULL.
    pub extension:
        Option<unsafe extern "C" fn(transform: *const resay_transform, id: *const c_char) -> *const c_void>,
    /// sizeof(resay_option) in the plugin; 0: its size in minor version 0.
    pub option_size: u32,
    /// 0.
    pub reserved: u32,
}

/// Extension "resay.select/1" of a transform: another table for certain options.
///
/// The promises of a table are constant, but an option may change them: uppercasing ASCII is bytewise, uppercasing
/// Unicode grows. Such a transform has one table for each case, under one id.
#[repr(C)]
#[derive(Debug)]
pub struct resay_select {
    /// sizeof(resay_select) in the plugin.
    pub struct_size: u32,
    /// [C] Pure; called once before create(), with the same options. Returns the table to use instead: it has the same
    /// id and options, its own select is not called, and create() receives it. NULL: keep this table. If a value is
    /// invalid, return NULL too; create() then reports the error.
    pub select: Option<
        unsafe extern "C" fn(
            transform: *const resay_transform,
            options: *const resay_kv,
            n_options: usize,
        ) -> *const resay_transform,
    >,
}

/// Extension "resay.session-state/1" of a transform: carries a session over to another instance when the chain of an
/// open connection is replaced.
#[repr(C)]
#[derive(Debug)]
pub struct resay_session_state {
    /// sizeof(resay_session_state) in the plugin.
    pub struct_size: u32,
    /// Names the format of the state, such as "acme.counter/2".
    pub schema: *const c_char,
    /// [W] Writes the state to io->output; io->input is empty. Returns RESAY_OK, RESAY_MORE_OUT (the host calls again from the
    /// beginning with at least output_need bytes), or an error: then the old session stays.
    pub save: Option<
        unsafe extern "C" fn(
            instance: *mut c_void,
            session: *const c_void,
            io: *mut resay_io,
        ) -> resay_status,
    >,
    /// [W] Restores a state from save(), possibly of another version, into an open session before its first call.
    /// Returns RESAY_OK, or an error such as RESAY_E_UNSUPPORTED for an unknown schema: then the old session stays.
    pub load: Option<
        unsafe extern "C" fn(
            instance: *mut c_void,
            session: *mut c_void,
            schema: *const c_char,
            state: resay_bytes,
            err: *mut resay_text,
        ) -> resay_status,
    >,
}

/// Memory of the host that a filter appends to. Valid during the call.
#[repr(C)]
#[derive(Debug)]
pub struct resay_filter_out {
    /// Bytes of this struct that the host knows.
    pub struct_size: u32,
    /// Reserved.
    pub zero: u32,
    /// The memory. May be NULL if cap is 0.
    pub data: *mut u8,
    /// Bytes of it that are in use: write behind them, then add to len what you wrote. What was there before stays.
    pub len: usize,
    /// Bytes of it that there are.
    pub cap: usize,
    /// Makes room for additional bytes behind len: data and cap change. Returns RESAY_OK; or RESAY_E_NOMEM, also above the
    /// host's limit, and then nothing has changed.
    pub reserve: Option<unsafe extern "C" fn(out: *mut resay_filter_out, additional: usize) -> resay_status>,
}

/// A filter: what stands between the bytes of a stream's socket and the stream itself, both ways, such as TLS. It does no
/// I/O. Constant, and valid as long as its library is loaded.
///
///   socket --> receive() --> plain --> messages, transforms, answers --> send() --> socket
///                      `---> reply, to the socket
///
/// A connection begins in its handshake: nothing of it reaches the stream before receive() has returned RESAY_OK once. The
/// host ends a handshake that takes too long.
///
/// Required are struct_size, id, receive and send; every other field may be zero.
#[repr(C)]
#[derive(Debug)]
pub struct resay_filter {
    /// sizeof(resay_filter) in the plugin.
    pub struct_size: u32,
    /// RESAY_FILTER_CAP_ bits.
    pub caps: u32,
    /// The name: [a-z0-9][a-z0-9._-]*; unique among the filters of its library.
    pub id: *const c_char,
    /// The version of the filter, for display; NULL: none.
    pub version: *const c_char,
    /// One line of description; NULL: none.
    pub summary: *const c_char,
    /// Private to the author of the table: the host never reads it.
    pub user: *mut c_void,
    /// n_options options, or NULL. The host refuses every other key before create().
    pub options: *const resay_option,
    /// The number of options.
    pub n_options: u32,
    /// sizeof(resay_option) in the plugin.
    pub option_size: u32,
    /// Bytes of memory that the host allocates for each connection, zeroed before open(). The memory does not move until
    /// the connection is closed. At most 1 MiB.
    pub conn_size: u32,
    /// The alignment of that memory, a power of two up to 4096; 0: the alignment of malloc().
    pub conn_align: u32,
    /// [C] Creates an instance for a listener: it reads what its options name, such as certificates. When the configuration is
    /// loaded again, a new instance takes its place; connections keep theirs. Several workers call an instance at once. As
    /// create() of a transform.
    pub create: Option<
        unsafe extern "C" fn(
            filter: *const resay_filter,
            host: *const resay_host,
            options: *const resay_kv,
            n_options: usize,
            instance: *mut *mut c_void,
            err: *mut resay_text,
        ) -> resay_status,
    >,
    /// [*] Destroys an instance. All its connections are closed, and no call is running. May be NULL.
    pub destroy: Option<unsafe extern "C" fn(instance: *mut c_void)>,
    /// [W] Called before the first call of a connection, when its peer is known. Returns RESAY_OK, or an error: then the
    /// connection is reset, and close() is not called. May be NULL.
    pub open: Option<
        unsafe extern "C" fn(
            instance: *mut c_void,
            conn: *mut c_void,
            peer: *const resay_peer,
            err: *mut resay_text,
        ) -> resay_status,
    >,
    /// [W] Called once after the last call of a connection, whatever its result. May be NULL.
    pub close: Option<unsafe extern "C" fn(instance: *mut c_void, conn: *mut c_void)>,
    /// [W] The peer sent len bytes of wire, which the filter may overwrite and keeps what it needs later. It appends to plain
    /// what they say, and to reply what is to be sent for its own sake. Returns
    ///  - RESAY_MORE_IN: the handshake is not complete; plain has nothing.
    ///  - RESAY_OK: it is.
    ///  - RESAY_CLOSE: it is, and the peer has said that its side ends. Later calls return the same.
    ///  - an error: the host sends reply, and ends the connection. No call but close() follows.
    pub receive: Option<
        unsafe extern "C" fn(
            instance: *mut c_void,
            conn: *mut c_void,
            wire: *mut u8,
            len: usize,
            plain: *mut resay_filter_out,
            reply: *mut resay_filter_out,
        ) -> resay_status,
    >,
    /// [W] After the handshake: appends to wire what is to be sent to say len bytes of plain. Returns RESAY_OK, or an error:
    /// the connection is reset.
    pub send: Option<
        unsafe extern "C" fn(
            instance: *mut c_void,
            conn: *mut c_void,
            plain: *const u8,
            len: usize,
            wire: *mut resay_filter_out,
        ) -> resay_status,
    >,
    /// [W] After the handshake, once, before the host ends its side: appends to wire what says so. receive() may still be
    /// called. May be NULL.
    pub end: Option<
        unsafe extern "C" fn(
            instance: *mut c_void,
            conn: *mut c_void,
            wire: *mut resay_filter_out,
        ) -> resay_status,
    >,
    /// [W] Once, when the handshake is complete and before the first transform hears of the connection: appends to facts what is
    /// known of it, as texts "key=value", each ended by NUL. Keys are [a-z0-9_]+; bytes of values that are not printable ASCII
    /// are to be escaped (\xNN), and so are \, ' and ". The host leaves out what is none of that, and what is behind the first
    /// 2048 bytes. Returns RESAY_OK, or an error: then there are none. May be NULL.
    pub facts: Option<
        unsafe extern "C" fn(
            instance: *mut c_void,
            conn: *mut c_void,
            facts: *mut resay_filter_out,
        ) -> resay_status,
    >,
}

/// The contents of a plugin library. Constant, and valid as long as the library is loaded.
#[repr(C)]
#[derive(Debug)]
pub struct resay_library {
    /// sizeof(resay_library) in the plugin.
    pub struct_size: u32,
    /// RESAY_PLUGIN_ABI_MINOR of the header that the library was compiled with.
    pub abi_minor: u32,
    /// RESAY_LIB_ bits.
    pub flags: u32,
    /// The number of transforms; may be 0 where there are filters.
    pub n: u32,
    /// n pointers to tables. The path of the library alone names the first one.
    pub transforms: *const *const resay_transform,
    /// [C] Ends what init() began: threads, files, global memory. Called after destroy() of the last instance of the
    /// library; then only pure functions are called until the next init(). A host that unloads libraries calls dlclose()
    /// only after it, and only with RESAY_LIB_UNLOADABLE; Resay never unloads one. It is not called if the process ends
    /// before its engines are freed. May be NULL.
    pub shutdown: Option<unsafe extern "C" fn()>,
    /// [C] Called before create() of the first instance of the library, so that it alternates with shutdown() and no two
    /// of these calls run at once. path is the library's own file, absolute and without symbolic links: what lies beside
    /// it is found from there. Returns RESAY_OK, or an error and its text: then no instance is created, and shutdown()
    /// is not called. May be NULL.
    pub init: Option<unsafe extern "C" fn(path: *const c_char, err: *mut resay_text) -> resay_status>,
    /// n_filters pointers to tables of filters, or NULL.
    pub filters: *const *const resay_filter,
    /// The number of filters.
    pub n_filters: u32,
    /// 0.
    pub reserved: u32,
}

/// [*] The type of resay_plugin_v1, the only export of a plugin: pure, callable at any time and more than once. It
/// returns NULL if the host's minor version is too old for the plugin.
pub type resay_plugin_entry = unsafe extern "C" fn(host_abi_minor: u32) -> *const resay_library;

// The tables hold raw pointers, which nothing safe follows: the constants they point to may be shared.
/// cbindgen:ignore
const _: () = {
    // SAFETY: plain constant data; whoever follows its pointers is in an unsafe block and answers for it.
    unsafe impl Sync for resay_option {}
    // SAFETY: as above.
    unsafe impl Send for resay_option {}
    // SAFETY: as above.
    unsafe impl Sync for resay_transform {}
    // SAFETY: as above.
    unsafe impl Send for resay_transform {}
    // SAFETY: as above.
    unsafe impl Sync for resay_select {}
    // SAFETY: as above.
    unsafe impl Send for resay_select {}
    // SAFETY: as above.
    unsafe impl Sync for resay_session_state {}
    // SAFETY: as above.
    unsafe impl Send for resay_session_state {}
    // SAFETY: as above.
    unsafe impl Sync for resay_filter {}
    // SAFETY: as above.
    unsafe impl Send for resay_filter {}
    // SAFETY: as above.
    unsafe impl Sync for resay_library {}
    // SAFETY: as above.
    unsafe impl Send for resay_library {}
};

/// Extension "resay.thread-check/1" of a host: which calls the plugin may make, and may expect, on the calling thread.
///
///   const resay_thread_check *threads = host->extension(host->ctx, RESAY_EXT_THREAD_CHECK);
///   assert(!threads || threads->current(host->ctx) == RESAY_THREAD_WORKER);
#[repr(C)]
#[derive(Debug)]
pub struct resay_thread_check {
    /// Bytes of this struct that the host knows.
    pub struct_size: u32,
    /// [*] Returns RESAY_THREAD_CONTROL, RESAY_THREAD_WORKER or RESAY_THREAD_OTHER. Lock-free; takes a few nanoseconds.
    pub current: Option<unsafe extern "C" fn(ctx: *mut c_void) -> u32>,
}

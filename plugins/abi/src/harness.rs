//! A small host for tests: it calls the C functions of a table, as the engine does, and checks the results.
//!
//! ```
//! # use resay_plugin::{Call, Error, Io, Process, Setup, Status, Table, Transform};
//! # struct Twice;
//! # impl Transform for Twice {
//! #     type Session = ();
//! #     fn create(_: &Setup<'_>) -> Result<Self, Error> { Ok(Twice) }
//! # }
//! # impl Process for Twice {
//! #     fn process(&self, _: Call<'_, ()>, io: &mut Io<'_>) -> Status {
//! #         while let [byte, ..] = io.input() {
//! #             if !io.write_all(&[*byte; 2]) { return Status::MoreOut }
//! #             io.consume(1);
//! #         }
//! #         Status::Ok
//! #     }
//! # }
//! # static TABLE: Table = Table::process::<Twice>(c"twice").build();
//! use resay_plugin::harness::Harness;
//!
//! let twice = Harness::new(&TABLE, &[])?;
//! assert_eq!(twice.message(b"abc")?, b"aabbcc");
//! assert_eq!(twice.stream(&[b"a", b"bc"])?, b"aabbcc");
//! # Ok::<(), Error>(())
//! ```

use crate::abi;
use crate::error::{Error, text_of};
use crate::growing;
use crate::host::PeerKind;
use crate::inspect;
use crate::table::Table;
use core::cell::Cell;
use core::ffi::{CStr, c_char, c_int, c_void};
use core::fmt;
use core::marker::PhantomData;
use core::time::Duration;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ffi::CString;
use std::sync::atomic::AtomicU8;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// The room for output where no bound is declared: little, so that [`Status::MoreOut`](crate::Status) comes up.
const ROOM_BYTES: usize = 64;
/// Bytes behind the room that a transform must leave alone.
const GUARD_BYTES: usize = 32;
const GUARD: u8 = 0xa5;
/// More calls than this for one input are no progress.
const CALLS_MAX: usize = 10_000_000;
/// The alignment of a session that names none: malloc's.
const MALLOC_ALIGN: usize = 16;
const ERROR_BYTES: usize = 256;

/// One instance of a transform, and its host.
///
/// # Panics
/// Every method panics if the transform violates the ABI: it consumes or produces more than possible, makes no
/// progress, or returns a status that is not allowed.
pub struct Harness {
    table: abi::resay_transform,
    instance: *mut c_void,
    host: Arc<TestHost>,
    connections: Cell<u64>,
    room: Option<usize>,
    /// It looks at the room that it is offered, whatever bound it declares.
    is_of_sdk: bool,
}

impl Harness {
    /// Creates an instance with these options.
    pub fn new(table: &'static Table, options: &[(&str, &str)]) -> Result<Self, Error> {
        // SAFETY: a table of the SDK keeps the promises of the ABI.
        let mut harness = unsafe { Self::from_raw(table.raw(), options) }?;
        harness.is_of_sdk = true;
        Ok(harness)
    }

    /// Creates an instance of any table.
    ///
    /// # Safety
    /// The table and its functions conform to the ABI, and are valid as long as the harness.
    pub unsafe fn from_raw(
        listed: *const abi::resay_transform,
        options: &[(&str, &str)],
    ) -> Result<Self, Error> {
        let keys: Vec<CString> = options
            .iter()
            .map(|(key, _)| CString::new(*key).map_err(|_| Error::config("a key holds a NUL")))
            .collect::<Result<_, _>>()?;
        let given: Vec<abi::resay_kv> = keys
            .iter()
            .zip(options)
            .map(|(key, (_, value))| abi::resay_kv {
                key: key.as_ptr(),
                value: abi::resay_bytes { ptr: value.as_ptr(), len: value.len() },
            })
            .collect();
        // SAFETY: tables by the contract; options that live until the end of this call.
        unsafe {
            refuse_unknown(listed, options)?;
            let chosen = select(listed, &given);
            let table = growing::read(chosen);
            assert!(table.map.is_some() || table.process.is_some(), "a table with neither map nor process");
            let host = TestHost::new();
            let mut instance = core::ptr::null_mut();
            if let Some(create) = table.create {
                let mut text = [0; ERROR_BYTES];
                let mut err = abi::resay_text { buf: text.as_mut_ptr(), cap: text.len() };
                let status =
                    create(chosen, &host.table, given.as_ptr(), given.len(), &mut instance, &mut err);
                if status != abi::RESAY_OK {
                    return Err(Error::from_host(status, text_of(&text)));
                }
            }
            let connections = Cell::new(1);
            Ok(Self { table, instance, host, connections, room: None, is_of_sdk: false })
        }
    }

    /// Sets the size of the output buffer of each call of process(), or uses the size that the previous call
    /// [needed](crate::Io::need) if that is larger. The default is the declared bound, or a small buffer if there is no
    /// bound.
    ///
    /// No engine offers less than the bound: a smaller buffer shows that a transform requests room before it counts or
    /// writes anything. A table from elsewhere may rely on its bound, so [`from_raw`](Self::from_raw) respects it.
    pub fn with_room(mut self, bytes: usize) -> Self {
        self.room = Some(bytes);
        self
    }

    /// The answer to one whole message, in a session of its own. Any status except [`Status::Ok`](crate::Status) is an
    /// error.
    pub fn message(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        self.session()?.message(message).ok()
    }

    /// The answer of a raw stream to these reads, followed by its end, in a session of its own. Any status except
    /// [`Status::Ok`](crate::Status) is an error.
    pub fn stream(&self, reads: &[&[u8]]) -> Result<Vec<u8>, Error> {
        let mut session = self.session()?;
        let mut output = Vec::new();
        for read in reads {
            output.extend(session.read(read).ok()?);
        }
        output.extend(session.end().ok()?);
        Ok(output)
    }

    /// Checks that the answer of a raw stream to this input is `expected` for any division into reads: as a whole, cut
    /// at every two places, and byte by byte. Each run has a session of its own.
    #[track_caller]
    pub fn assert_splits(&self, input: &[u8], expected: &[u8]) {
        for first in 0..=input.len() {
            for second in first..=input.len() {
                let reads = [&input[..first], &input[first..second], &input[second..]];
                let answer = self.stream(&reads);
                assert_eq!(answer.as_deref(), Ok(expected), "split at {first} and {second}");
            }
        }
        let bytes: Vec<&[u8]> = input.chunks(1).collect();
        assert_eq!(self.stream(&bytes).as_deref(), Ok(expected), "byte by byte");
    }

    /// Opens a session: a stream connection.
    pub fn session(&self) -> Result<Session<'_>, Error> {
        self.session_with(PeerKind::Stream)
    }

    /// Opens a session with this kind of peer, with addresses as from an engine. A datagram has no number, and a
    /// seqpacket's peer no address.
    pub fn session_with(&self, kind: PeerKind) -> Result<Session<'_>, Error> {
        let align = match self.table.session_align {
            0 => MALLOC_ALIGN,
            align => align as usize,
        };
        let layout = Layout::from_size_align(self.table.session_size as usize, align)
            .map_err(|_| Error::config("the session's size and alignment do not fit"))?;
        let memory = Memory::zeroed(layout);
        if let Some(session_open) = self.table.session_open {
            let mut text = [0; ERROR_BYTES];
            let mut err = abi::resay_text { buf: text.as_mut_ptr(), cap: text.len() };
            let peer = self.peer(kind);
            // SAFETY: a living instance, zeroed memory as the table asks for, arguments for the call.
            let status = unsafe { session_open(self.instance, memory.start, &peer, &mut err) };
            if status != abi::RESAY_OK {
                return Err(Error::from_host(status, text_of(&text)));
            }
        }
        Ok(Session { harness: self, memory, kind, unread: Vec::new() })
    }

    /// The log lines so far.
    pub fn log(&self) -> Vec<String> {
        locked(&self.host.log).clone()
    }

    /// The value of a counter; `None`: there is no such counter.
    pub fn counter(&self, name: &str) -> Option<u64> {
        let counters = locked(&self.host.counters);
        counters.iter().find(|(known, _)| known.as_bytes() == name.as_bytes()).map(|(_, n)| *n)
    }

    fn peer(&self, kind: PeerKind) -> abi::resay_peer {
        let (code, local, peer) = match kind {
            PeerKind::Stream => (abi::RESAY_STREAM, c"tcp://127.0.0.1:8888", Some(c"tcp://127.0.0.1:50000")),
            PeerKind::Datagram => {
                (abi::RESAY_DATAGRAM, c"udp://127.0.0.1:8888", Some(c"udp://127.0.0.1:50000"))
            }
            PeerKind::Seqpacket => (abi::RESAY_SEQPACKET, c"unix-seqpacket:/run/echo.sock", None),
            PeerKind::Other => (u32::MAX, c"other:here", Some(c"other:there")),
        };
        let id = match kind {
            PeerKind::Datagram => 0,
            _ => self.connections.replace(self.connections.get() + 1),
        };
        abi::resay_peer {
            struct_size: size_of::<abi::resay_peer>() as u32,
            kind: code,
            id,
            local: local.as_ptr(),
            peer: peer.map_or(core::ptr::null(), CStr::as_ptr),
            listener: local.as_ptr(),
            via: core::ptr::null(),
            facts: core::ptr::null(),
        }
    }

    /// The room that a call with `n` bytes of input is offered at least.
    fn room(&self, n: usize) -> usize {
        match (self.room, bound(&self.table, n)) {
            (Some(room), Some(bound)) if !self.is_of_sdk => room.max(bound),
            (Some(room), _) => room,
            (None, bound) => bound.unwrap_or(ROOM_BYTES),
        }
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        if let Some(destroy) = self.table.destroy {
            // SAFETY: what create() gave; sessions borrow the harness, so none is left.
            unsafe { destroy(self.instance) }
        }
    }
}

impl fmt::Debug for Harness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Harness").field("table", &self.table).finish_non_exhaustive()
    }
}

/// Checks that create() refuses each of these values as its only option. An entry has the key of an option, a value, and
/// the requirement that the error names.
#[track_caller]
pub fn assert_refused(table: &'static Table, values: &[(&str, &str, &str)]) {
    for (key, value, expected) in values {
        let refused = Harness::new(table, &[(key, value)]).map(|_| "accepted");
        let expected = Error::config(format!("option '{key}' is '{value}', but must be {expected}"));
        assert_eq!(refused, Err(expected));
    }
}

/// The result of a transform for a message or a read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer {
    /// The RESAY_ code that ended it.
    pub status: abi::resay_status,
    /// The output, whatever the status.
    pub output: Vec<u8>,
    /// The delay of the output, summed over the calls.
    pub delay: Duration,
    /// How many more times a datagram is to be sent.
    pub copies: u32,
    /// The result of each call, in order: more than one if the status was
    /// [`Status::MoreOut`](crate::Status::MoreOut).
    pub pieces: Vec<Piece>,
}

/// The result of one call of map() or process().
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Piece {
    /// The output; empty if the call only requested more room.
    pub output: Vec<u8>,
    /// The delay of that output.
    pub delay: Duration,
}

impl Answer {
    /// Of no call yet.
    fn new() -> Self {
        Self {
            status: abi::RESAY_OK,
            output: Vec::new(),
            delay: Duration::ZERO,
            copies: 0,
            pieces: Vec::new(),
        }
    }

    fn add(&mut self, status: abi::resay_status, output: Vec<u8>, delay: Duration) {
        self.status = status;
        self.output.extend_from_slice(&output);
        self.delay += delay;
        self.pieces.push(Piece { output, delay });
    }

    /// The output, or the error.
    pub fn ok(self) -> Result<Vec<u8>, Error> {
        match self.status {
            abi::RESAY_OK | abi::RESAY_MORE_IN => Ok(self.output),
            status => Err(Error::from_host(status, format!("the transform answered {status}"))),
        }
    }
}

/// A session of a [`Harness`]: it stands for one connection.
pub struct Session<'a> {
    harness: &'a Harness,
    memory: Memory,
    kind: PeerKind,
    unread: Vec<u8>,
}

impl Session<'_> {
    /// Passes one whole message of this kind of peer: of a framed stream, a record or a datagram.
    pub fn message(&mut self, message: &[u8]) -> Answer {
        match self.kind {
            PeerKind::Datagram => self.datagram(message),
            _ => self.run(message, abi::RESAY_IO_BEGIN | abi::RESAY_IO_END),
        }
    }

    /// Passes one datagram, whatever the kind of peer. (The engine opens a session for each.)
    pub fn datagram(&mut self, datagram: &[u8]) -> Answer {
        self.run(datagram, abi::RESAY_IO_BEGIN | abi::RESAY_IO_END | abi::RESAY_IO_DATAGRAM)
    }

    /// Passes the bytes of one read of a raw stream. Input that the transform leaves is kept.
    pub fn read(&mut self, bytes: &[u8]) -> Answer {
        let mut input = core::mem::take(&mut self.unread);
        input.extend_from_slice(bytes);
        self.run(&input, 0)
    }

    /// Passes the end of a raw stream.
    pub fn end(&mut self) -> Answer {
        let input = core::mem::take(&mut self.unread);
        self.run(&input, abi::RESAY_IO_EOF)
    }

    fn run(&mut self, input: &[u8], mut flags: u32) -> Answer {
        let mut answer = Answer::new();
        let table = &self.harness.table;
        if let Some(map) = table.map {
            if flags & abi::RESAY_IO_EOF != 0 {
                return answer;
            }
            let mut output = guarded(input);
            // SAFETY: a living instance and session; memory of our own.
            let status =
                unsafe { map(self.harness.instance, self.memory.start, output.as_mut_ptr(), input.len()) };
            check_guard(&mut output, input.len());
            assert!(status != abi::RESAY_MORE_IN && status != abi::RESAY_MORE_OUT, "map() answered {status}");
            answer.add(status, output, Duration::ZERO);
            return answer;
        }
        let Some(process) = table.process else { unreachable!("checked when the harness was made") };
        let (mut used, mut need) = (0, 0);
        for _ in 0..CALLS_MAX {
            let rest = &input[used..];
            let room = self.harness.room(rest.len()).max(need);
            let mut out = guarded(&vec![GUARD; room]);
            let mut io = abi::resay_io {
                struct_size: size_of::<abi::resay_io>() as u32,
                flags,
                input: rest.as_ptr(),
                input_len: rest.len(),
                input_used: 0,
                output: out.as_mut_ptr(),
                output_cap: room,
                output_len: 0,
                output_need: 0,
                delay_us: 0,
                copies: 0,
                zero: 0,
            };
            // SAFETY: as above; in and out are apart, and room() keeps to a bound that may be relied on.
            let status = unsafe { process(self.harness.instance, self.memory.start, &mut io) };
            check_guard(&mut out, room);
            assert!(io.input_used <= rest.len(), "consumed {} of {}", io.input_used, rest.len());
            assert!(io.output_len <= room, "produced {} where {room} fit", io.output_len);
            out.truncate(io.output_len);
            answer.add(status, out, Duration::from_micros(io.delay_us));
            answer.copies = answer.copies.max(io.copies);
            used += io.input_used;
            match status {
                abi::RESAY_OK => assert!(used == input.len(), "RESAY_OK with {} unread", input.len() - used),
                abi::RESAY_MORE_IN => {
                    let last = flags & (abi::RESAY_IO_END | abi::RESAY_IO_EOF) != 0;
                    assert!(!last, "RESAY_MORE_IN where nothing follows");
                    self.unread = input[used..].to_vec();
                }
                abi::RESAY_MORE_OUT => {
                    let progress = io.input_used != 0 || io.output_len != 0 || io.output_need > room;
                    assert!(progress, "RESAY_MORE_OUT without progress");
                    need = io.output_need;
                    flags &= !abi::RESAY_IO_BEGIN; // what follows continues the message
                    continue;
                }
                _ => {}
            }
            return answer;
        }
        unreachable!("RESAY_MORE_OUT without an end")
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        if let Some(session_close) = self.harness.table.session_close {
            // SAFETY: opened once, closed once.
            unsafe { session_close(self.harness.instance, self.memory.start) }
        }
    }
}

impl fmt::Debug for Session<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("unread", &self.unread.len()).finish_non_exhaustive()
    }
}

/// The memory of a session.
struct Memory {
    start: *mut c_void,
    layout: Layout,
    owns: PhantomData<Box<u8>>,
}

impl Memory {
    fn zeroed(layout: Layout) -> Self {
        let start = if layout.size() == 0 {
            core::ptr::null_mut()
        } else {
            // SAFETY: not empty.
            unsafe { alloc_zeroed(layout) }
        };
        if start.is_null() && layout.size() != 0 {
            handle_alloc_error(layout);
        }
        Self { start: start.cast(), layout, owns: PhantomData }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if !self.start.is_null() {
            // SAFETY: allocated with this layout.
            unsafe { dealloc(self.start.cast(), self.layout) }
        }
    }
}

/// Log and counters that tests can look at.
struct TestHost {
    table: abi::resay_host,
    log: Mutex<Vec<String>>,
    counters: Mutex<Vec<(CString, u64)>>,
}

impl TestHost {
    fn new() -> Arc<Self> {
        static LEVEL: AtomicU8 = AtomicU8::new(abi::RESAY_LOG_TRACE as u8);
        Arc::new_cyclic(|own: &Weak<Self>| Self {
            table: abi::resay_host {
                struct_size: size_of::<abi::resay_host>() as u32,
                abi_minor: abi::RESAY_PLUGIN_ABI_MINOR,
                ctx: own.as_ptr().cast_mut().cast(),
                log_level: LEVEL.as_ptr(),
                log: Some(log),
                counter: Some(counter),
                counter_add: Some(counter_add),
                extension: None,
            },
            log: Mutex::default(),
            counters: Mutex::default(),
        })
    }
}

unsafe extern "C" fn log(ctx: *mut c_void, _: c_int, utf8: *const c_char, len: usize) {
    // SAFETY: ctx is the TestHost that its own table names; the line is borrowed for the call.
    let (host, line) =
        unsafe { (&*ctx.cast::<TestHost>(), core::slice::from_raw_parts(utf8.cast::<u8>(), len)) };
    locked(&host.log).push(String::from_utf8_lossy(line).into_owned());
}

unsafe extern "C" fn counter(ctx: *mut c_void, name: *const c_char) -> u32 {
    // SAFETY: as above; the name is NUL-ended.
    let (host, name) = unsafe { (&*ctx.cast::<TestHost>(), CStr::from_ptr(name)) };
    let mut counters = locked(&host.counters);
    let known = counters.iter().position(|(known, _)| known.as_c_str() == name);
    let index = known.unwrap_or_else(|| {
        counters.push((name.to_owned(), 0));
        counters.len() - 1
    });
    index as u32 + 1
}

unsafe extern "C" fn counter_add(ctx: *mut c_void, id: u32, n: u64) {
    // SAFETY: as above.
    let host = unsafe { &*ctx.cast::<TestHost>() };
    if let Some((_, total)) = locked(&host.counters).get_mut((id as usize).wrapping_sub(1)) {
        *total += n;
    }
}

/// # Safety
/// The table conforms to the ABI.
unsafe fn refuse_unknown(table: *const abi::resay_transform, options: &[(&str, &str)]) -> Result<(), Error> {
    // SAFETY: by the contract.
    let described = unsafe { inspect::transform(table) }.map_err(Error::config)?;
    let is_declared = |key: &str| described.options.iter().any(|option| option.key == key);
    match options.iter().find(|(key, _)| !is_declared(key)) {
        Some((key, _)) => Err(Error::config(format!("there is no option '{key}'"))),
        None => Ok(()),
    }
}

/// The table for these options: `listed`, or what its extension "resay.select/1" offers.
///
/// # Safety
/// The table keeps the promises of the ABI, and so do the options.
unsafe fn select(
    listed: *const abi::resay_transform,
    options: &[abi::resay_kv],
) -> *const abi::resay_transform {
    // SAFETY: by the contract.
    unsafe {
        let Some(extension) = growing::read(listed).extension else { return listed };
        let select = extension(listed, abi::RESAY_EXT_SELECT.as_ptr()).cast::<abi::resay_select>();
        let Some(select) = select.as_ref().and_then(|select| growing::read(select).select) else {
            return listed;
        };
        let chosen = select(listed, options.as_ptr(), options.len());
        if chosen.is_null() { listed } else { chosen }
    }
}

/// The most that `n` bytes of input make, where a bound is declared.
fn bound(table: &abi::resay_transform, n: usize) -> Option<usize> {
    let bytes = (n as u128 * u128::from(table.out_mul)).div_ceil(match table.out_div {
        0 => return None,
        div => u128::from(div),
    }) + u128::from(table.out_add);
    usize::try_from(bytes).ok()
}

fn guarded(bytes: &[u8]) -> Vec<u8> {
    let mut memory = Vec::with_capacity(bytes.len() + GUARD_BYTES);
    memory.extend_from_slice(bytes);
    memory.resize(bytes.len() + GUARD_BYTES, GUARD);
    memory
}

fn check_guard(memory: &mut Vec<u8>, len: usize) {
    assert!(memory[len..].iter().all(|byte| *byte == GUARD), "wrote behind the end");
    memory.truncate(len);
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

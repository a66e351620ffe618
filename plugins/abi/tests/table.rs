//! Transforms of every sort, driven through the C functions of their tables as a host drives them.
#![allow(clippy::unwrap_used, clippy::panic)]

use core::ffi::{CStr, c_char, c_void};
use core::ptr::{null, null_mut};
use core::time::Duration;
use resay_plugin::abi::*;
use resay_plugin::harness::Harness;
use resay_plugin::{
    Call, Carry, Counter, Error, Io, Level, Map, OptionSpec, Peer, PeerKind, Process, Setup, Status, Table,
    Transform,
};
use std::sync::atomic::{AtomicUsize, Ordering};

// ---- The transforms.

/// Remembers in its session, counts, logs, refuses, panics: whatever the message says.
struct Moody {
    seen: Counter,
}

#[derive(Default)]
struct Memory {
    messages: u64,
    alive: Option<Alive>,
}

/// Counts what lives.
struct Alive;
static ALIVE: AtomicUsize = AtomicUsize::new(0);

impl Alive {
    fn new() -> Self {
        ALIVE.fetch_add(1, Ordering::SeqCst);
        Alive
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Transform for Moody {
    type Session = Memory;

    fn create(setup: &Setup<'_>) -> Result<Self, Error> {
        if setup.options.bool("panics")? {
            panic!("created in {}", "anger");
        }
        if setup.options.integer::<u8>("limit")? > 100 {
            return Err(Error::unsupported("a limit over 100"));
        }
        Ok(Self { seen: setup.counter(c"seen") })
    }

    fn open(&self, call: Call<'_, Memory>, peer: &Peer<'_>) -> Result<(), Error> {
        if peer.address() == "tcp://192.0.2.1:1" {
            return Err(Error::unsupported("größer als sein Rahmen"));
        }
        if peer.kind() == PeerKind::Other {
            panic!("what is that?");
        }
        call.host.log(Level::Info, format_args!("{} on {}", peer.address(), peer.listener()));
        call.session.alive = Some(Alive::new());
        Ok(())
    }
}

impl Map for Moody {
    fn map(&self, call: Call<'_, Memory>, data: &mut [u8]) -> Status {
        call.session.messages += 1;
        call.host.add(self.seen, data.len() as u64);
        match data.first_mut() {
            Some(b'd') => Status::Drop,
            Some(b'c') => Status::Close,
            Some(b'r') => Status::Reset,
            Some(b'b') => Status::BadData,
            Some(b'p') => panic!("asked to"),
            Some(first) => {
                *first = b'0' + call.session.messages as u8;
                Status::Ok
            }
            None => Status::Ok,
        }
    }
}

impl Carry for Moody {
    const SCHEMA: &'static CStr = c"test.moody/1";

    fn save(&self, session: &Memory, io: &mut Io<'_>) -> Status {
        if io.write_all(&session.messages.to_le_bytes()) {
            return Status::Ok;
        }
        io.need(size_of::<u64>());
        Status::MoreOut
    }

    fn load(&self, session: &mut Memory, schema: &CStr, state: &[u8]) -> Result<(), Error> {
        if schema != Self::SCHEMA {
            return Err(Error::unsupported(format!("schema {}", schema.to_string_lossy())));
        }
        let state = state.try_into().map_err(|_| Error::config("eight bytes"))?;
        session.messages = u64::from_le_bytes(state);
        Ok(())
    }
}

const OPTIONS: &[OptionSpec] = &[
    OptionSpec::bool(c"panics", c"in create").or(c"0"),
    OptionSpec::integer(c"limit", c"at most 100").or(c"100"),
];

static MOODY: Table = Table::map::<Moody>(c"moody")
    .version(resay_plugin::package_version!())
    .summary(c"does as the message says")
    .options(OPTIONS)
    .per_worker()
    .carries_sessions()
    .build();

/// Hexadecimal of each whole line; works with any room, and greets.
struct HexLines;

impl Transform for HexLines {
    type Session = ();

    fn create(_: &Setup<'_>) -> Result<Self, Error> {
        Ok(HexLines)
    }
}

impl Process for HexLines {
    fn process(&self, _: Call<'_, ()>, io: &mut Io<'_>) -> Status {
        if io.input().first() == Some(&b'!') {
            panic!("shouted at");
        }
        let ready = match io.input().iter().rposition(|byte| *byte == b'\n') {
            _ if io.is_last() => io.input().len(),
            Some(end) => end + 1,
            None if io.input().is_empty() => return Status::Ok,
            None => return Status::MoreIn,
        };
        for byte in &io.input()[..ready] {
            if !io.write_all(format!("{byte:02x}").as_bytes()) {
                io.need(2);
                return Status::MoreOut;
            }
            io.consume(1);
        }
        io.delay(Duration::from_millis(3));
        if io.input().is_empty() { Status::Ok } else { Status::MoreIn }
    }
}

static HEX_LINES: Table =
    Table::process::<HexLines>(c"hex-lines").greets().needs_messages().may_block().serial().build();
static HEX_BOUND: Table = Table::process::<HexLines>(c"hex-bound").bound(2, 1, 0).build();

resay_plugin::export!(MOODY, HEX_LINES, HEX_BOUND);

// ---- A host by hand.

struct Text([c_char; 16]);

impl Text {
    fn new() -> Self {
        Self([0x55; 16])
    }

    fn err(&mut self) -> resay_text {
        resay_text { buf: self.0.as_mut_ptr(), cap: self.0.len() }
    }

    fn read(&self) -> String {
        // SAFETY: the callee has ended it with NUL, else the slice's end stops the check below.
        assert!(self.0.contains(&0));
        let bytes: Vec<u8> = self.0.iter().map(|c| *c as u8).take_while(|c| *c != 0).collect();
        String::from_utf8(bytes).unwrap()
    }
}

fn table(table: &'static Table) -> &'static resay_transform {
    // SAFETY: a table of a static.
    unsafe { &*table.raw() }
}

fn kv(key: &'static CStr, value: &'static str) -> resay_kv {
    resay_kv { key: key.as_ptr(), value: resay_bytes { ptr: value.as_ptr(), len: value.len() } }
}

fn peer(kind: u32, address: &'static CStr) -> resay_peer {
    resay_peer {
        struct_size: size_of::<resay_peer>() as u32,
        kind,
        id: 1,
        local: null(),
        peer: address.as_ptr(),
        listener: null(),
        via: null(),
        facts: null(),
    }
}

fn create(
    of: &'static Table,
    host: *const resay_host,
    options: &[resay_kv],
) -> Result<*mut c_void, (i32, String)> {
    let (mut instance, mut text) = (null_mut(), Text::new());
    // SAFETY: as the ABI asks for.
    let status = unsafe {
        table(of).create.unwrap()(
            of.raw(),
            host,
            options.as_ptr(),
            options.len(),
            &mut instance,
            &mut text.err(),
        )
    };
    if status == RESAY_OK { Ok(instance) } else { Err((status, text.read())) }
}

fn io(input: &[u8], out: &mut [u8], flags: u32) -> resay_io {
    resay_io {
        struct_size: size_of::<resay_io>() as u32,
        flags,
        input: input.as_ptr(),
        input_len: input.len(),
        input_used: 99,
        output: out.as_mut_ptr(),
        output_cap: out.len(),
        output_len: 99,
        output_need: 0,
        delay_us: 0,
        copies: 0,
        zero: 0,
    }
}

// ---- The tests.

#[test]
fn the_table_says_what_was_described() {
    let moody = table(&MOODY);
    assert_eq!(moody.struct_size as usize, size_of::<resay_transform>());
    assert_eq!((moody.caps, moody.needs, moody.threading), (0, 0, RESAY_PER_WORKER));
    assert_eq!(
        (moody.session_size as usize, moody.session_align as usize),
        (size_of::<Memory>(), align_of::<Memory>())
    );
    assert!(moody.map.is_some() && moody.process.is_none());
    assert!(moody.session_open.is_some() && moody.session_close.is_some());
    assert_eq!((moody.n_options, moody.out_div), (2, 0));
    // SAFETY: constants of the table.
    unsafe {
        assert_eq!(CStr::from_ptr(moody.id), c"moody");
        assert_eq!(CStr::from_ptr(moody.version).to_str(), Ok(env!("CARGO_PKG_VERSION")));
        let limit = &*moody.options.add(1);
        assert_eq!(CStr::from_ptr(limit.key), c"limit");
        assert_eq!(CStr::from_ptr(limit.r#type), c"integer");
        assert_eq!(CStr::from_ptr(limit.fallback), c"100");
    }

    let hex = table(&HEX_LINES);
    assert_eq!(hex.caps, RESAY_CAP_GREETS);
    assert_eq!(hex.needs, RESAY_NEED_MESSAGES | RESAY_NEED_OFFLOAD);
    assert_eq!(hex.threading, RESAY_SERIAL);
    assert!(hex.map.is_none() && hex.process.is_some());
    assert!(hex.session_open.is_none() && hex.session_close.is_none(), "() is no session");
    assert_eq!(hex.session_size, 0);
    let bound = table(&HEX_BOUND);
    assert_eq!((bound.out_mul, bound.out_div, bound.out_add), (2, 1, 0));
}

#[test]
fn the_entry_lists_the_tables() {
    unsafe extern "C" {
        fn resay_plugin_v1(host_abi_minor: u32) -> *const resay_library;
    }
    let entry: resay_plugin_entry = resay_plugin_v1;
    // SAFETY: export! defines it, above.
    unsafe {
        let library = &*entry(0);
        assert_eq!(library as *const _, entry(7), "pure");
        assert_eq!(library.struct_size as usize, size_of::<resay_library>());
        assert_eq!((library.abi_minor, library.flags, library.n), (RESAY_PLUGIN_ABI_MINOR, 0, 3));
        let tables = core::slice::from_raw_parts(library.transforms, library.n as usize);
        assert_eq!(tables, [MOODY.raw(), HEX_LINES.raw(), HEX_BOUND.raw()]);
    }
}

#[test]
fn options_and_panics_of_create() {
    let _lives = ALIVE_LOCK.lock();
    assert!(create(&MOODY, null(), &[]).map(destroy).is_ok());
    assert!(create(&MOODY, null(), &[kv(c"limit", "7")]).map(destroy).is_ok());
    let error = |options: &[resay_kv]| create(&MOODY, null(), options).unwrap_err();
    assert_eq!(error(&[kv(c"limit", "x")]), (RESAY_E_CONFIG, "option 'limit' ".to_owned()));
    assert_eq!(error(&[kv(c"limit", "101")]), (RESAY_E_UNSUPPORTED, "a limit over 10".to_owned()));
    assert_eq!(error(&[kv(c"panics", "1")]), (RESAY_E_PANIC, "panic: created ".to_owned()));
}

fn destroy(instance: *mut c_void) {
    // SAFETY: what create() gave.
    unsafe { table(&MOODY).destroy.unwrap()(instance) }
}

/// The tests that count what lives take turns.
static ALIVE_LOCK: std::sync::Mutex<()> = std::sync::Mutex::new(());

#[test]
fn sessions_live_in_the_hosts_memory() {
    let _lives = ALIVE_LOCK.lock();
    let instance = create(&MOODY, null(), &[]).unwrap();
    let moody = table(&MOODY);
    let (open, close, map) = (moody.session_open.unwrap(), moody.session_close.unwrap(), moody.map.unwrap());
    let mut memory = [const { core::mem::MaybeUninit::<Memory>::zeroed() }; 3];
    let before = ALIVE.load(Ordering::SeqCst);
    // SAFETY: a living instance, memory as asked for, one call at a time.
    unsafe {
        for session in &mut memory {
            let peer = peer(RESAY_STREAM, c"tcp://127.0.0.1:5");
            assert_eq!(open(instance, session.as_mut_ptr().cast(), &peer, null_mut()), RESAY_OK);
        }
        assert_eq!(ALIVE.load(Ordering::SeqCst), before + 3);
        for (session, expected) in [(0, b"1x"), (1, b"1x"), (0, b"2x"), (0, b"3x"), (2, b"1x")] {
            let mut data = *b"xx";
            let session = memory[session].as_mut_ptr().cast();
            assert_eq!(map(instance, session, data.as_mut_ptr(), data.len()), RESAY_OK);
            assert_eq!(&data, expected);
        }
        assert_eq!(map(instance, memory[0].as_mut_ptr().cast(), null_mut(), 0), RESAY_OK, "empty is NULL");
        for (message, status) in [
            (b'd', RESAY_DROP),
            (b'c', RESAY_CLOSE),
            (b'r', RESAY_RESET),
            (b'b', RESAY_E_DATA),
            (b'p', RESAY_E_PANIC),
        ] {
            let mut data = [message];
            assert_eq!(map(instance, memory[1].as_mut_ptr().cast(), data.as_mut_ptr(), 1), status);
        }
        for session in &mut memory {
            close(instance, session.as_mut_ptr().cast());
        }
        assert_eq!(ALIVE.load(Ordering::SeqCst), before);
        destroy(instance);
    }
}

#[test]
fn a_session_that_does_not_open() {
    let _lives = ALIVE_LOCK.lock();
    let instance = create(&MOODY, null(), &[]).unwrap();
    let open = table(&MOODY).session_open.unwrap();
    let mut memory = core::mem::MaybeUninit::<Memory>::zeroed();
    let before = ALIVE.load(Ordering::SeqCst);
    for (peer, status, text) in [
        (peer(RESAY_STREAM, c"tcp://192.0.2.1:1"), RESAY_E_UNSUPPORTED, "größer als se"),
        (peer(77, c"tcp://127.0.0.1:5"), RESAY_E_PANIC, "panic: what is "),
    ] {
        let mut told = Text::new();
        // SAFETY: a living instance, memory as asked for.
        let answer = unsafe { open(instance, memory.as_mut_ptr().cast(), &peer, &mut told.err()) };
        assert_eq!((answer, told.read().as_str()), (status, text));
    }
    assert_eq!(ALIVE.load(Ordering::SeqCst), before);
    destroy(instance);
}

#[test]
fn a_drop_that_panics() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in drop");
        }
    }
    #[derive(Default)]
    struct Fuse(Option<Bomb>);
    impl Transform for Bomb {
        type Session = Fuse;
        fn create(_: &Setup<'_>) -> Result<Self, Error> {
            Ok(Bomb)
        }
        fn open(&self, call: Call<'_, Fuse>, _: &Peer<'_>) -> Result<(), Error> {
            call.session.0 = Some(Bomb);
            Ok(())
        }
    }
    impl Map for Bomb {
        fn map(&self, _: Call<'_, Fuse>, _: &mut [u8]) -> Status {
            std::panic::panic_any(Bomb) // a payload that panics when it is dropped
        }
    }
    static BOMB: Table = Table::map::<Bomb>(c"bomb").build();
    let bomb = Harness::new(&BOMB, &[]).unwrap();
    assert_eq!(bomb.message(b"x").unwrap_err().status(), RESAY_E_PANIC);
}

#[test]
fn output_that_does_not_fit_continues() {
    let instance = create(&HEX_LINES, null(), &[]).unwrap();
    let process = table(&HEX_LINES).process.unwrap();
    let (input, mut used, mut hex) = (b"0123456789", 0, Vec::new());
    for room in [0, 1, 2, 3, 4, 5, 6, 100] {
        let mut out = vec![0; room];
        let mut io = io(&input[used..], &mut out, RESAY_IO_BEGIN | RESAY_IO_END);
        // SAFETY: a living instance; () needs no session.
        let status = unsafe { process(instance, null_mut(), &mut io) };
        hex.extend_from_slice(&out[..io.output_len]);
        used += io.input_used;
        if room == 100 {
            assert_eq!((status, io.delay_us), (RESAY_OK, 3000));
        } else {
            assert_eq!((status, io.output_need, io.output_len), (RESAY_MORE_OUT, 2, room / 2 * 2));
        }
    }
    assert_eq!((used, hex.as_slice()), (10, &b"30313233343536373839"[..]));
    // SAFETY: what create() gave.
    unsafe { table(&HEX_LINES).destroy.unwrap()(instance) };
}

#[test]
fn input_that_is_unfinished_is_kept() {
    let instance = create(&HEX_LINES, null(), &[]).unwrap();
    let process = table(&HEX_LINES).process.unwrap();
    let mut out = [0; 64];
    let mut call = |input: &[u8], flags| {
        let mut io = io(input, &mut out, flags);
        // SAFETY: as above.
        let status = unsafe { process(instance, null_mut(), &mut io) };
        (status, io.input_used, out[..io.output_len].to_vec())
    };
    assert_eq!(call(b"", 0), (RESAY_OK, 0, vec![]), "the greeting");
    assert_eq!(call(b"ab", 0), (RESAY_MORE_IN, 0, vec![]));
    assert_eq!(call(b"ab\nc", 0), (RESAY_MORE_IN, 3, b"61620a".to_vec()));
    assert_eq!(call(b"c", RESAY_IO_EOF), (RESAY_OK, 1, b"63".to_vec()));
    assert_eq!(call(b"", RESAY_IO_EOF), (RESAY_OK, 0, vec![]));
    assert_eq!(call(b"!", 0), (RESAY_E_PANIC, 0, vec![]));
    // SAFETY: what create() gave.
    unsafe { table(&HEX_LINES).destroy.unwrap()(instance) };

    let bounded = Harness::new(&HEX_BOUND, &[]).unwrap();
    assert_eq!(bounded.stream(&[b"a", b"\nb", b"\n", b"c"]).unwrap(), b"610a620a63");
}

#[test]
fn a_host_that_has_less() {
    let _lives = ALIVE_LOCK.lock();
    unsafe extern "C" fn never(_: *mut c_void, _: u32, _: u64) {
        std::process::abort()
    }
    let host = resay_host {
        struct_size: core::mem::offset_of!(resay_host, counter_add) as u32,
        abi_minor: 0,
        ctx: null_mut(),
        log_level: null(),
        log: None,
        counter: None,
        counter_add: Some(never), // behind the end that struct_size names
        extension: None,
    };
    let instance = create(&MOODY, &host, &[]).unwrap();
    let mut memory = core::mem::MaybeUninit::<Memory>::zeroed();
    let session = memory.as_mut_ptr().cast();
    let mut data = *b"x";
    let moody = table(&MOODY);
    // SAFETY: a living instance, memory as asked for; a peer may be missing.
    unsafe {
        assert_eq!(moody.session_open.unwrap()(instance, session, null(), null_mut()), RESAY_E_PANIC);
        let peer = peer(RESAY_DATAGRAM, c"udp://127.0.0.1:5");
        assert_eq!(moody.session_open.unwrap()(instance, session, &peer, null_mut()), RESAY_OK);
        assert_eq!(moody.map.unwrap()(instance, session, data.as_mut_ptr(), 1), RESAY_OK);
        moody.session_close.unwrap()(instance, session);
    }
    destroy(instance);
}

#[test]
fn log_and_counters() {
    let _lives = ALIVE_LOCK.lock();
    let moody = Harness::new(&MOODY, &[]).unwrap();
    assert_eq!(moody.message(b"xxx").unwrap(), b"1xx");
    assert_eq!(moody.stream(&[b"x", b"xx"]).unwrap(), b"12x");
    assert_eq!(moody.counter("seen"), Some(6));
    assert_eq!(moody.counter("unseen"), None);
    assert_eq!(moody.log(), ["tcp://127.0.0.1:50000 on tcp://127.0.0.1:8888"; 2]);
}

#[test]
fn a_level_that_is_not_wanted_costs_no_formatting() {
    struct Unprintable;
    impl core::fmt::Display for Unprintable {
        fn fmt(&self, _: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
            panic!("formatted")
        }
    }
    struct Quiet;
    impl Transform for Quiet {
        type Session = ();
        fn create(setup: &Setup<'_>) -> Result<Self, Error> {
            setup.host().log(Level::Debug, format_args!("{Unprintable}"));
            setup.host().log(Level::Warn, format_args!("{}", "ä".repeat(1000)));
            Ok(Quiet)
        }
    }
    impl Map for Quiet {
        fn map(&self, _: Call<'_, ()>, _: &mut [u8]) -> Status {
            Status::Ok
        }
    }
    static QUIET: Table = Table::map::<Quiet>(c"quiet").build();
    unsafe extern "C" fn log(ctx: *mut c_void, level: i32, utf8: *const c_char, len: usize) {
        // SAFETY: ctx is the string below; the line is borrowed.
        let (lines, line) =
            unsafe { (&mut *ctx.cast::<String>(), core::slice::from_raw_parts(utf8.cast(), len)) };
        *lines += &format!("{level} {}", core::str::from_utf8(line).unwrap().len());
    }
    let (mut lines, level) = (String::new(), RESAY_LOG_WARN as u8);
    let host = resay_host {
        struct_size: size_of::<resay_host>() as u32,
        abi_minor: 0,
        ctx: (&raw mut lines).cast(),
        log_level: &level,
        log: Some(log),
        counter: None,
        counter_add: None,
        extension: None,
    };
    let instance = create(&QUIET, &host, &[]).unwrap();
    // SAFETY: what create() gave.
    unsafe { table(&QUIET).destroy.unwrap()(instance) };
    assert_eq!(lines, "2 1024");
}

#[test]
fn a_session_is_carried_over() {
    let _lives = ALIVE_LOCK.lock();
    let moody = table(&MOODY);
    let extension = moody.extension.unwrap();
    // SAFETY: the table's own pointer; living instances and sessions, each used by one call at a time.
    unsafe {
        assert!(extension(MOODY.raw(), c"unknown/1".as_ptr()).is_null());
        assert!(extension(MOODY.raw(), RESAY_EXT_SELECT.as_ptr()).is_null(), "selects nothing");
        assert!(extension(HEX_LINES.raw(), RESAY_EXT_SESSION_STATE.as_ptr()).is_null());
        let state = extension(MOODY.raw(), RESAY_EXT_SESSION_STATE.as_ptr()).cast::<resay_session_state>();
        let state = &*state;
        assert_eq!(state.struct_size as usize, size_of::<resay_session_state>());
        assert_eq!(CStr::from_ptr(state.schema), c"test.moody/1");

        let old = create(&MOODY, null(), &[]).unwrap();
        let new = create(&MOODY, null(), &[]).unwrap();
        let mut memory = [const { core::mem::MaybeUninit::<Memory>::zeroed() }; 2];
        let [from, to] = &mut memory;
        let (from, to) = (from.as_mut_ptr().cast::<c_void>(), to.as_mut_ptr().cast::<c_void>());
        let peer = peer(RESAY_STREAM, c"tcp://127.0.0.1:5");
        for (instance, session) in [(old, from), (new, to)] {
            assert_eq!(moody.session_open.unwrap()(instance, session, &peer, null_mut()), RESAY_OK);
        }
        let mut data = *b"x";
        moody.map.unwrap()(old, from, data.as_mut_ptr(), 1);
        moody.map.unwrap()(old, from, data.as_mut_ptr(), 1);

        let mut small = [0; 7];
        let mut short = io(b"", &mut small, 0);
        assert_eq!(state.save.unwrap()(old, from, &mut short), RESAY_MORE_OUT);
        assert_eq!(short.output_need, 8);
        let mut enough = [0; 8];
        let mut call = io(b"", &mut enough, 0);
        assert_eq!(state.save.unwrap()(old, from, &mut call), RESAY_OK);
        let saved = resay_bytes { ptr: enough.as_ptr(), len: call.output_len };
        let mut text = Text::new();
        let load = state.load.unwrap();
        assert_eq!(load(new, to, c"other/9".as_ptr(), saved, &mut text.err()), RESAY_E_UNSUPPORTED);
        assert_eq!(text.read(), "schema other/9");
        let empty = resay_bytes { ptr: null(), len: 0 };
        assert_eq!(load(new, to, state.schema, empty, &mut text.err()), RESAY_E_CONFIG);
        assert_eq!(load(new, to, state.schema, saved, &mut text.err()), RESAY_OK);
        moody.map.unwrap()(new, to, data.as_mut_ptr(), 1);
        assert_eq!(&data, b"3");
        for (instance, session) in [(old, from), (new, to)] {
            moody.session_close.unwrap()(instance, session);
            destroy(instance);
        }
    }
}

#[test]
fn select_survives_a_panic() {
    static PICKY: Table = Table::process::<HexLines>(c"picky").select(|_| panic!("cannot decide")).build();
    let picky = Harness::new(&PICKY, &[]).unwrap();
    assert_eq!(picky.message(b"a").unwrap(), b"61");
}

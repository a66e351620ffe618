//! What embedding costs, through the C functions themselves.
//!
//! - `message`: 4096 messages of 16 bytes through one connection and back, on one thread that is both client and engine, so
//!   that nothing is measured but the way through. `callback` less `identity` is what a function of the host's costs a
//!   message, `session` one with a session; `empty` is the plain echo, without any transform.
//! - `price`: those differences, measured in turn, which other work on the machine disturbs less.
//! - `later`: what an answer from another thread costs over one in place: a message at a time, the median of both in turn.
//! - `start`: `resay_start` until every listener answers, one thread.
//! - `free`: `resay_engine_free` with a thousand idle connections.
#![allow(missing_docs, reason = "criterion's macros make undocumented items")]
#![allow(clippy::expect_used, reason = "a measurement: what fails ends it")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use resay as _; // The functions below are in it.

const MESSAGES: usize = 4096;
const MESSAGE_BYTES: usize = 16;
const CONNECTIONS: usize = 1000;
const TURNS: usize = 4001;
const EXCHANGES: usize = 20_001;

/// `resay_function`.
#[repr(C)]
struct Function {
    struct_size: u32,
    needs: u32,
    user: *mut c_void,
    begin: Option<Begin>,
    call: Call,
    end: Option<unsafe extern "C" fn(*mut c_void, *mut c_void)>,
    release: Option<unsafe extern "C" fn(*mut c_void)>,
}

type Begin = unsafe extern "C" fn(*mut c_void, *mut *mut c_void, *const c_void, *mut c_void) -> c_int;
type Call = unsafe extern "C" fn(*mut c_void, *mut *mut c_void, *const c_void, *mut c_void) -> c_int;

unsafe extern "C" {
    fn resay_engine_new(abi: u32, out: *mut *mut c_void, err: *mut c_void) -> c_int;
    fn resay_engine_free(engine: *mut c_void) -> c_int;
    fn resay_listen(engine: *mut c_void, url: *const c_char, out: *mut u64, err: *mut c_void) -> c_int;
    fn resay_listener_port(engine: *mut c_void, listener: u64) -> c_int;
    fn resay_register_function(
        engine: *mut c_void,
        id: *const c_char,
        function: *const Function,
        err: *mut c_void,
    ) -> c_int;
    fn resay_chain(engine: *mut c_void, listener: u64, spec: *const c_char, err: *mut c_void) -> c_int;
    fn resay_start(engine: *mut c_void, threads: u32, err: *mut c_void) -> c_int;
    fn resay_run(engine: *mut c_void, timeout_ms: i32) -> c_int;
    fn resay_later(out: *mut c_void) -> u64;
    fn resay_answer(
        engine: *mut c_void,
        token: u64,
        verdict: c_int,
        data: *const c_void,
        len: usize,
    ) -> c_int;
}

unsafe extern "C" fn pass(_: *mut c_void, _: *mut *mut c_void, _: *const c_void, _: *mut c_void) -> c_int {
    0
}

/// Begins a session, which is a number.
unsafe extern "C" fn begin(
    _: *mut c_void,
    session: *mut *mut c_void,
    _: *const c_void,
    _: *mut c_void,
) -> c_int {
    // SAFETY: the engine's word.
    unsafe { *session = ptr::without_provenance_mut(1) };
    0
}

/// Counts the messages of a session.
unsafe extern "C" fn count(
    _: *mut c_void,
    session: *mut *mut c_void,
    _: *const c_void,
    _: *mut c_void,
) -> c_int {
    // SAFETY: the engine's word.
    unsafe { *session = ptr::without_provenance_mut((*session).addr() + 1) };
    0
}

/// The token of the message that waits.
static TOKEN: AtomicU64 = AtomicU64::new(0);

/// Leaves the answer to the thread that has sent the message.
unsafe extern "C" fn put_off(
    _: *mut c_void,
    _: *mut *mut c_void,
    _: *const c_void,
    out: *mut c_void,
) -> c_int {
    // SAFETY: the engine's own output, during the call.
    TOKEN.store(unsafe { resay_later(out) }, Ordering::Release);
    RESAY_LATER
}

const RESAY_REPLACE: c_int = 1;
const RESAY_LATER: c_int = 6;

const PASS: Function = Function {
    struct_size: size_of::<Function>() as u32,
    needs: 0,
    user: ptr::null_mut(),
    begin: None,
    call: pass,
    end: None,
    release: None,
};

const PUT_OFF: Function = Function { call: put_off, ..PASS };

const COUNT: Function = Function { begin: Some(begin), call: count, ..PASS };

/// An engine with one TCP listener.
struct Engine {
    raw: *mut c_void,
    port: u16,
}

impl Engine {
    fn new(url: &CStr, chain: &CStr) -> Engine {
        let (mut raw, mut listener, null) = (ptr::null_mut(), 0, ptr::null_mut());
        // SAFETY: pointers of ours, strings that live, and no room for errors.
        let port = unsafe {
            assert_eq!(resay_engine_new(1, &mut raw, null), 0);
            assert_eq!(resay_register_function(raw, c"pass".as_ptr(), &PASS, null), 0);
            assert_eq!(resay_register_function(raw, c"count".as_ptr(), &COUNT, null), 0);
            assert_eq!(resay_register_function(raw, c"later".as_ptr(), &PUT_OFF, null), 0);
            assert_eq!(resay_chain(raw, 0, chain.as_ptr(), null), 0);
            assert_eq!(resay_listen(raw, url.as_ptr(), &mut listener, null), 0);
            resay_listener_port(raw, listener)
        };
        Engine { raw, port: port as u16 }
    }

    fn start(&self) {
        // SAFETY: the engine lives.
        assert_eq!(unsafe { resay_start(self.raw, 1, ptr::null_mut()) }, 0);
    }

    fn turn(&self) {
        // SAFETY: as above.
        assert_eq!(unsafe { resay_run(self.raw, 0) }, 1);
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).expect("the engine listens")
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // SAFETY: made once, freed once.
        assert_eq!(unsafe { resay_engine_free(self.raw) }, 0);
    }
}

/// The messages, there and back.
struct Trip {
    engine: Engine,
    client: TcpStream,
    batch: Vec<u8>,
    answer: Vec<u8>,
}

impl Trip {
    fn new(chain: &CStr) -> Trip {
        let engine = Engine::new(c"tcp://127.0.0.1:0?frame=fixed:16&rcvbuf=1m&sndbuf=1m", chain);
        let client = engine.connect();
        client.set_nonblocking(true).expect("a socket");
        let batch: Vec<u8> = (0..MESSAGES * MESSAGE_BYTES).map(|i| i as u8).collect();
        Trip { engine, client, answer: vec![0; batch.len()], batch }
    }

    fn make(&mut self) {
        let (mut sent, mut got) = (0, 0);
        while got < self.batch.len() {
            if sent < self.batch.len() {
                sent += self.client.write(&self.batch[sent..]).unwrap_or(0);
            }
            self.engine.turn();
            got += self.client.read(&mut self.answer[got..]).unwrap_or(0);
        }
    }

    fn time(&mut self) -> Duration {
        let begin = Instant::now();
        self.make();
        begin.elapsed()
    }
}

fn message(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("message");
    group.throughput(Throughput::Elements(MESSAGES as u64));
    for (name, chain) in
        [("empty", c""), ("identity", c"identity"), ("callback", c"pass"), ("session", c"count")]
    {
        let mut trip = Trip::new(chain);
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| trip.make());
            assert_eq!(trip.answer, trip.batch);
        });
    }
    group.finish();
}

/// The same in turn, for a machine that has other things to do: what one measurement suffers, its neighbour does too.
fn price(_: &mut Criterion) {
    for (name, chain) in [("callback", c"pass"), ("session", c"count")] {
        price_of(name, chain);
    }
}

fn price_of(name: &str, chain: &CStr) {
    let (mut identity, mut function) = (Trip::new(c"identity"), Trip::new(chain));
    let mut times: Vec<_> = (0..TURNS).map(|_| (identity.time(), function.time())).collect();
    let nanoseconds = |time: Duration| time.as_nanos() as f64 / MESSAGES as f64;
    let fastest =
        |of: &dyn Fn(&(Duration, Duration)) -> Duration| times.iter().map(of).min().unwrap_or_default();
    let (plain, own) = (nanoseconds(fastest(&|time| time.0)), nanoseconds(fastest(&|time| time.1)));
    times.sort_by_key(|time| time.1.saturating_sub(time.0));
    let (plain_then, own_then) = times[TURNS / 2];
    println!(
        "price                   {name} less identity: {:.1} ns a message by the fastest of each, {:.1} ns by the median \
         of {TURNS} pairs",
        own - plain,
        nanoseconds(own_then) - nanoseconds(plain_then),
    );
}

/// One message at a time, to an engine with a thread of its own.
struct Exchange {
    engine: Engine,
    client: TcpStream,
    is_later: bool,
}

impl Exchange {
    fn new(chain: &CStr, is_later: bool) -> Exchange {
        let engine = Engine::new(c"tcp://127.0.0.1:0?frame=fixed:16", chain);
        engine.start();
        let client = engine.connect();
        client.set_nodelay(true).expect("a socket");
        Exchange { engine, client, is_later }
    }

    fn time(&mut self) -> Duration {
        let (message, mut answer) = ([7_u8; MESSAGE_BYTES], [0_u8; MESSAGE_BYTES]);
        let begin = Instant::now();
        self.client.write_all(&message).expect("served");
        if self.is_later {
            let token = loop {
                match TOKEN.swap(0, Ordering::Acquire) {
                    0 => std::hint::spin_loop(),
                    token => break token,
                }
            };
            let data = message.as_ptr().cast();
            // SAFETY: the engine lives, and the message has so many bytes.
            let code = unsafe { resay_answer(self.engine.raw, token, RESAY_REPLACE, data, message.len()) };
            assert_eq!(code, 0);
        }
        self.client.read_exact(&mut answer).expect("served");
        let time = begin.elapsed();
        assert_eq!(answer, message);
        time
    }
}

fn later(_: &mut Criterion) {
    let (mut at_once, mut later) = (Exchange::new(c"pass", false), Exchange::new(c"later", true));
    let (mut plain, mut late): (Vec<_>, Vec<_>) =
        (0..EXCHANGES).map(|_| (at_once.time(), later.time())).unzip();
    plain.sort_unstable();
    late.sort_unstable();
    let microseconds = |times: &[Duration]| times[times.len() / 2].as_nanos() as f64 / 1000.0;
    let (plain, late) = (microseconds(&plain), microseconds(&late));
    println!(
        "later                   {late:.1} us an answer from another thread, {plain:.1} us one in place: {:.1} us more, by \
         the medians of {EXCHANGES}",
        late - plain
    );
}

fn start(criterion: &mut Criterion) {
    criterion.bench_function("start", |bencher| {
        bencher.iter_custom(|times| {
            let mut sum = Duration::ZERO;
            for _ in 0..times {
                let engine = Engine::new(c"tcp://127.0.0.1:0", c"uppercase");
                let begin = Instant::now();
                engine.start();
                sum += begin.elapsed();
                drop(engine.connect());
            }
            sum
        });
    });
}

fn free(criterion: &mut Criterion) {
    raise_descriptor_limit();
    let mut group = criterion.benchmark_group("free");
    group.sample_size(10).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(2));
    group.bench_function(BenchmarkId::from_parameter(CONNECTIONS), |bencher| {
        bencher.iter_custom(|times| {
            let mut sum = Duration::ZERO;
            for _ in 0..times {
                let engine = Engine::new(c"tcp://127.0.0.1:0?backlog=4096", c"uppercase");
                engine.start();
                let mut peers: Vec<_> = (0..CONNECTIONS).map(|_| engine.connect()).collect();
                // Each has been served, and is idle now.
                for peer in &mut peers {
                    let mut answer = [0];
                    peer.write_all(b"x").expect("served");
                    peer.read_exact(&mut answer).expect("served");
                }
                let begin = Instant::now();
                drop(engine);
                sum += begin.elapsed();
            }
            sum
        });
    });
    group.finish();
}

/// A thousand connections have two thousand ends.
fn raise_descriptor_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a pointer to one rlimit, which lives during both calls.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        limit.rlim_cur = limit.rlim_max;
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
    }
}

criterion_group!(benches, message, price, later, start, free);
criterion_main!(benches);

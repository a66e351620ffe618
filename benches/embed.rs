//! What embedding costs, through the C functions themselves.
//!
//! - `message`: 4096 messages of 16 bytes through one connection and back, on one thread that is both client and engine, so
//!   that nothing is measured but the way through. `callback` less `identity` is what a function of the host's costs a
//!   message; `empty` is the plain echo, without any transform.
//! - `price`: that difference, measured in turn, which other work on the machine disturbs less.
//! - `start`: `resay_start` until every listener answers, one thread.
//! - `free`: `resay_engine_free` with a thousand idle connections.
#![allow(missing_docs, reason = "criterion's macros make undocumented items")]
#![allow(clippy::expect_used, reason = "a measurement: what fails ends it")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::ptr;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use resay as _; // The functions below are in it.

const MESSAGES: usize = 4096;
const MESSAGE_BYTES: usize = 16;
const CONNECTIONS: usize = 1000;
const TURNS: usize = 4001;

type Callback = unsafe extern "C" fn(*mut c_void, *const u8, usize, u32, *mut c_void) -> c_int;

unsafe extern "C" {
    fn resay_engine_new(abi: u32, out: *mut *mut c_void, err: *mut c_void) -> c_int;
    fn resay_engine_free(engine: *mut c_void) -> c_int;
    fn resay_listen(engine: *mut c_void, url: *const c_char, out: *mut u64, err: *mut c_void) -> c_int;
    fn resay_listener_port(engine: *mut c_void, listener: u64) -> c_int;
    fn resay_register_callback(
        engine: *mut c_void,
        id: *const c_char,
        callback: Callback,
        user: *mut c_void,
        release: Option<unsafe extern "C" fn(*mut c_void)>,
        err: *mut c_void,
    ) -> c_int;
    fn resay_chain(engine: *mut c_void, listener: u64, spec: *const c_char, err: *mut c_void) -> c_int;
    fn resay_start(engine: *mut c_void, threads: u32, err: *mut c_void) -> c_int;
    fn resay_run(engine: *mut c_void, timeout_ms: i32) -> c_int;
}

unsafe extern "C" fn pass(_: *mut c_void, _: *const u8, _: usize, _: u32, _: *mut c_void) -> c_int {
    0
}

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
            assert_eq!(resay_register_callback(raw, c"pass".as_ptr(), pass, null, None, null), 0);
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
    for (name, chain) in [("empty", c""), ("identity", c"identity"), ("callback", c"pass")] {
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
    let (mut identity, mut callback) = (Trip::new(c"identity"), Trip::new(c"pass"));
    let mut times: Vec<_> = (0..TURNS).map(|_| (identity.time(), callback.time())).collect();
    let nanoseconds = |time: Duration| time.as_nanos() as f64 / MESSAGES as f64;
    let fastest =
        |of: &dyn Fn(&(Duration, Duration)) -> Duration| times.iter().map(of).min().unwrap_or_default();
    let (plain, own) = (nanoseconds(fastest(&|time| time.0)), nanoseconds(fastest(&|time| time.1)));
    times.sort_by_key(|time| time.1.saturating_sub(time.0));
    let (plain_then, own_then) = times[TURNS / 2];
    println!(
        "price                   callback less identity: {:.1} ns a message by the fastest of each, {:.1} ns by the median \
         of {TURNS} pairs",
        own - plain,
        nanoseconds(own_then) - nanoseconds(plain_then),
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

criterion_group!(benches, message, price, start, free);
criterion_main!(benches);

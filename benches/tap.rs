//! What an open tap costs: the throughput of an engine with and without one, in alternation, while a thread reads the
//! records. Machines drift, so only the ratio counts: the median of neighbouring slices. The processor time of the worker
//! says the same of a machine that is busy with other things.
//!
//! `cargo bench --bench tap`; `-- SLICES` asks for more of them than 40.
#![allow(clippy::expect_used, reason = "a bench: what fails ends it")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use resay::{Backend, Client, Engine, Tap, TapOptions};

const MESSAGE_BYTES: usize = 64;
const CONNECTIONS: usize = 50;
const SLICE: Duration = Duration::from_millis(100);
const PATIENCE: Option<Duration> = Some(Duration::from_secs(10));

/// A listener, how many messages each of its peers has in flight, and whether the tap keeps answers.
const LOADS: [(&str, usize, bool); 6] = [
    ("tcp://127.0.0.1:0", 1, false),
    ("tcp://127.0.0.1:0", 16, false),
    ("tcp://127.0.0.1:0?frame=lines", 16, false),
    ("tcp://127.0.0.1:0?frame=lines", 16, true),
    ("udp://127.0.0.1:0", 1, false),
    ("udp://127.0.0.1:0", 2, false),
];

fn main() {
    let slices = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(40);
    for backend in [Backend::Epoll, Backend::Uring] {
        for (url, in_flight, answers) in LOADS {
            let builder = Engine::builder().listen(url).expect("a listener").backend(backend);
            let engine = match builder.start() {
                Ok(engine) => engine,
                Err(error) => {
                    println!("{backend} is left out: {error}");
                    break;
                }
            };
            let Compared { rate, rate_ratio, worker_ns: [without, with], lost } =
                compare(&engine, in_flight, answers, slices);
            let kept = if answers { "messages and answers" } else { "messages" };
            println!(
                "{backend}, {url}, {CONNECTIONS} peers, {in_flight} in flight: {rate:.0} messages/s, worker {without:.0} ns; \
                 with a tap of {kept} {:.1} %, worker {with:.0} ns, {lost} records lost",
                100.0 * rate_ratio
            );
            engine.stop();
        }
    }
}

struct Compared {
    /// Messages a second without a tap, and their ratio with one.
    rate: f64,
    rate_ratio: f64,
    /// Processor time of the worker for each message, without and with one.
    worker_ns: [f64; 2],
    lost: u64,
}

fn compare(engine: &Engine, in_flight: usize, answers: bool, slices: usize) -> Compared {
    let url = &engine.urls()[0];
    let peers: Vec<_> = (0..CONNECTIONS).map(|_| Client::open(url, PATIENCE).expect("a peer")).collect();
    let is_stream = url.starts_with("tcp");
    exchange(&peers, is_stream, in_flight);
    let (mut without, mut ratios, mut lost) = (Vec::new(), Vec::new(), 0);
    let mut worker_ns = [Vec::new(), Vec::new()];
    for slice in 0..slices {
        let mut rates = [0.0; 2];
        // Each order as often as the other.
        for is_tapped in [slice % 2 == 0, slice % 2 == 1] {
            let reading = is_tapped.then(|| Reading::begin(engine, answers));
            let before = worker_time_ns();
            let (count, time) = exchange(&peers, is_stream, in_flight);
            rates[usize::from(is_tapped)] = count / time.as_secs_f64();
            worker_ns[usize::from(is_tapped)].push((worker_time_ns() - before) as f64 / count);
            lost += reading.map_or(0, Reading::end);
        }
        without.push(rates[0]);
        ratios.push(rates[1] / rates[0]);
    }
    Compared { rate: median(without), rate_ratio: median(ratios), worker_ns: worker_ns.map(median), lost }
}

/// Processor time that the worker's thread has taken (proc_pid_schedstat(5)).
fn worker_time_ns() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("the threads of this process");
    let read = |path: std::path::PathBuf| std::fs::read_to_string(path).unwrap_or_default();
    let mut workers = tasks.flatten().filter(|task| read(task.path().join("comm")).trim() == "resay-0");
    let figures = workers.next().map(|task| read(task.path().join("schedstat"))).unwrap_or_default();
    figures.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Answers for the length of a slice, and how long that was.
fn exchange(peers: &[Client], is_stream: bool, in_flight: usize) -> (f64, Duration) {
    let mut message = [b'm'; MESSAGE_BYTES];
    message[MESSAGE_BYTES - 1] = b'\n';
    let batch = message.repeat(in_flight);
    let mut buffer = vec![0; batch.len()];
    let (begun, mut answers) = (Instant::now(), 0);
    while begun.elapsed() < SLICE {
        for peer in peers {
            if is_stream {
                peer.send(&batch, PATIENCE).expect("messages sent");
            } else {
                (0..in_flight).for_each(|_| peer.send(&message, PATIENCE).expect("a message sent"));
            }
        }
        for peer in peers {
            let mut received = 0;
            while received < batch.len() {
                received += peer.recv(&mut buffer[received..], PATIENCE).expect("an answer");
            }
        }
        answers += peers.len() * in_flight;
    }
    (answers as f64, begun.elapsed())
}

/// A tap, and the thread that reads it.
struct Reading {
    tap: Arc<Tap>,
    is_over: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

impl Reading {
    fn begin(engine: &Engine, answers: bool) -> Reading {
        let options = TapOptions { answers, ..TapOptions::default() };
        let tap = Arc::new(engine.tap(options).expect("a tap"));
        let is_over = Arc::new(AtomicBool::new(false));
        let (reader, has_ended) = (Arc::clone(&tap), Arc::clone(&is_over));
        let thread = thread::spawn(move || {
            let mut bytes = 0;
            while !has_ended.load(Ordering::Relaxed) {
                let count = |record: &resay::TapRecord<'_>| {
                    bytes += record.data.len() + record.answer.len();
                    true
                };
                reader.read(Some(Duration::from_millis(5)), count).expect("records");
            }
            std::hint::black_box(bytes);
        });
        Reading { tap, is_over, thread }
    }

    fn end(self) -> u64 {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().expect("a reader that ends");
        self.tap.lost()
    }
}

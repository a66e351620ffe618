//! What an open tap costs: the throughput of an engine with and without one, in alternation, while a thread reads the
//! records. Machines drift, so only the ratio counts: the median of neighbouring slices.
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

/// A listener, and how many messages each of its peers has in flight.
const LOADS: [(&str, &str, usize); 4] = [
    ("tcp", "tcp://127.0.0.1:0", 1),
    ("tcp, lines", "tcp://127.0.0.1:0?frame=lines", 16),
    ("udp", "udp://127.0.0.1:0", 1),
    ("udp", "udp://127.0.0.1:0", 2),
];

fn main() {
    let slices = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(40);
    for backend in [Backend::Epoll, Backend::Uring] {
        for (name, url, in_flight) in LOADS {
            let builder = Engine::builder().listen(url).expect("a listener").backend(backend);
            let engine = match builder.start() {
                Ok(engine) => engine,
                Err(error) => {
                    println!("{backend} is left out: {error}");
                    break;
                }
            };
            let what = format!("{backend}, {name}, {CONNECTIONS} peers, {in_flight} in flight");
            let (without, ratio, lost) = compare(&engine, in_flight, slices);
            println!(
                "{what}: {without:.0} messages/s, with a tap {:.1} %, {lost} records lost",
                100.0 * ratio
            );
            engine.stop();
        }
    }
}

/// Messages a second without a tap, their ratio with one, and the records that were lost.
fn compare(engine: &Engine, in_flight: usize, slices: usize) -> (f64, f64, u64) {
    let url = &engine.urls()[0];
    let peers: Vec<_> = (0..CONNECTIONS).map(|_| Client::open(url, PATIENCE).expect("a peer")).collect();
    let is_stream = url.starts_with("tcp");
    exchange(&peers, is_stream, in_flight);
    let (mut without, mut ratios, mut lost) = (Vec::new(), Vec::new(), 0);
    for slice in 0..slices {
        let mut rates = [0.0; 2];
        // Each order as often as the other.
        for is_tapped in [slice % 2 == 0, slice % 2 == 1] {
            let reading = is_tapped.then(|| Reading::begin(engine));
            rates[usize::from(is_tapped)] = exchange(&peers, is_stream, in_flight);
            lost += reading.map_or(0, Reading::end);
        }
        without.push(rates[0]);
        ratios.push(rates[1] / rates[0]);
    }
    (median(without), median(ratios), lost)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Answers a second, for the length of a slice.
fn exchange(peers: &[Client], is_stream: bool, in_flight: usize) -> f64 {
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
    answers as f64 / begun.elapsed().as_secs_f64()
}

/// A tap, and the thread that reads it.
struct Reading {
    tap: Arc<Tap>,
    is_over: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

impl Reading {
    fn begin(engine: &Engine) -> Reading {
        let options = TapOptions { answers: true, ..TapOptions::default() };
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

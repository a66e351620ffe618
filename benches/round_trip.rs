//! One message there and back, over every transport: with the engine on a thread of its own, on each driver, and on this
//! thread (`lent`), where nobody has to be woken up.
//!
//! With two threads nearly all of it is the kernel waking one after the other: compare drivers, and quote ratios.
#![allow(missing_docs, reason = "criterion's macros make undocumented items")]
#![allow(clippy::expect_used, reason = "a bench: what fails ends it")]

use std::path::Path;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use resay::{Backend, Client, Engine};

const MESSAGE: [u8; 64] = [b'm'; 64];
const PATIENCE: Option<Duration> = Some(Duration::from_secs(10));
const TRANSPORTS: [&str; 5] = ["tcp", "udp", "unix", "unix-dgram", "unix-seqpacket"];

fn round_trip(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("round_trip");
    let directory = tempfile::tempdir().expect("a directory for sockets");
    for transport in TRANSPORTS {
        for backend in [Backend::Epoll, Backend::Uring] {
            let url = url(transport, &directory.path().join(format!("{transport}-{backend}")));
            let builder = Engine::builder().listen(&url).expect("a listener").backend(backend);
            let engine = match builder.start() {
                Ok(engine) => engine,
                Err(error) => {
                    println!("{transport} on {backend} is left out: {error}");
                    continue;
                }
            };
            let client = Client::open(&engine.urls()[0], PATIENCE).expect("a connection");
            let mut answer = [0; MESSAGE.len()];
            group.bench_function(BenchmarkId::new(transport, backend), |bencher| {
                bencher.iter(|| {
                    client.send(&MESSAGE, PATIENCE).expect("a message sent");
                    receive(&client, &mut answer);
                });
            });
            assert_eq!(answer, MESSAGE);
            engine.drain(Duration::from_secs(5)).expect("an end");
        }
        let url = url(transport, &directory.path().join(format!("{transport}-lent")));
        let engine = Engine::builder().listen(&url).and_then(|builder| builder.build()).expect("an engine");
        let client = Client::open(&engine.urls()[0], PATIENCE).expect("a connection");
        let turn = || engine.run(Some(Duration::ZERO)).expect("a turn");
        turn();
        let mut answer = [0; MESSAGE.len()];
        group.bench_function(BenchmarkId::new(transport, "lent"), |bencher| {
            bencher.iter(|| {
                client.send(&MESSAGE, PATIENCE).expect("a message sent");
                turn();
                receive(&client, &mut answer);
            });
        });
        assert_eq!(answer, MESSAGE);
    }
    group.finish();
}

fn url(transport: &str, path: &Path) -> String {
    match transport {
        "tcp" | "udp" => format!("{transport}://127.0.0.1:0"),
        _ => format!("{transport}:{}", path.display()),
    }
}

/// A stream may bring an answer in parts.
fn receive(client: &Client, answer: &mut [u8; MESSAGE.len()]) {
    let mut received = 0;
    while received < answer.len() {
        match client.recv(&mut answer[received..], PATIENCE).expect("an answer") {
            0 => unreachable!("the engine does not close"),
            len => received += len,
        }
    }
}

criterion_group!(benches, round_trip);
criterion_main!(benches);

//! Every bundled transform beside memcpy: one message, through its table.
//!
//! Faults are set so that they do what they do at every message but end nothing: what they cost is what is measured,
//! not what they do to a connection.
#![allow(missing_docs, reason = "criterion's macros make undocumented items")]
#![allow(clippy::expect_used, reason = "a bench: what fails ends it")]

mod support {
    #[allow(dead_code, reason = "libraries are another bench's")]
    pub(crate) mod table;
}

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use resay_plugin::Table;
use resay_transforms::{
    bandwidth, base64, close, corrupt, crc32, delay, drop, hex, hold, identity, lowercase, prefix, reset,
    reverse, rot13, slice, sockperf, suffix, template, truncate, uppercase, whoami,
};
use support::table::Instance;

const SIZES_BYTES: [usize; 3] = [64, 1 << 10, 64 << 10];
/// A name, a table, and the options of an instance.
type Subject = (&'static str, &'static Table, &'static [(&'static str, &'static str)]);

const SUBJECTS: &[Subject] = &[
    ("identity", &identity::TABLE, &[]),
    ("uppercase", &uppercase::TABLE, &[]),
    ("lowercase", &lowercase::TABLE, &[]),
    ("reverse", &reverse::TABLE, &[]),
    ("rot13", &rot13::TABLE, &[]),
    ("hex", &hex::TABLE, &[]),
    ("base64", &base64::TABLE, &[]),
    ("crc32", &crc32::TABLE, &[]),
    ("prefix", &prefix::TABLE, &[("text", "> ")]),
    ("suffix", &suffix::TABLE, &[("text", "!")]),
    ("template", &template::TABLE, &[("text", "{count}: {message}")]),
    ("whoami", &whoami::TABLE, &[]),
    ("sockperf", &sockperf::TABLE, &[]),
    ("delay", &delay::TABLE, &[("time", "1ms"), ("jitter", "1ms")]),
    ("drop", &drop::TABLE, &[("rate", "50%")]),
    ("corrupt", &corrupt::TABLE, &[("rate", "1%")]),
    ("truncate", &truncate::TABLE, &[]),
    ("slice", &slice::TABLE, &[("size", "64"), ("gap", "1us")]),
    ("bandwidth", &bandwidth::TABLE, &[("rate", "1g")]),
    ("hold", &hold::TABLE, &[("messages", "4000000000")]),
    ("reset", &reset::TABLE, &[("messages", "4000000000")]),
    ("close", &close::TABLE, &[("messages", "4000000000")]),
];

fn transforms(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("transforms");
    for bytes in SIZES_BYTES {
        let text: Vec<u8> = (0..bytes).map(|i| b"Hello, World. "[i % 14]).collect();
        let mut data = text.clone();
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::new("memcpy", bytes), |bencher| {
            bencher.iter(|| black_box(&mut data[..]).copy_from_slice(black_box(&text)));
        });
        for (name, table, options) in SUBJECTS {
            // SAFETY: a bundled table keeps the promises of the ABI and stays for ever.
            let mut instance = unsafe { Instance::new(table.raw(), options) };
            let mut out = Vec::new();
            data.copy_from_slice(&text);
            let status = instance.answer(&mut data, &mut out);
            assert!(status >= 0, "{name} of {bytes} bytes: {status}");
            group.bench_function(BenchmarkId::new(*name, bytes), |bencher| {
                bencher.iter(|| black_box(&mut instance).answer(black_box(&mut data[..]), &mut out));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, transforms);
criterion_main!(benches);

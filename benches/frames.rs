//! What framing costs: 256 messages of 64 bytes through an engine on this thread, over a unix stream.
//!
//! `whole`: all messages come with one read. `split`: reads of 1000 bytes, so that nearly each cuts a message, which waits
//! for its rest. `raw` has no messages: a framing less `raw`, for each of the 256, is what finding its frames costs.
#![allow(missing_docs, reason = "criterion's macros make undocumented items")]
#![allow(clippy::expect_used, reason = "a bench: what fails ends it")]

mod support {
    pub(crate) mod inline_engine;
}

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use support::inline_engine::InlineEngine;

const MESSAGES: usize = 256;
const BODY_BYTES: usize = 64;
const PIECE_BYTES: usize = 1000;

/// A framing, and what stands before and behind each message.
const FRAMINGS: [(&str, &[u8], &[u8]); 11] = [
    ("raw", b"", b""),
    ("lines", b"", b"\n"),
    ("delim:0d0a", b"", b"\r\n"),
    ("delim:00", b"", b"\0"),
    ("len8", &[64], b""),
    ("len16be", &[0, 64], b""),
    ("len16le", &[64, 0], b""),
    ("len32be", &[0, 0, 0, 64], b""),
    ("len32le", &[64, 0, 0, 0], b""),
    ("varint", &[64], b""),
    ("fixed:64", b"", b""),
];

fn frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frames");
    group.throughput(Throughput::Elements(MESSAGES as u64));
    for (name, before, behind) in FRAMINGS {
        let stream = [before, &[b'm'; BODY_BYTES], behind].concat().repeat(MESSAGES);
        for (how, piece_bytes) in [("whole", stream.len()), ("split", PIECE_BYTES)] {
            let mut engine = InlineEngine::new(&format!("frame={name}"), "identity");
            assert_eq!(engine.exchange(stream.chunks(piece_bytes), stream.len()), stream, "{name} {how}");
            group.bench_function(BenchmarkId::new(name, how), |bencher| {
                bencher.iter(|| engine.exchange(stream.chunks(piece_bytes), stream.len()).len());
            });
        }
    }
    group.finish();
}

criterion_group!(benches, frames);
criterion_main!(benches);

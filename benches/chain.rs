//! What a chain costs: 256 messages of 64 bytes, each through one to five transforms, on this thread, over a unix stream.
//!
//! `in place`: `rot13`, which changes bytes where they are. `copying`: `prefix`, whose answers are made elsewhere, so that
//! each stage writes what the next one reads. The slope from one stage to the next is the price of a stage.
#![allow(missing_docs, reason = "criterion's macros make undocumented items")]
#![allow(clippy::expect_used, reason = "a bench: what fails ends it")]

mod support {
    pub(crate) mod inline_engine;
}

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use support::inline_engine::InlineEngine;

const MESSAGES: usize = 256;
const BODY_BYTES: usize = 64;
const STAGES_MAX: usize = 5;

fn chain(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("chain");
    group.throughput(Throughput::Elements(MESSAGES as u64));
    let stream = [b'm'; BODY_BYTES].repeat(MESSAGES);
    for stages in 0..=STAGES_MAX {
        for (how, stage, added_bytes) in [("in place", "rot13", 0), ("copying", "prefix:text=x", 1)] {
            let spec = vec![stage; stages].join(" | ");
            let mut engine = InlineEngine::new(&format!("frame=fixed:{BODY_BYTES}"), &spec);
            let answer_bytes = stream.len() + MESSAGES * stages * added_bytes;
            let answer = engine.exchange(std::iter::once(&stream[..]), answer_bytes);
            let turned = how == "in place" && stages % 2 == 1;
            assert_eq!(answer.last(), Some(if turned { &b'z' } else { &b'm' }), "{spec}");
            group.bench_function(BenchmarkId::new(how, stages), |bencher| {
                bencher.iter(|| engine.exchange(std::iter::once(&stream[..]), answer_bytes).len());
            });
        }
    }
    group.finish();
}

criterion_group!(benches, chain);
criterion_main!(benches);

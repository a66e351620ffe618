//! What calling a transform through its table costs, beside the same work inlined and beside memcpy.
//!
//! - `memcpy`: the bytes copied once, which is what an answer that is not in place costs before anything else;
//! - `inlined`: `make_ascii_uppercase` of the standard library, compiled into the loop that calls it;
//! - `bundled`: `uppercase` as the engine calls it, through the C function in its table;
//! - `dlopened`: the same from `libuppercase.so`, if `cargo build --release --package resay-transforms --examples` made it;
//! - `c`: `rot13` from a library that the C compiler has made of `examples/c/plugin_rot13.c`, if there is a compiler;
//! - `closure`: a `Box<dyn Fn>` of the same work, the least that any choice at run time costs.
//!
//! `bundled` less `inlined` at 16 bytes is the price of the boundary; at 1 MiB there is none to be seen.
#![allow(missing_docs, reason = "criterion's macros make undocumented items")]
#![allow(clippy::expect_used, reason = "a bench: what fails ends it")]

mod support {
    pub(crate) mod table;
}

use std::hint::black_box;
use std::path::Path;
use std::process::Command;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use support::table::{Instance, dlopened};

type Closure = Box<dyn Fn(&mut [u8])>;

const SIZES_BYTES: [usize; 5] = [16, 64, 1 << 10, 64 << 10, 1 << 20];

fn call(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("call");
    let uppercase: Closure = Box::new(<[u8]>::make_ascii_uppercase);
    let mut tables = vec![("bundled", resay_transforms::uppercase::TABLE.raw())];
    // SAFETY: our own plugin, built from this tree.
    match unsafe { dlopened(&shared_library(), "uppercase") } {
        Some(table) => tables.push(("dlopened", table)),
        None => println!("dlopened is left out: there is no {}", shared_library().display()),
    }
    let scratch = tempfile::tempdir().expect("a directory for a library");
    match c_library(scratch.path()) {
        // SAFETY: our own plugin, made of an example.
        Some(library) => tables.extend(unsafe { dlopened(&library, "rot13") }.map(|table| ("c", table))),
        None => println!("c is left out: there is no C compiler"),
    }
    for bytes in SIZES_BYTES {
        let text: Vec<u8> = (0..bytes).map(|i| b"Hello, World. "[i % 14]).collect();
        let mut data = text.clone();
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::new("memcpy", bytes), |bencher| {
            bencher.iter(|| black_box(&mut data[..]).copy_from_slice(black_box(&text)));
        });
        group.bench_function(BenchmarkId::new("inlined", bytes), |bencher| {
            bencher.iter(|| black_box(&mut data[..]).make_ascii_uppercase());
        });
        group.bench_function(BenchmarkId::new("closure", bytes), |bencher| {
            bencher.iter(|| black_box(&uppercase)(black_box(&mut data[..])));
        });
        for &(name, table) in &tables {
            // SAFETY: bundled, or checked above.
            let mut instance = unsafe { Instance::new(table, &[]) };
            let mut out = Vec::new();
            group.bench_function(BenchmarkId::new(name, bytes), |bencher| {
                // The function is hidden from the compiler, as one from a library is.
                bencher.iter(|| black_box(&mut instance).answer(black_box(&mut data[..]), &mut out));
            });
        }
    }
    group.finish();
}

/// Where Cargo puts it: this program is in a directory beside it.
fn shared_library() -> std::path::PathBuf {
    let program = std::env::current_exe().expect("where this program is");
    program.ancestors().nth(2).unwrap_or(Path::new(".")).join("examples/libuppercase.so")
}

fn c_library(scratch: &Path) -> Option<std::path::PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let library = scratch.join("librot13.so");
    let status = Command::new("cc")
        .args(["-O2", "-shared", "-fPIC", "-I"])
        .arg(root.join("include"))
        .arg(root.join("examples/c/plugin_rot13.c"))
        .arg("-o")
        .arg(&library)
        .status();
    status.is_ok_and(|status| status.success()).then_some(library)
}

criterion_group!(benches, call);
criterion_main!(benches);

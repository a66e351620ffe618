//! What calling a transform through its table costs, beside the same work inlined and beside memcpy.
//!
//! - `memcpy`: the bytes copied once, which is what an answer that is not in place costs before anything else;
//! - `inlined`: `make_ascii_uppercase` of the standard library, compiled into the loop that calls it;
//! - `table`: `uppercase` as the engine calls it, through the C function in its table.
//!
//! `table` less `inlined` at 16 bytes is the price of the boundary; at 1 MiB there is none to be seen.
#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use std::ffi::c_void;
use std::hint::black_box;
use std::ptr;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use resay_plugin::{Table, abi};

const SIZES_BYTES: [usize; 5] = [16, 64, 1 << 10, 64 << 10, 1 << 20];

type Map = unsafe extern "C" fn(*mut c_void, *mut c_void, *mut u8, usize) -> abi::resay_status;

/// An instance that works in place and has no session, as the engine holds it.
struct Instance {
    map: Map,
    instance: *mut c_void,
    destroy: Option<unsafe extern "C" fn(*mut c_void)>,
}

static HOST: Host = Host(abi::resay_host {
    struct_size: size_of::<abi::resay_host>() as u32,
    abi_minor: abi::RESAY_PLUGIN_ABI_MINOR,
    ctx: ptr::null_mut(),
    log_level: ptr::null(),
    log: None,
    counter: None,
    counter_add: None,
    extension: None,
});

struct Host(abi::resay_host);

// SAFETY: all its pointers are null.
unsafe impl Sync for Host {}

impl Instance {
    fn new(table: &'static Table) -> Instance {
        // SAFETY: a table of the SDK is valid for ever.
        let raw = unsafe { &*table.raw() };
        assert_eq!(raw.session_size, 0, "this bench gives no session");
        let (Some(create), Some(map)) = (raw.create, raw.map) else { unreachable!("it works in place") };
        let mut instance = ptr::null_mut();
        // SAFETY: the table's own pointer, a host that stays, no options, and no room for an error's text.
        let status = unsafe { create(table.raw(), &HOST.0, ptr::null(), 0, &mut instance, ptr::null_mut()) };
        assert_eq!(status, abi::RESAY_OK);
        Instance { map, instance, destroy: raw.destroy }
    }

    fn map(&self, data: &mut [u8]) -> abi::resay_status {
        // SAFETY: a living instance without sessions, and bytes that are ours.
        unsafe { (self.map)(self.instance, ptr::null_mut(), data.as_mut_ptr(), data.len()) }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Some(destroy) = self.destroy {
            // SAFETY: made by create(), used by nobody any more.
            unsafe { destroy(self.instance) }
        }
    }
}

fn call(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("call");
    let uppercase = Instance::new(&resay_uppercase::TABLE);
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
        group.bench_function(BenchmarkId::new("table", bytes), |bencher| {
            // The function is hidden from the compiler, as one from a library is.
            bencher.iter(|| black_box(&uppercase).map(black_box(&mut data[..])));
        });
        assert_eq!(data, text.to_ascii_uppercase());
    }
    group.finish();
}

criterion_group!(benches, call);
criterion_main!(benches);

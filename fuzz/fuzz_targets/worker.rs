//! See `resay::fuzzing::worker`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| resay::fuzzing::worker(data));

//! See `resay::fuzzing::guard`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| resay::fuzzing::guard(data));

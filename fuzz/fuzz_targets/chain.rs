//! See `resay::fuzzing::chain`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| resay::fuzzing::chain(data));

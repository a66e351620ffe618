//! See `resay::fuzzing::options`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| resay::fuzzing::options(data));

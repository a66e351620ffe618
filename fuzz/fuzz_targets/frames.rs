//! See `resay::fuzzing::frames`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| resay::fuzzing::frames(data));

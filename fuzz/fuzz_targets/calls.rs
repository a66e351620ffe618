//! See `resay::fuzzing::calls`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| resay::fuzzing::calls(data));

#![no_main]
//! See `lineside_fuzz::fixed`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| lineside_fuzz::fixed(data));

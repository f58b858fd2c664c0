#![no_main]
//! See `lineside_fuzz::line`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| lineside_fuzz::line(data));

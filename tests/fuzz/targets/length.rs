#![no_main]
//! See `lineside_fuzz::length`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| lineside_fuzz::length(data));

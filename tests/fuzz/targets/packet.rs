#![no_main]
//! See `lineside_fuzz::packet`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| lineside_fuzz::packet(data));

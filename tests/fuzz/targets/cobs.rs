#![no_main]
//! See `lineside_fuzz::cobs`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| lineside_fuzz::cobs(data));

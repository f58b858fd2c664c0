#![no_main]
//! See `lineside_fuzz::slip`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| lineside_fuzz::slip(data));

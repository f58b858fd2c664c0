#![no_main]
//! See `lineside_fuzz::modbus_master`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| lineside_fuzz::modbus_master(data));

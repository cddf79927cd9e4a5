//! See `contacts_gateway_fuzz::judge`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| contacts_gateway_fuzz::judge::fuzz(bytes));

//! See `contacts_gateway_fuzz::route`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| contacts_gateway_fuzz::route::fuzz(bytes));

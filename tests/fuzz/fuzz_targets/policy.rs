//! See `contacts_gateway_fuzz::policy`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| contacts_gateway_fuzz::policy::fuzz(bytes));

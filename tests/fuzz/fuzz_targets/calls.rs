//! Calls in any order. See `klshampoo_fuzz::calls`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| klshampoo_fuzz::execute(klshampoo_fuzz::calls::run, input));

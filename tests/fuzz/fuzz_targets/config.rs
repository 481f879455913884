//! Bytes as groups. See `klshampoo_fuzz::config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| klshampoo_fuzz::execute(klshampoo_fuzz::config::run, input));

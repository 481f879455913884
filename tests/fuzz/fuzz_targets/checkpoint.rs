//! Bytes as checkpoints. See `klshampoo_fuzz::checkpoint`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| klshampoo_fuzz::execute(klshampoo_fuzz::checkpoint::run, input));

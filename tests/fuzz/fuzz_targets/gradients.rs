//! Gradients and parameters of any bits. See `klshampoo_fuzz::gradients`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| klshampoo_fuzz::execute(klshampoo_fuzz::gradients::run, input));

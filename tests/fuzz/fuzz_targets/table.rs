//! Tables of tensors. See `klshampoo_fuzz::table`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| klshampoo_fuzz::execute(klshampoo_fuzz::table::run, input));

//! Compiles the kernels with a C++ compiler.

fn main() {
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rerun-if-changed=../kernels");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .define("KLS_EMULATE", None)
        .include("src")
        .include("../kernels")
        .opt_level(2)
        // As nvcc is told: no contraction of what the core does in two roundings.
        .flag("-ffp-contract=off")
        .flag("-fno-strict-aliasing")
        .extra_warnings(true)
        .warnings_into_errors(true)
        .file("src/emulator.cpp")
        .file("src/kernels.cpp")
        // Kernels announce themselves when they are loaded; nothing names them.
        .link_lib_modifier("+whole-archive")
        .compile("kls_emulator");
    println!("cargo::metadata=folder={}", std::env::var("OUT_DIR").expect("cargo sets OUT_DIR"));
}

//! Compiles the kernels with a C++ compiler.
//!
//! With `KLS_EMULATOR_SANITIZE=address` in the environment they are compiled with AddressSanitizer, which then watches every access of a kernel to
//! memory of the heap and to its shared memory. Its runtime has to be there before the program starts:
//!
//! ```sh
//! export KLS_EMULATOR_SANITIZE=address
//! export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="env LD_PRELOAD=$(g++ -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0"
//! cargo test -p klshampoo-cuda --target-dir target/sanitize
//! ```

fn main() {
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rerun-if-changed=../kernels");
    println!("cargo::rerun-if-env-changed=KLS_EMULATOR_SANITIZE");
    let mut build = cc::Build::new();
    if std::env::var("KLS_EMULATOR_SANITIZE").is_ok_and(|what| what == "address") {
        build.flag("-fsanitize=address").flag("-fno-omit-frame-pointer").flag("-g");
        println!("cargo::rustc-link-lib=dylib=asan");
    }
    build
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
        .file("src/fragments.cpp")
        // Kernels announce themselves when they are loaded; nothing names them.
        .link_lib_modifier("+whole-archive")
        .compile("kls_emulator");
    println!("cargo::metadata=folder={}", std::env::var("OUT_DIR").expect("cargo sets OUT_DIR"));
}

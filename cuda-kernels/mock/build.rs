//! Makes the shared library that stands in for the driver and for cuBLAS.

use std::env;
use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rerun-if-env-changed=KLS_EMULATOR_SANITIZE");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let emulator = PathBuf::from(env::var_os("DEP_KLS_EMULATOR_FOLDER").expect("the emulator's build names it"));
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").opt_level(2).flag("-fvisibility=hidden").extra_warnings(true).warnings_into_errors(true);
    build.cargo_metadata(false);
    // As the emulator's objects are.
    if env::var("KLS_EMULATOR_SANITIZE").is_ok_and(|what| what == "address") {
        build.flag("-fsanitize=address");
    }
    for file in ["control", "device", "kernels", "memory", "streams", "graphs", "blas"] {
        build.file(format!("src/{file}.cpp"));
    }
    let objects = build.compile_intermediates();
    let library = out.join("libkls_cuda_mock.so");
    let status = build
        .get_compiler()
        .to_command()
        .args(["-shared", "-Wl,-Bsymbolic", "-Wl,--no-undefined", "-pthread"])
        .args(objects)
        // Kernels announce themselves when they are loaded; nothing names them.
        .arg("-Wl,--whole-archive")
        .arg(emulator.join("libkls_emulator.a"))
        .arg("-Wl,--no-whole-archive")
        .arg("-o")
        .arg(&library)
        .status()
        .expect("the C++ compiler runs");
    assert!(status.success(), "the mock cannot be linked");
    println!("cargo::rustc-env=KLS_CUDA_MOCK={}", library.display());
}

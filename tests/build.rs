//! Compiles the C tests as a user's compiler would see them: strict standards, every warning an error.

fn main() {
    println!("cargo::rerun-if-changed=c");
    println!("cargo::rerun-if-changed=abi");
    println!("cargo::rerun-if-changed=cpp");
    println!("cargo::rerun-if-changed=../bindings-c/include");
    println!("cargo::rerun-if-changed=../include/klshampoo.h");
    println!("cargo::rerun-if-env-changed=KLS_BLESS");
    if std::env::var_os("KLS_BLESS").is_some() {
        // The header is about to be written anew; programs that need the new one do not compile with the old.
        return;
    }
    let strict = |standard: &str| {
        let mut build = cc::Build::new();
        build
            .include("../include")
            .include("../bindings-c/include")
            .std(standard)
            .extra_warnings(true)
            .warnings_into_errors(true)
            .flag("-Wpedantic");
        build
    };
    let tests = [
        "fixture.c",
        "config_errors.c",
        "table_errors.c",
        "memory_errors.c",
        "step_errors.c",
        "inspection_errors.c",
        "host_errors.c",
        "partition.c",
        "freezing.c",
        "diagnostics.c",
        "methods.c",
        "pieces.c",
        "portions.c",
        "static_sizes.c",
        "formats.c",
        "factor_formats.c",
        "errors_text.c",
        "callbacks.c",
        "add_tensors.c",
        "checkpoint.c",
        "resume.c",
    ];
    let paths = |files: &[&str]| files.iter().map(|file| format!("c/{file}")).collect::<Vec<_>>();
    strict("c99").files(paths(&tests)).compile("kls_c99_tests");
    // A program of the first header.
    strict("c99").include("abi").file("abi/program.c").compile("kls_abi_tests");
    // The header as the other languages see it.
    strict("c11").file("c/header_c11.c").compile("kls_c11_tests");
    strict("c++17").cpp(true).file("c/header.cpp").compile("kls_cpp_tests");
    // The C++ interface, with exceptions and without.
    let cpp = |files: &[&str]| {
        let mut build = strict("c++17");
        build.cpp(true).include("../bindings-c/include").files(files.iter().map(|file| format!("cpp/{file}.cpp")));
        build
    };
    cpp(&["training", "ownership", "errors", "steps", "inspection", "checkpoints", "host"]).compile("kls_hpp_tests");
    cpp(&["without_exceptions"]).flag("-fno-exceptions").flag("-fno-rtti").compile("kls_hpp_returning_tests");
    adapters(&strict);
}

/// The adapters of bindings-c, in each language of theirs, and the example trainer's model, which they train.
fn adapters(strict: &dyn Fn(&str) -> cc::Build) {
    println!("cargo::rerun-if-changed=llmc");
    for folder in ["flat", "llmc", "examples/gpt/c"] {
        println!("cargo::rerun-if-changed=../bindings-c/{folder}");
    }
    let adapter = |standard: &str| {
        let mut build = strict(standard);
        build.include("c").include("../bindings-c/flat").include("../bindings-c/llmc");
        build
    };
    let model = ["model.c", "forward.c", "backward.c", "moe.c", "ops.c", "gemm.c"];
    adapter("c99")
        .files(["flat.c", "model.c", "table.c", "llmc.c", "training.c", "resume.c"].map(|file| format!("llmc/{file}")))
        .objects(strict("c11").files(model.map(|file| format!("../bindings-c/examples/gpt/c/{file}"))).compile_intermediates())
        .compile("kls_llmc_tests");
    adapter("c++17").cpp(true).file("llmc/adapter.cpp").compile("kls_llmc_cpp_tests");
}

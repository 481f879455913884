//! Programs in C and C++ that are compiled, linked with the library that cargo has just built, and run in processes of their own.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use klshampoo_cuda_mock as mock;

/// The crate's folder.
pub fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where cargo has put the libraries: beside this test.
pub fn libraries() -> PathBuf {
    std::env::current_exe().expect("this test").parent().expect("a folder").to_owned()
}

/// What links with the shared library.
pub fn shared() -> Vec<String> {
    let folder = libraries();
    let folder = folder.display();
    vec![format!("-L{folder}"), "-lklshampoo_cuda".into(), format!("-Wl,-rpath,{folder}")]
}

/// What links with the static one.
pub fn archive() -> Vec<String> {
    vec![libraries().join("libklshampoo_cuda.a").display().to_string()]
}

/// What every program needs besides.
pub const SYSTEM: [&str; 3] = ["-lm", "-lpthread", "-ldl"];

/// A folder for what is compiled.
pub fn work() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("programs");
    std::fs::create_dir_all(&folder).expect("a folder for what is compiled");
    folder
}

/// Runs a command that has to succeed.
pub fn succeeded(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}\n{said}");
    output
}

/// A C or C++ compiler with what every compilation has.
pub fn compiler(name: &str, standard: &str) -> Command {
    let mut command = Command::new(name);
    command.arg(format!("-std={standard}")).args(["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O1", "-g"]);
    for folder in ["../include", "../bindings-c/include", "../bindings-c/flat", "../bindings-c/llmc", "tests/c"] {
        command.arg("-I").arg(here().join(folder));
    }
    command
}

/// A program that is to run with a driver, or what stands in for one, and with this build of the library.
pub fn command(program: &Path, driver: &str) -> Command {
    // Before what cargo looks through, where an older build may lie.
    let mut search = libraries().into_os_string();
    if let Some(rest) = std::env::var_os("LD_LIBRARY_PATH") {
        search.push(":");
        search.push(rest);
    }
    let mut command = Command::new(program);
    command.env("KLS_CUDA_DRIVER", driver).env("LD_LIBRARY_PATH", search);
    // What stands in for the driver stands in for cuBLAS too.
    if driver == mock::LIBRARY {
        command.env("KLS_CUDA_BLAS", driver);
    }
    // The stacks that the emulator keeps are no leaks.
    let suppressed = work().join(format!("suppressed-{}", std::process::id()));
    std::fs::write(&suppressed, "leak:libkls_cuda_mock\n").expect("a file");
    command.env("LSAN_OPTIONS", format!("suppressions={}", suppressed.display()));
    command
}

/// Runs a test of a program that has several.
pub fn run_of(program: &Path, test: &str, driver: &str) {
    let folder = work().join(format!("{test}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for the test");
    let output = command(program, driver).arg(test).env("KLS_TEST_FOLDER", &folder).output().expect("the program");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}: {said}", output.status);
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{test}: ok\n"));
    std::fs::remove_dir_all(&folder).expect("the test's folder");
}

/// Whether the machine's own driver is to be taken.
pub fn has_gpu() -> bool {
    std::env::var("REQUIRE_GPU").is_ok_and(|value| value == "1")
}

/// The machine's own driver with `REQUIRE_GPU=1`, or else what stands in for one.
pub fn driver() -> &'static str {
    if has_gpu() { "libcuda.so.1" } else { mock::LIBRARY }
}

/// A driver that is not there.
pub const NO_DRIVER: &str = "/no/such/libcuda.so.1";

/// Tests of the file's `program()`, named as it names them: with a driver or what stands in for one, with the latter in any case, without either.
macro_rules! tests {
    (run: $($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            if !$crate::programs::has_gpu() {
                println!("SKIPPED: {} on a GPU; run on the CPU. REQUIRE_GPU=1 takes the GPU", stringify!($name));
            }
            $crate::programs::run_of(program(), stringify!($name), $crate::programs::driver());
        })*
    };
    (run_mocked: $($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            $crate::programs::run_of(program(), stringify!($name), klshampoo_cuda_mock::LIBRARY);
        })*
    };
    (run_without: $($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            $crate::programs::run_of(program(), stringify!($name), $crate::programs::NO_DRIVER);
        })*
    };
}
pub(crate) use tests;

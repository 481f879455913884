//! The C++ interface as C++ programs use it: `tests/cpp`, with exceptions and without, compiled with every warning an error, under AddressSanitizer
//! and UBSan, linked with the shared library and run with what stands in for a driver or without one; and the example program.

#[path = "common/programs.rs"]
mod programs;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use programs::{NO_DRIVER, SYSTEM, command, compiler, driver, has_gpu, here, shared, succeeded, tests, work};

const SANITIZED: [&str; 2] = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];

/// AddressSanitizer's memory is in the way of the machine's own driver.
fn options() -> &'static [&'static str] {
    if has_gpu() { &[] } else { &SANITIZED }
}

fn object(path: &Path, compiler_name: &str, standard: &str, flags: &[&str]) -> PathBuf {
    let name = path.file_stem().expect("a file").to_str().expect("a name");
    let object = work().join(format!("cpp-{name}-{}.o", std::process::id()));
    let mut command = compiler(compiler_name, standard);
    command.arg("-I").arg(here().join("../tests/cpp")).arg("-I").arg(here().join("tests/cudart")).args(flags).args(options());
    succeeded(command.arg("-c").arg(path).arg("-o").arg(&object));
    object
}

/// The driver's functions, for callers without the CUDA runtime.
fn device() -> &'static Path {
    static OBJECT: OnceLock<PathBuf> = OnceLock::new();
    OBJECT.get_or_init(|| object(&here().join("tests/c/device.c"), "cc", "c11", &[]))
}

fn linked(name: &str, objects: &[PathBuf]) -> PathBuf {
    let program = work().join(format!("cpp-{name}-{}", std::process::id()));
    let mut command = compiler("c++", "c++17");
    command.args(options()).args(objects).arg(device()).args(shared()).args(SYSTEM).arg("-o").arg(&program);
    succeeded(&mut command);
    program
}

fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let file = |name: &str| here().join(format!("tests/cpp/{name}.cpp"));
        // As many at a time as there are processors of a small machine.
        let objects = std::thread::scope(|scope| {
            let first = scope.spawn(|| [object(&file("main"), "c++", "c++17", &[]), object(&file("optimizer"), "c++", "c++20", &[])]);
            let calls = object(&file("calls"), "c++", "c++17", &[]);
            let without = object(&file("without_exceptions"), "c++", "c++17", &["-fno-exceptions", "-fno-rtti"]);
            let [main, optimizer] = first.join().expect("compiled");
            [main, optimizer, calls, without]
        });
        linked("tests", &objects)
    })
}

tests!(run: training, moves, places, requests, formats, counters, state, checkpoints, graphs, refreshes, wrong_steps, returning, returning_wrong);
tests!(run_mocked: failures);
tests!(run_without: no_driver);

/// The example as it stands, with a header that has the CUDA runtime's functions.
#[test]
fn example() {
    let source = here().join("../bindings-c/examples/least_squares_cuda.cpp");
    let program = linked("example", &[object(&source, "c++", "c++17", &[])]);
    let output = succeeded(&mut command(&program, driver()));
    let said = String::from_utf8(output.stdout).expect("a text");
    assert!(said.starts_with("step   0: loss ") && said.lines().count() > 3, "{said}");
    let output = command(&program, NO_DRIVER).output().expect("the program");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said == "kls_cuda_create: There is no CUDA driver on this machine.\n", "{said}");
}

/// `klshampoo_cuda.hpp` has every function of `klshampoo_cuda.h`.
#[test]
fn no_function_is_left_out() {
    let read = |path: &str| std::fs::read_to_string(here().join(path)).expect(path);
    let (header, symbols) = (read("../bindings-c/include/klshampoo_cuda.hpp"), read("../include/klshampoo_cuda.symbols"));
    let functions: Vec<&str> = symbols.lines().filter(|name| name.starts_with("kls_cuda_")).collect();
    assert!(functions.len() > 15, "{functions:?}");
    let missing: Vec<_> = functions.iter().filter(|name| !header.contains(&format!("{name}("))).collect();
    assert!(missing.is_empty(), "klshampoo_cuda.hpp knows nothing of {missing:?}");
}

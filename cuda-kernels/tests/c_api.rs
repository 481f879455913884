//! The C interface as C programs use it: `tests/c`, compiled with every warning an error, linked with the shared library and with the static one,
//! and run in processes of their own, with what stands in for a driver or without one.

#[path = "common/programs.rs"]
mod programs;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use klshampoo_cuda_mock as mock;
use programs::{NO_DRIVER, SYSTEM, archive, compiler, here, libraries, run_of, shared, succeeded, tests, work};

const SOURCES: [&str; 19] = [
    "main",
    "device",
    "fixture",
    "create",
    "query",
    "without",
    "step",
    "formats",
    "skipping",
    "checkpoints",
    "state",
    "graphs",
    "precision",
    "groups",
    "refreshes",
    "failures",
    "llmc",
    "llmc_ranks",
    "header_c11",
];

fn compiled(program: &str, link: &[String]) -> PathBuf {
    let path = work().join(format!("{program}-{}", std::process::id()));
    let mut command = compiler("cc", "c11");
    command.args(SOURCES.iter().map(|name| here().join(format!("tests/c/{name}.c")))).arg("-o").arg(&path);
    succeeded(command.args(link).args(SYSTEM));
    path
}

/// With the shared library.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| compiled("shared", &shared()))
}

tests!(run: create, step, step_errors, formats, skipping, checkpoints, checkpoint_files, checkpoints_after_skips, state, graphs, refreshes, groups, forged_counters);
tests!(run: no_device, llmc, llmc_bf16, llmc_ranks, precisions, blas);
tests!(run_mocked: failures, late_refreshes, old_driver, nothing_hidden, blas_failures);
tests!(run_without: query, options, no_driver, llmc_shares);

#[test]
fn the_static_library_links_and_runs_without_a_driver() {
    let program = compiled("static", &archive());
    run_of(&program, "no_driver", NO_DRIVER);
    run_of(&program, "step_errors", mock::LIBRARY);
}

/// The GPU's names beside the CPU's, and nothing else.
#[test]
fn the_shared_library_exports_the_committed_list() {
    let library = libraries().join("libklshampoo_cuda.so");
    let output = succeeded(Command::new("nm").args(["-D", "--defined-only", "-f", "posix"]).arg(&library));
    let mut found: Vec<_> =
        String::from_utf8(output.stdout).expect("names").lines().map(|line| line.split(' ').next().unwrap_or("").to_owned()).collect();
    found.sort_unstable();
    let read = |name: &str| std::fs::read_to_string(here().join("../include").join(name)).expect(name);
    let text = found.join("\n") + "\n";
    if std::env::var_os("KLS_BLESS").is_some() {
        std::fs::write(here().join("../include/klshampoo_cuda.symbols"), &text).expect("the list");
    }
    assert_eq!(text, read("klshampoo_cuda.symbols"));
    let host = read("klshampoo.symbols");
    let own: Vec<_> = found.iter().filter(|name| !host.lines().any(|host| host == *name)).collect();
    assert_eq!(found.len(), host.lines().count() + own.len(), "the CPU's names are all there");
    assert!(own.iter().all(|name| name.starts_with("kls_cuda_")) && own.len() > 10, "{own:?}");
}

/// It needs nothing that a machine without a GPU has not.
#[test]
fn the_shared_library_links_no_cuda() {
    let output = succeeded(Command::new("readelf").args(["-d"]).arg(libraries().join("libklshampoo_cuda.so")));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let needed: Vec<_> = text.lines().filter(|line| line.contains("(NEEDED)")).collect();
    assert!(!needed.is_empty() && needed.iter().all(|line| !line.contains("cuda") && !line.contains("cublas")), "{needed:?}");
}

/// The headers in the other languages.
#[test]
fn the_header_is_c99_and_cpp() {
    for (name, standard, source) in
        [("cc", "c99", "header_c11.c"), ("c++", "c++17", "header.cpp"), ("c++", "c++17", "header_multi_gpu.cpp")]
    {
        let object = work().join(format!("{source}-{}.o", std::process::id()));
        succeeded(compiler(name, standard).arg("-c").arg(here().join("tests/c").join(source)).arg("-o").arg(object));
    }
}

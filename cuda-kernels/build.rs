//! The driver's functions, compiled from `shim/`, and the kernels' image: compiled where there is an nvcc, else the PTX in `ptx/`.
//!
//! Environment: `NVCC` names the compiler (else `nvcc` on the PATH), `KLS_CUDA_PTX=1` takes the PTX in any case.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// As in ptx.py.
const FLAGS: [&str; 4] = ["-std=c++17", "-O3", "-fmad=false", "-Werror=all-warnings"];
const CAPABILITY: (u32, u32) = (8, 0);

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    println!("cargo::rerun-if-changed=build.rs");
    shim(&out);
    image(&out);
}

fn shim(out: &Path) {
    println!("cargo::rerun-if-changed=shim");
    cc::Build::new()
        .std("c11")
        .define("_GNU_SOURCE", None)
        .flag("-fvisibility=hidden")
        .opt_level(2)
        .extra_warnings(true)
        .warnings_into_errors(true)
        .file("shim/driver.c")
        .file("shim/library.c")
        .compile("kls_cuda_shim");
    // cust links the driver's library. An empty one in its place: all that it names is in the shim.
    let stand_in = out.join("link");
    fs::create_dir_all(&stand_in).expect("OUT_DIR can be written");
    fs::write(stand_in.join("libcuda.a"), "!<arch>\n").expect("OUT_DIR can be written");
    println!("cargo::rustc-link-search=native={}", stand_in.display());
}

struct Compiled {
    bytes: Vec<u8>,
    is_fatbin: bool,
    /// What it was compiled from or is, to be read for names and version.
    ptx: String,
}

fn image(out: &Path) {
    for path in ["kernels", "ptx"] {
        println!("cargo::rerun-if-changed={path}");
    }
    for name in ["NVCC", "KLS_CUDA_PTX"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    let wants_ptx = env::var("KLS_CUDA_PTX").is_ok_and(|value| !value.is_empty() && value != "0");
    let compiled = match nvcc() {
        Some(nvcc) if !wants_ptx => fatbin(&nvcc, out),
        _ => committed(),
    };
    let (major, minor) = version(&compiled.ptx);
    // Compiled code runs with every driver of its compiler's major version; PTX needs one that knows its version.
    let needed = if compiled.is_fatbin { major * 1000 } else { major * 1000 + minor * 10 };
    let mut names = names(&compiled.ptx);
    names.sort_unstable();
    let mut source = String::new();
    let _ = writeln!(source, "pub const IS_FATBIN: bool = {};", compiled.is_fatbin);
    let _ = writeln!(source, "pub const NEEDED_DRIVER: u32 = {needed};");
    let _ = writeln!(source, "pub const NEEDED_CAPABILITY: (u32, u32) = {CAPABILITY:?};");
    let _ = writeln!(source, "pub static NAMES: &[&::std::ffi::CStr] = &[");
    for name in names {
        let _ = writeln!(source, "    c\"{name}\",");
    }
    let _ = writeln!(source, "];");
    fs::write(out.join("image.rs"), source).expect("OUT_DIR can be written");
    fs::write(out.join("image.bin"), compiled.bytes).expect("OUT_DIR can be written");
}

fn committed() -> Compiled {
    let path = "ptx/klshampoo.ptx";
    let ptx = fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}: ptx.py makes it"));
    let mut bytes = ptx.clone().into_bytes();
    bytes.push(0);
    Compiled { bytes, is_fatbin: false, ptx }
}

fn nvcc() -> Option<PathBuf> {
    if let Some(path) = env::var_os("NVCC").filter(|path| !path.is_empty()) {
        return Some(path.into());
    }
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join("nvcc")).find(|path| path.is_file())
}

fn fatbin(nvcc: &Path, out: &Path) -> Compiled {
    let (file, kept) = (out.join("klshampoo.fatbin"), out.join("kept"));
    let _ = fs::remove_dir_all(&kept);
    fs::create_dir_all(&kept).expect("OUT_DIR can be written");
    let output = Command::new(nvcc)
        .args(FLAGS)
        .args(["--threads=0", "-fatbin", "-gencode=arch=compute_80,code=[sm_80,compute_80]", "-gencode=arch=compute_90,code=sm_90"])
        // The PTX on the way stays, to be read.
        .args(["-keep", "-keep-dir"])
        .arg(&kept)
        .arg("-o")
        .arg(&file)
        .arg("kernels/klshampoo.cu")
        .output()
        .unwrap_or_else(|error| panic!("{}: {error} (KLS_CUDA_PTX=1 does without)", nvcc.display()));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said} (KLS_CUDA_PTX=1 does without)", nvcc.display());
    let ptx = fs::read_dir(&kept)
        .expect("made above")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "ptx"))
        .find_map(|path| fs::read_to_string(path).ok())
        .expect("nvcc keeps the PTX");
    Compiled { bytes: fs::read(&file).expect("nvcc writes it"), is_fatbin: true, ptx }
}

/// The names of the kernels in PTX.
fn names(ptx: &str) -> Vec<&str> {
    ptx.lines().filter_map(|line| Some(line.split_once(".entry ")?.1)).map(|rest| rest.split(['(', ' ']).next().unwrap_or(rest)).collect()
}

/// The version of CUDA that brought the PTX's version.
fn version(ptx: &str) -> (u32, u32) {
    let line = ptx.lines().find_map(|line| line.strip_prefix(".version ")).expect("PTX names its version");
    let (major, minor) = line.trim().split_once('.').expect("a version");
    match (major.parse::<u32>().expect("a number"), minor.parse::<u32>().expect("a number")) {
        (9, minor) => (13, minor),
        // 8.6 came with 12.7, and there was no 12.6 of its own.
        (8, minor @ 0..6) => (12, minor),
        (8, minor) => (12, minor + 1),
        (7, minor) => (11, minor),
        other => panic!("PTX of version {other:?}: which CUDA has it?"),
    }
}

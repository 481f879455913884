//! What a shared library with this crate in it links and exports, and that it loads where there is no driver.

use std::path::PathBuf;
use std::process::Command;

/// The example that cargo builds with the tests.
fn probe() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let library = test.parent().unwrap().parent().unwrap().join("examples/libprobe.so");
    assert!(library.is_file(), "{}: made by `cargo build --examples`, and by `cargo test` where no test is named", library.display());
    library
}

fn lines(program: &str, arguments: &[&str]) -> Vec<String> {
    let output = Command::new(program).args(arguments).arg(probe()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn exports_nothing_of_the_driver() {
    let exported: Vec<String> =
        lines("nm", &["-D", "--defined-only", "-f", "posix"]).iter().filter_map(|line| Some(line.split(' ').next()?.to_owned())).collect();
    assert!(exported.contains(&"kls_probe_devices".into()), "{exported:?}");
    for name in &exported {
        assert!(!name.starts_with("cu") && !name.starts_with("kls_shim"), "{name}");
    }
    // Nor does it want anything of it from others.
    for line in lines("nm", &["-D", "--undefined-only", "-f", "posix"]) {
        assert!(!line.starts_with("cu"), "{line}");
    }
}

#[test]
fn links_the_c_library_alone() {
    let needed: Vec<String> = lines("readelf", &["-d", "-W"])
        .iter()
        .filter(|line| line.contains("(NEEDED)"))
        .filter_map(|line| Some(line.split_once('[')?.1.split(']').next()?.to_owned()))
        .collect();
    println!("{}: {} bytes, links {needed:?}", probe().display(), std::fs::metadata(probe()).unwrap().len());
    assert!(needed.iter().any(|name| name == "libc.so.6"), "{needed:?}");
    for name in &needed {
        // libgcc_s unwinds panics; the others are parts of the C library.
        let parts = ["libc.so.", "libgcc_s.so.", "libm.so.", "libdl.so.", "libpthread.so.", "ld-linux"];
        assert!(parts.iter().any(|part| name.starts_with(part)), "{name}");
    }
}

#[test]
fn loads_without_a_driver() {
    let program = "import ctypes, sys; sys.exit(0 if ctypes.CDLL(sys.argv[1]).kls_probe_devices() == -1 else 1)";
    let status =
        Command::new("python3").args(["-c", program]).arg(probe()).env("KLS_CUDA_DRIVER", "libcuda-of-nobody.so.1").status().unwrap();
    assert!(status.success());
    let mocked = "import ctypes, sys; sys.exit(0 if ctypes.CDLL(sys.argv[1]).kls_probe_devices() == 2 else 1)";
    let status =
        Command::new("python3").args(["-c", mocked]).arg(probe()).env("KLS_CUDA_DRIVER", klshampoo_cuda_mock::LIBRARY).status().unwrap();
    assert!(status.success());
}

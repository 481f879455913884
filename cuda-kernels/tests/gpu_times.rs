//! The program of `examples/gpu_times`, in small, on what stands in for a driver and without one.

use std::path::PathBuf;
use std::process::{Command, Output};

use klshampoo_cuda_mock as mock;

/// The example, which cargo builds with the tests.
fn run(driver: &str, arguments: &[&str]) -> Output {
    let test = std::env::current_exe().unwrap();
    let program: PathBuf = test.parent().unwrap().parent().unwrap().join("examples/gpu_times");
    Command::new(program).args(arguments).env("KLS_CUDA_DRIVER", driver).env("KLS_CUDA_BLAS", driver).output().unwrap()
}

#[test]
fn every_number_is_there() {
    let csv = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("gpu_times-{}.csv", std::process::id()));
    let arguments = ["--sets", "trial", "--methods", "kl_shampoo,soap,adamw", "--period", "2", "--rounds", "1", "--elements", "3000"];
    let output = run(
        mock::LIBRARY,
        &[&arguments[..], &["--sizes", "5,8", "--precisions", "--blas-from", "1", "--csv", csv.to_str().unwrap()]].concat(),
    );
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(&csv).unwrap();
    std::fs::remove_file(&csv).unwrap();
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows[0], ["section", "of", "who", "what", "value", "unit"]);
    for row in &rows[1..] {
        let value: f64 = row[4].parse().unwrap();
        // A difference of two times may be anything.
        assert!(row.len() == 6 && value.is_finite() && (value > 0.0 || row[0] == "refresh"), "{row:?}");
    }
    let count = |section: &str, who: &str| rows.iter().filter(|row| row[0] == section && row[2] == who).count();
    for who in ["klshampoo kl_shampoo", "klshampoo soap"] {
        assert_eq!((count("memory", who), count("steps", who), count("refresh", who)), (3, 5, 1), "{who}");
    }
    assert_eq!((count("steps", "klshampoo adamw"), count("elementwise", "klshampoo adamw")), (2, 1));
    for who in ["klshampoo f32", "cuBLAS f32", "cuBLAS TF32", "cuBLAS bf16"] {
        assert_eq!(count("products", who), 2, "{who}");
    }
    assert_eq!(count("products", "klshampoo kl_shampoo"), 1);
    // Two shapes of two modes, turned and times themselves; a step without refreshes, and an amortised one.
    for who in ["klshampoo f32", "klshampoo 3xTF32", "klshampoo TF32", "klshampoo bf16", "cuBLAS f32", "cuBLAS TF32", "cuBLAS bf16"] {
        assert_eq!(count("shapes", who), 8, "{who}");
    }
    for who in ["f32 cuBLAS", "3xTF32", "TF32", "TF32 cuBLAS", "bf16", "bf16 cuBLAS"] {
        assert_eq!(count("steps", &format!("klshampoo soap {who}")), 2, "{who}");
    }
    assert_eq!((count("decompositions", "eigenvectors"), count("decompositions", "reflections")), (2, 2));
    assert_eq!(count("elementwise", "the driver's copy"), 1);
}

#[test]
fn without_a_driver_it_says_so() {
    let output = run("/no/such/libcuda.so.1", &["--sets", "none"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no CUDA driver"));
}

#[test]
fn what_it_does_not_know_it_refuses() {
    for (arguments, said) in [
        (["--sets", "nonsense"], "there is no set \"nonsense\"; there are gpt2"),
        (["--methods", "nonsense"], "there is no method \"nonsense\""),
        (["--sizes", "0"], "0 is no size"),
    ] {
        let output = run(mock::LIBRARY, &arguments);
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains(said), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

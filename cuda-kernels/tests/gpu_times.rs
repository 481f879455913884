//! The program of `examples/gpu_times`, in small, on what stands in for a driver and without one.

use std::path::PathBuf;
use std::process::{Command, Output};

use klshampoo_cuda_mock as mock;

/// The example, which cargo builds with the tests.
fn run(driver: &str, arguments: &[&str]) -> Output {
    command(driver, arguments).output().unwrap()
}

fn command(driver: &str, arguments: &[&str]) -> Command {
    let test = std::env::current_exe().unwrap();
    let program: PathBuf = test.parent().unwrap().parent().unwrap().join("examples/gpu_times");
    let mut command = Command::new(program);
    command.args(arguments).env("KLS_CUDA_DRIVER", driver).env("KLS_CUDA_BLAS", driver);
    command
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
    let of = |section: &str, who: &str, what: &str| {
        rows.iter().filter(|row| row[..4] == [section, "trial", who, what]).map(|row| row[4].parse::<f64>().unwrap()).next()
    };
    for who in ["klshampoo kl_shampoo", "klshampoo soap"] {
        assert_eq!((count("memory", who), of("steps", who, "first step").is_some()), (3, true), "{who}");
        // What is timed in full.
        for way in ["", " f32 cuBLAS", " TF32 cuBLAS; refresh 3xTF32", " bf16 cuBLAS; refresh 3xTF32"] {
            let who = format!("{who}{way}");
            for what in ["plain step", "step with all refreshes", "amortised step; not staggered", "amortised step"] {
                assert!(of("steps", &who, what).is_some(), "{who}: {what}");
            }
            for what in ["plain step; graph", "amortised step; not staggered; graph", "amortised step; graph"] {
                assert!(of("steps", &who, what).is_some(), "{who}: {what}");
            }
            assert_eq!((count("refresh", &who), count("rates", &who)), (1, 3), "{who}");
            // Of every element four products by a basis and its part of two symmetric ones: the trial has two of 6 x 4 and of 4 x 4.
            let flops = 2.5 * 2.0 * (2.0 * 24.0 * 10.0 + 2.0 * 16.0 * 8.0);
            let rate = of("rates", &who, "plain step: 2.5 products over its time").unwrap();
            let plain = of("steps", &who, "plain step").unwrap();
            assert!((rate * 1e9 * plain * 1e-3 / flops - 1.0).abs() < 1e-6, "{who}: {rate} GFLOP/s");
            let best = of("rates", &who, "best product rate at this precision").unwrap();
            assert!((of("rates", &who, "share").unwrap() * best / rate - 1.0).abs() < 1e-6, "{who}");
            let like = if way.contains("TF32 cuBLAS") {
                "TF32"
            } else if way.contains("bf16") {
                "bf16"
            } else {
                "f32"
            };
            assert_eq!(of("rates", &format!("products {like}"), "best product rate at this precision"), Some(best), "{who}");
        }
        // Besides, a step without refreshes and an amortised one at every other precision.
        for way in ["3xTF32", "TF32", "TF32 cuBLAS", "bf16", "bf16 cuBLAS"] {
            assert_eq!(count("steps", &format!("{who} {way}")), 2, "{who} {way}");
        }
    }
    assert_eq!((count("steps", "klshampoo adamw"), count("elementwise", "klshampoo adamw"), count("rates", "klshampoo adamw")), (2, 1, 0));
    for who in ["klshampoo f32", "klshampoo 3xTF32", "klshampoo TF32", "klshampoo bf16", "cuBLAS f32", "cuBLAS TF32", "cuBLAS bf16"] {
        assert_eq!(count("products", who), 2, "{who}");
        // Two shapes of two modes, turned and times themselves.
        assert_eq!(count("shapes", who), 8, "{who}");
    }
    assert_eq!((count("decompositions", "eigenvectors"), count("decompositions", "reflections")), (2, 2));
    assert_eq!(count("elementwise", "the driver's copy"), 1);
}

#[test]
fn without_cublas_the_kernels_are_timed() {
    let arguments = ["--sets", "trial", "--methods", "kl_shampoo", "--period", "2", "--rounds", "1", "--steps-only", "--sizes", "8"];
    let output = command(mock::LIBRARY, &arguments).env("KLS_CUDA_BLAS", "/no/such/libcublas.so").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("NO cuBLAS") && said.contains("amortised step; graph"), "{said}");
    assert!(!said.contains("f32 cuBLAS"), "{said}");
}

#[test]
fn out_of_time_it_says_what_is_missing() {
    let output = run(mock::LIBRARY, &["--sets", "trial", "--steps-only", "--limit", "0"]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("OUT OF TIME: not timed: set trial"), "{said}");
}

#[test]
fn a_probe_tells_what_is_there() {
    let probed = |managed: &str| {
        let output = command(mock::LIBRARY, &["--probe"]).env("KLS_MOCK_MANAGED", managed).output().unwrap();
        assert!(output.status.success());
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let said = probed("");
    assert!(
        said.starts_with("Mock 0, compute capability 9.0") && said.contains("\ncuBLAS: found\n") && said.ends_with("a kernel ran\n"),
        "{said}"
    );
    assert!(said.contains("\nconcurrent managed access: 1\n"), "{said}");
    assert!(probed("exclusive").contains("\nconcurrent managed access: 0\n"));
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

//! The C trainer and the runner as a user meets them: warnings, gradients, wrong usage, and one short training.

use anyhow::{Context, Result, ensure};
use gpt_runner::toolchain::{Compiler, build_library};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

const SANITIZERS: &[&str] = &["-Werror", "-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// The library in the profile of the tests, which has been built with them.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| build_library(!cfg!(debug_assertions)).expect("the library builds"))
}

fn trainer() -> &'static Path {
    static TRAINER: OnceLock<PathBuf> = OnceLock::new();
    TRAINER.get_or_init(|| {
        let compiler = Compiler::new(&folder("trainer")).expect("there is a C compiler");
        compiler.flags(&["-Werror"]).trainer(library()).expect("the trainer compiles without warnings")
    })
}

fn gpt(arguments: &[&str]) -> Result<Output> {
    Command::new(env!("CARGO_BIN_EXE_gpt")).args(arguments).output().context("the runner starts")
}

/// Checks that the program failed with one line that holds every one of `words`.
fn assert_one_line(output: &Output, words: &[&str]) {
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "no failure: {message}");
    assert_eq!(message.trim_end().lines().count(), 1, "not one line: {message}");
    for word in words {
        assert!(message.contains(word), "'{word}' is missing: {message}");
    }
}

#[test]
fn gradients_agree_with_finite_differences() -> Result<()> {
    for (double, flags) in [(false, &["-Werror"][..]), (true, &["-Werror"]), (false, SANITIZERS)] {
        let work = folder(if flags == SANITIZERS { "gradcheck-sanitized" } else { "gradcheck" });
        let program = Compiler::new(&work)?.flags(flags).gradcheck(double)?;
        let output = Command::new(program).output()?;
        ensure!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

#[test]
fn trainer_explains_wrong_usage() -> Result<()> {
    let program = trainer();
    let empty = folder("usage-empty.txt");
    fs::write(&empty, "")?;
    let short = folder("usage-short.txt");
    fs::write(&short, "too short for a single context")?;
    let (empty, short) = (empty.display().to_string(), short.display().to_string());
    let cases: [(&[&str], &[&str]); 14] = [
        (&[], &["--data"]),
        (&["--data", "/nowhere"], &["/nowhere", "give --data"]),
        (&["--data", &empty], &["holds no text", "give --data"]),
        (&["--data", &short], &["too short", "--context"]),
        (&["--data", &short, "--frobnicate"], &["unknown option '--frobnicate'", "--help"]),
        (&["--data"], &["'--data' lacks its value", "--help"]),
        (&["--data", &short, "--steps", "many"], &["--steps wants a whole number", "'many'"]),
        (&["--data", &short, "--beta2", "1"], &["--beta2 wants a number", "'1'"]),
        (&["--data", &short, "--method", "sgd"], &["--method is adamw or kl-shampoo"]),
        (&["--data", &short, "--channels", "10"], &["--channels 10", "--heads 4"]),
        (&["--data", &short, "--experts", "-1"], &["--experts wants a whole number", "'-1'"]),
        (&["--data", &short, "--experts", "2", "--experts-per-token", "3"], &["--experts-per-token 3", "--experts 2"]),
        (&["--data", &short, "--experts", "4", "--expert-tensors", "4d"], &["--expert-tensors is 3d or matrices", "'4d'"]),
        (&["--data", &short, "--balance", "lots"], &["--balance wants a number", "'lots'"]),
    ];
    for (arguments, words) in cases {
        assert_one_line(&Command::new(program).args(arguments).output()?, words);
    }
    Ok(())
}

#[test]
fn sanitized_training_is_clean() -> Result<()> {
    let program = Compiler::new(&folder("training-sanitized"))?.flags(SANITIZERS).trainer(library())?;
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/sonnets_gut.txt");
    let sizes = ["--layers=2", "--channels=16", "--heads=2", "--context=16", "--batch=2", "--steps=6", "--eval-bytes=64"];
    for options in [&["--method=adamw"][..], &["--method=kl-shampoo"], &["--experts=3"], &["--experts=3", "--expert-tensors=matrices"]] {
        let mut command = Command::new(&program);
        let output = command.arg("--data").arg(&data).args(sizes).args(options).args(["--refresh-period=2", "--threads=2"]).output()?;
        ensure!(output.status.success(), "{options:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// The validation losses of a tiny training.
fn losses(program: &Path, options: &[&str]) -> Result<Vec<f64>> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/sonnets_gut.txt");
    let sizes = ["--layers=2", "--channels=32", "--heads=2", "--context=32", "--batch=4", "--steps=30", "--eval-every=15"];
    let output = Command::new(program).arg("--data").arg(data).args(sizes).arg("--eval-bytes=2048").args(options).output()?;
    ensure!(output.status.success(), "{options:?}: {}", String::from_utf8_lossy(&output.stderr));
    let events = String::from_utf8(output.stdout)?;
    let events = events.lines().map(serde_json::from_str::<serde_json::Value>).collect::<Result<Vec<_>, _>>()?;
    Ok(events.iter().filter_map(|event| event["val_loss"].as_f64()).collect())
}

#[test]
fn experts_learn() -> Result<()> {
    let program = trainer();
    for method in ["--method=adamw", "--method=kl-shampoo"] {
        let whole = losses(program, &["--experts=4", method])?;
        let matrices = losses(program, &["--experts=4", method, "--expert-tensors=matrices"])?;
        assert_eq!(whole.len(), 3);
        assert_eq!(whole[0], matrices[0]);
        for losses in [&whole, &matrices] {
            ensure!(losses[0] > 5.0 && losses[2] < 4.0, "{method}: nothing was learned: {losses:?}");
        }
        // AdamW sees numbers, KL-Shampoo sees dims.
        assert_eq!(whole[2] == matrices[2], method == "--method=adamw", "{method}: {whole:?} {matrices:?}");
    }
    Ok(())
}

#[test]
fn a_single_expert_is_the_dense_model() -> Result<()> {
    let program = trainer();
    let dense = losses(program, &["--method=adamw"])?;
    let single = losses(program, &["--method=adamw", "--experts=1", "--experts-per-token=1"])?;
    for (dense, single) in dense.iter().zip(&single) {
        ensure!((dense - single).abs() < 1e-4, "{dense} {single}");
    }
    Ok(())
}

#[test]
fn the_balance_loss_acts_but_is_not_reported() -> Result<()> {
    let program = trainer();
    let balanced = losses(program, &["--method=adamw", "--experts=3", "--balance=100"])?;
    let free = losses(program, &["--method=adamw", "--experts=3", "--balance=0"])?;
    assert_eq!(balanced[0], free[0], "it is reported");
    assert_ne!(balanced[2], free[2], "it has no effect");
    Ok(())
}

#[test]
fn trainer_names_divergence() -> Result<()> {
    let program = trainer();
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/sonnets_gut.txt");
    let sizes = ["--layers=1", "--channels=16", "--heads=1", "--context=16", "--batch=2", "--steps=100", "--eval-bytes=64"];
    let mut command = Command::new(program);
    command.arg("--data").arg(data).args(sizes).args(["--method=adamw", "--lr=1000", "--weight-decay=100"]);
    let output = command.output()?;
    assert_eq!(output.status.code(), Some(3));
    assert_one_line(&output, &["smaller learning rate"]);
    Ok(())
}

#[test]
fn runner_explains_wrong_usage() -> Result<()> {
    let empty = folder("empty.txt");
    fs::write(&empty, "")?;
    let empty = empty.display().to_string();
    let inside_file = format!("{empty}/out");
    let out = folder("usage-out").display().to_string();
    let cases: [(&[&str], &[&str]); 8] = [
        (&["--frobnicate"], &["--frobnicate", "--help"]),
        (&["--size", "huge"], &["huge", "tiny", "--help"]),
        (&["--kl-lr", "fast"], &["--kl-lr", "fast", "a number from 0 to 1000"]),
        (&["--lambda0", "none"], &["--lambda0", "scale-free"]),
        (&["--out", &out, "--channels", "10"], &["--channels 10", "--heads 4"]),
        (&["--out", &out, "--data", "/nowhere"], &["/nowhere", "give --data"]),
        (&["--out", &out, "--data", &empty], &["holds no text", "give --data"]),
        (&["--out", &inside_file], &["cannot write", "give --out"]),
    ];
    for (arguments, words) in cases {
        assert_one_line(&gpt(arguments)?, words);
    }
    Ok(())
}

#[test]
fn runner_trains_and_reports() -> Result<()> {
    let (out, library) = (folder("report"), library().display().to_string());
    let sizes =
        ["--layers=1", "--channels=32", "--heads=2", "--context=32", "--batch=4", "--steps=40", "--eval-every=10", "--eval-bytes=2048"];
    let out_option = format!("--out={}", out.display());
    let output = gpt(&[&sizes[..], &[&out_option, "--library", &library]].concat())?;
    let table = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{table}{}", String::from_utf8_lossy(&output.stderr));
    for row in ["final validation loss", "steps to AdamW's final loss", "optimizer, ms per step", "optimizer state, bytes"] {
        assert!(table.contains(row), "'{row}' is missing: {table}");
    }
    // Both methods at steps 0, 10, ..., 40, under one line of names; the first point is the same for both.
    let curves = fs::read_to_string(out.join("curves.csv"))?;
    assert_eq!(curves.lines().count(), 1 + 2 * 5);
    let first: Vec<_> = curves.lines().filter_map(|line| line.split_once(",0,0,,")).map(|(_, loss)| loss).collect();
    assert_eq!((first.len(), first[0]), (2, first[1]));
    assert!(fs::read_to_string(out.join("curves.svg"))?.contains("KL-Shampoo"));
    let summary: serde_json::Value = serde_json::from_str(&fs::read_to_string(out.join("summary.json"))?)?;
    for run in summary.as_array().context("a summary per method")? {
        let loss = run["final_val_loss"].as_f64().context("a final loss")?;
        ensure!(loss < 4.0, "nothing was learned: {run}");
    }
    Ok(())
}

//! The C trainer and the runner as a user meets them: warnings, gradients, wrong usage, and one short training.

use anyhow::{Context, Result, ensure};
use gpt_runner::method::Method;
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
    let cases: [(&[&str], &[&str]); 19] = [
        (&[], &["--data"]),
        (&["--data", "/nowhere"], &["/nowhere", "give --data"]),
        (&["--data", &empty], &["holds no text", "give --data"]),
        (&["--data", &short], &["too short", "--context"]),
        (&["--data", &short, "--frobnicate"], &["unknown option '--frobnicate'", "--help"]),
        (&["--data"], &["'--data' lacks its value", "--help"]),
        (&["--data", &short, "--steps", "many"], &["--steps wants a whole number", "'many'"]),
        (&["--data", &short, "--beta2", "1"], &["--beta2 wants a number", "'1'"]),
        (&["--data", &short, "--method", "adam"], &["--method is one of adamw, kl-shampoo, ", "not 'adam'"]),
        (&["--data", &short, "--convention", "mine"], &["--convention is one of figure13, reference-kl, ", "not 'mine'"]),
        (&["--data", &short, "--graft", "soap"], &["--graft is one of none, adam, ", "not 'soap'"]),
        (&["--data", &short, "--channels", "10"], &["--channels 10", "--heads 4"]),
        (&["--data", &short, "--save-every", "5"], &["--save-every 5", "give --save a file"]),
        (&["--data", &short, "--experts", "-1"], &["--experts wants a whole number", "'-1'"]),
        (&["--data", &short, "--experts", "2", "--experts-per-token", "3"], &["--experts-per-token 3", "--experts 2"]),
        (&["--data", &short, "--experts", "4", "--expert-tensors", "4d"], &["--expert-tensors is one of 3d, matrices;", "'4d'"]),
        (&["--data", &short, "--balance", "lots"], &["--balance wants a number", "'lots'"]),
        (&["--data", &short, "--similarity-every", "8"], &["--similarity-window 32", "--similarity-every 8"]),
        (&["--data", &short, "--similarity-layer", "4"], &["--similarity-layer 4", "--layers 4"]),
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
    for options in [
        &["--method=adamw"][..],
        &["--method=kl-shampoo", "--similarity-every=3", "--similarity-window=2", "--similarity-layer=1"],
        &["--experts=3", "--similarity-every=2", "--similarity-window=2"],
        &["--experts=3", "--expert-tensors=matrices"],
    ] {
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

/// A training that is stopped and goes on in a new process ends with the same bits as one that was not.
#[test]
fn a_stopped_training_goes_on() -> Result<()> {
    let work = folder("resume");
    fs::create_dir_all(&work)?;
    let file = |name: &str| work.join(name).display().to_string();
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/sonnets_gut.txt");
    let run = |options: &[&str]| {
        let sizes = ["--layers=2", "--channels=16", "--heads=2", "--context=16", "--batch=2", "--steps=24", "--eval-bytes=64"];
        Command::new(trainer()).arg("--data").arg(&data).args(sizes).arg("--refresh-period=3").args(options).output()
    };
    let ok = |options: &[&str]| -> Result<()> {
        let output = run(options)?;
        ensure!(output.status.success(), "{options:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    };
    let (whole, half, rest) = (file("whole"), file("half"), file("rest"));
    for method in ["kl-shampoo", "soap", "adamw"] {
        let method = format!("--method={method}");
        ok(&[&method, "--save", &whole])?;
        ok(&[&method, "--save", &half, "--save-every=5", "--stop-after=11"])?;
        ok(&[&method, "--resume", &half, "--save", &rest])?;
        for suffix in ["", ".optimizer-24"] {
            ensure!(fs::read(format!("{whole}{suffix}"))? == fs::read(format!("{rest}{suffix}"))?, "{method}: {suffix} differs");
        }
        ensure!(!Path::new(&format!("{half}.optimizer-10")).exists(), "the optimizer of an earlier save is still there");
    }
    // Files that are missing, of another size, cut, or of different steps.
    assert_one_line(&run(&["--resume", &file("nothing")])?, &["cannot read", "nothing"]);
    assert_one_line(&run(&["--method=adamw", "--channels=32", "--resume", &rest])?, &["parameters", "sizes"]);
    assert_one_line(&run(&["--method=kl-shampoo", "--resume", &rest])?, &["cannot read the optimizer's state"]);
    fs::copy(format!("{half}.optimizer-11"), format!("{whole}.optimizer-24"))?;
    assert_one_line(&run(&["--method=adamw", "--resume", &whole])?, &["step 24", "step 11"]);
    let bytes = fs::read(&whole)?;
    fs::write(&whole, &bytes[..bytes.len() - 1])?;
    assert_one_line(&run(&["--method=adamw", "--resume", &whole])?, &["is not whole"]);
    assert_one_line(&run(&["--method=adamw", "--save", &file("no/such/folder")])?, &["cannot write"]);
    Ok(())
}

#[test]
fn trainer_and_runner_know_the_same_methods() -> Result<()> {
    let names: Vec<_> = Method::all().map(Method::argument).collect();
    let output = Command::new(trainer()).arg("--method=nothing").output()?;
    assert_one_line(&output, &[&format!("--method is one of {}; not 'nothing'", names.join(", "))]);
    let help = String::from_utf8(Command::new(trainer()).arg("--help").output()?.stdout)?;
    for name in names {
        assert!(help.lines().any(|line| line.split_whitespace().next() == Some(name)), "{name} is missing: {help}");
    }
    Ok(())
}

#[test]
fn every_method_learns() -> Result<()> {
    for method in Method::all() {
        let losses = losses(trainer(), &["--method", method.argument()])?;
        ensure!(losses[0] > 5.0 && losses[2] < 4.5, "{}: nothing was learned: {losses:?}", method.argument());
    }
    Ok(())
}

#[test]
fn options_override_the_table_of_methods() -> Result<()> {
    let plain = losses(trainer(), &["--method=shampoo"])?;
    for option in ["--lr=1e-3", "--adamw-lr=1e-3", "--beta1=0.5", "--beta2=0.5", "--graft=adam", "--convention=reference-meta"] {
        ensure!(losses(trainer(), &["--method=shampoo", option])? != plain, "{option} has no effect");
    }
    // AdamW's betas have two names where AdamW is the method.
    assert_eq!(losses(trainer(), &["--method=adamw", "--beta2=0.9"])?, losses(trainer(), &["--method=adamw", "--adamw-beta2=0.9"])?);
    Ok(())
}

#[test]
fn similarities_are_measured_and_change_nothing() -> Result<()> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/sonnets_gut.txt");
    let sizes = ["--layers=2", "--channels=16", "--heads=2", "--context=16", "--batch=2", "--steps=20", "--eval-bytes=64"];
    let lines = |options: &[&str]| -> Result<Vec<serde_json::Value>> {
        let output = Command::new(trainer()).arg("--data").arg(&data).args(sizes).args(options).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    };
    let watched = lines(&["--similarity-every=10", "--similarity-window=6", "--similarity-layer=1"])?;
    let found: Vec<_> = watched.iter().filter(|line| line["event"] == "similarity").collect();
    // Four hidden matrices, twice.
    let steps: Vec<_> = found.iter().filter_map(|line| line["step"].as_u64()).collect();
    assert_eq!(steps, [[10; 4], [20; 4]].concat());
    for line in found {
        let number = |key: &str| line[key].as_f64().context("a number");
        let optimal = number("optimal")?;
        ensure!(optimal > 0.0 && optimal < 1.001, "{line}");
        for other in ["shampoo_squared", "shampoo", "kullback_leibler"] {
            ensure!(number(other)? > 0.0 && number(other)? <= optimal + 1e-4, "{line}");
        }
    }
    let losses = |lines: &[serde_json::Value]| -> Vec<String> {
        lines.iter().filter(|line| line["event"] == "eval").map(|line| line["val_loss"].to_string()).collect()
    };
    assert_eq!(losses(&watched), losses(&lines(&[])?));
    Ok(())
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
fn trainer_passes_on_why_the_library_refuses() -> Result<()> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/sonnets_gut.txt");
    let output = Command::new(trainer()).arg("--data").arg(data).args(["--method=adamw", "--graft=adam"]).output()?;
    assert_eq!(output.status.code(), Some(1));
    assert_one_line(&output, &["the library refused adamw: "]);
    assert!(!String::from_utf8_lossy(&output.stderr).contains("learning rate"));
    Ok(())
}

#[test]
fn runner_explains_wrong_usage() -> Result<()> {
    let empty = folder("empty.txt");
    fs::write(&empty, "")?;
    let empty = empty.display().to_string();
    let inside_file = format!("{empty}/out");
    let out = folder("usage-out").display().to_string();
    let cases: [(&[&str], &[&str]); 13] = [
        (&["--frobnicate"], &["--frobnicate", "--help"]),
        (&["--size", "huge"], &["huge", "tiny", "--help"]),
        (&["--lr", "fast"], &["--lr", "fast", "a number from 0 to 1000"]),
        (&["--lr", "adam=1e-3"], &["--lr", "adam=1e-3", "kl-shampoo, "]),
        (&["--method", "soap,adam"], &["--method", "'adam'", "give all, or some of adamw, kl-shampoo, "]),
        (&["--graft", "soap"], &["--graft", "none, adam, "]),
        (&["--lambda0", "none"], &["--lambda0", "scale-free"]),
        (&["--out", &out, "--channels", "10"], &["--channels 10", "--heads 4"]),
        (&["--out", &out, "--experts", "2", "--experts-per-token", "3"], &["--experts-per-token 3", "--experts 2"]),
        (&["--out", &out, "--data", "/nowhere"], &["/nowhere", "give --data"]),
        (&["--out", &out, "--data", &empty], &["holds no text", "give --data"]),
        (&["--out", &out, "--program", "/nowhere"], &["no program '/nowhere'", "give --program"]),
        (&["--out", &inside_file], &["cannot write", "give --out"]),
    ];
    for (arguments, words) in cases {
        assert_one_line(&gpt(arguments)?, words);
    }
    Ok(())
}

/// The runner on a tiny job, its results in a folder of this name.
fn tiny(name: &str, options: &[&str]) -> Result<(PathBuf, Output)> {
    let out = folder(name);
    let sizes = ["--layers=1", "--channels=32", "--heads=2", "--context=32", "--batch=4", "--steps=40", "--eval-bytes=2048"];
    let out_option = format!("--out={}", out.display());
    let output = gpt(&[&sizes[..], &[&out_option], options].concat())?;
    Ok((out, output))
}

#[test]
fn runner_trains_and_reports() -> Result<()> {
    let methods = ["adamw", "kl-shampoo", "soap", "sgd"];
    let (out, output) =
        tiny("report", &["--library", &library().display().to_string(), "--method", &methods.join(","), "--eval-every=10"])?;
    let table = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{table}{}", String::from_utf8_lossy(&output.stderr));
    for name in ["final loss", "best loss", "AdamW's final", "ms per step", "bytes", "AdamW  ", "KL-Shampoo", "SOAP", "SGD"] {
        assert!(table.contains(name), "'{name}' is missing: {table}");
    }
    // Every method at steps 0, 10, ..., 40, under one line of names; the first point is the same for all.
    let curves = fs::read_to_string(out.join("curves.csv"))?;
    assert_eq!(curves.lines().count(), 1 + methods.len() * 5);
    let first: Vec<_> = curves.lines().filter_map(|line| line.split_once(",0,0,,")).map(|(_, loss)| loss).collect();
    assert_eq!(first.len(), methods.len());
    assert!(first.iter().all(|loss| *loss == first[0]));
    let picture = fs::read_to_string(out.join("curves.svg"))?;
    assert!(["AdamW", "KL-Shampoo", "SOAP", "SGD"].iter().all(|name| picture.contains(name)));
    let summary: serde_json::Value = serde_json::from_str(&fs::read_to_string(out.join("summary.json"))?)?;
    for (run, method) in summary.as_array().context("a summary per method")?.iter().zip(methods) {
        assert_eq!(run["method"], method);
        let loss = run["final_val_loss"].as_f64().context("a final loss")?;
        ensure!(loss < 4.0, "nothing was learned: {run}");
    }
    Ok(())
}

#[test]
fn a_method_that_is_refused_does_not_stop_the_others() -> Result<()> {
    let (out, output) = tiny("refused", &["--program", &trainer().display().to_string(), "--graft=adamw=adam"])?;
    assert!(!output.status.success());
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(table.contains("refused") && table.contains("AdamW: the library refused adamw: "), "{table}");
    let summary: serde_json::Value = serde_json::from_str(&fs::read_to_string(out.join("summary.json"))?)?;
    assert_eq!((&summary[0]["outcome"], &summary[1]["outcome"]), (&"refused".into(), &"finished".into()));
    Ok(())
}

#[test]
fn a_grid_has_every_method_and_rate() -> Result<()> {
    let (out, output) = tiny("grid", &["--program", &trainer().display().to_string(), "--grid=1e-3,4e-3,1000", "--weight-decay=100"])?;
    let table = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{table}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(table.trim_end(), fs::read_to_string(out.join("grid.md"))?.trim_end());
    let adamw = table.lines().find(|line| line.starts_with("| adamw |")).context("a line of AdamW")?;
    assert!(adamw.contains("**") && adamw.contains("| diverged |"), "{table}");
    let rows = fs::read_to_string(out.join("grid.csv"))?;
    assert_eq!(rows.lines().count(), 1 + 2 * 3);
    assert_eq!(rows.lines().skip(1).filter(|line| line.ends_with(",best")).count(), 2);
    Ok(())
}

//! A Rust project elsewhere that depends on this crate, with what README.md says that it needs.

use std::path::Path;
use std::process::{Command, Output};

const MANIFEST: &str = r#"[package]
name = "user"
version = "0.0.0"
edition = "2024"

[dependencies]
klshampoo-cuda = { path = "HERE" }

[workspace]
"#;

const PROGRAM: &str = r#"fn main() {
    println!("{:?}", klshampoo_cuda::driver::device_count());
}
"#;

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The lines for `.cargo/config.toml` in README.md.
fn config() -> String {
    let readme = std::fs::read_to_string(here().join("README.md")).expect("README.md");
    let block = readme.split("```toml\n").find(|block| block.starts_with("[env]\n")).expect("README.md names the environment");
    block.split("```").next().expect("its end").to_owned()
}

fn cargo(project: &Path, command: &str) -> Output {
    let mut run = Command::new(env!("CARGO"));
    run.args([command, "--offline", "--quiet"]).current_dir(project).env("CARGO_TARGET_DIR", project.join("target"));
    // Of this tree's own configuration.
    run.env_remove("CUDA_LIBRARY_PATH").env("KLS_CUDA_DRIVER", "/no/such/libcuda.so.1").output().expect("cargo")
}

fn has_cuda() -> bool {
    let toolkits = std::fs::read_dir("/usr/local").expect("a folder").filter_map(Result::ok);
    Path::new("/opt/cuda").exists() || toolkits.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with("cuda"))
}

#[test]
#[ignore = "compiles everything anew, for a few minutes"]
fn builds_elsewhere() {
    // Outside of this tree, whose configuration cargo would find.
    let project = std::env::temp_dir().join(format!("klshampoo-elsewhere-{}", std::process::id()));
    std::fs::create_dir_all(project.join("src")).expect("a folder");
    let write = |name: &str, text: &str| std::fs::write(project.join(name), text).expect(name);
    write("Cargo.toml", &MANIFEST.replace("HERE", &here().display().to_string()));
    write("src/main.rs", PROGRAM);
    // The same crates, which are there.
    std::fs::copy(here().join("../Cargo.lock"), project.join("Cargo.lock")).expect("Cargo.lock");
    if !has_cuda() {
        let output = cargo(&project, "check");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains("Could not find a cuda installation"), "{said}");
    }
    std::fs::create_dir_all(project.join(".cargo")).expect("a folder");
    write(".cargo/config.toml", &config());
    let output = cargo(&project, "run");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "Err(NoDriver)\n");
    std::fs::remove_dir_all(&project).expect("the project");
}

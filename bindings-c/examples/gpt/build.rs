//! Hands the target triple to the runner, which compiles C at run time and cannot ask Cargo then.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-env=GPT_TARGET={}", std::env::var("TARGET").expect("Cargo sets TARGET for build scripts"));
}

//! Compiles the caller in C as a trainer in a hurry would.

fn main() {
    println!("cargo::rerun-if-changed=c");
    println!("cargo::rerun-if-changed=../../include/klshampoo.h");
    let mut build = cc::Build::new();
    build.include("../../include").std("c11").extra_warnings(true).warnings_into_errors(true);
    // What -Ofast is, which newer compilers warn of.
    build.flag("-O3").flag("-ffast-math");
    build.file("c/caller.c").file("c/denormals.c").compile("kls_stress");
}

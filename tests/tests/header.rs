//! The committed headers are what cbindgen makes of the crates `klshampoo-ffi` and `klshampoo-cuda`. `KLS_BLESS=1` writes them anew.

use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

fn is_current(name: &str, folder: &str, sources: impl FnOnce(cbindgen::Builder, PathBuf) -> cbindgen::Builder) {
    let (folder, header) = (root().join(folder), root().join("include").join(name));
    let config = cbindgen::Config::from_file(folder.join("cbindgen.toml")).expect("cbindgen.toml");
    let bindings = sources(cbindgen::Builder::new().with_config(config), folder).generate().expect("cbindgen");
    let mut generated = Vec::new();
    bindings.write(&mut generated);
    let generated = String::from_utf8(generated).expect("a text");
    if std::env::var_os("KLS_BLESS").is_some() {
        std::fs::write(&header, &generated).expect(name);
    }
    let committed = std::fs::read_to_string(&header).expect(name);
    assert!(committed == generated, "include/{name} is not current: run this test with KLS_BLESS=1");
}

#[test]
fn the_committed_header_is_current() {
    is_current("klshampoo.h", "ffi", |builder, folder| builder.with_crate(folder));
}

/// Of the GPU's crate one module is the interface. The order of its files is the header's.
#[test]
fn the_committed_header_of_the_gpu_is_current() {
    is_current("klshampoo_cuda.h", "cuda-kernels", |builder, folder| {
        let files = ["options", "memory", "create", "handle", "step", "refreshes", "group", "counters", "checkpoint", "state"];
        files.iter().fold(builder, |builder, file| builder.with_src(folder.join(format!("src/api/{file}.rs"))))
    });
}

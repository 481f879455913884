//! The committed headers are what cbindgen makes of the crates `klshampoo-ffi` and `klshampoo-cuda`. `KLS_BLESS=1` writes them anew.

use std::path::Path;

fn is_current(folder: &str, name: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let (folder, header) = (root.join(folder), root.join("include").join(name));
    let config = cbindgen::Config::from_file(folder.join("cbindgen.toml")).expect("cbindgen.toml");
    let bindings = cbindgen::Builder::new().with_crate(&folder).with_config(config).generate().expect("cbindgen");
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
    is_current("ffi", "klshampoo.h");
}

#[test]
fn the_committed_header_of_the_gpu_is_current() {
    is_current("cuda-kernels", "klshampoo_cuda.h");
}

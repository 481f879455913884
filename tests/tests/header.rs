//! The committed header is what cbindgen makes of the crate `klshampoo-ffi`. `KLS_BLESS=1` writes it anew.

use std::path::Path;

#[test]
fn the_committed_header_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let (ffi, header) = (root.join("ffi"), root.join("include/klshampoo.h"));
    let config = cbindgen::Config::from_file(ffi.join("cbindgen.toml")).expect("ffi/cbindgen.toml");
    let bindings = cbindgen::Builder::new().with_crate(&ffi).with_config(config).generate().expect("cbindgen");
    let mut generated = Vec::new();
    bindings.write(&mut generated);
    let generated = String::from_utf8(generated).expect("a text");
    if std::env::var_os("KLS_BLESS").is_some() {
        std::fs::write(&header, &generated).expect("include/klshampoo.h");
    }
    let committed = std::fs::read_to_string(&header).expect("include/klshampoo.h");
    assert!(committed == generated, "include/klshampoo.h is not current: run this test with KLS_BLESS=1");
}

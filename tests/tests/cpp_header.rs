//! `klshampoo.hpp` has everything that `klshampoo.h` has: no constant and no function is left out.

use std::collections::HashSet;
use std::path::Path;

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    std::fs::read_to_string(root.join(path)).expect(path)
}

/// The names that a text uses.
fn words(text: &str) -> HashSet<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect()
}

#[test]
fn the_cpp_header_has_everything() {
    let (c, cpp, symbols) = (read("include/klshampoo.h"), read("bindings-c/include/klshampoo.hpp"), read("include/klshampoo.symbols"));
    let constants = c.lines().filter_map(|line| {
        let (name, value) = line.strip_prefix("#define ")?.split_once(' ')?;
        // The version is the header's own.
        (value.parse::<i64>().is_ok() && !name.starts_with("KLS_VERSION_")).then_some(name)
    });
    let wanted: Vec<&str> = constants.chain(symbols.lines()).collect();
    assert!(wanted.contains(&"KLS_METHOD_SOAP") && wanted.contains(&"kls_optimizer_step"), "the headers have changed their form");
    // Sizes of memory that is static are a matter of macros, in C++ too.
    let sizes = read("bindings-c/include/klshampoo_static.h");
    let of_memory = |name: &str| ["_BYTES_32", "_BYTES_64", "_HEADER_BYTES", "_MEMORY_ALIGNMENT"].iter().any(|end| name.ends_with(end));
    let known: HashSet<_> = words(&cpp).into_iter().chain(words(&sizes).into_iter().filter(|name| of_memory(name))).collect();
    let missing: Vec<_> = wanted.iter().filter(|name| !known.contains(**name)).collect();
    assert!(missing.is_empty(), "bindings-c/include/klshampoo.hpp knows nothing of {missing:?}");
}

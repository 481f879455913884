//! Where unsafe code is: nowhere in the core, under the same lints everywhere, and counted. ffi/UNSAFE.md is the table; `KLS_BLESS=1` writes it anew.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use klshampoo_tests::workspace::{committed, files, root};

/// A source without its comments.
fn code(path: &Path) -> String {
    let source = fs::read_to_string(path).unwrap();
    source.lines().map(|line| line.split_once("//").map_or(line, |(code, _)| code)).collect::<Vec<_>>().join("\n")
}

/// What of unsafe code a source has: blocks, functions, implementations. What clippy looks at is what has a `SAFETY` comment.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Count {
    blocks: usize,
    functions: usize,
    implementations: usize,
}

fn count(code: &str) -> Count {
    let mut found = Count::default();
    for (at, word) in code.match_indices("unsafe") {
        let rest = code[at + word.len()..].trim_start();
        let part_of_a_name = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        if part_of_a_name(code[..at].chars().next_back()) || part_of_a_name(code[at + word.len()..].chars().next()) {
            continue;
        }
        if rest.starts_with('{') {
            found.blocks += 1;
        } else if rest.starts_with("impl") {
            found.implementations += 1;
        } else if rest.starts_with("fn ") || rest.strip_prefix("extern \"C\"").is_some_and(|rest| rest.trim_start().starts_with("fn ")) {
            // A type of functions has no name and no body.
            found.functions += 1;
        }
    }
    found
}

#[test]
fn the_count_is_right() {
    let code = "unsafe { a() } unsafe fn f() {} unsafe impl Send for A {} pub unsafe extern \"C\" fn g() {}\n#[unsafe(no_mangle)]\nfn h() { unsafe{} }
        type F = unsafe extern \"C\" fn(u8); fn not_unsafe() {} forbid(unsafe_code)";
    let Count { blocks, functions, implementations } = count(code);
    assert_eq!((blocks, functions, implementations), (2, 2, 1));
}

#[test]
fn the_core_has_none() {
    assert!(fs::read_to_string(root().join("core/src/lib.rs")).unwrap().contains("\n#![forbid(unsafe_code)]\n"));
    for path in files("core/src/*.rs") {
        let code = code(&path).replace("forbid(unsafe_code)", "");
        assert!(!code.contains("unsafe"), "{}", path.display());
    }
}

#[test]
fn the_table_is_current() {
    let mut table = String::from(
        "# Unsafe code in the libraries\n\n\
         `core/` has none and forbids it. Each block and implementation below stands under a `SAFETY` comment that says why it is sound, which clippy\n\
         demands (`undocumented_unsafe_blocks`), and each function says under `# Safety` what its caller vouches for. The test `unsafe_code` compares\n\
         this table with the sources.\n\n\
         | file | blocks | functions | implementations |\n|---|---|---|---|\n",
    );
    let mut sum = Count::default();
    for path in [files("core/sqrt/src/*.rs"), files("ffi/src/*.rs")].concat() {
        let found = count(&code(&path));
        if found != Count::default() {
            let name = path.strip_prefix(root()).unwrap().display();
            writeln!(table, "| {name} | {} | {} | {} |", found.blocks, found.functions, found.implementations).unwrap();
            sum.blocks += found.blocks;
            sum.functions += found.functions;
            sum.implementations += found.implementations;
        }
    }
    writeln!(table, "| all | {} | {} | {} |", sum.blocks, sum.functions, sum.implementations).unwrap();
    committed("ffi/UNSAFE.md", &table);
}

#[test]
fn every_exported_function_says_what_its_caller_vouches_for() {
    let mut checked = Vec::new();
    for path in [files("ffi/src/*.rs"), files("cuda-kernels/src/api/*.rs")].concat() {
        let source = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = source.lines().map(str::trim).collect();
        for (at, line) in lines.iter().enumerate() {
            let Some(name) = line.strip_prefix("pub unsafe extern \"C\" fn ") else { continue };
            let mut docs = lines[..at].iter().rev().take_while(|line| line.starts_with("///") || line.starts_with("#["));
            assert!(docs.any(|line| *line == "/// # Safety"), "{}:{}: {line}", path.display(), at + 1);
            checked.push(name.split(['(', '<']).next().unwrap().to_owned());
        }
    }
    // All that are exported but those that take no pointer; the GPU's library has the CPU's functions too.
    let exported = fs::read_to_string(root().join("include/klshampoo_cuda.symbols")).unwrap();
    let others: Vec<&str> = exported.lines().filter(|name| !checked.iter().any(|checked| checked == name)).collect();
    assert_eq!(others, ["kls_status_string", "kls_version"]);
}

/// The lints that demand comments and small unsafe blocks hold in every package of every workspace.
#[test]
fn the_lints_hold_everywhere() {
    let (mut workspaces, mut packages) = (0, 0);
    for path in files("*Cargo.toml") {
        let manifest: toml::Table = fs::read_to_string(&path).unwrap().parse().unwrap();
        let lint = |group: &str, name: &str| manifest["workspace"]["lints"][group][name].as_str() == Some("deny");
        if manifest.contains_key("workspace") {
            workspaces += 1;
            assert!(lint("clippy", "undocumented_unsafe_blocks") && lint("rust", "unsafe_op_in_unsafe_fn"), "{}", path.display());
        }
        if manifest.contains_key("package") {
            packages += 1;
            let inherits = manifest.get("lints").and_then(|lints| lints.get("workspace")).and_then(toml::Value::as_bool);
            assert_eq!(inherits, Some(true), "{} does not take the workspace's lints", path.display());
        }
    }
    assert!(workspaces >= 2 && packages >= 10, "{workspaces}, {packages}");
}

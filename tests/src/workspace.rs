//! The repository as the tests of its rules see it: its files, and generated documents that are committed.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The repository's root.
///
/// # Panics
/// If there is none.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

/// The committed files that match a pattern of git's, from the root.
///
/// # Panics
/// If git cannot be run, or finds none.
pub fn files(pattern: &str) -> Vec<PathBuf> {
    let listed = said(Command::new("git").args(["ls-files", "--cached", "--others", "--exclude-standard", pattern]));
    let files: Vec<PathBuf> = listed.lines().map(|name| root().join(name)).filter(|path| path.exists()).collect();
    assert!(!files.is_empty(), "no {pattern} in the repository");
    files
}

/// What a command says in the root; it must succeed.
///
/// # Panics
/// If it does not.
pub fn said(command: &mut Command) -> String {
    let output = command.current_dir(root()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("a text")
}

/// Compares a generated document with the committed one; `KLS_BLESS=1` writes it anew.
///
/// # Panics
/// If they differ.
pub fn committed(name: &str, generated: &str) {
    let path = root().join(name);
    if std::env::var_os("KLS_BLESS").is_some() {
        std::fs::write(&path, generated).expect("the document can be written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    if found != generated {
        let known: Vec<&str> = found.lines().collect();
        let new: Vec<&str> = generated.lines().filter(|line| !known.contains(line)).collect();
        let gone: Vec<&str> = known.into_iter().filter(|line| !generated.lines().any(|other| other == *line)).collect();
        panic!("{name} is not current. New: {new:#?}\nGone: {gone:#?}\nLook at it, and run this test with KLS_BLESS=1.");
    }
}

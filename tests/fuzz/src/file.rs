//! Files for one execution, in memory where the system has such a folder.

use std::ffi::CString;
use std::path::Path;

use tempfile::TempDir;

/// A folder that goes with everything in it.
pub fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }.expect("room for a folder")
}

/// A path in it, as C has it.
pub fn path(folder: &TempDir, name: &str) -> CString {
    CString::new(folder.path().join(name).into_os_string().into_encoded_bytes()).expect("no zero byte")
}

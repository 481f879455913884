//! The library's version.

use core::ffi::{CStr, c_char};

/// Major version of the header: a change breaks source or binary compatibility.
pub const KLS_VERSION_MAJOR: u32 = 0;
/// Minor version of the header: a change adds to the interface.
pub const KLS_VERSION_MINOR: u32 = 1;
/// Patch version of the header: a change mends.
pub const KLS_VERSION_PATCH: u32 = 0;

const TEXT: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
    Ok(text) => text,
    Err(_) => panic!("the version has a NUL inside"),
};

/// The version of the linked library, "major.minor.patch". Static; compare it with KLS_VERSION_*, which are the header's.
#[unsafe(no_mangle)]
pub extern "C" fn kls_version() -> *const c_char {
    TEXT.as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_and_the_text_agree() {
        let text = format!("{KLS_VERSION_MAJOR}.{KLS_VERSION_MINOR}.{KLS_VERSION_PATCH}");
        assert_eq!(TEXT.to_str().unwrap(), text);
    }
}

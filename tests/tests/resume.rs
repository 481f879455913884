//! A C program's training run that ends halfway and goes on in a new process: the same bits as in one go.

use std::ffi::{CStr, CString, c_char};
use std::path::Path;

use klshampoo_ffi::*;
use klshampoo_tests::child;

#[link(name = "kls_c99_tests", kind = "static")]
unsafe extern "C" {
    fn resume_first(method: i32, path: *const c_char) -> *const c_char;
    fn resume_second(method: i32, path: *const c_char, safetensors: i32) -> *const c_char;
}

/// Does nothing but in the processes that the other test starts.
#[test]
fn one_half() {
    let Some(task) = child::task() else { return };
    let mut words = task.splitn(3, ' ');
    let (half, method, path) =
        (words.next().unwrap(), words.next().unwrap().parse().unwrap(), CString::new(words.next().unwrap()).unwrap());
    // SAFETY: C functions that take a text and return NULL or a static text.
    let failure = unsafe {
        let failure = match half {
            "first" => resume_first(method, path.as_ptr()),
            "second" => resume_second(method, path.as_ptr(), 0),
            _ => resume_second(method, path.as_ptr(), 1),
        };
        (!failure.is_null()).then(|| CStr::from_ptr(failure))
    };
    assert_eq!(failure, None, "{task}");
}

fn run(half: &str, method: i32, path: &Path) {
    child::run(&mut child::command(&[], "one_half", &format!("{half} {method} {}", path.to_str().unwrap())));
}

#[test]
fn a_run_goes_on_in_a_new_process() {
    let folder = tempfile::tempdir().unwrap();
    for method in KLS_METHOD_KL_SHAMPOO..=KLS_METHOD_SGD {
        let path = folder.path().join(method.to_string());
        run("first", method, &path);
        run("second", method, &path);
        run("second_from_safetensors", method, &path);
    }
}

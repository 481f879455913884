//! Saving into and loading from files.

use std::collections::BTreeSet;
use std::ffi::{CStr, c_char};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use klshampoo::Optimizer;

use super::replace::replace;
use super::safetensors::{START, from_safetensors, longest, starts_well, to_safetensors};
use crate::checked::check_pointer;
use crate::error::{Failure, Locate, Outcome};
use crate::guard::with_handle;
use crate::handle::kls_optimizer;
use crate::status::*;

/// A path as the system's own calls take it.
///
/// # Errors
/// KLS_ERROR_NULL; KLS_ERROR_IO for a text that is no path here.
///
/// # Safety
/// `path` is NULL or points to a text that ends with a zero byte and stays during `'a`.
pub unsafe fn path_from_c<'a>(path: *const c_char) -> Result<&'a Path, Failure> {
    check_pointer(path).of_field("path")?;
    // SAFETY: not NULL, and by the caller's word a text.
    let text = unsafe { CStr::from_ptr(path) };
    #[cfg(unix)]
    let path = {
        use std::os::unix::ffi::OsStrExt;
        Path::new(std::ffi::OsStr::from_bytes(text.to_bytes()))
    };
    #[cfg(not(unix))]
    let path = Path::new(text.to_str().map_err(|_| KLS_ERROR_IO)?);
    Ok(path)
}

fn from_io(error: io::Error) -> Failure {
    let status = match error.kind() {
        io::ErrorKind::NotFound => KLS_ERROR_FILE_NOT_FOUND,
        io::ErrorKind::OutOfMemory => KLS_ERROR_OUT_OF_MEMORY,
        io::ErrorKind::InvalidInput if error.raw_os_error().is_none() => return not_regular(),
        _ => KLS_ERROR_IO,
    };
    Failure::from(status).with_os_error(error.raw_os_error())
}

fn not_regular() -> Failure {
    Failure::because(KLS_ERROR_IO, "The path leads to something else than a regular file.")
}

/// The contents of a regular file, if it can be one of a checkpoint of so many bytes: what is longer is not read.
fn read(path: &Path, checkpoint_len: u64) -> Result<Vec<u8>, Failure> {
    // Before it is opened: opening a pipe may wait for ever, and a device may have no end.
    if !fs::metadata(path).map_err(from_io)?.is_file() {
        return Err(not_regular());
    }
    let mut file = File::open(path).map_err(from_io)?;
    let len = file.metadata().map_err(from_io)?.len();
    if len > longest(checkpoint_len) {
        let mut start = [0; START];
        file.read_exact(&mut start).map_err(from_io)?;
        return Err(if starts_well(&start) { KLS_ERROR_CHECKPOINT_SHAPES } else { KLS_ERROR_SAFETENSORS }.into());
    }
    let mut bytes = Vec::new();
    let room = usize::try_from(len).map_err(|_| KLS_ERROR_OUT_OF_MEMORY)?;
    bytes.try_reserve_exact(room).map_err(|_| KLS_ERROR_OUT_OF_MEMORY)?;
    file.take(len).read_to_end(&mut bytes).map_err(from_io)?;
    Ok(bytes)
}

/// What a file calls so many tensors: their own names where each has one and no two have the same, else their numbers.
pub fn names<'a>(count: usize, name: impl Fn(usize) -> &'a [u8]) -> Vec<String> {
    let names: Vec<_> = (0..count).map(|tensor| String::from_utf8_lossy(name(tensor)).into_owned()).collect();
    let distinct: BTreeSet<_> = names.iter().filter(|name| !name.is_empty()).collect();
    if distinct.len() == count { names } else { Vec::new() }
}

/// Saves a state into a file, as kls_optimizer_save_file does, with the tensors called as [`names`] says.
///
/// # Errors
/// Those of kls_optimizer_save_file.
pub fn save(view: &Optimizer<'_, f32>, names: &[String], path: &Path) -> Outcome {
    let len = usize::try_from(view.save_len()).map_err(|_| KLS_ERROR_OVERFLOW)?;
    let mut checkpoint = Vec::new();
    checkpoint.try_reserve_exact(len).map_err(|_| KLS_ERROR_OUT_OF_MEMORY)?;
    checkpoint.resize(len, 0);
    view.save(&mut checkpoint.as_mut_slice()).map_err(from_checkpoint)?;
    let file = to_safetensors(&checkpoint, |tensor| names.get(tensor).cloned().unwrap_or_else(|| tensor.to_string()))?;
    replace(path, |out| file.write_to(out)).map_err(from_io)
}

/// Takes a state from a file, as kls_optimizer_load_file does.
///
/// # Errors
/// Those of kls_optimizer_load_file; the state is then unchanged.
pub fn load(view: &mut Optimizer<'_, f32>, path: &Path) -> Outcome {
    let file = read(path, view.save_len())?;
    let checkpoint = from_safetensors(&file)?;
    drop(file);
    Ok(view.load(&mut checkpoint.as_slice()).map_err(from_checkpoint)?)
}

/// Saves as kls_optimizer_save does, into a safetensors file: one tensor per part of the state, `<tensor>.<slice>.<piece>.<part>` and, for
/// parts of a dim, `.<dim>` (`wte.0.0.basis.1`, `wte.0.0.momentum`), with the tensor's name, or, unless each has one and no two the same, its index in the table; groups, shapes, counters
/// and checksum as JSON in the metadata. Memory for a second copy of the state is needed meanwhile.
///
/// The file is written beside `path`, made durable, and renamed: at any time `path` holds the old file or the whole new one, also where the
/// process is killed, the power fails, the disk is full, or several processes save to one path (the last one stays). Where `path` is a symbolic
/// link, that stays, and the file that it leads to is replaced, or made. A file keeps its permissions, not its owner and its other names (hard
/// links). A folder, a pipe or a device at `path` is left alone. A process that is killed leaves its temporary file, `.klshampoo-` and six letters
/// or digits; the next save into that folder, by whatever process, removes those whose process is gone. It knows by a lock: so on Unix, not on
/// file systems without locks, and on a shared one only if all machines that save there see each other's locks.
///
/// Errors: KLS_ERROR_FILE_NOT_FOUND (the folder), KLS_ERROR_IO (kls_last_error has the system's own words), KLS_ERROR_OUT_OF_MEMORY,
/// KLS_ERROR_SAFETENSORS (the names of so many pieces do not fit such a file), KLS_ERROR_NULL and the handle's; what was at `path` is then
/// untouched and no temporary file is left, unless KLS_ERROR_IO is about the very last act, which makes the new name durable.
///
/// # Safety
/// `optimizer` is a handle that no other thread uses; `path` is NULL or a text that ends with a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_optimizer_save_file(optimizer: *mut kls_optimizer, path: *const c_char) -> kls_status {
    // SAFETY: the caller vouches for the handle and the text.
    unsafe {
        with_handle(optimizer, "kls_optimizer_save_file", |optimizer| {
            let path = path_from_c(path)?;
            let count = optimizer.parts()?.view.tensors().len();
            let names = names(count, |tensor| optimizer.tensor_name(Some(tensor)));
            save(&optimizer.parts()?.view, &names, path)
        })
    }
}

/// Loads as kls_optimizer_load does, from a regular file that kls_optimizer_save_file wrote. Memory for two more copies of the state is
/// needed meanwhile, and for the file's header; a file that is too long for this optimizer is not read.
///
/// Errors: those of kls_optimizer_load, KLS_ERROR_FILE_NOT_FOUND, KLS_ERROR_IO (also for folders, pipes and devices), KLS_ERROR_OUT_OF_MEMORY,
/// KLS_ERROR_SAFETENSORS; the optimizer is then unchanged.
///
/// # Safety
/// As for kls_optimizer_save_file.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_optimizer_load_file(optimizer: *mut kls_optimizer, path: *const c_char) -> kls_status {
    // SAFETY: the caller vouches for the handle and the text.
    unsafe {
        with_handle(optimizer, "kls_optimizer_load_file", |optimizer| {
            let path = path_from_c(path)?;
            load(&mut optimizer.parts()?.view, path)
        })
    }
}

//! Saving into and loading from files.

use std::collections::BTreeSet;
use std::ffi::{CStr, c_char};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::safetensors::{from_safetensors, to_safetensors};
use crate::checked::check_pointer;
use crate::error::{Failure, Locate};
use crate::guard::with_handle;
use crate::handle::kls_optimizer;
use crate::status::*;

/// A path as the system's own calls take it.
///
/// # Safety
/// `path` is NULL or points to a text that ends with a zero byte and stays during `'a`.
unsafe fn path_from_c<'a>(path: *const c_char) -> Result<&'a Path, Failure> {
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

fn from_io(error: &io::Error) -> kls_status {
    match error.kind() {
        io::ErrorKind::NotFound => KLS_ERROR_FILE_NOT_FOUND,
        io::ErrorKind::OutOfMemory => KLS_ERROR_OUT_OF_MEMORY,
        _ => KLS_ERROR_IO,
    }
}

/// Writes a file so that its path holds either the old contents or the new ones, whatever happens: a temporary file in the same folder, made
/// durable, then renamed.
fn write_atomically(path: &Path, contents: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let (Some(folder), Some(_)) = (path.parent(), path.file_name()) else {
        let kind = if path.as_os_str().is_empty() { io::ErrorKind::NotFound } else { io::ErrorKind::InvalidInput };
        return Err(kind.into());
    };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".klshampoo-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // What a new file gets anywhere: the system takes the user's mask off.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(folder)?;
    let mut buffered = BufWriter::new(file.as_file_mut());
    contents(&mut buffered)?;
    buffered.flush()?;
    drop(buffered);
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    // The new name is durable when the folder is. Other systems have no such call.
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    Ok(())
}

/// What a file calls the tensors: their own names where each has one and no two have the same, else their numbers.
fn names(optimizer: &mut kls_optimizer) -> Result<Vec<String>, Failure> {
    let count = optimizer.parts()?.view.tensors().len();
    let names: Vec<_> = (0..count).map(|tensor| String::from_utf8_lossy(optimizer.tensor_name(Some(tensor))).into_owned()).collect();
    let distinct: BTreeSet<_> = names.iter().filter(|name| !name.is_empty()).collect();
    Ok(if distinct.len() == count { names } else { Vec::new() })
}

/// Saves as kls_optimizer_save does, into a safetensors file: one tensor per part of the state, `<tensor>.<slice>.<piece>.<part>` and, for
/// parts of a dim, `.<dim>` (`wte.0.0.basis.1`, `wte.0.0.momentum`), with the tensor's name, or, unless each has one and no two the same, its index in the table; groups, shapes, counters
/// and checksum as JSON in the metadata. The file is written beside `path` and renamed: at any time `path` holds the old file or the whole new
/// one. Memory for a second copy of the state is needed meanwhile.
///
/// Errors: KLS_ERROR_FILE_NOT_FOUND (the folder), KLS_ERROR_IO, KLS_ERROR_OUT_OF_MEMORY, KLS_ERROR_SAFETENSORS (the names of so many
/// pieces do not fit such a file), KLS_ERROR_NULL and the handle's; what was at `path` is then untouched, unless KLS_ERROR_IO is about the
/// very last act, which makes the new name durable.
///
/// # Safety
/// `optimizer` is a handle that no other thread uses; `path` is NULL or a text that ends with a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_optimizer_save_file(optimizer: *mut kls_optimizer, path: *const c_char) -> kls_status {
    // SAFETY: the caller vouches for the handle and the text.
    unsafe {
        with_handle(optimizer, "kls_optimizer_save_file", |optimizer| {
            let path = path_from_c(path)?;
            let names = names(optimizer)?;
            let view = optimizer.parts()?.view;
            let len = usize::try_from(view.save_len()).map_err(|_| KLS_ERROR_OVERFLOW)?;
            let mut checkpoint = Vec::new();
            checkpoint.try_reserve_exact(len).map_err(|_| KLS_ERROR_OUT_OF_MEMORY)?;
            checkpoint.resize(len, 0);
            view.save(&mut checkpoint.as_mut_slice()).map_err(from_checkpoint)?;
            let file = to_safetensors(&checkpoint, |tensor| names.get(tensor).cloned().unwrap_or_else(|| tensor.to_string()))?;
            Ok(write_atomically(path, |out| file.write_to(out)).map_err(|error| from_io(&error))?)
        })
    }
}

/// Loads as kls_optimizer_load does, from a file that kls_optimizer_save_file wrote. Memory for two more copies of the state is needed
/// meanwhile.
///
/// Errors: those of kls_optimizer_load, KLS_ERROR_FILE_NOT_FOUND, KLS_ERROR_IO, KLS_ERROR_OUT_OF_MEMORY, KLS_ERROR_SAFETENSORS; the
/// optimizer is then unchanged.
///
/// # Safety
/// As for kls_optimizer_save_file.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_optimizer_load_file(optimizer: *mut kls_optimizer, path: *const c_char) -> kls_status {
    // SAFETY: the caller vouches for the handle and the text.
    unsafe {
        with_handle(optimizer, "kls_optimizer_load_file", |optimizer| {
            let file = std::fs::read(path_from_c(path)?).map_err(|error| from_io(&error))?;
            let checkpoint = from_safetensors(&file)?;
            drop(file);
            Ok(optimizer.parts()?.view.load(&mut checkpoint.as_slice()).map_err(from_checkpoint)?)
        })
    }
}

//! Replacing a file as a whole: at any time its path holds the old contents or the new ones.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// What the name of a temporary file starts with.
const PREFIX: &str = ".klshampoo-";

/// The letters and digits behind it, by chance.
const RANDOM: usize = 6;

/// Symbolic links that are followed at most, as many as Linux follows.
const MAX_LINKS: usize = 40;

/// Writes a file so that its path holds either the old contents or the new ones, whatever happens: a temporary file in the same folder, made
/// durable, then renamed. A symbolic link stays one, and what it leads to is replaced. The file keeps its permissions; a new one has those
/// of any new file.
pub(super) fn replace(path: &Path, contents: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let (path, before) = destination(path)?;
    let (Some(folder), Some(_)) = (path.parent(), path.file_name()) else {
        let kind = if path.as_os_str().is_empty() { io::ErrorKind::NotFound } else { io::ErrorKind::InvalidInput };
        return Err(kind.into());
    };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    // Without the check that `create` makes on Unix, a file that is being written could be taken for one that was left.
    if cfg!(unix) {
        sweep(folder);
    }
    let mut file = tempfile::Builder::new().prefix(PREFIX).rand_bytes(RANDOM).make_in(folder, create)?;
    // Asked first: some file systems know one mode only and refuse to set it.
    if let Some(before) = before
        && file.as_file().metadata()?.permissions() != before.permissions()
    {
        file.as_file().set_permissions(before.permissions())?;
    }
    let mut buffered = BufWriter::new(file.as_file_mut());
    contents(&mut buffered)?;
    buffered.flush()?;
    drop(buffered);
    file.as_file().sync_all()?;
    file.persist(&path).map_err(|error| error.error)?;
    // The new name is durable when the folder is. Other systems have no such call.
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    Ok(())
}

/// Where a path leads when symbolic links are followed, and what is there: a regular file or nothing. A folder, a pipe or a device is no
/// place for a file.
fn destination(path: &Path) -> io::Result<(PathBuf, Option<fs::Metadata>)> {
    let found = match fs::metadata(path) {
        Ok(found) if found.is_file() => Some(found),
        Ok(_) => return Err(io::ErrorKind::InvalidInput.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        // Such as links in a circle.
        Err(error) => return Err(error),
    };
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let Ok(link) = fs::read_link(&path) else { break };
        path = path.parent().unwrap_or(Path::new("")).join(link);
    }
    Ok((path, found))
}

/// Makes a temporary file, which is locked as long as it is open: so those of processes that were killed can be told from the others.
fn create(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
    // Another process may see the file before it is locked, take it for one that was left, and remove it: then another name is tried. On a file
    // system without locks nothing is ever removed.
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let removed = matches!(file.try_lock(), Err(fs::TryLockError::WouldBlock)) || file.metadata()?.nlink() == 0;
        if removed {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
    }
    Ok(file)
}

/// Whether a file's name is that of a temporary one.
fn is_temporary(name: &OsStr) -> bool {
    let random = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
    random.is_some_and(|random| random.len() == RANDOM && random.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

/// Removes the temporary files in a folder that nobody has locked: their processes were killed. What cannot be removed stays.
fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        // Of another kind than a file, its opening could wait.
        if !is_temporary(&entry.file_name()) || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        // Some file systems lock only what may be written. What replaces a file without that right has it neither.
        let (both, read) = (OpenOptions::new().read(true).write(true).open(entry.path()), || File::open(entry.path()));
        let Ok(file) = both.or_else(|_| read()) else { continue };
        if file.try_lock().is_ok() {
            let _ = fs::remove_file(entry.path());
        }
    }
}

//! Saves that cannot succeed: no room, no right, no such place, something else in the way. What was there stays, nothing is left behind, the
//! optimizer goes on, and the message has the system's own words.
#![cfg(unix)]

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use klshampoo_ffi::*;
use klshampoo_tests::child;
use klshampoo_tests::handle::Handle;
use klshampoo_tests::harness::Number;

fn optimizer(steps: usize) -> Handle {
    let mut optimizer = Handle::new(&f32::kl_shampoo(), &[12, 20], 1);
    (0..steps).for_each(|_| optimizer.step());
    optimizer
}

/// Says that something could not be tried, where everybody sees it: past the test runner, which keeps what tests print.
fn not_run(what: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "NOT RUN: {what}: {why}");
}

/// The names in a folder.
fn names(folder: &Path) -> Vec<PathBuf> {
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into()).collect();
    names.sort();
    names
}

/// Expects a save to fail, to say why, and to change nothing.
fn refused(optimizer: &Handle, path: &Path, status: kls_status, words: &str) {
    let folder = path.parent().filter(|folder| folder.is_dir());
    let before = (optimizer.state(), folder.map(names));
    assert_eq!(optimizer.save(path), status, "{}: {}", path.display(), optimizer.error());
    let said = optimizer.error();
    assert!(said.starts_with("kls_optimizer_save_file: ") && said.contains(words), "{}: {said}", path.display());
    assert!((optimizer.state(), folder.map(names)) == before, "{}: {said}", path.display());
}

/// Expects a load to fail, to say why, and to change nothing.
fn unreadable(optimizer: &Handle, path: &Path, status: kls_status, words: &str) {
    let before = optimizer.state();
    assert_eq!(optimizer.load(path), status, "{}: {}", path.display(), optimizer.error());
    let said = optimizer.error();
    assert!(said.starts_with("kls_optimizer_load_file: ") && said.contains(words), "{}: {said}", path.display());
    assert!(optimizer.state() == before);
}

/// What a process is told to do with a path in which an optimizer has been saved after three steps.
#[test]
fn a_saver() {
    let Some(task) = child::task() else { return };
    let (what, path) = task.rsplit_once(' ').unwrap();
    let path = Path::new(path);
    let (three, more) = (optimizer(3), optimizer(7));
    match what {
        // Every number of bytes that there is room for, less than the file needs.
        "limits" => {
            let old = fs::read(path).unwrap();
            for bytes in (0..old.len() as u64).step_by(3) {
                limit_files(bytes);
                refused(&more, path, KLS_ERROR_IO, "File too large (os error 27)");
                assert!(fs::read(path).unwrap() == old, "{bytes}");
            }
            limit_files(old.len() as u64 + 4096);
            assert_eq!(more.save(path), KLS_OK);
        }
        // There is room for one file and a part of another one.
        "full" => {
            let old = fs::read(path).unwrap();
            let filler = path.with_file_name("filler");
            let mut filling = File::create(&filler).unwrap();
            while filling.write_all(&[0; 1024]).is_ok() {}
            // Pages are what such a file system counts in.
            let full = filling.metadata().unwrap().len();
            for room in (0..old.len() as u64).step_by(4096) {
                filling.set_len(full - room).unwrap();
                refused(&more, path, KLS_ERROR_IO, "No space left on device (os error 28)");
                assert!(fs::read(path).unwrap() == old);
            }
            drop(filling);
            fs::remove_file(filler).unwrap();
            assert_eq!(more.save(path), KLS_OK);
        }
        words => {
            // On a disk that cannot be written, or for a user who may not.
            if words.starts_with("Permission") {
                become_nobody();
            }
            refused(&more, path, KLS_ERROR_IO, words);
            assert_eq!(more.load(path), KLS_OK, "it can be read");
            assert!(more.state() == three.state());
            return;
        }
    }
    let found = optimizer(0);
    assert_eq!(found.load(path), KLS_OK);
    assert!(found.state() == more.state());
}

/// The superuser may do everything.
fn become_nobody() {
    use rustix::thread::{Gid, Uid, set_thread_res_gid, set_thread_res_uid};
    if rustix::process::geteuid().is_root() {
        let (user, group) = (Uid::from_raw(65534), Gid::from_raw(65534));
        set_thread_res_gid(group, group, group).unwrap();
        set_thread_res_uid(user, user, user).unwrap();
    }
}

/// Files of this process end after so many bytes.
fn limit_files(bytes: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, Rlimit { current: Some(bytes), maximum }).unwrap();
}

/// A folder with a file of an optimizer that has made three steps.
fn saved() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    assert_eq!(optimizer(3).save(&path), KLS_OK);
    (folder, path)
}

#[test]
fn a_file_that_cannot_grow_leaves_the_old_one() {
    let (_folder, path) = saved();
    // The signal that comes with the error ends the process unless it is ignored, which the program that is started inherits.
    let wrapper = ["sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh"];
    child::run(&mut child::command(&wrapper, "a_saver", &format!("limits {}", path.display())));
}

/// A mount that only the started program sees; it needs a system that lets this user have one.
fn in_a_mount(what: &str, script: &str, task: &str) {
    let unshare = ["unshare", "--mount", "--map-root-user"];
    let possible = Command::new(unshare[0]).args(&unshare[1..]).args(["sh", "-c", "mount -t tmpfs none /mnt"]).output();
    match possible {
        Ok(output) if output.status.success() => {
            let wrapper = [&unshare[..], &["sh", "-e", "-c", script, "sh"]].concat();
            child::run(&mut child::command(&wrapper, "a_saver", task));
        }
        Ok(output) => not_run(what, &String::from_utf8_lossy(&output.stderr)),
        Err(error) => not_run(what, &format!("unshare: {error}")),
    }
}

#[test]
fn a_full_disk_leaves_the_old_file() {
    let (_folder, path) = saved();
    let script = format!("mount -t tmpfs -o size=64k none /mnt; cp {} /mnt/state; exec \"$@\"", path.display());
    in_a_mount("a full disk", &script, "full /mnt/state");
}

#[test]
fn a_read_only_disk_leaves_the_old_file() {
    let (_folder, path) = saved();
    let script = format!("mount -t tmpfs none /mnt; cp {} /mnt/state; mount -o remount,ro /mnt; exec \"$@\"", path.display());
    in_a_mount("a read-only disk", &script, "Read-only file system (os error 30) /mnt/state");
}

#[test]
fn a_folder_without_the_right_to_write_leaves_the_old_file() {
    let (folder, path) = saved();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).unwrap();
    child::run(&mut child::command(&[], "a_saver", &format!("Permission denied (os error 13) {}", path.display())));
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn no_such_place() {
    let (folder, path) = saved();
    let (more, missing) = (optimizer(5), folder.path().join("missing/state"));
    refused(&more, &missing, KLS_ERROR_FILE_NOT_FOUND, "There is no such file or folder. No such file or directory (os error 2).");
    unreadable(&more, &missing, KLS_ERROR_FILE_NOT_FOUND, "No such file or directory (os error 2)");
    refused(&more, &path.join("below"), KLS_ERROR_IO, "Not a directory (os error 20)");
    refused(&more, &folder.path().join("n".repeat(300)), KLS_ERROR_IO, "File name too long (os error 36)");
    let regular = "something else than a regular file";
    refused(&more, folder.path(), KLS_ERROR_IO, regular);
    unreadable(&more, folder.path(), KLS_ERROR_IO, regular);
}

/// The link stays, and what it leads to is replaced: a checkpoint that lies on another disk goes on lying there.
#[test]
fn a_symbolic_link_stays() {
    let (folder, path) = saved();
    let elsewhere = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("link"), elsewhere.path().join("link"));
    symlink(&second, &first).unwrap();
    // Relative to the folder that it lies in.
    symlink("state", &second).unwrap();
    let (five, target) = (optimizer(5), elsewhere.path().join("state"));
    let load = |path: &Path| {
        let found = optimizer(0);
        assert_eq!(found.load(path), KLS_OK, "{}", found.error());
        found.steps()
    };

    // To nothing at all: what it leads to is made.
    assert_eq!(five.save(&first), KLS_OK, "{}", five.error());
    assert!(first.is_symlink() && second.is_symlink() && !target.is_symlink());
    assert_eq!((load(&first), load(&target), load(&path)), (5, 5, 3));
    // To a file.
    let seven = optimizer(7);
    assert_eq!(seven.save(&first), KLS_OK);
    assert!(first.is_symlink() && second.is_symlink());
    assert_eq!((load(&first), load(&target)), (7, 7));
    assert_eq!(names(folder.path()), [Path::new("link"), Path::new("state.safetensors")]);
    assert_eq!(names(elsewhere.path()), [Path::new("link"), Path::new("state")]);

    // In a circle, to a folder that is not there, to a folder.
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    symlink(&b, &a).unwrap();
    symlink(&a, &b).unwrap();
    refused(&seven, &a, KLS_ERROR_IO, "Too many levels of symbolic links (os error 40)");
    unreadable(&seven, &a, KLS_ERROR_IO, "Too many levels of symbolic links (os error 40)");
    let nowhere = folder.path().join("nowhere");
    symlink("no/such/folder", &nowhere).unwrap();
    refused(&seven, &nowhere, KLS_ERROR_FILE_NOT_FOUND, "No such file or directory");
    let up = folder.path().join("up");
    symlink("..", &up).unwrap();
    refused(&seven, &up, KLS_ERROR_IO, "something else than a regular file");
    assert!(a.is_symlink() && nowhere.is_symlink() && up.is_symlink());
    // By a name alone, in the folder that the process is in: tests share it, so in one of its own.
    child::run(child::command(&[], "in_its_folder", "").current_dir(folder.path()));
    assert_eq!((load(&folder.path().join("plain")), load(&target)), (2, 2));
}

/// Does nothing but in the process that another test starts.
#[test]
fn in_its_folder() {
    let Some(_) = child::task() else { return };
    let two = optimizer(2);
    assert_eq!((two.save(Path::new("plain")), two.save(Path::new("link"))), (KLS_OK, KLS_OK), "{}", two.error());
    assert!(Path::new("link").is_symlink());
}

/// Nothing is put in the place of a pipe or a device, and none is waited for or read without an end.
#[test]
fn pipes_and_devices_are_left_alone() {
    let (folder, _) = saved();
    let (more, regular) = (optimizer(5), "something else than a regular file");
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut paths = vec![pipe.clone()];
    for device in ["/dev/null", "/dev/full", "/dev/zero"].map(Path::new) {
        let link = folder.path().join(device.file_name().unwrap());
        symlink(device, &link).unwrap();
        paths.extend([link, device.to_owned()]);
    }
    for path in &paths {
        let kind = fs::metadata(path).unwrap().file_type();
        refused(&more, path, KLS_ERROR_IO, regular);
        unreadable(&more, path, KLS_ERROR_IO, regular);
        assert_eq!(fs::metadata(path).unwrap().file_type(), kind);
    }
    assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
}

#[test]
fn a_file_keeps_its_permissions() {
    let (_folder, path) = saved();
    for mode in [0o600, 0o640, 0o444] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(optimizer(4).save(&path), KLS_OK);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
    }
}

/// What processes that were killed have left is removed by the next save, and nothing else is: not what another one is writing, not what only looks
/// like it.
#[test]
fn left_files_are_removed_and_no_others() {
    let (folder, path) = saved();
    let make = |name: &str| File::create_new(folder.path().join(name)).unwrap();
    make(".klshampoo-aB3xYz");
    let in_use = make(".klshampoo-inUse1");
    in_use.lock().unwrap();
    for other in [".klshampoo-", ".klshampoo-short", ".klshampoo-toolong", ".klshampoo-aB3x.z", "klshampoo-aB3xYz", ".klshampoo-aB3xYz.txt"]
    {
        make(other);
    }
    symlink(&path, folder.path().join(".klshampoo-linked")).unwrap();
    fs::create_dir(folder.path().join(".klshampoo-folder")).unwrap();
    assert!(Command::new("mkfifo").arg(folder.path().join(".klshampoo-pipe01")).status().unwrap().success());
    let mut expected = names(folder.path());
    expected.retain(|name| name != Path::new(".klshampoo-aB3xYz"));
    assert_eq!(optimizer(4).save(&path), KLS_OK);
    assert_eq!(names(folder.path()), expected);
    drop(in_use);
    assert_eq!(optimizer(4).save(&path), KLS_OK);
    expected.retain(|name| name != Path::new(".klshampoo-inUse1"));
    assert_eq!(names(folder.path()), expected);
}

/// A forged or a wrong file that is longer than any of this optimizer is not read: it could take all memory. These have no blocks on the disk.
#[test]
fn files_that_are_too_long_are_not_read() {
    let (folder, path) = saved();
    let (more, long) = (optimizer(5), folder.path().join("long"));
    let sparse = |start: &[u8], len: u64| {
        let mut file = File::create(&long).unwrap();
        file.write_all(start).unwrap();
        file.set_len(len).unwrap();
    };
    let tebibyte = 1 << 40;
    sparse(&[], tebibyte);
    unreadable(&more, &long, KLS_ERROR_SAFETENSORS, "");
    sparse(&fs::read(&path).unwrap(), tebibyte);
    unreadable(&more, &long, KLS_ERROR_CHECKPOINT_SHAPES, "");
    // Within what could be a header's length it is read, and the crate that reads such files sees that it is too long.
    sparse(&fs::read(&path).unwrap(), 50_000_000);
    unreadable(&more, &long, KLS_ERROR_CHECKPOINT_TRUNCATED, "");
}

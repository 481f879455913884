//! Processes that are killed while they save, and processes that save to one path at a time: what is there afterwards is what one of them saved,
//! whole. `KLS_KILLS=1000` kills more often than in a plain run.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use klshampoo_ffi::*;
use klshampoo_tests::cases::Xorshift;
use klshampoo_tests::child;
use klshampoo_tests::handle::Handle;
use klshampoo_tests::harness::Number;

/// The optimizer of every process here: a file of some pages.
fn optimizer(seed: usize) -> Handle {
    Handle::new(&f32::kl_shampoo(), &[24, 40], seed)
}

/// Does nothing but in the processes that the other tests start: a step, a save, a step, a save, and says after each which step is saved.
#[test]
fn a_saver() {
    let Some(task) = child::task() else { return };
    let words: Vec<&str> = task.splitn(4, ' ').collect();
    let (how, seed, path) = (words[0], words[1].parse().unwrap(), Path::new(words[3]));
    let saves: usize = words[2].parse().unwrap();
    let mut own = optimizer(seed);
    if how == "stream" {
        assert_eq!(own.load_bytes(&fs::read(path).unwrap()), KLS_OK);
    } else if path.exists() && how == "file" {
        assert_eq!(own.load(path), KLS_OK, "{}", own.error());
    }
    // Not by a macro: the parent reads a line as soon as it is there.
    let mut out = std::io::stdout();
    let mut say = |steps: u64| writeln!(out, "\nsaved {steps}").and_then(|()| out.flush()).expect("the parent lives");
    say(own.steps());
    for _ in 0..saves {
        own.step();
        if how == "stream" {
            // As a caller may do it: over the old bytes.
            let mut file = File::options().write(true).open(path).unwrap();
            assert_eq!(own.save_to(|bytes| file.write_all(bytes).is_ok()), KLS_OK);
        } else {
            assert_eq!(own.save(path), KLS_OK, "{}", own.error());
        }
        say(own.steps());
    }
}

fn start(how: &str, seed: usize, saves: usize, path: &Path) -> Child {
    let task = format!("{how} {seed} {saves} {}", path.to_str().unwrap());
    child::command(&[], "a_saver", &task).stdout(Stdio::piped()).spawn().unwrap()
}

fn saved(line: &str) -> Option<u64> {
    line.strip_prefix("saved ").and_then(|steps| steps.trim_end().parse().ok())
}

/// Starts a saver, kills it some time after its start, and returns the last step of which it has said that it is saved.
fn kill_one(how: &str, path: &Path, random: &mut Xorshift) -> u64 {
    let mut process = start(how, 1, usize::MAX, path);
    let mut out = BufReader::new(process.stdout.take().unwrap());
    let mut line = String::new();
    while saved(&line).is_none() {
        line.clear();
        assert!(out.read_line(&mut line).unwrap() > 0, "the saver has not started");
    }
    let first = saved(&line).unwrap();
    std::thread::sleep(Duration::from_micros((random.uniform().abs() * 20_000.0) as u64));
    process.kill().unwrap();
    process.wait().unwrap();
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    rest.lines().rev().find_map(saved).unwrap_or(first)
}

fn kills() -> usize {
    std::env::var("KLS_KILLS").map_or(100, |kills| kills.parse().expect("KLS_KILLS is a number"))
}

/// What is in a folder besides a file.
fn others(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|found| found != path).collect()
}

/// The optimizer that has made so many steps, from one that has made fewer.
fn advance(optimizer: &mut Handle, steps: u64) -> &Handle {
    assert!(optimizer.steps() <= steps);
    while optimizer.steps() < steps {
        optimizer.step();
    }
    optimizer
}

#[test]
fn a_killed_save_leaves_the_old_file_or_the_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    let (mut expected, mut random) = (optimizer(1), Xorshift::for_shape(&[kills()]));
    assert_eq!(expected.save(&path), KLS_OK);
    let (mut while_saving, mut unannounced, mut most) = (0, 0, 0);
    for kill in 0..kills() {
        let last = kill_one("file", &path, &mut random);
        let left = others(&path);
        // The one of this kill: each save takes away what the kills before it have left.
        assert!(left.len() <= 1, "kill {kill}: {left:?}");
        assert!(left.iter().all(|left| left.file_name().unwrap().to_str().unwrap().starts_with(".klshampoo-")), "{left:?}");
        while_saving += left.len();
        let found = optimizer(1);
        assert_eq!(found.load(&path), KLS_OK, "kill {kill}: {}", found.error());
        assert!((last..=last + 1).contains(&found.steps()), "kill {kill}: step {} after step {last}", found.steps());
        unannounced += u64::from(found.steps() > last);
        assert!(found.state() == advance(&mut expected, found.steps()).state(), "kill {kill}: not the state of step {}", found.steps());
        most = most.max(found.steps());
    }
    println!("{} kills, {while_saving} with a file half written, {unannounced} just after the renaming, {most} saves", kills());
    assert!(while_saving * 20 > kills(), "only {while_saving} of {} kills hit a save", kills());
    assert_eq!(expected.save(&path), KLS_OK);
    assert_eq!(others(&path), Vec::<PathBuf>::new());
}

/// Whoever writes through a callback over the old bytes has both of them when the power fails. What is then there is whole, or refused.
#[test]
fn a_killed_stream_is_whole_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let (mut expected, mut random) = (optimizer(1), Xorshift::for_shape(&[kills(), 1]));
    let (mut refused, mut tries) = (0, 0);
    // Few kills hit the writing itself, which takes microseconds.
    while tries < kills() || (refused < 3 && tries < 50 * kills()) {
        tries += 1;
        fs::write(&path, expected.state()).unwrap();
        let last = kill_one("stream", &path, &mut random);
        let (bytes, found) = (fs::read(&path).unwrap(), optimizer(1));
        let new = found.state();
        match found.load_bytes(&bytes) {
            KLS_OK => {
                assert!((last..=last + 1).contains(&found.steps()), "step {} after step {last}", found.steps());
                assert!(bytes == advance(&mut expected, found.steps()).state());
            }
            status => {
                assert_eq!(status, KLS_ERROR_CHECKPOINT_CHECKSUM, "after step {last}");
                assert!(found.state() == new);
                advance(&mut expected, last);
                refused += 1;
            }
        }
    }
    println!("{tries} kills, {refused} mixtures refused");
    assert!(refused >= 3, "no kill of {tries} has hit a stream");
}

/// While two processes save to one path as fast as they can, everything that is loaded from it is what one of them has saved.
#[test]
fn of_two_savers_one_has_saved() {
    const SAVES: usize = 300;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    let states: Vec<Vec<Vec<u8>>> = (1..=2)
        .map(|seed| {
            let mut optimizer = optimizer(seed);
            (0..SAVES)
                .map(|_| {
                    optimizer.step();
                    optimizer.state()
                })
                .collect()
        })
        .collect();
    let mut savers: Vec<Child> = (1..=2).map(|seed| start("over", seed, SAVES, &path)).collect();
    // What they say fits into a pipe.
    let (mut loads, mut of) = (0, [0, 0]);
    let mut check = || {
        let found = optimizer(1);
        match found.load(&path) {
            KLS_ERROR_FILE_NOT_FOUND if loads == 0 => {}
            status => {
                assert_eq!(status, KLS_OK, "load {loads}: {}", found.error());
                let (state, at) = (found.state(), found.steps() as usize - 1);
                let whose = (0..2).find(|&whose| states[whose][at] == state).expect("a state that one of them has saved");
                of[whose] += 1;
                loads += 1;
            }
        }
    };
    while savers.iter_mut().any(|saver| saver.try_wait().unwrap().is_none()) {
        check();
    }
    for saver in &mut savers {
        assert!(saver.wait().unwrap().success());
    }
    check();
    println!("2 x {SAVES} saves, {loads} loads, {of:?} of each");
    assert!(of[0] > 0 && of[1] > 0 && loads > 20, "{of:?}: they did not save at the same time");
    assert_eq!(others(&path), Vec::<PathBuf>::new());
}

//! Runs every target on the inputs of its folders, without libFuzzer: `replay FOLDER...`, where a FOLDER has one of a target's name for each
//! target (`seeds`, `corpus`). Says how many executions got to a successful step. Coverage is measured of this program.

use std::fs;
use std::path::PathBuf;

use klshampoo_fuzz::{TARGETS, execute, tally};

fn main() {
    assert_ne!(std::env::args_os().len(), 1, "no folder is given");
    let folders: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    for (name, target) in TARGETS {
        let before = tally();
        for folder in &folders {
            let Ok(files) = fs::read_dir(folder.join(name)) else { continue };
            for file in files {
                let path = file.expect("a folder that can be read").path();
                execute(target, &fs::read(&path).expect("a file that can be read"));
            }
        }
        let after = tally();
        let (executions, stepped) = (after.0 - before.0, after.1 - before.1);
        println!("{name:10} {executions:6} inputs, with a successful step {stepped:6}");
    }
    assert_ne!(tally().0, 0, "the folders have no inputs");
}

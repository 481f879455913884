//! Writes checkpoints as inputs of the target `checkpoint`: `seeds FOLDER`. All other inputs are found by fuzzing from nothing.

use std::fs;
use std::path::PathBuf;

use klshampoo_ffi::host::to_safetensors;
use klshampoo_fuzz::checkpoint::{FOREIGN, stepped};

fn main() {
    let folder = PathBuf::from(std::env::args_os().nth(1).expect("a folder"));
    fs::create_dir_all(&folder).expect("a folder that can be made");
    for steps in 0..6 {
        let (checkpoint, mut file) = (stepped(steps), Vec::new());
        to_safetensors(&checkpoint, |index| index.to_string()).expect("a checkpoint").write_to(&mut file).expect("memory");
        for (name, way, bytes) in [("buffer", 0, &checkpoint), ("callback", 1, &checkpoint), ("file", 3, &file)] {
            let mut input = FOREIGN.to_vec();
            input[2] = way;
            input.extend(bytes);
            fs::write(folder.join(format!("{name}-{steps}")), input).expect("room");
        }
    }
}

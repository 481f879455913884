//! The tensors, and the memory that the hungriest method needs for them.

use klshampoo::linalg::Portable;
use klshampoo::{FixedOptimizer, TensorSpec};

use crate::cases::CASES;

/// Small enough for 16 KiB of RAM.
pub(crate) const TENSORS: usize = 4;
const DIMS: [&[usize]; TENSORS] = [&[4, 8], &[5, 3], &[2, 3, 4], &[7]];

/// Their elements.
pub(crate) const LEN: [usize; TENSORS] = [32, 15, 24, 7];
pub(crate) const ELEMENTS: usize = 78;

const fn spec(dims: &[usize]) -> TensorSpec {
    match TensorSpec::new(dims) {
        Ok(spec) => spec,
        Err(_) => panic!("a tensor has 1 to 6 dims"),
    }
}

pub(crate) const SPECS: [TensorSpec; TENSORS] = [spec(DIMS[0]), spec(DIMS[1]), spec(DIMS[2]), spec(DIMS[3])];

/// Elements of state and of scratch.
const NEEDS: (usize, usize) = {
    let (mut case, mut most) = (0, (0, 0));
    while case < CASES.len() {
        let (mut tensor, mut state) = (0, 0);
        while tensor < TENSORS {
            let Ok(needs) = SPECS[tensor].needs(&CASES[case].1) else { panic!("the dims are wrong") };
            state += needs.state_len;
            most.1 = if needs.scratch_len > most.1 { needs.scratch_len } else { most.1 };
            tensor += 1;
        }
        most.0 = if state > most.0 { state } else { most.0 };
        case += 1;
    }
    most
};

pub(crate) type Owner = FixedOptimizer<f32, Portable, 1, TENSORS, TENSORS, { NEEDS.0 }, { NEEDS.1 }>;

/// The tensors' parts of a buffer.
pub(crate) fn split(mut buffer: &[f32]) -> [&[f32]; TENSORS] {
    LEN.map(|len| buffer.split_off(..len).expect("of the same lengths"))
}

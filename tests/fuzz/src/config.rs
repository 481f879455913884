//! Groups of any bytes: `kls_config` with a struct_size of any header or of none, with anything in its fields. What is accepted is planned and
//! stepped.

use klshampoo_ffi::*;

use crate::bytes::Bytes;
use crate::choices::Choices;
use crate::groups::{METHODS, SIZES, group, of_version, preset};
use crate::optimizer::{LARGEST, Optimizer};
use crate::status::check_without;
use crate::tensors::{self, Table, plain};

/// See the module.
pub fn run(input: &[u8]) -> usize {
    let choices = &mut Choices::new(input);
    init(choices);
    let (groups, count) = groups(choices);
    let mut tensors: Vec<_> = [&[4, 3][..], &[3], &[2, 3, 2], &[6, 2]].map(plain)[..1 + choices.below(4)].to_vec();
    for (i, tensor) in tensors.iter_mut().enumerate() {
        tensor.group = (i % count) as u32;
    }
    let table = Table::of_bytes(&groups, count, tensors, *tensors::SIZES.last().unwrap_or(&0), Vec::new());
    let Some(mut optimizer) = Optimizer::new(choices, &table, LARGEST) else { return 0 };
    optimizer.check_plans();
    let (mut numbers, mut steps) = (choices.numbers(), 0);
    for _ in 0..1 + choices.below(6) {
        optimizer.fill_gradients(&mut numbers);
        steps += optimizer.step(choices.float(&[0.01, 0.0, 1.0, 1e-6]));
    }
    optimizer.read_all(true);
    steps
}

/// The init function with any method, convention and size.
fn init(choices: &mut Choices<'_>) {
    let size = if choices.rarely(8) { choices.any() } else { choices.pick(&SIZES) };
    // A size that no header has must be refused before anything is written.
    let memory = Bytes::zeroed(if SIZES.contains(&size) { size } else { 0 }, 8);
    let (method, convention) = (choices.option(METHODS), choices.option(4));
    // SAFETY: as many bytes as a known size says.
    let status = unsafe { check_without(kls_config_init(choices.pointer(memory.pointer()), size, method, convention)) };
    assert!(status == KLS_OK || memory.bytes().iter().all(|&byte| byte == 0), "untouched");
}

/// An array of groups and their number.
fn groups(choices: &mut Choices<'_>) -> (Vec<u8>, usize) {
    let count = 1 + choices.below(3);
    let size = if choices.rarely(4) { choices.pick(&SIZES) } else { SIZES[2] };
    if choices.rarely(16) {
        // Whatever it says its size is: what no header has must be refused for that, and is no longer than it takes to see it.
        let said = if choices.rarely(2) { choices.any() } else { size as u32 };
        let len = if SIZES.contains(&(said as usize)) { count * said as usize } else { 4 };
        let mut bytes: Vec<u8> = (0..len).map(|_| choices.any()).collect();
        bytes[..4].copy_from_slice(&said.to_ne_bytes());
        return (bytes, count);
    }
    let mut bytes = Vec::new();
    for _ in 0..count {
        let one = if choices.rarely(4) { preset(choices.below(METHODS) as i32, 0) } else { group(choices, 4) };
        bytes.extend(of_version(choices, &one, size));
    }
    if choices.rarely(3) {
        // Any bits in any field but the first size, which says how long the array is.
        for _ in 0..1 + choices.below(3) {
            let at = 4 + 4 * choices.below(bytes.len() / 4 - 1);
            bytes[at..at + 4].copy_from_slice(&choices.any::<u32>().to_ne_bytes());
        }
    }
    (bytes, count)
}

//! Tables of tensors: dims, slices, strides, blocks, modes, parts of rows, formats and names, also of sizes that fit no machine. What is
//! accepted is planned, stepped, and grows.

use klshampoo_ffi::*;

use crate::choices::Choices;
use crate::groups::group;
use crate::optimizer::{LARGEST, Optimizer, query};
use crate::tensors::{Table, change, small};

/// See the module.
pub fn run(input: &[u8]) -> usize {
    let choices = &mut Choices::new(input);
    let groups: Vec<kls_config> = (0..1 + choices.below(2)).map(|_| group(choices, 2)).collect();
    let table = table(choices, &groups, 3);
    let Some(mut optimizer) = Optimizer::new(choices, &table, LARGEST) else { return 0 };
    optimizer.check_plans();
    let (mut numbers, mut steps) = (choices.numbers(), 0);
    for _ in 0..1 + choices.below(4) {
        optimizer.fill_gradients(&mut numbers);
        steps += optimizer.step(0.01);
    }
    let more = self::table(choices, &groups, 2);
    if query(&table, &more).is_ok_and(|size| size > LARGEST) {
        return steps;
    }
    grow(&mut optimizer, &more);
    optimizer.check_plans();
    optimizer.fill_gradients(&mut numbers);
    steps += optimizer.step(0.01);
    optimizer.read_all(true);
    steps
}

/// Up to so many tensors, with up to three changes each.
fn table(choices: &mut Choices<'_>, groups: &[kls_config], most: usize) -> Table {
    let mut tensors = Vec::new();
    for _ in 0..choices.pick(&[1, 2, 3, 0]).min(most) {
        let mut tensor = small(choices);
        tensor.group = choices.below(groups.len()) as u32;
        for _ in 0..choices.below(4) {
            change(choices, &mut tensor);
        }
        tensors.push(tensor);
    }
    Table::new(choices, groups, tensors)
}

/// Adds tensors that are small enough.
fn grow(optimizer: &mut Optimizer, more: &Table) {
    let Some(buffers) = more.buffers() else { return };
    let before = optimizer.save();
    // SAFETY: a live optimizer, and the table's tensors.
    let status = unsafe { kls_optimizer_add_tensors(optimizer.handle, more.tensors.pointer(), more.described.len()) };
    match optimizer.check(status) {
        KLS_OK => optimizer.buffers.extend(buffers),
        status => {
            assert!(optimizer.is_on_heap() || status == KLS_ERROR_UNSUPPORTED);
            assert_eq!(before.bytes(), optimizer.save().bytes(), "nothing is added");
        }
    }
}

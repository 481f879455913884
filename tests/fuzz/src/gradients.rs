//! Gradients and parameters of any bits, for every method. A step that fails leaves everything as it was (of a tensor in one piece), one that succeeds leaves finite
//! numbers.

use klshampoo_ffi::*;

use crate::choices::Choices;
use crate::groups::{METHODS, group, preset};
use crate::optimizer::{LARGEST, Optimizer};
use crate::status::STEPS;
use crate::tensors::{Table, change_formats, plain};

/// Whether a failure is found before anything is written. Others are of one piece of a slice, and those that do not fail are stepped.
fn found_first(status: kls_status) -> bool {
    matches!(status, KLS_ERROR_GRADIENT_NOT_FINITE | KLS_ERROR_GRADIENT_TOO_LARGE | KLS_ERROR_LEARNING_RATE)
}

/// See the module.
pub fn run(input: &[u8]) -> usize {
    let mut choices = Choices::new(input);
    let dims = choices.pick(&[&[3, 2][..], &[2, 4], &[4], &[1, 3], &[2, 2, 2], &[5, 5]]);
    let mut tensor = plain(dims);
    if choices.rarely(4) {
        change_formats(&mut choices, &mut tensor);
    }
    let group = if choices.rarely(2) { group(&mut choices, 3) } else { preset(choices.below(METHODS) as i32, 0) };
    let table = Table::new(&mut choices, &[group], vec![tensor]);
    let Some(mut optimizer) = Optimizer::new(&mut choices, &table, LARGEST) else { return 0 };
    let lr = choices.float(&[0.01, 1.0, 0.0, 1e20]);
    let (calm, mut numbers) = (choices.below(4), choices.numbers());
    let any_parameter = choices.rarely(4);
    let mut rest = choices.rest();
    let mut fill = |to: &mut [u8]| {
        let taken = rest.len().min(to.len());
        let (head, tail) = rest.split_at(taken);
        to[..taken].copy_from_slice(head);
        rest = tail;
        taken > 0
    };
    if any_parameter {
        fill(optimizer.buffers[0].param.bytes_mut());
    }
    let mut steps = 0;
    for step in 0..12 {
        optimizer.fill_gradients(&mut numbers);
        if step >= calm && !fill(optimizer.buffers[0].grad.bytes_mut()) && step > calm {
            break;
        }
        let (before, param) = (optimizer.save(), optimizer.buffers[0].param.bytes().to_vec());
        let stays_finite = optimizer.stays_finite(0, lr);
        let status = optimizer.try_step(lr);
        assert!(STEPS.contains(&status), "{status}");
        if status == KLS_OK {
            steps += 1;
            optimizer.read_all(stays_finite);
        } else if found_first(status) || optimizer.plan(0).pieces == 1 {
            assert_eq!(param, optimizer.buffers[0].param.bytes(), "the parameter is as it was");
            assert!(before.bytes() == optimizer.save().bytes(), "the state is as it was");
        }
    }
    let saved = optimizer.save();
    // SAFETY: a live optimizer, as many bytes.
    let status = optimizer.check(unsafe { kls_optimizer_load(optimizer.handle, saved.pointer(), saved.len()) });
    assert_eq!(status, KLS_OK, "what was saved can be loaded");
    steps
}

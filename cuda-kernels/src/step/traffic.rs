//! What the step's passes over elements move: see [`Traffic`]. Each says of its kernel how many arrays of which length it reads and writes.

use super::params::{Params, flag};
use crate::batch::Array;
use crate::queue::Traffic;

/// `rule` of a launch over this grid, or nothing of one in which items rarely take part.
pub(super) fn counted(p: &Params, grid: [u32; 3], rule: fn(&Params) -> Traffic) -> Traffic {
    if is_rare(p.launch.mask, p.launch.wanted) {
        return Traffic::NONE;
    }
    let (each, items) = (rule(p), u64::from(grid[0] / p.launch.blocks.max(1)));
    Traffic { read: items * each.read, written: items * each.written }
}

/// Whether items with such flags are those of first steps, or those in which something went wrong.
fn is_rare(mask: u32, wanted: u32) -> bool {
    mask & wanted & (flag::STARTING | flag::FAILED | flag::UNPROVEN) != 0
}

/// Arrays as long as the tensor, of one item.
fn elements(p: &Params, read: u64, written: u64) -> Traffic {
    Traffic::of(1, u64::from(p.axes.elements), 4, [read, written])
}

/// The launch's mode.
fn dim(p: &Params) -> u64 {
    u64::from(p.axes.dims[p.launch.mode as usize])
}

/// Squares of the mode, and triangles with their diagonal.
fn squares(p: &Params, read: u64, written: u64) -> Traffic {
    Traffic::of(1, dim(p) * dim(p), 4, [read, written])
}

fn triangles(p: &Params, read: u64, written: u64) -> Traffic {
    Traffic::of(1, dim(p) * (dim(p) + 1) / 2, 4, [read, written])
}

fn there(array: Array) -> u64 {
    u64::from(array != Array::NULL)
}

const NESTEROV: u32 = 1;
const GRADIENT: u32 = 2;
const SECOND_MOMENT: u32 = 2;

/// Both triangles of the square from the one that is kept.
pub(super) fn unpack(p: &Params) -> Traffic {
    triangles(p, 1, 0) + squares(p, 0, 1)
}

pub(super) fn normalise_factor(p: &Params) -> Traffic {
    squares(p, 1, 1)
}

/// One or two products of one gradient.
pub(super) fn weighted(p: &Params) -> Traffic {
    elements(p, 1, if p.launch.option >> 8 == 0 { 1 } else { 2 })
}

pub(super) fn sums_of_squares(p: &Params) -> Traffic {
    elements(p, 1, 0)
}

pub(super) fn sums_of_products(p: &Params) -> Traffic {
    elements(p, 2, 0)
}

pub(super) fn averages(p: &Params) -> Traffic {
    let averages = there(p.momentum) + there(p.second_moment);
    elements(p, 1 + averages, averages)
}

pub(super) fn form_factor(p: &Params) -> Traffic {
    triangles(p, 2, 0) + squares(p, 0, 1)
}

pub(super) fn permute(p: &Params) -> Traffic {
    elements(p, 1, 1)
}

pub(super) fn numerator(p: &Params) -> Traffic {
    elements(p, 1 + u64::from(p.axes.numerator != GRADIENT), 1)
}

/// Its direction is written only of items that have nothing to precondition with yet.
pub(super) fn graft(p: &Params) -> Traffic {
    elements(p, 1 + u64::from(p.axes.graft == 1) + there(p.graft_moment), 0)
}

pub(super) fn divide(p: &Params) -> Traffic {
    let (numerator, second) = (p.axes.numerator, p.axes.direction == SECOND_MOMENT);
    elements(p, 1 + u64::from(numerator <= NESTEROV) + u64::from(second), 1)
}

pub(super) fn dot(p: &Params) -> Traffic {
    elements(p, 2, 0)
}

pub(super) fn commit_moments(p: &Params) -> Traffic {
    let averages = there(p.momentum) + there(p.second_moment);
    // A graft's moment averages the gradient as it came; where nothing is turned that is the same array.
    let gradients = u64::from(averages > 0) + there(p.graft_moment);
    elements(p, gradients + averages + there(p.graft_moment), averages + there(p.graft_moment))
}

pub(super) fn commit_factor(p: &Params) -> Traffic {
    triangles(p, 2, 1)
}

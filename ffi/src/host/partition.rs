//! A table divided among several owners, slice by slice: each keeps the state of its own slices and steps them (ZeRO-1).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use klshampoo::{Config, Format, Tensor};

use super::fallible::collected;
use super::table::Table;
use crate::checked::slice_mut;
use crate::config::kls_config;
use crate::error::{Failure, Locate};
use crate::guard::{Call, guard};
use crate::optimizer::table;
use crate::status::*;
use crate::tensor::kls_tensor;

/// Floating-point operations that take as long as a byte on its way from or to memory: about the ratio of a processor's f32 product rate to its
/// memory's bandwidth, on CPUs as on GPUs. Without it, slices that have no products would cost nothing.
const FLOPS_PER_BYTE: u64 = 16;

/// The most slices that are divided, one by one.
const MOST_SLICES: u64 = 1 << 24;

/// What a step of one slice of a tensor takes, refreshes evened out over their period, in floating-point operations.
fn slice_cost(tensor: &Tensor, groups: &[Config<f32>]) -> u64 {
    let (plan, storage) = (tensor.plan(), tensor.storage());
    let elements = (0..plan.order()).fold(1u64, |n, k| n.saturating_mul(plan.dim(k) as u64));
    let bytes = |format| if format == Format::Native { 4 } else { 2 };
    // The gradient is read, parameter and state are read and written.
    let state = (tensor.state_range(0).len() as u64).saturating_mul(2 * size_of::<f32>() as u64);
    let moved = elements.saturating_mul(bytes(storage.grad) + 2 * bytes(storage.param)).saturating_add(state);
    let flops = tensor.slice_cost().mean(tensor.config(groups).refresh_period);
    flops.saturating_add(moved.saturating_mul(FLOPS_PER_BYTE))
}

/// Divides slices among as many ranks as there are `loads`: the costliest first, each to the rank that has the least (Graham's longest processing
/// time first). `tensors` has the cost of a slice and the number of slices of each tensor; `firsts` has a row for each, as kls_table_partition
/// writes it.
///
/// # Errors
/// KLS_ERROR_OUT_OF_MEMORY; nothing is written then.
fn divide(tensors: &[(u64, u64)], firsts: &mut [u64], loads: &mut [u64]) -> Result<(), kls_status> {
    let mut order = collected((0..tensors.len()).map(Ok))?;
    // Equal ones in the table's order, so that every process comes to the same division.
    order.sort_unstable_by_key(|&i| (Reverse(tensors[i].0), i));
    let mut ranks = BinaryHeap::from(collected((0..loads.len()).map(|rank| Ok(Reverse((0u64, rank)))))?);
    for i in order {
        let (cost, slices) = tensors[i];
        let row = &mut firsts[i * (loads.len() + 1)..][..loads.len() + 1];
        row.fill(0);
        for _ in 0..slices {
            let Some(mut least) = ranks.peek_mut() else { break };
            let Reverse((load, rank)) = *least;
            *least = Reverse((load.saturating_add(cost), rank));
            row[rank + 1] += 1;
        }
        // A tensor's slices cost the same, so it does not matter which ones of it a rank has: they are neighbours.
        for rank in 1..row.len() {
            row[rank] += row[rank - 1];
        }
    }
    for Reverse((load, rank)) in ranks {
        loads[rank] = load;
    }
    Ok(())
}

/// Divides the slices of a table among `ranks` owners, such as the processes of a training run, so that each has about as much to do: an owner
/// makes an optimizer of its slices alone and so has the state of these alone (ZeRO-1). It steps them with their whole gradient and
/// sends their parameters to the others.
///
/// `first_slices` has a row of `ranks` + 1 numbers for each tensor, and `len` = tensor_count * (ranks + 1): of tensor t, rank r owns the slices from
/// first_slices[t * (ranks + 1) + r] up to, and without, first_slices[t * (ranks + 1) + r + 1]. They are neighbours, so the rank's part is the tensor with so many
/// `slices`, whose parameter starts that many slices (slice_stride, or dense) later; a rank that owns none of a tensor leaves it out. Every
/// slice has one owner. There may be more ranks than slices: some then own nothing.
///
/// `costs` may be NULL. It has `ranks` numbers: what a step of the rank's slices takes, in floating-point operations, with refreshes evened out over
/// refresh_period and 16 operations for each byte of parameters, gradients and state that passes through memory. No rank has more than
/// the mean and one slice.
///
/// The same arguments give the same division in every process. An optimizer of a part steps its slices as one of the whole table would, but for what
/// depends on a slice's place in the table: in which steps of the period it is refreshed (`stagger`, kls_optimizer_set_refresh_budget), and the choices of
/// KLS_ROUNDING_STOCHASTIC.
///
/// Errors: those of kls_optimizer_query, KLS_ERROR_RANKS (also for more than 2^24), KLS_ERROR_BUFFER_LENGTH for another `len`, KLS_ERROR_SLICES for more than 2^24 slices,
/// KLS_ERROR_OUT_OF_MEMORY; nothing is then written.
///
/// # Safety
/// `groups` and `tensors` point to `group_count` and `tensor_count` structs; `first_slices` has `len` writable numbers, `costs` is NULL or has
/// `ranks`; they do not overlap.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_table_partition(
    groups: *const kls_config,
    group_count: usize,
    tensors: *const kls_tensor,
    tensor_count: usize,
    ranks: u32,
    first_slices: *mut u64,
    len: usize,
    costs: *mut u64,
) -> kls_status {
    // SAFETY: the caller vouches for the tensors.
    let call = unsafe { Call::on_tensors("kls_table_partition", tensors, tensor_count) };
    guard(call, || {
        let ranks = ranks as usize;
        if ranks == 0 {
            return Err(KLS_ERROR_RANKS).of_field("ranks");
        }
        if ranks as u64 > MOST_SLICES {
            return Err(Failure::because(KLS_ERROR_RANKS, "Tables are not divided among more than 2^24 ranks."));
        }
        // SAFETY: the caller vouches for both arrays.
        let (groups, tensors) = unsafe { table(groups, group_count, tensors, tensor_count)? };
        let table = Table::new(groups, tensors)?;
        let row = ranks.checked_add(1).ok_or(KLS_ERROR_OVERFLOW)?;
        if table.tensors().len().checked_mul(row) != Some(len) {
            return Err(KLS_ERROR_BUFFER_LENGTH).of_field("first_slices");
        }
        let tensors = collected(table.tensors().iter().map(|tensor| Ok((slice_cost(tensor, table.groups()), tensor.slices() as u64))))?;
        if tensors.iter().fold(0u64, |sum, &(_, slices)| sum.saturating_add(slices)) > MOST_SLICES {
            return Err(Failure::because(KLS_ERROR_SLICES, "Tables of more than 2^24 slices are not divided."));
        }
        let mut loads = collected((0..ranks).map(|_| Ok(0)))?;
        // SAFETY: the caller vouches for the memory.
        let (firsts, costs) = unsafe {
            let costs = if costs.is_null() { &mut [][..] } else { slice_mut(costs, ranks).of_field("costs")? };
            (slice_mut(first_slices, len).of_field("first_slices")?, costs)
        };
        divide(&tensors, firsts, &mut loads)?;
        if !costs.is_empty() {
            costs.copy_from_slice(&loads);
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn divided(tensors: &[(u64, u64)], ranks: usize) -> (Vec<u64>, Vec<u64>) {
        let (mut firsts, mut loads) = (vec![7; tensors.len() * (ranks + 1)], vec![7; ranks]);
        divide(tensors, &mut firsts, &mut loads).expect("memory");
        (firsts, loads)
    }

    #[test]
    fn the_costliest_go_first_and_each_to_the_least_busy() {
        // 5 5 | 4 | 3 3 3 by hand: 5 | 5 -> 5+3 | 5+3 | 4+3.
        let (firsts, loads) = divided(&[(3, 3), (5, 2), (4, 1)], 3);
        assert_eq!(firsts, [0, 1, 2, 3, 0, 1, 2, 2, 0, 0, 0, 1]);
        assert_eq!(loads, [8, 8, 7]);
    }

    #[test]
    fn every_slice_has_one_owner_and_no_rank_more_than_the_mean_and_one_slice() {
        let mut state = 1u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for ranks in 1..40 {
            let tensors: Vec<_> = (0..1 + random(9)).map(|_| (1 + random(1000), 1 + random(30))).collect();
            let (firsts, loads) = divided(&tensors, ranks);
            let mut sums = vec![0; ranks];
            for (row, &(cost, slices)) in firsts.chunks(ranks + 1).zip(&tensors) {
                assert_eq!((row[0], row[ranks]), (0, slices));
                assert!(row.is_sorted());
                for (sum, owned) in sums.iter_mut().zip(row.windows(2)) {
                    *sum += (owned[1] - owned[0]) * cost;
                }
            }
            assert_eq!(sums, loads);
            let largest = tensors.iter().map(|&(cost, _)| cost).max().unwrap_or(0);
            let most = loads.iter().max().copied().unwrap_or(0);
            // Graham's bound of every list: the mean, and of the largest one what is not the rank's own part of the mean.
            assert!(most * ranks as u64 <= loads.iter().sum::<u64>() + (ranks as u64 - 1) * largest, "{tensors:?} {loads:?}");
        }
    }

    #[test]
    fn ranks_without_slices_own_nothing() {
        let (firsts, loads) = divided(&[(2, 1), (9, 1)], 4);
        assert_eq!(firsts, [0, 0, 1, 1, 1, 0, 1, 1, 1, 1]);
        assert_eq!(loads, [9, 2, 0, 0]);
        assert_eq!(divided(&[], 2), (vec![], vec![0, 0]));
    }
}

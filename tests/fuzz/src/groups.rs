//! Groups: a method and a few changes, or the bytes of one with other bytes in them.

use std::mem::{MaybeUninit, offset_of};

use klshampoo_ffi::*;

use crate::bytes::version_of;
use crate::choices::Choices;
use crate::status::check_without;

/// The sizes that `kls_config` has had, the present one last. The first was another struct.
pub const SIZES: [usize; 3] = [88, offset_of!(kls_config, refresh_portion), size_of::<kls_config>()];

/// Number of `KLS_METHOD_*`.
pub const METHODS: usize = 21;

/// A method in a convention; methods that have only one get that.
pub fn preset(method: i32, convention: i32) -> kls_config {
    let mut group = MaybeUninit::<kls_config>::uninit();
    // SAFETY: room for the struct, whose size is given; it is filled on success.
    unsafe {
        let mut init = |convention| check_without(kls_config_init(group.as_mut_ptr(), size_of::<kls_config>(), method, convention));
        if init(convention) != KLS_OK {
            assert_eq!(init(KLS_CONVENTION_FIGURE13), KLS_OK);
        }
        group.assume_init()
    }
}

/// A method that is refreshed often, with up to `changes` changes.
pub fn group(choices: &mut Choices<'_>, changes: usize) -> kls_config {
    let convention = if choices.rarely(3) { choices.below(4) } else { 0 };
    let mut group = preset(choices.below(METHODS) as i32, convention as i32);
    group.refresh_period = 1 + choices.below(3) as u32;
    for _ in 0..choices.below(changes + 1) {
        change(choices, &mut group);
    }
    group
}

/// Refreshes in portions where the method has them.
pub fn in_portions(choices: &mut Choices<'_>, group: &mut kls_config) {
    let qr = [KLS_REFRESH_QR, KLS_REFRESH_HOUSEHOLDER_QR].contains(&group.refresh) && group.eigenvalues == KLS_EIGENVALUES_AVERAGE;
    let reads_factors = group.estimator == KLS_ESTIMATOR_FROBENIUS_FACTOR || group.direction == KLS_DIRECTION_TRACE_SCALED;
    if qr && !reads_factors {
        group.refresh_portion = choices.pick(&[1, 100, 1000, 20_000]);
    }
}

fn change(choices: &mut Choices<'_>, group: &mut kls_config) {
    const RATES: [f32; 6] = [0.9, 0.0, 0.5, 0.999, 0.99999994, 0.1];
    const SMALL: [f32; 6] = [0.0, 1e-8, 1e-3, 1.0, 1e-38, 10.0];
    match choices.below(34) {
        0 => group.estimator = choices.option(7),
        1 => group.estimate_order = choices.option(2),
        2 => group.eigenvalues = choices.option(4),
        3 => group.refresh = choices.option(3),
        4 => group.sort = choices.option(2),
        5 => group.refresh_period = choices.option(12) as u32,
        6 => group.refresh_offset = choices.option(2) as u32,
        7 => group.stagger = choices.option(2),
        8 => (group.stagger, group.refresh_growth) = (0, choices.option(5) as u32),
        9 => group.staleness = choices.float(&SMALL),
        10 => group.direction = choices.option(5),
        11 => group.power = choices.float(&[0.5, 0.25, 1.0, 0.3]),
        12 => group.graft = choices.option(5),
        13 => group.rms_cap = choices.float(&SMALL),
        14 => group.step_order = choices.option(2),
        15 => group.first_step = choices.option(2),
        16 => group.first_basis = choices.option(2),
        17 => group.factor_init = choices.option(2),
        18 => (group.lambda_init, group.lambda_0) = (choices.option(2), choices.float(&[0.1, 1.0, 1e-10, 1e10])),
        19 => group.momentum = choices.option(3),
        20 => group.beta1 = choices.float(&RATES),
        21 => group.beta2 = choices.float(&RATES),
        22 => group.bias_correction = choices.option(3),
        23 => (group.eps, group.damping) = (choices.float(&SMALL), choices.option(2)),
        24 => (group.weight_decay, group.weight_decay_kind) = (choices.float(&SMALL), choices.option(4)),
        25 => (group.clamp_limit, group.gauge) = (choices.float(&[0.0, 1.0, 10.0, 1e30]), choices.option(2)),
        26 => group.gauge = choices.option(2),
        27 => group.bad_gradient = choices.option(2),
        28 => group.measure = choices.option(2),
        29 => group.lr_scale = choices.float(&SMALL),
        30 => group.max_dim = choices.length(&[0, 1, 3, 4, 8192]),
        31 => group.block_size = choices.length(&[0, 2, 3, 1, 5]),
        32 => group.merge_dims = choices.length(&[0, 6, 16, 100]),
        _ if choices.rarely(2) => in_portions(choices, group),
        _ => group.factor_format = choices.option(3),
    }
}

/// The bytes of a group as one of the headers has it.
pub fn of_version(choices: &mut Choices<'_>, group: &kls_config, size: usize) -> Vec<u8> {
    if size != SIZES[0] {
        return version_of(group, size);
    }
    let mut bytes = crate::bytes::Bytes::zeroed(size, 8);
    let (method, convention) = (choices.pick(&[KLS_METHOD_KL_SHAMPOO, KLS_METHOD_ADAMW]), choices.below(2) as i32);
    // SAFETY: as many bytes as the size says.
    let status = unsafe { check_without(kls_config_init(bytes.pointer(), size, method, convention)) };
    if status != KLS_OK {
        // SAFETY: likewise.
        unsafe { assert_eq!(kls_config_init(bytes.pointer(), size, KLS_METHOD_ADAMW, KLS_CONVENTION_FIGURE13), KLS_OK) };
    }
    bytes.bytes_mut().to_vec()
}

/// Decay of a group per unit of learning rate, from its bytes as one of the headers has them.
pub fn decay(bytes: &[u8]) -> f32 {
    let float = |at: usize| bytes.get(at..at + 4).map_or(0.0, |x| f32::from_ne_bytes([x[0], x[1], x[2], x[3]]));
    let (weight_decay, lr_scale) = match bytes.len() {
        88 => (56, 80),
        _ => (offset_of!(kls_config, weight_decay), offset_of!(kls_config, lr_scale)),
    };
    float(weight_decay) * float(lr_scale).max(1.0)
}

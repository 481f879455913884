//! What bf16 products do to a trajectory: something, and not much.

use klshampoo_ffi::host::Bf16;
use klshampoo_ffi::*;
use klshampoo_tests::c_abi::{options, tensor_to_c};
use klshampoo_tests::cases::Gradients;

const DIMS: [usize; 2] = [256, 192];
const STEPS: usize = 30;

/// How far each element has moved in the end.
fn movement(method: i32, products: i32, p0: &[f32], grads: &[Vec<f32>]) -> Vec<f64> {
    let mut group = std::mem::MaybeUninit::<kls_config>::uninit();
    // SAFETY: writable memory of the given size, which is initialised on success.
    let group = unsafe {
        assert_eq!(kls_config_init(group.as_mut_ptr(), size_of::<kls_config>(), method, KLS_CONVENTION_FIGURE13), KLS_OK);
        group.assume_init()
    };
    let tensor = tensor_to_c(&DIMS, &[None; 2]);
    let options = kls_options { products, ..options(1, KLS_BACKEND_FAER) };
    let mut optimizer = std::ptr::null_mut();
    // SAFETY: all pointers are to live values.
    assert_eq!(unsafe { kls_optimizer_create(&mut optimizer, &group, 1, &tensor, 1, &options) }, KLS_OK);
    let mut param = p0.to_vec();
    for grad in grads {
        // SAFETY: a live optimizer and live buffers of the tensor's size.
        assert_eq!(unsafe { kls_optimizer_step(optimizer, &param.as_mut_ptr(), &grad.as_ptr(), 1, 0.01) }, KLS_OK);
    }
    // SAFETY: a live optimizer.
    assert_eq!(unsafe { kls_optimizer_destroy(&mut optimizer) }, KLS_OK);
    param.iter().zip(p0).map(|(&p, &p0)| f64::from(p) - f64::from(p0)).collect()
}

fn norm(x: impl Iterator<Item = f64>) -> f64 {
    x.map(|x| x * x).sum::<f64>().sqrt()
}

#[test]
fn a_trajectory_changes_a_little() {
    if Bf16::detect().is_none() {
        println!("SKIPPED: this processor has no AVX512-BF16, so bf16 products were not compared with f32");
        return;
    }
    let problem = Gradients::LowRankDrift.make(&DIMS, STEPS);
    let narrowed = |x: &Vec<f64>| -> Vec<f32> { x.iter().map(|&x| x as f32).collect() };
    let (p0, grads) = (narrowed(&problem.p0), problem.grads.iter().map(narrowed).collect::<Vec<_>>());
    // Measured: 2.5e-3 and 1.6e-2.
    for (name, method, bound) in [("KL-Shampoo", KLS_METHOD_KL_SHAMPOO, 0.01), ("SOAP", KLS_METHOD_SOAP, 0.06)] {
        let f32_products = movement(method, KLS_PRODUCTS_F32, &p0, &grads);
        let bf16_products = movement(method, KLS_PRODUCTS_BF16, &p0, &grads);
        let difference = norm(f32_products.iter().zip(&bf16_products).map(|(a, b)| a - b)) / norm(f32_products.iter().copied());
        println!("{name}: after {STEPS} steps the movements differ by {difference:.2e} of their length");
        assert!(difference > 0.0 && difference < bound, "{name}: {difference:e}");
    }
}

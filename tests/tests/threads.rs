//! Host results are the same bits for any number of threads, for the caller's own and for any alignment of the buffers, whether threads share
//! a slice or not.

use klshampoo_ffi::host::Bf16;
use klshampoo_ffi::*;
use klshampoo_tests::c_abi::{config_to_c, options, tensor_to_c};
use klshampoo_tests::cases::Xorshift;
use klshampoo_tests::harness::Number;
use klshampoo_tests::plugins::{at_once, backwards, sgemm};

/// The first is large enough to be shared, by any number of threads.
const DIMS: [&[usize]; 6] = [&[610, 350], &[64, 48], &[64, 48], &[3, 40, 20], &[17], &[130, 150]];
const STEPS: usize = 7;

/// The bits of all parameters after a run, with every buffer `shift` elements off a cache line.
fn run(dims: &[&[usize]], steps: usize, method: i32, options: &kls_options, shift: usize) -> Vec<Vec<u32>> {
    let mut group = config_to_c(&f32::kl_shampoo());
    // SAFETY: a live struct of the given size.
    assert_eq!(unsafe { kls_config_init(&mut group, size_of::<kls_config>(), method, KLS_CONVENTION_FIGURE13) }, KLS_OK);
    group.refresh_period = 3;
    let tensors: Vec<kls_tensor> = dims.iter().map(|dims| tensor_to_c(dims, &vec![None; dims.len()])).collect();
    let mut optimizer = std::ptr::null_mut();
    // SAFETY: all pointers are to live values.
    let status = unsafe { kls_optimizer_create(&mut optimizer, &group, 1, tensors.as_ptr(), tensors.len(), options) };
    assert_eq!(status, KLS_OK);

    let mut random = Xorshift::for_shape(&[7]);
    let lens: Vec<usize> = dims.iter().map(|dims| dims.iter().product()).collect();
    let mut normals =
        |len: usize| -> Vec<f32> { std::iter::repeat_n(0.0, shift).chain((0..len).map(|_| random.normal() as f32)).collect() };
    let mut params: Vec<Vec<f32>> = lens.iter().map(|&len| vec![0.1; shift + len]).collect();
    let param_pointers: Vec<*mut f32> = params.iter_mut().map(|param| param[shift..].as_mut_ptr()).collect();
    for _ in 0..steps {
        let grads: Vec<Vec<f32>> = lens.iter().map(|&len| normals(len)).collect();
        let grad_pointers: Vec<*const f32> = grads.iter().map(|grad| grad[shift..].as_ptr()).collect();
        // SAFETY: a live optimizer; the vectors are not moved.
        let status = unsafe { kls_optimizer_step(optimizer, param_pointers.as_ptr(), grad_pointers.as_ptr(), dims.len(), 0.01) };
        assert_eq!(status, KLS_OK);
    }
    // SAFETY: a live optimizer.
    assert_eq!(unsafe { kls_optimizer_destroy(&mut optimizer) }, KLS_OK);
    params.iter().map(|param| param[shift..].iter().map(|x| x.to_bits()).collect()).collect()
}

#[test]
fn bits_depend_neither_on_threads_nor_on_alignment() {
    let all = [KLS_METHOD_KL_SHAMPOO, KLS_METHOD_SOAP, KLS_METHOD_SHAMPOO];
    let mut cases: Vec<_> = all.map(|method| (method, options(1, KLS_BACKEND_FAER))).into();
    cases.push((KLS_METHOD_KL_SHAMPOO, kls_options { sgemm: Some(sgemm), ..options(1, KLS_BACKEND_FAER) }));
    if Bf16::detect().is_some() {
        let bf16 = kls_options { products: KLS_PRODUCTS_BF16, ..options(1, KLS_BACKEND_FAER) };
        cases.extend([KLS_METHOD_KL_SHAMPOO, KLS_METHOD_F_SHAMPOO_1].map(|method| (method, bf16)));
    } else {
        println!("SKIPPED: bf16 products, for this processor has no AVX512-BF16");
    }
    for (method, options) in cases {
        let alone = run(&DIMS, STEPS, method, &options, 0);
        assert!(alone.iter().flatten().all(|&bits| f32::from_bits(bits).is_finite()));
        // One in 200 000 may come back to where it was.
        let moved = |bits: &&u32| f32::from_bits(**bits) != 0.1;
        assert!(alone.iter().all(|param| param.iter().filter(moved).count() + param.len() / 1000 >= param.len()));
        let with = |num_threads, parallel_for| kls_options { num_threads, parallel_for, ..options };
        for (other, shift) in [
            (with(2, None), 0),
            (with(3, None), 0),
            (with(1, None), 5),
            (with(2, None), 11),
            (with(3, Some(backwards)), 0),
            (with(3, Some(at_once)), 3),
        ] {
            assert!(
                run(&DIMS, STEPS, method, &other, shift) == alone,
                "method {method}, products {}, sgemm {}, {} threads, the caller's {}, {shift} elements off",
                other.products,
                other.sgemm.is_some(),
                other.num_threads,
                other.parallel_for.is_some()
            );
        }
    }
}

/// A mode so long that even a pass over one table of it is shared; of methods with eigenvalues and without.
#[test]
fn a_very_long_mode_is_shared_too() {
    for method in [KLS_METHOD_KL_SHAMPOO, KLS_METHOD_SOAP] {
        let with = |threads| run(&[&[70_000, 32]], 3, method, &options(threads, KLS_BACKEND_FAER), 0);
        assert!(with(1) == with(2), "method {method}");
    }
}

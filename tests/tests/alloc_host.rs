//! The heap-made optimizer allocates nothing after a warm-up, in any of its threads. A program of its own: it counts all threads, and a test
//! runner's would count too.

use klshampoo::Mode;
use klshampoo_ffi::host::Bf16;
use klshampoo_ffi::*;
use klshampoo_tests::c_abi::{CAbi, Lent, config_to_c, options, tensor_to_c};
use klshampoo_tests::cases::Xorshift;
use klshampoo_tests::counting::Counting;
use klshampoo_tests::harness::{Driver, Number};
use klshampoo_tests::plugins::{backwards, sgemm};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The last is large enough to be shared by the threads.
const DIMS: [[usize; 2]; 5] = [[48, 320], [33, 17], [16, 16], [128, 112], [380, 300]];

/// In lent memory nothing is ever allocated, the first step included.
fn lent_memory_allocates_nothing() {
    let mut optimizer = CAbi::<Lent>::new(&f32::kl_shampoo(), &[16, 32], &[None; 2]);
    let (mut param, mut grad, mut random) = (vec![0.1f32; 512], vec![0f32; 512], Xorshift::for_shape(&[16, 32]));
    let before = Counting::of_all_threads();
    for _ in 0..300 {
        grad.iter_mut().for_each(|g| *g = random.normal() as f32);
        optimizer.step(&mut param, &grad, 0.01);
    }
    assert_eq!(Counting::of_all_threads() - before, 0, "lent memory");
}

fn describe(options: &kls_options) -> String {
    let kls_options { num_threads, backend, products, .. } = options;
    let (pool, sgemm) = (options.parallel_for.is_some(), options.sgemm.is_some());
    format!("{num_threads} threads, backend {backend}, products {products}, the caller's: pool {pool}, sgemm {sgemm}")
}

fn main() {
    lent_memory_allocates_nothing();
    let faer = |threads| options(threads, KLS_BACKEND_FAER);
    let mut cases = vec![faer(1), faer(2), options(2, KLS_BACKEND_PORTABLE)];
    cases.push(kls_options { parallel_for: Some(backwards), ..faer(2) });
    cases.push(kls_options { sgemm: Some(sgemm), ..faer(2) });
    if Bf16::detect().is_some() {
        cases.push(kls_options { products: KLS_PRODUCTS_BF16, ..faer(2) });
    } else {
        println!("SKIPPED: bf16 products, for this processor has no AVX512-BF16");
    }
    for options in cases {
        let mut group = config_to_c(&f32::kl_shampoo());
        group.refresh_period = 3;
        let tensors: Vec<kls_tensor> = DIMS.iter().map(|dims| tensor_to_c(dims, &[None::<Mode>; 2])).collect();
        let mut optimizer = std::ptr::null_mut();
        // SAFETY: all pointers are to live values.
        let status = unsafe { kls_optimizer_create(&mut optimizer, &group, 1, tensors.as_ptr(), tensors.len(), &options) };
        assert_eq!(status, KLS_OK);

        let mut random = Xorshift::for_shape(&[options.num_threads as usize]);
        let mut params: Vec<Vec<f32>> = DIMS.iter().map(|dims| vec![0.1; dims[0] * dims[1]]).collect();
        let mut grads = params.clone();
        let param_pointers: Vec<*mut f32> = params.iter_mut().map(Vec::as_mut_ptr).collect();
        let grad_pointers: Vec<*const f32> = grads.iter().map(Vec::as_ptr).collect();
        let mut before = 0;
        // The warm-up is long enough for every thread to have met every kind of work: it takes jobs as they come.
        let warm_up = if options.sgemm.is_some() { 10 } else { 30 };
        for step in 0..3 * warm_up {
            if step == warm_up {
                before = Counting::of_all_threads();
            }
            grads.iter_mut().flatten().for_each(|g| *g = random.normal() as f32);
            // SAFETY: a live optimizer; the vectors are not moved.
            let status = unsafe { kls_optimizer_step(optimizer, param_pointers.as_ptr(), grad_pointers.as_ptr(), DIMS.len(), 0.01) };
            assert_eq!(status, KLS_OK);
        }
        assert_eq!(Counting::of_all_threads() - before, 0, "{}", describe(&options));
        // SAFETY: a live optimizer.
        assert_eq!(unsafe { kls_optimizer_destroy(&mut optimizer) }, KLS_OK);
        println!("no allocation after the warm-up: {}", describe(&options));
    }
}

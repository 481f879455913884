//! The caller's own matrix product goes wrong in call number n, for every n: of optimizers on the heap, with one thread and with two. Every tensor
//! is as it was or wholly stepped, the status and the text say which was not, and the run goes on as if that had not been tried.

use std::ffi::{CStr, c_void};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use klshampoo::checkpoint::{GroupRecord, PartKind, PartRecord, PieceRecord, Reader, TensorRecord};
use klshampoo_ffi::*;
use klshampoo_tests::c_abi::{config_to_c, options, tensor_to_c};
use klshampoo_tests::cases::Xorshift;
use klshampoo_tests::harness::Number;
use klshampoo_tests::plugins::sgemm;

/// A product that goes wrong in a call.
#[derive(Default)]
struct Product {
    calls: AtomicUsize,
    /// The call that goes wrong; there are not so many as the largest number.
    bad_call: AtomicUsize,
    /// And all after it.
    rest: AtomicBool,
    /// What it gives, in one element or in all.
    bits: AtomicU32,
    everywhere: AtomicBool,
}

impl Product {
    fn good() -> Self {
        Self { bad_call: AtomicUsize::new(usize::MAX), ..Self::default() }
    }

    fn fail(&self, call: usize, rest: bool, bad: f32, everywhere: bool) {
        self.calls.store(0, Ordering::SeqCst);
        self.bits.store(bad.to_bits(), Ordering::SeqCst);
        self.everywhere.store(everywhere, Ordering::SeqCst);
        self.rest.store(rest, Ordering::SeqCst);
        self.bad_call.store(call, Ordering::SeqCst);
    }

    /// No more; how many calls there were since it was told to.
    fn recover(&self) -> usize {
        self.bad_call.store(usize::MAX, Ordering::SeqCst);
        self.calls.load(Ordering::SeqCst)
    }
}

/// # Safety
/// As `kls_sgemm` says; `user` is a [`Product`].
#[allow(clippy::too_many_arguments)]
unsafe extern "C" fn product(
    user: *mut c_void,
    transpose_a: i32,
    transpose_b: i32,
    m: usize,
    n: usize,
    k: usize,
    alpha: f32,
    a: *const f32,
    lda: usize,
    b: *const f32,
    ldb: usize,
    beta: f32,
    c: *mut f32,
    ldc: usize,
) {
    // SAFETY: by the word of its own caller.
    unsafe { sgemm(user, transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc) };
    // SAFETY: lives longer than the optimizer.
    let product = unsafe { &*user.cast::<Product>() };
    let (call, bad_call) = (product.calls.fetch_add(1, Ordering::SeqCst), product.bad_call.load(Ordering::SeqCst));
    if call != bad_call && !(product.rest.load(Ordering::SeqCst) && call > bad_call) {
        return;
    }
    let bad = f32::from_bits(product.bits.load(Ordering::SeqCst));
    for i in 0..m {
        // SAFETY: row i of C.
        let row = unsafe { std::slice::from_raw_parts_mut(c.add(i * ldc), n) };
        if product.everywhere.load(Ordering::SeqCst) {
            row.fill(bad);
        } else if i == m - 1 {
            row[n / 2] = bad;
        }
    }
}

/// Tensors of one optimizer: matrices whose products are the caller's, one whose products are too small for that, and a vector.
const DIMS: [&[usize]; 5] = [&[64, 64], &[12, 5], &[64, 66], &[17], &[65, 64]];

/// An optimizer, its parameters, and its product.
struct Run {
    optimizer: *mut kls_optimizer,
    params: Vec<Vec<f32>>,
    product: Box<Product>,
}

impl Drop for Run {
    fn drop(&mut self) {
        // SAFETY: a live optimizer.
        assert_eq!(unsafe { kls_optimizer_destroy(&mut self.optimizer) }, KLS_OK);
    }
}

/// A tensor's bits and counters.
#[derive(Clone, Debug, PartialEq)]
struct Image {
    param: Vec<u32>,
    /// With the counters.
    state: Vec<u8>,
    steps: u64,
    refresh_failures: u32,
    finite: bool,
}

impl Run {
    fn new(method: i32, convention: i32, threads: u32, dims: &[&'static [usize]]) -> Self {
        let mut group = config_to_c(&f32::kl_shampoo());
        // SAFETY: a live struct of that size.
        assert_eq!(unsafe { kls_config_init(&mut group, size_of::<kls_config>(), method, convention) }, KLS_OK);
        (group.refresh_period, group.stagger, group.weight_decay) = (2, 0, 0.1);
        let tensors: Vec<kls_tensor> = dims.iter().map(|dims| tensor_to_c(dims, &vec![None; dims.len()])).collect();
        let product = Box::new(Product::good());
        let user = (&raw const *product).cast_mut().cast();
        let options = kls_options { sgemm: Some(self::product), sgemm_user: user, ..options(threads, KLS_BACKEND_FAER) };
        let mut optimizer = std::ptr::null_mut();
        // SAFETY: all pointers are to live values.
        let status = unsafe { kls_optimizer_create(&mut optimizer, &group, 1, tensors.as_ptr(), tensors.len(), &options) };
        assert_eq!(status, KLS_OK);
        let params = dims.iter().map(|dims| vec![0.1; dims.iter().product()]).collect();
        Self { optimizer, params, product }
    }

    fn grads(&self, seed: usize) -> Vec<Vec<f32>> {
        let mut random = Xorshift::for_shape(&[seed, 5]);
        self.params.iter().map(|param| (0..param.len()).map(|_| random.normal() as f32).collect()).collect()
    }

    /// A step of the tensors that are not left `out`.
    fn step(&mut self, grads: &[Vec<f32>], out: &[usize]) -> kls_status {
        let params: Vec<*mut f32> = self.params.iter_mut().map(Vec::as_mut_ptr).collect();
        let pointer = |(i, grad): (usize, &Vec<f32>)| if out.contains(&i) { std::ptr::null() } else { grad.as_ptr() };
        let grads: Vec<*const f32> = grads.iter().enumerate().map(pointer).collect();
        // SAFETY: a live optimizer, buffers of its tensors' lengths.
        unsafe { kls_optimizer_step(self.optimizer, params.as_ptr(), grads.as_ptr(), grads.len(), 0.01) }
    }

    fn message(&self) -> String {
        // SAFETY: a live optimizer.
        unsafe { CStr::from_ptr(kls_last_error(self.optimizer)) }.to_str().unwrap().to_owned()
    }

    fn save(&self) -> (Vec<u8>, Vec<Vec<f32>>) {
        let mut len = 0;
        // SAFETY: a live optimizer, a live number.
        assert_eq!(unsafe { kls_optimizer_save_size(self.optimizer, &mut len) }, KLS_OK);
        let mut bytes = vec![0u8; len as usize];
        // SAFETY: a live optimizer, a buffer of that length.
        assert_eq!(unsafe { kls_optimizer_save(self.optimizer, bytes.as_mut_ptr().cast::<c_void>(), bytes.len()) }, KLS_OK);
        (bytes, self.params.clone())
    }

    fn load(&mut self, (bytes, params): &(Vec<u8>, Vec<Vec<f32>>)) {
        // SAFETY: a live optimizer, a buffer of that length.
        assert_eq!(unsafe { kls_optimizer_load(self.optimizer, bytes.as_ptr().cast::<c_void>(), bytes.len()) }, KLS_OK);
        for (param, saved) in self.params.iter_mut().zip(params) {
            param.copy_from_slice(saved);
        }
    }

    /// What a checkpoint says of each tensor, which has one piece.
    fn images(&self) -> Vec<Image> {
        let (bytes, _) = self.save();
        let mut source = bytes.as_slice();
        let mut reader = Reader::new(&mut source);
        let prelude = reader.open(None).unwrap();
        for _ in 0..prelude.groups {
            reader.record::<GroupRecord>().unwrap();
        }
        for _ in 0..prelude.tensors {
            reader.record::<TensorRecord>().unwrap();
        }
        let mut image = |tensor: usize| {
            let start = reader.position() as usize;
            let piece: PieceRecord = reader.record().unwrap();
            let elements = (0..piece.parts).map(|_| {
                let part: PartRecord = reader.record().unwrap();
                PartKind::from_code(part.part).unwrap().elements(part.len)
            });
            let elements: u64 = elements.sum();
            let numbers = reader.position() as usize;
            reader.skip(4 * elements).unwrap();
            let numbers = bytes[numbers..][..4 * elements as usize].chunks_exact(4);
            let mut finite = numbers.map(|x| f32::from_le_bytes(x.try_into().unwrap()));
            Image {
                param: self.params[tensor].iter().map(|x| x.to_bits()).collect(),
                state: bytes[start..reader.position() as usize].to_vec(),
                steps: self.counters(tensor).steps,
                refresh_failures: self.counters(tensor).refresh_failures,
                finite: finite.all(f32::is_finite) && self.params[tensor].iter().all(|x| x.is_finite()),
            }
        };
        (0..self.params.len()).map(&mut image).collect()
    }

    fn counters(&self, tensor: usize) -> kls_counters {
        let mut counters = std::mem::MaybeUninit::<kls_counters>::uninit();
        // SAFETY: a live optimizer, room for the struct, which is filled on success.
        unsafe {
            assert_eq!(kls_optimizer_counters(self.optimizer, tensor, 0, counters.as_mut_ptr(), size_of::<kls_counters>()), KLS_OK);
            counters.assume_init()
        }
    }
}

#[derive(Debug, Default)]
struct Tally {
    tried: usize,
    lost_steps: usize,
    lost_refreshes: usize,
    /// More than one tensor in one step.
    several: usize,
}

/// What bad products give, whether everywhere, and whether all that follow are bad too. Nothing that is finite is looked at, but what leaves the
/// range later is.
const BAD: [(f32, bool, bool); 4] = [(f32::NAN, false, false), (f32::INFINITY, true, false), (1e30, true, false), (f32::NAN, false, true)];

/// One step in which products go wrong, in every way, from the state that `run` is in; then the same as it should be.
fn every_call(name: &str, (run, twin): (&mut Run, &mut Run), seed: usize, stride: usize, tally: &mut Tally) {
    let (grads, later) = (run.grads(seed), run.grads(seed + 1));
    let (saved, before) = (run.save(), run.images());
    run.product.fail(usize::MAX, false, 0.0, false);
    assert_eq!(run.step(&grads, &[]), KLS_OK);
    let calls = run.product.recover();
    let (after, whole) = (run.save(), run.images());
    assert!(calls > 5, "{name}: {calls} products");
    for call in (0..calls).step_by(stride) {
        for (bad, everywhere, rest) in BAD {
            let what = format!("{name}, call {call}, {bad}, everywhere {everywhere}, rest {rest}");
            run.load(&saved);
            run.product.fail(call, rest, bad, everywhere);
            let status = run.step(&grads, &[]);
            run.product.recover();
            tally.tried += 1;
            let found = run.images();
            let mut lost = Vec::new();
            let mut all_refreshed = true;
            for (tensor, image) in found.iter().enumerate() {
                assert!(image.finite, "{what}: tensor {tensor}");
                if *image == before[tensor] {
                    lost.push(tensor);
                } else if *image != whole[tensor] {
                    assert_eq!(image.steps, before[tensor].steps + 1, "{what}: tensor {tensor} is neither as it was nor stepped");
                    // What is finite is not found out; and of a matrix so large that Cholesky's products are the caller's too, reflections make the
                    // refresh instead.
                    assert!(
                        image.refresh_failures > whole[tensor].refresh_failures || bad.is_finite() || run.params[tensor].len() > 256 * 256,
                        "{what}: tensor {tensor}"
                    );
                    tally.lost_refreshes += (image.refresh_failures - before[tensor].refresh_failures) as usize;
                    all_refreshed = false;
                }
            }
            tally.lost_steps += lost.len();
            tally.several += usize::from(lost.len() > 1);
            // The small one and the vector have no such product.
            assert!(!lost.contains(&1) && !lost.contains(&3), "{what}: {lost:?}");
            match lost.first() {
                None => assert_eq!(status, KLS_OK, "{what}"),
                Some(first) => {
                    let kinds = [KLS_ERROR_LINALG, KLS_ERROR_ESTIMATE_NOT_FINITE, KLS_ERROR_UPDATE_NOT_FINITE];
                    assert!(kinds.contains(&status), "{what}: {status}");
                    let beginning = format!("kls_optimizer_step: tensor {first}, slice 0: ");
                    assert!(run.message().starts_with(&beginning), "{what}: {}", run.message());
                }
            }
            if all_refreshed && !lost.is_empty() {
                twin.load(&saved);
                assert_eq!(twin.step(&grads, &lost), KLS_OK);
                assert!(run.images() == twin.images(), "{what}: not as if it had not been tried");
                assert_eq!((run.step(&later, &[]), twin.step(&later, &[])), (KLS_OK, KLS_OK), "{what}");
                assert!(run.images() == twin.images(), "{what}, a step later");
            } else {
                let _ = run.step(&later, &[]);
                assert!(run.images().iter().all(|image| image.finite), "{what}, a step later");
            }
        }
    }
    run.load(&after);
}

fn every_step(method: (&str, i32, i32), threads: u32) -> Tally {
    let mut tally = Tally::default();
    let (mut run, mut twin) = (Run::new(method.1, method.2, threads, &DIMS), Run::new(method.1, method.2, threads, &DIMS));
    for step in 0..3 {
        // The first step sets the bases; a plain one and a refresh follow.
        let name = format!("{}, {threads} threads, step {step}", method.0);
        every_call(&name, (&mut run, &mut twin), 10 * step, 1, &mut tally);
    }
    tally
}

#[test]
fn the_callers_product_fails_in_every_call() {
    let methods = [
        ("KL-Shampoo", KLS_METHOD_KL_SHAMPOO, KLS_CONVENTION_FIGURE13),
        ("KL-Shampoo of its authors", KLS_METHOD_KL_SHAMPOO, KLS_CONVENTION_REFERENCE_KL),
        ("SOAP", KLS_METHOD_SOAP, KLS_CONVENTION_REFERENCE_SOAP),
    ];
    for method in methods {
        for threads in if method.2 == KLS_CONVENTION_FIGURE13 { 1..3 } else { 2..3 } {
            let tally = every_step(method, threads);
            println!("{}, {threads} threads: {tally:?}", method.0);
            assert!(tally.lost_steps > 20 && tally.lost_refreshes > 5 && tally.several > 5, "{tally:?}");
        }
    }
}

/// A matrix on which both threads work together.
#[test]
fn a_shared_matrix_fails_as_one() {
    const SHARED: [&[usize]; 4] = [&[300, 290], &[12, 5], &[64, 72], &[17]];
    let mut tally = Tally::default();
    let mut runs = [0; 2].map(|_| Run::new(KLS_METHOD_KL_SHAMPOO, KLS_CONVENTION_FIGURE13, 2, &SHARED));
    let [run, twin] = &mut runs;
    for step in 0..3 {
        let grads = run.grads(step);
        assert_eq!(run.step(&grads, &[]), KLS_OK);
    }
    every_call("a shared matrix", (run, twin), 100, 11, &mut tally);
    println!("a shared matrix: {tally:?}");
    assert!(tally.lost_steps > 5, "{tally:?}");
}

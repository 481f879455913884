//! Products that a queue's library makes: what it makes of items that take no part reaches nothing that is kept, and cuBLAS (or what stands in for it)
//! makes what the kernels make.

mod common;
#[allow(dead_code, reason = "the core's side of it")]
#[path = "step/harness.rs"]
mod harness;
#[path = "common/numbers.rs"]
mod numbers;

use common::on_driver::{Owned, copy_of, floats, kernels};
use common::{EmulatorQueue, array};
use harness::{Both, Buffer, Grad};
use klshampoo::{Config, Convention, Graft, Mode, SliceHeader, TensorSpec};
use klshampoo_cuda::batch::{Array, Items};
use klshampoo_cuda::driver::{Blas, Memory};
use klshampoo_cuda::gemm::{Factor, Gemm, Input};
use klshampoo_cuda::io::Scalar;
use klshampoo_cuda::linalg::{Matrix, Precision, Product, Strides, View};
use klshampoo_cuda::queue::{DeviceError, Kernel, Queue};
use klshampoo_cuda::step::{Library, Options, Precisions, Program};
use numbers::Random;

/// The emulator with a library that makes products of all items, in the bits in which the kernels make those of the items that take part.
#[derive(Default)]
struct WithLibrary {
    emulator: EmulatorQueue,
    products: usize,
}

impl Queue for WithLibrary {
    fn launch<K: Kernel>(&mut self, grid: [u32; 3], kernel: K) -> Result<(), DeviceError> {
        self.emulator.launch(grid, kernel)
    }

    fn multiplies(&self, multiplications: u64, precision: Precision) -> bool {
        multiplications > 0 && precision != Precision::Tf32x3
    }

    fn multiply(&mut self, gemm: &Gemm) -> Result<(), DeviceError> {
        assert!(gemm.input == Input::F32 && (gemm.beta == 0.0 || gemm.beta == 1.0));
        self.products += 1;
        let matrix = |Factor { at, leading, stride, transposed }| {
            let matrix = Matrix::row_major(Array { base: at, stride: stride as u64 }, leading);
            if transposed { matrix.t() } else { matrix }
        };
        let c = Matrix::row_major(Array { base: gemm.c, stride: gemm.c_stride as u64 }, gemm.c_leading);
        let product = Product::of(c, matrix(gemm.a), matrix(gemm.b), [gemm.m, gemm.k, gemm.n]).at(gemm.precision);
        let product = Product { alpha: gemm.alpha, accumulate: gemm.beta == 1.0, ..product };
        product.launch(&mut self.emulator, Items::all(gemm.count as u32))
    }
}

/// Two tensors of one shape begin late, one has a gradient that is not a number now and then, one is frozen for a while.
fn disturb(step: usize, grads: &mut [Grad]) {
    let spoil = |grad: &mut Grad, f: &dyn Fn(&mut Vec<f32>)| {
        if let Some(Buffer::Native(numbers)) = grad {
            f(numbers);
        }
    };
    if step == 2 || step == 7 {
        spoil(&mut grads[1], &|numbers| numbers[1] = f32::NAN);
    }
    if step < 3 {
        spoil(&mut grads[2], &|numbers| numbers.fill(0.0));
        grads[4] = None;
    }
    if (4..6).contains(&step) {
        grads[0] = None;
    }
}

/// Bits of parameters and state, and the headers, after some disturbed steps.
fn run<Q: Queue>(config: Config<f32>, specs: &[TensorSpec], precision: Precisions, queue: &mut Q) -> (Vec<u32>, Vec<SliceHeader>) {
    let options = Options { precision, ..Options::default() };
    let mut both = Both::with_options(&[config], specs, &options);
    for step in 0..11 {
        let mut grads = both.gradients();
        disturb(step, &mut grads);
        both.launch(queue, &mut grads, Scalar::of(0.01));
        // The host learns that the first steps are over, and that they are not.
        if step == 1 || step > 4 {
            let headers = both.download().1;
            both.device.observed(&headers);
        }
    }
    let (state, headers) = both.download();
    let params = both.device_params.iter().flat_map(Buffer::numbers);
    (params.chain(state).map(f32::to_bits).collect(), headers)
}

fn is_the_same(what: &str, config: Config<f32>, specs: &[TensorSpec], precision: Precision) -> usize {
    let mut with = WithLibrary::default();
    let alone = run(config, specs, Precisions::all(precision), &mut EmulatorQueue::default());
    let together = run(config, specs, Precisions::all(precision), &mut with);
    assert!(alone.0.iter().all(|&bits| f32::from_bits(bits).is_finite()), "{what}");
    assert_eq!(alone.1, together.1, "{what}");
    assert!(alone.0 == together.0, "{what}: other bits");
    with.products
}

fn specs() -> Vec<TensorSpec> {
    let order_3 = TensorSpec::new(&[2, 3, 2]).unwrap();
    let mut specs = vec![TensorSpec::matrix(4, 5); 6];
    specs.extend([order_3, order_3.mode(1, Mode::Diagonal), TensorSpec::vector(3).mode(0, Mode::Full)]);
    specs
}

#[test]
fn whom_nobody_asked_for_does_no_harm() {
    let presets = [
        ("kl_shampoo", Config::<f32>::kl_shampoo()),
        ("soap", Config::<f32>::soap()),
        ("kl_soap", Config::<f32>::kl_soap()),
        ("shampoo", Config::<f32>::shampoo()),
        ("f_shampoo_1", Config::<f32>::f_shampoo_1()),
        ("idealized_kl", Config::<f32>::idealized_kl()),
        ("vn_shampoo_1", Config::<f32>::vn_shampoo_1()),
        ("grafted", Config { graft: Graft::Adam, ..Config::<f32>::kl_shampoo() }),
    ];
    for (name, preset) in presets {
        for convention in [Convention::Figure13, Convention::ReferenceKl, Convention::ReferenceSoap, Convention::ReferenceMeta] {
            let config =
                Config { refresh_period: 3, staleness: if name == "soap" { 0.3 } else { 0.0 }, ..preset.in_convention(convention) };
            if config.validate().is_err() {
                continue;
            }
            let products = is_the_same(&format!("{name}, {convention:?}"), config, &specs(), Precision::Fp32);
            assert!(products > 0, "{name}, {convention:?}");
        }
    }
}

#[test]
fn nor_at_other_precisions() {
    let config = Config { refresh_period: 3, ..Config::<f32>::kl_shampoo() };
    for precision in [Precision::Tf32, Precision::Bf16] {
        assert!(is_the_same(&format!("{precision:?}"), config, &specs(), precision) > 0);
    }
    assert_eq!(is_the_same("three of TF32", config, &specs(), Precision::Tf32x3), 0, "it has no such products");
}

/// Strips of a lower triangle, a block of columns and a rest.
#[test]
fn a_triangle_in_strips() {
    let mut queue = WithLibrary::default();
    let d = 600;
    let mut random = Random::new(3);
    let (mut x, mut c, mut whole) = (random.floats(2 * d * 5), vec![f32::NAN; 2 * d * d], vec![f32::NAN; 2 * d * d]);
    let (x_array, view) = (array(&mut x, d * 5), View { left: 1, d, right: 5 });
    view.unfolded_product(x_array, x_array, array(&mut c, d * d)).into_scratch().launch(&mut queue, Items::all(2)).unwrap();
    assert_eq!(queue.products, 3);
    view.unfolded_product(x_array, x_array, array(&mut whole, d * d)).launch(&mut EmulatorQueue::default(), Items::all(2)).unwrap();
    for at in (0..2 * d * d).filter(|at| at / d % d >= at % d) {
        assert_eq!(c[at].to_bits(), whole[at].to_bits(), "{at}");
    }
}

/// What no library takes: indices of two levels, factors of the items, triangular matrices, rows with gaps between their elements; and what is kept.
#[test]
fn what_a_library_cannot_do_stays_with_the_kernels() {
    let mut memory = vec![1.0f32; 4096];
    let array = array(&mut memory, 64);
    let out = |offset: usize| Array { base: array.base.offset::<f32>(offset), ..array };
    let matrix = |offset| Matrix::row_major(out(offset), 4);
    let plain = Product::of(matrix(2048), matrix(0), matrix(1024), [4; 3]).into_scratch();
    let made = |product: Product| {
        let mut queue = WithLibrary::default();
        product.launch(&mut queue, Items::all(2)).unwrap();
        queue.products
    };
    assert_eq!(made(plain), 1);
    assert_eq!(made(Product { accumulate: true, alpha: -1.0, ..plain }), 1);
    assert_eq!(made(Product { c_row: 1, c_column: Strides::plain(4), ..plain }), 1);
    assert_eq!(made(Product { scratch: false, ..plain }), 0);
    assert_eq!(made(Product { scale: out(3072), ..plain }), 0);
    assert_eq!(made(Product { upper_a: true, ..plain }), 0);
    assert_eq!(made(Product { inner_depth: 2, ..plain }), 0);
    assert_eq!(made(Product { inner_columns: 2, ..plain }), 0);
    assert_eq!(made(Product { a_row: 8, a_depth: Strides::plain(2), ..plain }), 0);
    assert_eq!(made(plain.at(Precision::Tf32x3)), 0);
    let mut queue = WithLibrary::default();
    plain.launch(&mut queue, Items::all(0)).unwrap();
    assert_eq!(queue.products, 0);
    assert!(EmulatorQueue::default().multiply(&gemm(array, [4; 3])).is_err());
}

fn gemm(array: Array, [m, k, n]: [usize; 3]) -> Gemm {
    let factor = Factor { at: array.base, leading: k.max(n), stride: 0, transposed: false };
    Gemm {
        m,
        n,
        k,
        count: 1,
        alpha: 1.0,
        a: factor,
        b: factor,
        input: Input::F32,
        beta: 0.0,
        c: array.base.offset::<f32>(1024),
        c_leading: n,
        c_stride: 0,
        precision: Precision::Fp32,
    }
}

/// Kernels and cuBLAS, at every precision, in every form that a step's products have.
#[test]
fn cublas_makes_what_the_kernels_make() {
    let (kernels, stream) = (kernels(), Owned::new());
    let workspace = Memory::allocate(kernels.context(), Blas::WORKSPACE).unwrap();
    let Some(mut blas) = Blas::open(kernels.context(), workspace).unwrap() else {
        eprintln!("NOT RUN: there is no cuBLAS");
        return;
    };
    const ITEMS: usize = 2;
    let mut random = Random::new(11);
    for (left, d, right) in [(1, 5, 9), (1, 70, 33), (7, 19, 1), (1, 300, 4)] {
        let (view, n) = (View { left, d, right }, left * d * right);
        let place = |numbers: &[f32]| copy_of(stream.get(), numbers);
        let (x, a) = (place(&random.floats(ITEMS * n)), place(&random.floats(ITEMS * d * d)));
        let array = |memory: &Memory, stride: usize| Array { base: memory.at(), stride: stride as u64 };
        for precision in [Precision::Fp32, Precision::Tf32, Precision::Bf16] {
            // A unit of the inputs' rounding over sums of terms of about a third; tensor cores and cuBLAS may round halves differently.
            let unit = match precision {
                Precision::Fp32 => 1e-6,
                Precision::Tf32 => 5e-4,
                _ => 4e-3,
            };
            let mut compare = |product: &dyn Fn(Array) -> Product, (rows, columns, depth): (usize, usize, usize), lower: bool| {
                let out = [(); 2].map(|()| place(&vec![0.0; ITEMS * rows * columns]));
                for (out, library) in out.iter().zip([true, false]) {
                    let mut queue = kernels.on(stream.get()).unwrap().with_blas(library.then_some(&mut blas));
                    let product = product(array(out, rows * columns)).at(precision).into_scratch();
                    assert_eq!(queue.multiplies((rows * columns * depth) as u64, precision), library);
                    product.launch(&mut queue, Items::all(ITEMS as u32)).unwrap();
                }
                let [library, kernel] = out.map(|out| floats(stream.get(), &out));
                let bound = unit * (depth as f32).sqrt() * 8.0;
                for (at, (x, y)) in library.iter().zip(&kernel).enumerate() {
                    if !lower || at / columns % rows >= at % columns {
                        assert!((x - y).abs() <= bound, "{view:?} {precision:?} {at}: {x} {y}");
                    }
                }
                assert!(kernel.iter().any(|x| *x != 0.0));
            };
            for transposed in [false, true] {
                let (rows, columns) = (n / right, right);
                compare(&|out| view.mode_product(array(&a, d * d), transposed, array(&x, n), out), (rows, columns, d), false);
            }
            compare(&|out| view.unfolded_product(array(&x, n), array(&x, n), out), (d, d, left * right), true);
        }
    }
}

/// The library's workspace is there where a product is large enough, and counted.
#[test]
fn the_workspace_is_counted() {
    let groups = [Config::<f32>::kl_shampoo()];
    let bytes = |specs: &[TensorSpec], library| {
        let table = harness::resolve(&groups, specs).0;
        let program = Program::new(&groups, &table, &Options { library, ..Options::default() }).unwrap();
        (program.bytes(), program.library_workspace())
    };
    let auto = Library { from: Library::WORTH_WHILE, workspace: 1 << 20, required: false };
    for (specs, large) in [
        (vec![TensorSpec::matrix(20, 30), TensorSpec::vector(1 << 20)], false),
        (vec![TensorSpec::matrix(256, 255)], true),
        (vec![TensorSpec::matrix(256, 256)], true),
        (vec![TensorSpec::matrix(100, 1677).mode(1, Mode::Diagonal)], false),
        (vec![TensorSpec::matrix(100, 1678).mode(1, Mode::Diagonal)], true),
        (vec![TensorSpec::new(&[17, 100, 100]).unwrap().mode(2, Mode::Diagonal)], false),
        (vec![TensorSpec::new(&[100, 100, 17]).unwrap()], true),
    ] {
        let (without, nowhere) = bytes(&specs, Library::NEVER);
        assert_eq!(nowhere, None);
        for library in [auto, Library { from: u64::MAX, required: true, ..auto }] {
            let (with, place) = bytes(&specs, library);
            let there = large || library.required;
            let more = if there { 1 << 20 } else { 0 };
            assert_eq!((with.total, with.workspace), (without.total + more, without.workspace + more), "{specs:?}");
            assert_eq!(place, there.then_some((without.total, 1 << 20)), "{specs:?}");
        }
    }
}

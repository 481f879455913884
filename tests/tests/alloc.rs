//! The core never allocates: counted, over every kind of step, and saving and loading.

use klshampoo::linalg::Portable;
use klshampoo::{Config, FixedOptimizer, Layout, Mode, StatePart, TensorSpec};
use klshampoo_tests::cases::Xorshift;
use klshampoo_tests::counting::Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const KL: Config<f32> = Config { refresh_period: 3, ..Config::<f32>::kl_shampoo() };
const REFERENCE: Config<f32> = Config { refresh_period: 1, ..Config::<f32>::kl_shampoo_reference() };

const fn spec(dims: &[usize]) -> TensorSpec {
    match TensorSpec::new(dims) {
        Ok(spec) => spec,
        Err(_) => panic!("dims"),
    }
}

const fn layout(spec: &TensorSpec, config: &Config<f32>) -> Layout {
    match spec.layout(config) {
        Ok(layout) => layout,
        Err(_) => panic!("layout"),
    }
}

const MATRIX: TensorSpec = spec(&[16, 32]);
const STACK: TensorSpec = spec(&[4, 3]).slices(3).slice_stride(13).group(1);
const VECTOR: TensorSpec = spec(&[7]);
const CUBE: TensorSpec = spec(&[2, 3, 4]).mode(1, Mode::Diagonal);

/// The sizes are constants: a table that does not fit does not compile, or does not start.
const STATE: usize = layout(&MATRIX, &KL).state_len()
    + 3 * layout(&STACK, &REFERENCE).state_len()
    + layout(&VECTOR, &KL).state_len()
    + layout(&CUBE, &KL).state_len();
const SCRATCH: usize = layout(&MATRIX, &KL).scratch_len();

#[test]
fn no_step_allocates() {
    assert_eq!(4 * layout(&MATRIX, &KL).state_len(), 10_016);
    let mut optimizer = FixedOptimizer::<f32, Portable, 2, 4, 6, STATE, SCRATCH>::new(Portable);
    let before = Counting::of_this_thread();
    optimizer.add_group(KL).unwrap();
    optimizer.add_group(REFERENCE).unwrap();
    for spec in [&MATRIX, &STACK, &VECTOR, &CUBE] {
        optimizer.add_tensor(spec).unwrap();
    }
    let mut random = Xorshift::for_shape(&[1]);
    let (mut matrix, mut stack, mut vector, mut cube) = ([0.1f32; 512], [0.1f32; 38], [0.1f32; 7], [0.1f32; 24]);
    let mut grads = ([0f32; 512], [0f32; 38], [0f32; 7], [0f32; 24]);
    for step in 0..300 {
        for grad in [&mut grads.0[..], &mut grads.1, &mut grads.2, &mut grads.3] {
            grad.iter_mut().for_each(|g| *g = random.normal() as f32);
        }
        let given = [Some(&grads.0[..]), (step % 5 != 4).then_some(&grads.1[..]), Some(&grads.2), Some(&grads.3)];
        optimizer.step(&mut [&mut matrix, &mut stack, &mut vector, &mut cube], &given, 0.01).unwrap();
        optimizer.step_tensor(3, &mut cube, &grads.3, 0.01).unwrap();
    }
    let mut basis = [0f32; 256];
    optimizer.read(0, 0, StatePart::Basis(0), &mut basis).unwrap();
    optimizer.set_basis(0, 0, 0, &basis).unwrap();
    optimizer.read(0, 0, StatePart::Factor(0), &mut basis).unwrap();
    let mut checkpoint = [0u8; 40_000];
    optimizer.save(&mut &mut checkpoint[..]).unwrap();
    optimizer.load(&mut &checkpoint[..]).unwrap();
    optimizer.load(&mut &checkpoint[..1000]).unwrap_err();
    grads.0[5] = f32::NAN;
    optimizer.step_tensor(0, &mut matrix, &grads.0, 0.01).unwrap_err();
    assert_eq!(Counting::of_this_thread() - before, 0);
    assert_eq!(optimizer.header(0, 0).unwrap().refreshes, 200);

    // The counter does count.
    drop(std::hint::black_box(vec![1u8]));
    assert_eq!(Counting::of_this_thread() - before, 1);
}

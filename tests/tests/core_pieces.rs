//! Blocks, parts of rows, merged dims and slices are the same as tensors of their own, to the bit.

use klshampoo::linalg::Portable;
use klshampoo::{Config, Estimator, Mode, TensorSpec};
use klshampoo_tests::cases::Xorshift;
use klshampoo_tests::harness::{Core, methods};

const LR: f32 = 0.01;
const STEPS: usize = 12;

type F32Core = Core<f32, Portable>;

/// A matrix, where each of its pieces lies, and how its group cuts it.
struct Cut {
    dims: [usize; 2],
    /// First row, first column, rows, columns of each piece, in order.
    pieces: Vec<[usize; 4]>,
    row_parts: &'static [usize],
    block_size: usize,
}

impl Cut {
    fn new(dims: [usize; 2], rows: &[usize], cols: &[usize], row_parts: &'static [usize], block_size: usize) -> Self {
        let starts = |lens: &[usize]| lens.iter().scan(0, |end, &len| Some(std::mem::replace(end, *end + len))).collect::<Vec<_>>();
        let (row_starts, col_starts) = (starts(rows), starts(cols));
        let pieces = rows.iter().zip(&row_starts).flat_map(|(&m, &i)| cols.iter().zip(&col_starts).map(move |(&n, &j)| [i, j, m, n]));
        Cut { dims, pieces: pieces.collect(), row_parts, block_size }
    }
}

fn cuts() -> [Cut; 4] {
    [
        Cut::new([7, 5], &[4, 1, 2], &[5], &[4, 1, 2], 0),
        Cut::new([7, 5], &[3, 3, 1], &[3, 2], &[], 3),
        Cut::new([4, 9], &[4], &[4, 4, 1], &[], 4),
        Cut::new([9, 4], &[4, 2, 3], &[4], &[6, 3], 4),
    ]
}

/// The mode of a dim by hand for one-sided methods, which choose by the length of the whole.
fn with_modes(spec: TensorSpec, config: &Config<f32>) -> TensorSpec {
    if config.estimator == Estimator::OneSided { spec.mode(0, Mode::Full).mode(1, Mode::Identity) } else { spec }
}

fn random(len: usize, seed: usize) -> Vec<f32> {
    let mut random = Xorshift::for_shape(&[seed, len]);
    (0..len).map(|_| random.normal() as f32).collect()
}

fn extracted(x: &[f32], cols: usize, &[i, j, m, n]: &[usize; 4]) -> Vec<f32> {
    (i..i + m).flat_map(|row| x[row * cols + j..row * cols + j + n].to_vec()).collect()
}

/// Two tables whose parts correspond: the same headers and states, in the same order.
fn assert_same(what: &str, whole: &F32Core, apart: &F32Core) {
    assert_eq!(whole.headers, apart.headers, "{what}");
    assert_eq!(whole.state, apart.state, "{what}");
}

#[test]
fn a_cut_tensor_is_tensors_of_its_pieces() {
    for (name, config) in methods::<f32>() {
        let config = Config { refresh_period: 3, weight_decay: 0.1, stagger: false, ..config };
        for cut in cuts() {
            let what = format!("{name}, {:?}, rows {:?}, blocks {}", cut.dims, cut.row_parts, cut.block_size);
            let spec = |dims: &[usize]| with_modes(TensorSpec::new(dims).unwrap(), &config);
            let cut_config = Config { block_size: cut.block_size, ..config };
            // Blocks are of preconditioned dims: an identity's stays whole, as by hand here in one-sided methods, and elementwise ones
            // have no others.
            if matches!(config.estimator, Estimator::OneSided | Estimator::None) && cut.block_size > 0 {
                continue;
            }
            let mut whole = F32Core::table(&[cut_config], &[spec(&cut.dims).split_rows(cut.row_parts).unwrap()]);
            let specs: Vec<TensorSpec> = cut.pieces.iter().map(|&[_, _, m, n]| spec(&[m, n])).collect();
            let mut apart = F32Core::table(&[config], &specs);
            let (n, cols) = (cut.dims[0] * cut.dims[1], cut.dims[1]);
            let mut p = [random(n, 1)];
            let mut pieces: Vec<Vec<f32>> = cut.pieces.iter().map(|piece| extracted(&p[0], cols, piece)).collect();
            for t in 0..STEPS {
                let grad = random(n, 2 + t);
                let grads: Vec<_> = cut.pieces.iter().map(|piece| Some(extracted(&grad, cols, piece))).collect();
                let report = whole.try_step(&mut p, &[Some(grad)], LR).unwrap();
                assert_eq!(report, apart.try_step(&mut pieces, &grads, LR).unwrap(), "{what}");
                for (piece, expected) in cut.pieces.iter().zip(&pieces) {
                    assert_eq!(&extracted(&p[0], cols, piece), expected, "{what}");
                }
                assert_same(&what, &whole, &apart);
            }
        }
    }
}

#[test]
fn merged_dims_are_the_tensor_of_the_merged_dims() {
    for (name, config) in methods::<f32>() {
        let config = Config { refresh_period: 3, stagger: false, ..config };
        for (dims, limit, merged) in
            [(&[3, 2, 2, 3][..], 12, &[12, 3][..]), (&[2, 3, 4], 6, &[6, 4]), (&[2, 1, 5], 4, &[2, 5]), (&[4, 1, 1, 3], 1, &[4, 1, 3])]
        {
            let merging = Config { merge_dims: limit, ..config };
            let mut whole = F32Core::table(&[merging], &[TensorSpec::new(dims).unwrap()]);
            let mut by_hand = F32Core::table(&[config], &[TensorSpec::new(merged).unwrap()]);
            let n = dims.iter().product();
            let mut p = [random(n, 1)];
            let mut expected = p.clone();
            for t in 0..STEPS {
                let grads = [Some(random(n, 2 + t))];
                whole.try_step(&mut p, &grads, LR).unwrap();
                by_hand.try_step(&mut expected, &grads, LR).unwrap();
                assert_eq!(p, expected, "{name}, {dims:?}");
                assert_same(&name, &whole, &by_hand);
            }
        }
    }
}

/// Slices in any order are separate tensors; what lies between them is not touched.
#[test]
fn stacked_slices_are_separate_tensors() {
    const DIMS: [usize; 2] = [4, 3];
    const COUNT: usize = 3;
    const STRIDE: usize = 15;
    for (name, config) in methods::<f32>() {
        let config = Config { refresh_period: 3, stagger: false, ..config };
        let spec = TensorSpec::new(&DIMS).unwrap();
        let mut stacked = F32Core::table(&[config], &[spec.slices(COUNT).slice_stride(STRIDE)]);
        let mut permuted = stacked.clone();
        let mut apart = F32Core::table(&[config], &[spec; COUNT]);
        // Slice s of `permuted` is slice `order[s]` of `stacked`.
        let order = [2, 0, 1];
        let slice = |x: &[f32], s: usize| x[s * STRIDE..s * STRIDE + 12].to_vec();
        let shuffled = |x: &[f32]| {
            let mut y = x.to_vec();
            (0..COUNT).for_each(|s| y[s * STRIDE..s * STRIDE + 12].copy_from_slice(&x[order[s] * STRIDE..order[s] * STRIDE + 12]));
            y
        };
        let span = stacked.tensors[0].span();
        let first = random(span, 1);
        let (mut p, mut q) = ([first.clone()], [shuffled(&first)]);
        let mut separate: Vec<Vec<f32>> = (0..COUNT).map(|s| slice(&first, s)).collect();
        for t in 0..STEPS {
            let grad = random(span, 2 + t);
            let grads: Vec<_> = (0..COUNT).map(|s| Some(slice(&grad, s))).collect();
            apart.try_step(&mut separate, &grads, LR).unwrap();
            permuted.try_step(&mut q, &[Some(shuffled(&grad))], LR).unwrap();
            stacked.try_step(&mut p, &[Some(grad)], LR).unwrap();
        }
        assert_same(&name, &stacked, &apart);
        let len = stacked.state.len() / COUNT;
        for (s, expected) in separate.iter().enumerate() {
            assert_eq!(&slice(&p[0], s), expected, "{name}");
            assert_eq!(slice(&q[0], s), slice(&p[0], order[s]), "{name}");
            assert_eq!(permuted.state[s * len..(s + 1) * len], stacked.state[order[s] * len..(order[s] + 1) * len], "{name}");
            assert_eq!(permuted.headers[s], stacked.headers[order[s]], "{name}");
        }
        let between = |at: &usize| at % STRIDE >= 12;
        assert!((0..span).filter(between).all(|at| p[0][at] == first[at] && q[0][at] == first[at]), "{name}");
    }
}
